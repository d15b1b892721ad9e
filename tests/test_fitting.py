"""What a study keeps of a fit, on the random two-layer model and a made corpus."""

import json

import pytest
from made_sounds import make_study

from listenwell.errors import ConfigError
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.run_folder import identity
from listenwell.study.run import fit_alone


def test_the_modules_an_adapter_changes_are_told_when_it_starts_and_stand_in_its_record(tmp_path, capsys):
    config = make_study(tmp_path, "lora.scope=both", "lora.targets=regex:.*q_proj", "lora.rank=2", "train.epochs=1")
    finished = fit_alone(config)
    assert (
        "LoRA of rank 2 on 2 modules of the language model and 2 modules of the audio tower" in capsys.readouterr().err
    )
    assert finished.record["lora_modules"] == {"language_model": 2, "audio_tower": 2}


def test_targets_that_hit_nothing_stop_before_training(tmp_path):
    with pytest.raises(ConfigError, match="matches none of the 14 linear modules"):
        fit_alone(make_study(tmp_path, "lora.targets=regex:q_proj"))
    assert not list((tmp_path / "run").glob("fits/*"))


def test_every_step_and_epoch_is_written_down_with_what_is_watched(tmp_path):
    finished = fit_alone(make_study(tmp_path, "train.epochs=2"))
    lines = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    steps, epochs = ([line for line in lines if ("epoch" in line) is is_epoch] for is_epoch in (False, True))
    assert all(set(line) == {"step", "loss", "gradient_norm", "learning_rate"} for line in steps)
    watched = {"train_loss", "dev_loss", "gap", "dev_balanced_accuracy_at_0", "dev_auc", "learning_rate"}
    assert all(watched <= line.keys() and line["gap"] == line["dev_loss"] - line["train_loss"] for line in epochs)
    assert (len(steps), len(epochs)) == (finished.record["n_steps"], 2)
    assert finished.record["overfitting"] == ""  # two epochs cannot show it


def test_what_a_kill_left_of_an_ended_stack_is_removed_and_stacks_of_other_fits_stay(tmp_path):
    config = make_study(tmp_path)
    spec = read_checksummed(fit_alone(config).folder / "spec.json")
    whole_identity = identity(**{name: value for name, value in spec.items() if not name.endswith("_sha256")})
    stacks = config.output / "stacks"
    ended, half_removed, other = ("e" * 16, "a" * 16, "0" * 16)
    for name in (ended, half_removed, other, "my notes"):
        (stacks / name / "checkpoints").mkdir(parents=True)
    write_checksummed(stacks / ended / "members.json", {"members": [whole_identity]})
    write_checksummed(stacks / other / "members.json", {"members": ["0" * 16]})
    fit_alone(config)
    assert sorted(path.name for path in stacks.iterdir()) == [other, "my notes"]
