"""The plan before a run: its arithmetic by hand, and its counts against the study itself."""

import json
from dataclasses import replace

import pytest
from made_sounds import make_study, study_record
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import dump
from listenwell.model.loading import load_model
from listenwell.model.lora import new_adapter
from listenwell.tasks import plan as cost
from listenwell.tasks.plan import _skeleton, plan_study

pytestmark = pytest.mark.slow

SHAPE = cost.Shape(base_bytes=2400, width=8, layers=3, bytes_per_weight=2)
FIT = cost.FitCost(n_steps=5, n_clips_trained=10, clip_s=2.0, adapter_parameters=0, trains_encoder=False,
                   recomputes=False)  # fmt: skip


def test_bytes_grow_with_fits_and_checkpointing_keeps_fewer():
    fit = replace(FIT, adapter_parameters=50)
    assert cost.adapters_bytes([fit, fit]) == 2 * 50 * 20
    whole = cost.activations_bytes(SHAPE, [fit], batch=4)
    assert whole == 2 * 30 * 2 * 8 * 4 * 80
    assert cost.activations_bytes(SHAPE, [replace(fit, recomputes=True)], batch=4) < whole
    with_encoder = replace(SHAPE, encoder_width=4, encoder_layers=5)
    added = cost.activations_bytes(with_encoder, [replace(fit, trains_encoder=True)], batch=4) - whole
    assert added == 5 * 30 * 2 * 4 * (4 * 50 * 2.0)
    assert cost.activations_bytes(with_encoder, [fit], batch=4) == whole


@pytest.mark.parametrize(
    ("scope", "targets"),
    [("language_model", "attention"), ("audio_tower", "attention+mlp"), ("both", "regex:.*(q|k)_proj")],
)
def test_adapter_parameters_are_those_of_the_adapter_trained(tmp_path, scope, targets):
    config = make_study(tmp_path, f"lora.scope={scope}", f"lora.targets={targets}")
    model = load_model(config.model)
    adapter = new_adapter(config.lora, model.network, model.find_targets(config.lora), 0)
    assert cost.count_adapter(_skeleton(config), config) == sum(parameter.numel() for parameter in adapter.factors())


def test_the_plan_counts_the_fits_and_steps_that_the_study_then_takes(tmp_path):
    config = make_study(
        tmp_path, "seeds=[1, 2]", "train.epochs=1", "evaluation.conditions=[clean]", "leave_one_out.dev_speakers=1",
        "leave_one_out.arms=[final]", "arms={same: {}, quiet: {augment.noise.probability: 0.0}}",
        "search.grid=[{lora.rank: 2}, {seed: 1}]".replace("{seed: 1}", "{lora.rank: 4}"),
    )  # fmt: skip
    planned = plan_study(config)
    study_record(config)
    done = [json.loads(path.read_text()) for path in config.output.glob("fits/*/history.json")]
    fits = [fit for of_kind in planned.fits.values() for fit in of_kind]
    assert len(fits) == len(done)
    assert sum(fit.n_steps for fit in fits) == sum(fit["n_steps"] for fit in done)


def test_the_command_tells_time_and_memory(tmp_path):
    (tmp_path / "study.yaml").write_text(dump(make_study(tmp_path)))
    printed = CliRunner().invoke(app, ["plan", str(tmp_path / "study.yaml"), "--probe"]).stdout
    for fact in ("arms and final", "memory in all", "time on this machine:"):
        assert fact in printed
    assert "unknown" not in printed
    assert not (tmp_path / "run").exists()
