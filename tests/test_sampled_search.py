"""The sampled search: which points it draws, what it learns, and that a stopped one goes on."""

import json

import pytest
from made_sounds import make_study, search_record
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import change_config, dump, load_config
from listenwell.errors import ConfigError
from listenwell.fits.ledger import DroppedFit
from listenwell.study.run import fit_alone
from listenwell.study.sampled_search import draw_and_judge

pytestmark = pytest.mark.slow

SPACE = "search.sampled.space={lora.rank: [1, 2, 4], lora.alpha: [4, 8], train.epochs: [1, 2]}"
QUICK = (SPACE, "search.sampled.trials=5", "search.sampled.generation=2", "evaluation.conditions=[clean]")


def drawn(*settings, value=lambda point: float(point["lora.rank"])):
    points = []

    def judge(generation):
        points.extend(generation)
        return [value(point) for point in generation]

    return draw_and_judge(load_config(None, settings), judge), points


def test_the_seed_decides_the_different_points_and_the_order_of_the_settings_nothing():
    _, points = drawn("search.sampled.trials=12", SPACE)
    assert len({json.dumps(point) for point in points}) == 12
    assert {point["lora.rank"] for point in points} == {1, 2, 4}
    first, again, other = (drawn(*QUICK, f"seed={seed}") for seed in (1, 1, 2))
    assert first == again
    assert first[1] != other[1]
    turned = "search.sampled.space={train.epochs: [1, 2], lora.alpha: [4, 8], lora.rank: [1, 2, 4]}"
    assert drawn(*QUICK) == drawn(turned, *QUICK[1:])


def test_the_sampler_learns_from_trials_that_ended_at_a_rung():
    def value(point):
        lost = DroppedFit("trial", 2, [{"dev_loss": 1.0 / point["lora.rank"]}] * 2)
        return lost if point["lora.rank"] < 32 else 0.9

    found, points = drawn("search.sampled.trials=48", "search.sampled.generation=8", value=value)
    assert sum(point["lora.rank"] == 32 for point in points[8:]) / 40 > 0.35  # a quarter of the space
    assert [value is None for value in found["objectives"]] == [point["lora.rank"] < 32 for point in points]


BRACKET = (
    "search.sampled.space={lora.rank: [1, 2, 4], train.learning_rate: [0.00001, 0.001]}",
    "search.sampled.trials=4",
    "search.sampled.rungs=[1, 2]",
    "train.epochs=4",
    "train.checkpoint_steps=1",
    "evaluation.conditions=[clean]",
)


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    config = make_study(tmp_path_factory.mktemp("halved"), *BRACKET)
    return config, search_record(config)


def test_at_each_rung_half_of_the_trials_end_and_the_steps_saved_are_told(halved):
    _, found = halved
    assert [trial["rung"] for trial in found["dropped"]].count(1) == 2
    assert [trial["rung"] for trial in found["dropped"]].count(2) == 1
    (best,) = found["ranked"]
    per_epoch = best["n_steps"] // 4
    assert found["n_steps"] == {"trained": (2 * 1 + 2 + 4) * per_epoch, "trained_whole": 16 * per_epoch}
    assert found["sampled"]["objectives"].count(None) == 3


def test_a_dropped_trial_is_no_finished_fit_and_whoever_wants_it_whole_trains_it(halved):
    config, found = halved
    (first, *_) = found["dropped"]
    alone = fit_alone(change_config(config, first["changes"], "here"))
    assert len(alone.record["history"]) == 4
    best = min(epoch["dev_loss"] for epoch in alone.record["history"][: first["rung"]])
    assert best == pytest.approx(first["dev_loss"], abs=1e-4)
    trained = {path: path.stat().st_mtime_ns for path in config.output.glob("fits/*/*.json")}
    assert search_record(config) == found
    assert trained == {path: path.stat().st_mtime_ns for path in config.output.glob("fits/*/*.json")}


def test_the_command_tells_what_ended_at_a_rung(halved, tmp_path):
    config, _ = halved
    (tmp_path / "study.yaml").write_text(dump(config))
    printed = CliRunner().invoke(app, ["search", str(tmp_path / "study.yaml")]).stdout
    assert "3 more trials ended at a rung, which saved " in printed
    assert "ended after epoch 1, dev loss " in printed
    assert "best: lora.rank=" in printed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "there is nothing to search"),
        (["search.sampled.trials=13", SPACE], "search.sampled.space has 12 points"),
        (["search.sampled.trials=1", "search.sampled.space={}"], "has 0 points"),
        (["search.sampled.trials=3", "search.sampled.space={lora.rank: [1, 1, 2]}"], "different values"),
        (["search.sampled.trials=1", "search.sampled.space={lora.rnk: [1]}"], r"did you mean 'lora\.rank'"),
        (["search.sampled.trials=1", "search.sampled.space={data.seed: [0]}"], r"data\.seed: an arm changes"),
        (["search.sampled.rungs=[3, 2]"], "different epochs from 1 on, the earliest first"),
        (["search.grid=[{lora.rank: 1}]", "search.sampled.trials=2"], "keep one"),
    ],
)
def test_searches_that_make_no_sense_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        search_record(make_study(tmp_path, *settings))


def test_a_warm_up_that_fills_a_fit_is_said_before_anything_is_trained(tmp_path):
    for setting, where in (
        ("search.sampled.trials=2", r"search\.sampled\.space: a warm-up of 100 steps fills a fit on these"),
        ("search.grid=[{lora.rank: 2}, {train.warmup_steps: 90}]", r"search\.grid: a warm-up of 90 steps fills a fit"),
    ):
        config = make_study(tmp_path, setting)
        with pytest.raises(ConfigError, match=where + r" .* steps \(\d+ epochs\); give shorter ones"):
            search_record(config)
        assert not (config.output / "fits").exists()
