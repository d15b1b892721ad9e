"""The evidence of a study: criteria, transfer, curves, errors, from score tables made in code and from a whole run."""

import json
import re

import numpy as np
import pytest
from made_sounds import make_study, study_record

from listenwell.evaluate.calibration import choose_threshold
from listenwell.evaluate.methods import JudgedMethod, judge
from listenwell.evaluate.scores import ScoreTable
from listenwell.judge.evidence import gather_evidence
from listenwell.random_streams import stream
from listenwell.study_settings import EvaluationConfig

pytestmark = pytest.mark.slow

LEVELS_DB = (-5.0, 0.0, 5.0, 10.0)


def make_table(name: str, shift: float = 0.0, n_groups: int = 12, clips_each: int = 5) -> ScoreTable:
    """Scores that lie 2 apart at 10 dB and clean, closer at lower SNRs; shift moves them all."""
    columns: dict[str, list] = {key: [] for key in ("clip_id", "group", "label", "score", "snr_db", "condition")}
    rng = stream(0, "made", name)
    for label in ("SPEECH", "NONSPEECH"):
        for group in range(n_groups):
            for clip in range(clips_each):
                ease = float(rng.normal())
                for snr_db in (None, *LEVELS_DB):
                    gap = 3.0 if snr_db is None else 3.0 * (snr_db + 8.0) / 18.0
                    sign = 1.0 if label == "SPEECH" else -1.0
                    columns["clip_id"].append(f"{label}_{group}_{clip}")
                    columns["group"].append(f"{label}_{group}")
                    columns["label"].append(label)
                    columns["score"].append(sign * gap + ease + shift)
                    columns["snr_db"].append(np.nan if snr_db is None else snr_db)
                    columns["condition"].append("clean" if snr_db is None else f"snr_{snr_db:g}")
    arrays = {key: np.array(values) for key, values in columns.items()}
    return ScoreTable(**arrays, duration_ms=np.full(len(columns["score"]), 1000.0))


def gather(shift: float):
    methods = ("fine-tuned", "zero-shot")
    tables = {
        "dev": {method: make_table(f"dev {method}") for method in methods},
        "test": {method: make_table(f"test {method}", shift) for method in methods},
    }
    thresholds = {method: choose_threshold(tables["dev"][method]) for method in methods}
    judged = {m: JudgedMethod(m, tables["test"][m], 0.0, thresholds[m].value) for m in methods}
    rows = [row for each in judged.values() for row in judge(each, "test", 0)]
    evidence = gather_evidence(EvaluationConfig(), tables, thresholds["fine-tuned"], rows, [], 0)
    return evidence.model_dump(mode="json"), tables, thresholds


def verdict(evidence, beginning: str) -> str:
    (found,) = [each["outcome"] for each in evidence["criteria"] if each["criterion"].startswith(beginning)]
    return found


def test_a_threshold_that_fits_and_one_that_does_not_are_told_apart():
    moved, _, _ = gather(shift=4.0)
    assert verdict(moved, "threshold transfer") == "not met"
    assert moved["transfer"]["test"]["shift"]["value"] == pytest.approx(-4.0, abs=1.0)
    assert moved["transfer"]["test"]["regret"]["value"] > 0.2
    assert verdict(moved, "clean") == "not met"
    still, _, _ = gather(shift=0.0)
    assert abs(still["transfer"]["test"]["shift"]["value"]) < 1.0
    assert verdict(still, "clean") == "met"
    assert verdict(still, "leave-one-out") == "cannot tell"


def test_a_criterion_that_the_base_meets_already_says_that_it_decides_nothing():
    still, _, _ = gather(shift=0.0)
    (clean,) = [each for each in still["criteria"] if each["criterion"].startswith("clean")]
    assert clean["sentence"].endswith("the base model, calibrated, meets it already, so it decides nothing")


def test_errors_are_counted_by_group_and_the_worst_stand_first():
    evidence, tables, thresholds = gather(shift=4.0)
    errors = evidence["errors"]["test"]
    table = tables["test"]["fine-tuned"]
    clean = table.select(table.condition == "clean")
    wrong = (clean.score >= thresholds["fine-tuned"].value) != clean.is_speech
    assert errors["n_wrong"] == int(wrong.sum()) == sum(each["n_wrong"] for each in errors["groups"])
    heard = [each for each in errors["heard"] if each["condition"] == "clean"]
    beyond = [each["beyond"] for each in heard]
    assert beyond == sorted(beyond, reverse=True)
    assert {each["clip_id"] for each in heard} <= set(clean.clip_id[wrong].tolist())


def test_probabilities_are_judged_under_every_condition_by_the_map_that_dev_chose():
    evidence, _, _ = gather(shift=4.0)
    judged = evidence["probability"]
    assert set(judged["dev_cllr"]) == {"log-odds", "temperature", "Platt"}
    by_condition = {
        condition: {metric["name"]: metric["value"] for metric in metrics}
        for condition, metrics in judged["test_sets"]["test"]["metrics"].items()
    }
    assert list(by_condition) == ["clean", "snr_-5", "snr_0", "snr_5", "snr_10", "noisy"]
    # scores that all moved up cost more than their ranking does
    assert all(found["cllr"] > found["min_cllr"] + 0.2 for found in by_condition.values())


def test_the_hardest_group_of_each_class_stands_under_every_condition():
    evidence, tables, thresholds = gather(shift=4.0)
    table = tables["test"]["fine-tuned"]
    noisy = table.select(table.condition == "snr_-5")
    right = (noisy.score >= thresholds["fine-tuned"].value) == noisy.is_speech
    shares = {group: right[noisy.group == group].mean() for group in np.unique(noisy.group)}
    for worst in evidence["errors"]["test"]["worst"]["snr_-5"]:
        of_class = {group: share for group, share in shares.items() if group.startswith(f"{worst['label']}_")}
        assert worst["metric"]["value"] == pytest.approx(min(of_class.values())) == pytest.approx(shares[worst["part"]])


def test_the_page_shows_the_evidence_and_a_second_run_reads_it_back(tmp_path):
    config = make_study(tmp_path)
    results = study_record(config)
    assert json.loads((config.output / "evidence.json").read_text())["evidence"] == results["evidence"]
    page = (config.output / "report.html").read_text(encoding="utf-8")
    for shown in ("Success criteria", "Transfer of the threshold", "Brier score", "Cllr", "hardest group"):
        assert shown in page
    shift = results["evidence"]["transfer"]["test"]["shift"]["value"]
    assert re.search(rf"{abs(shift):.3f}", page)
    for warning in results["evidence"]["traps"]["test"]:
        assert warning.split("'")[0][:30] in page
    gathered_ns = (config.output / "evidence.json").stat().st_mtime_ns
    assert study_record(config)["evidence"] == results["evidence"]
    assert (config.output / "evidence.json").stat().st_mtime_ns == gathered_ns
