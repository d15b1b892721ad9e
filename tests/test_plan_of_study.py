"""The plan before a run: its arithmetic by hand, and its counts against the study itself."""

import json
from dataclasses import replace

import pytest
from made_sounds import make_study
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import dump
from listenwell.model.loading import load_model
from listenwell.model.lora import new_adapter
from listenwell.study.run import run_study
from listenwell.tasks import plan as cost
from listenwell.tasks.plan import _linears, _skeleton, plan_study

SHAPE = cost.Shape(tower_parameters=100, language_parameters=1000, all_parameters=1200, width=8, layers=3,
                   bytes_per_weight=2)  # fmt: skip
FIT = cost.FitCost(n_steps=5, epochs=1, n_clips_heard=10, n_dev_clips=0, clip_s=2.0,
                   adapter_parameters=0, trains_tower=False, recomputes=False)  # fmt: skip


def test_one_clip_costs_two_operations_a_weight_and_token():
    assert cost.forward_flops(SHAPE, 2.0) == 2 * 100 * 100 + 2 * 1000 * (50 + 30)


def test_training_a_frozen_base_costs_one_forward_and_one_backward_and_the_tower_forward_only():
    assert cost.training_flops(SHAPE, FIT) == 10 * (2 * 100 * 100 + 4 * 1000 * 80)
    assert cost.training_flops(SHAPE, replace(FIT, recomputes=True)) == 10 * (2 * 100 * 100 + 6 * 1000 * 80)
    assert cost.training_flops(SHAPE, replace(FIT, trains_tower=True)) == 10 * (4 * 100 * 100 + 4 * 1000 * 80)


def test_dev_costs_a_forward_pass_of_the_language_model_every_epoch():
    added = cost.training_flops(SHAPE, replace(FIT, n_dev_clips=3, epochs=2)) - cost.training_flops(SHAPE, FIT)
    assert added == 2 * 3 * 2 * 1000 * 80


def test_bytes_grow_with_fits_and_checkpointing_keeps_fewer():
    fit = replace(FIT, adapter_parameters=50)
    assert cost.adapters_bytes([fit, fit]) == 2 * 50 * 20
    whole = cost.activations_bytes(SHAPE, [fit], batch=4)
    assert whole == 2 * 30 * 2 * 8 * 4 * 80
    assert cost.activations_bytes(SHAPE, [replace(fit, recomputes=True)], batch=4) < whole
    with_tower = replace(SHAPE, tower_width=4, tower_layers=5)
    added = cost.activations_bytes(with_tower, [replace(fit, trains_tower=True)], batch=4) - whole
    assert added == 5 * 30 * 2 * 4 * (4 * 50 * 2.0)
    assert cost.activations_bytes(with_tower, [fit], batch=4) == whole
    assert cost.disk_bytes([fit] * 3, stack=2) == 3 * (200 + 400 * 10) + 2 * 16 * 100


@pytest.mark.parametrize("scope", ["language_model", "audio_tower", "both"])
@pytest.mark.parametrize("targets", ["attention", "attention+mlp", "regex:.*(q|k)_proj"])
def test_adapter_parameters_are_those_of_the_adapter_trained(tmp_path, scope, targets):
    config = make_study(tmp_path, f"lora.scope={scope}", f"lora.targets={targets}")
    model = load_model(config.model)
    adapter = new_adapter(config.lora, model.network, model.find_targets(config.lora), 0)
    counted = cost.adapter_parameters(_linears(_skeleton(config), config), config.lora.rank)
    assert counted == sum(parameter.numel() for parameter in adapter.factors())


def test_the_plan_counts_the_fits_and_steps_that_the_study_then_takes(tmp_path):
    config = make_study(
        tmp_path, "seeds=[1, 2]", "train.epochs=1", "evaluation.conditions=[clean]", "loso.dev_speakers=1",
        "loso.arms=[final]", "arms={same: {}, quiet: {augment.noise.probability: 0.0}}",
        "search.grid=[{lora.rank: 2}, {seed: 1}]".replace("{seed: 1}", "{lora.rank: 4}"),
    )  # fmt: skip
    planned = plan_study(config)
    run_study(config)
    done = [json.loads(path.read_text()) for path in config.output.glob("fits/*/history.json")]
    assert sum(work.n_fits for work in planned.work) == len(done)
    assert sum(work.n_steps for work in planned.work) == sum(fit["n_steps"] for fit in done)
    (test,) = planned.power
    assert test[:2] == ("test", 2)


def test_the_command_tells_time_memory_disk_and_power(tmp_path):
    (tmp_path / "study.yaml").write_text(dump(make_study(tmp_path)))
    printed = CliRunner().invoke(app, ["plan", str(tmp_path / "study.yaml"), "--probe"]).stdout
    for fact in (
        "arms and final",
        "memory in all",
        "disk:",
        "time on this machine:",
        "on 4 machines",
        "H100",
        "power on test",
    ):
        assert fact in printed
    assert "unknown" not in printed
    assert not (tmp_path / "run").exists()
