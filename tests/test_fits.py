"""Fits: what a study keeps of one, and that who ends at which rung follows from the histories alone."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers, lists
from made_sounds import make_study

from listenwell.fits.ledger import dropped_at
from listenwell.fits.request import FitRequest, judging_clips
from listenwell.splits.clips import prepare
from listenwell.splits.divide import divide
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.run_folder import identity
from listenwell.study.run import fit_alone
from listenwell.train.fit import Standing
from listenwell.train.settings import TrainConfig


def test_the_modules_an_adapter_changes_are_told_when_it_starts_and_stand_in_its_record(tmp_path, capsys):
    config = make_study(tmp_path, "lora.scope=both", "lora.targets=regex:.*q_proj", "lora.rank=2", "train.epochs=1")
    finished = fit_alone(config)
    assert (
        "LoRA of rank 2 on 2 modules of the language model and 2 modules of the audio tower" in capsys.readouterr().err
    )
    assert finished.record["lora_modules"] == {"language_model": 2, "audio_tower": 2}


def test_every_step_and_epoch_is_written_down_with_what_is_watched(tmp_path):
    finished = fit_alone(make_study(tmp_path, "train.epochs=2"))
    lines = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    steps, epochs = ([line for line in lines if ("epoch" in line) is is_epoch] for is_epoch in (False, True))
    assert all(set(line) == {"step", "loss", "gradient_norm", "learning_rate"} for line in steps)
    watched = {"train_loss", "dev_loss", "gap", "dev_balanced_accuracy_at_0", "dev_auc", "learning_rate"}
    assert all(watched <= line.keys() and line["gap"] == line["dev_loss"] - line["train_loss"] for line in epochs)
    assert (len(steps), len(epochs)) == (finished.record["n_steps"], 2)
    assert finished.record["overfitting"] == ""  # two epochs cannot show it


def test_interpolation_leaves_the_training_as_it_is_and_moves_the_finished_adapter(tmp_path):
    whole, half = (fit_alone(make_study(tmp_path, f"train.interpolation={share}")) for share in (1.0, 0.5))
    assert whole.record["history"] == half.record["history"]
    for name, pair in whole.adapter.pairs.items():
        assert torch.equal(half.adapter.pairs[name].a, pair.a)
        assert torch.equal(half.adapter.pairs[name].b, 0.5 * pair.b)


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


def test_fewer_dev_clips_judge_an_epoch_half_of_each_label_and_the_rest_decides_nothing(tmp_path):
    config = make_study(tmp_path, "train.dev_clips=4")
    splits = divide(*prepare(config), config.data)
    requests = [FitRequest("fit", config.model_copy(update={"seed": seed}), splits, config) for seed in (0, 1)]
    judging = [judging_clips(request) for request in requests]
    assert judging[0] == judging[1]
    assert sorted(clip.label for clip in judging[0]) == ["NONSPEECH"] * 2 + ["SPEECH"] * 2
    other = next(clip for clip in splits.clips["dev"] if clip not in judging[0])
    fewer = replace(splits, clips=splits.clips | {"dev": [clip for clip in splits.clips["dev"] if clip is not other]})
    assert len(judging_clips(replace(requests[0], splits=fewer))) == 4
    all_of_them = FitRequest("fit", config.model_copy(update={"train": TrainConfig()}), splits, config)
    assert judging_clips(all_of_them) == splits.clips["dev"]
    finished = fit_alone(config)
    assert finished.record["history"][0]["dev_balanced_accuracy_at_0"] in (0.0, 0.25, 0.5, 0.75, 1.0)


def at(*losses, ended=False, failed=False):
    return Standing(tuple({"dev_loss": loss} for loss in losses), has_ended=ended or failed, has_failed=failed)


@pytest.mark.parametrize(
    ("standings", "rungs", "share", "dropped"),
    [
        # the worse half by the lowest dev loss so far ends at a rung
        ({"a": at(0.5, 0.9), "b": at(0.6, 0.6), "c": at(0.7, 0.2), "d": at(0.8, 0.8)}, (2,), 0.5, {"b": 2, "d": 2}),
        # a rung is not decided before every trial in the bracket has reached it
        ({"a": at(0.5, 0.5), "b": at(0.6)}, (2,), 0.5, {}),
        ({"a": at(0.5, 0.5), "b": at(0.6, 0.6)}, (2,), 0.5, {"b": 2}),
        # each rung ranks those that are still in the bracket
        ({"a": at(4, 0.1), "b": at(3, 0.2), "c": at(2, 0.5), "d": at(1, 4)}, (1, 2), 0.5, {"a": 1, "b": 1, "d": 2}),
        # a failed trial takes the last place and is dropped no more
        ({"a": at(0.5), "b": at(failed=True)}, (1,), 0.5, {}),
        ({"a": at(0.5), "b": at(0.6), "c": at(failed=True)}, (1,), 0.5, {}),
        ({"a": at(0.5), "b": at(0.6), "c": at(failed=True)}, (1,), 0.3, {"b": 1}),
        # a trial with no epochs left keeps its rank and its result
        ({"a": at(0.5), "short": at(0.9, ended=True)}, (1,), 0.5, {}),
        ({"a": at(0.9), "short": at(0.5, ended=True)}, (1,), 0.5, {"a": 1}),
        # of equal trials the first goes on, and one always does
        ({"a": at(0.5), "b": at(0.5)}, (1,), 0.1, {"b": 1}),
        ({"only": at(0.5)}, (1,), 0.1, {}),
    ],
)
def test_who_is_dropped_at_a_rung(standings, rungs, share, dropped):
    assert dropped_at(standings, rungs, share) == dropped


@given(losses=lists(floats(0, 9), min_size=1, max_size=12), share=floats(0.05, 0.95), rungs=integers(1, 4))
def test_the_best_trial_is_never_dropped_and_every_rung_leaves_the_share(losses, share, rungs):
    standings = {str(i): at(*[loss] * rungs) for i, loss in enumerate(losses)}
    dropped = dropped_at(standings, tuple(range(1, rungs + 1)), share)
    kept = [losses[int(name)] for name in standings if name not in dropped]
    assert min(kept) == min(losses)
    assert max(kept) <= min([losses[int(name)] for name in dropped], default=9)
