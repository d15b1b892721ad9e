"""Arms, seeds, search and leave-one-speaker-out, on the random model and a made corpus."""

import json

import numpy as np
import pytest
from made_pages import plain_markdown
from made_scores import scored
from made_sounds import make_study, study_record
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import dump
from listenwell.data.manifest import read_manifest
from listenwell.errors import ConfigError, TrainingError
from listenwell.fits.request import expand_arms
from listenwell.report.wording import DASH
from listenwell.study.search import selection_optimism

pytestmark = pytest.mark.slow

WIDE = (
    "seeds=[1, 2, 3]",
    "arms={quiet: {augment.noise.probability: 0.0}, tuned: {search.best: true, train.schedule: linear}}",
    "search.grid=[{lora.rank: 4}, {lora.rank: 2, train.learning_rate: 0.001}]",
    "leave_one_out.arms=[quiet, final]",
    "leave_one_out.dev_speakers=1",
    "leave_one_out.changes={train.epochs: 1}",
    "evaluation.conditions=[clean, snr_0]",
    "train.stack=4",
)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    config = make_study(tmp_path_factory.mktemp("wide"), *WIDE)
    return config, study_record(config)


def test_every_arm_stands_in_the_ladder_with_all_its_seeds(wide):
    _, results = wide
    cells = {(row["arm"], row["test_set"], row["condition"]) for row in results["ladder"]}
    assert cells == {(arm, "test", c) for arm in ("quiet", "tuned", "final") for c in ("clean", "noisy")}
    for row in results["ladder"]:
        assert row["seeds"] == [1, 2, 3]
        mean, spread = np.mean(row["values"]), np.std(row["values"], ddof=1)
        assert row["pooled"]["value"] == pytest.approx(mean)
        if spread == 0:
            assert row["seed_half_width"] is None
        else:
            assert row["seed_half_width"] == pytest.approx(2.484 * spread, rel=1e-3)
            # the interval holds the seeds, and never leaves [0, 1]
            assert row["pooled"]["low"] <= max(0.0, mean - row["seed_half_width"])
        assert (row["against"] is None) == (row["arm"] == "quiet")


def test_what_every_arm_changes_stands_below_the_ladder(wide):
    config, results = wide
    changes = {"train.schedule": "linear", **results["search"]["best"]}
    tuned = ", ".join(f"{key} {json.dumps(value)}" for key, value in changes.items())
    said = f"Arms: quiet {DASH} augment.noise.probability 0.0; tuned {DASH} {tuned}; final {DASH} as the config."
    assert said in plain_markdown((config.output / "report.md").read_text(encoding="utf-8"))


def test_the_median_seed_of_the_config_itself_is_delivered(wide):
    _, results = wide
    lowest = sorted(min(epoch["dev_loss"] for epoch in fit["history"]) for fit in results["fits"])
    delivered = min(epoch["dev_loss"] for epoch in results["fits"][0]["history"])
    assert len(results["fits"]) == 3
    assert delivered == lowest[1]


def test_the_search_ranks_its_points_and_an_arm_takes_the_best(wide):
    config, results = wide
    ranked = results["search"]["ranked"]
    assert [point["objective"] for point in ranked] == sorted((p["objective"] for p in ranked), reverse=True)
    (tuned,) = {arm.config.lora.rank for arm in expand_arms(config, results["search"]["best"]) if arm.name == "tuned"}
    assert tuned == results["search"]["best"]["lora.rank"]


def test_the_best_of_equal_configs_looks_better_than_it_is():
    rng = np.random.default_rng(0)
    groups = [f"{kind}{i}" for kind in "sn" for i in range(12)]
    tables = [scored({group: rng.normal(1.0 if group[0] == "s" else -1.0, 2.0) for group in groups}) for _ in range(12)]
    found = selection_optimism(tables, seed=0, n_resamples=60)
    assert found.optimism is not None
    assert found.optimism > 0.03


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("arms={a: {lora.rnk: 3}}", "did you mean 'lora.rank'"),
        ("arms={a: {data.manifest: other.csv}}", "data.manifest: an arm changes"),
        ("arms={final: {lora.rank: 3}}", "is the config itself"),
        ("arms={a: {search.best: true}}", "there is no search"),
        ("leave_one_out.arms=[nobody]", "'nobody', which is no arm"),
    ],
)
def test_arms_that_make_no_sense_are_refused(tmp_path, changes, message):
    config = make_study(tmp_path, changes, "train.epochs=1", "evaluation.conditions=[clean]")
    with pytest.raises(ConfigError, match=message):
        study_record(config)


def test_search_and_loso_run_alone_and_open_no_test(tmp_path):
    settings = [WIDE[2], "train.epochs=1", "evaluation.conditions=[clean]", "leave_one_out.dev_speakers=1"]
    config = make_study(tmp_path, *settings)
    (tmp_path / "study.yaml").write_text(dump(config))
    searched = CliRunner().invoke(app, ["search", str(tmp_path / "study.yaml")])
    assert "best: lora.rank=" in searched.stdout
    held_out = CliRunner().invoke(app, ["cross-validate", str(tmp_path / "study.yaml")])
    assert "Speakers held out: final" in held_out.stdout
    assert {"search.json", "loso.json"} <= {path.name for path in config.output.iterdir()}
    assert not (config.output / "seal.jsonl").exists()


def test_babble_comes_from_other_speakers_of_the_same_split(tmp_path):
    settings = ["augment.babble.probability=1.0", "train.epochs=1", "evaluation.conditions=[clean]"]
    config = make_study(tmp_path, *settings)
    results = study_record(config)
    groups = {record["part"]: record["groups"] for record in results["allocation"] if record["label"] == "SPEECH"}
    plans = [json.loads(line) for path in config.output.rglob("plans.jsonl") for line in path.read_text().splitlines()]
    babble = [plan["babble"] for plan in plans if plan["clip_id"].startswith("speech") and "babble" in plan]
    names = {each["background_id"] for bed in babble for each in [bed, *bed["others"]]}
    group_of = {f"clip/{clip.clip_id}": clip.group for clip in read_manifest(tmp_path / "clips.csv")}
    assert names
    assert {group_of[name] for name in names} <= set(groups["train"])


WILD = {"train.learning_rate": 1e18, "train.projector": "trained", "train.projector_learning_rate": 1e30}


def test_an_arm_that_leaves_the_numbers_is_told_and_the_others_go_on(tmp_path):
    wild = ", ".join(f"{key}: {value}" for key, value in WILD.items())
    settings = [f"arms={{wild: {{{wild}, train.epochs: 40}}}}", "train.epochs=1", "evaluation.conditions=[clean]"]
    config = make_study(tmp_path, *settings)
    results = study_record(config)
    assert [fit["name"] for fit in results["failed_fits"]] == ["wild-seed42"]
    assert {row["arm"] for row in results["ladder"]} <= {"final"}
    assert "wild-seed42 failed." in (config.output / "report.html").read_text()


def test_a_study_whose_own_fit_leaves_the_numbers_stops_and_does_not_try_again(tmp_path):
    settings = [f"{key}={value}" for key, value in WILD.items()]
    config = make_study(tmp_path, *settings, "train.epochs=40", "evaluation.conditions=[clean]")
    tried_ns = set()
    for _ in range(2):
        with pytest.raises(TrainingError, match="on the clips"):
            study_record(config)
        tried_ns |= {path.stat().st_mtime_ns for path in config.output.glob("fits/*/failed.json")}
    assert len(tried_ns) == 1
