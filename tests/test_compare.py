"""Several methods side by side: the same clips or none, one table, and the commands that print it."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_results import make_results
from made_scores import make_scores, stack
from typer.testing import CliRunner, Result

from listenwell.cli.main import app
from listenwell.errors import ConfigError, ListenwellError, ManifestError
from listenwell.evaluate.calibration import choose_threshold, write_threshold
from listenwell.evaluate.comparison import compare_auc
from listenwell.evaluate.methods import summarise_parts
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.pairing import Contender, compare_contenders
from listenwell.evaluate.predictions import Predictions, Question, judge_predictions
from listenwell.evaluate.ranking import auc_metric
from listenwell.evaluate.scores import write_scores
from listenwell.storage.load_or_make import write_checksummed
from listenwell.tasks.compare import Reading, compare_sources, open_source

GOOD, POOR = make_scores(gap=4.0, seed=1), make_scores(gap=1.0, seed=2)
READING = Reading({})


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def contenders(*tables):
    return [Contender(f"m{i}", table, 0.0) for i, table in enumerate(tables)]


OTHER = make_scores(gap=4.0, seed=3)


def test_the_first_is_measured_against_each_other_each_by_its_own_threshold():
    thresholds = {"first": 0.5, "poor": -1.0, "equal": 2.0}
    tables = dict(zip(thresholds, (GOOD, POOR, OTHER), strict=True))
    shares = {
        name: balanced_accuracy(decide(table.score, thresholds[name]), table.is_speech)
        for name, table in tables.items()
    }
    result = compare_contenders([Contender(name, table, thresholds[name]) for name, table in tables.items()], seed=0)
    assert {row.method: row.metrics[0].value for row in result.rows} == pytest.approx(shares)
    assert [each.opponent for each in result.comparisons] == ["poor", "equal"]
    for each in result.comparisons:
        assert each.result.difference == pytest.approx(shares["first"] - shares[each.opponent])
    against_poor, against_equal = compare_contenders(contenders(GOOD, POOR, OTHER), seed=0).comparisons
    assert against_poor.result.p_value <= against_poor.p_adjusted < 0.01 < against_equal.p_adjusted


def test_rows_in_another_order_are_the_same_rows():
    shuffled = POOR.take(np.random.default_rng(0).permutation(len(POOR)))
    one, other = (compare_contenders(contenders(GOOD, table), seed=0) for table in (POOR, shuffled))
    assert one.comparisons == other.comparisons


def test_conditions_are_compared_apart_and_copies_of_one_another_cost_nothing():
    both = [
        stack(table, replace(table, condition=np.full(len(table), "snr_0"), snr_db=np.zeros(len(table))))
        for table in (GOOD, POOR)
    ]
    result = compare_contenders(contenders(*both), seed=0)
    assert [each.condition for each in result.comparisons] == ["clean", "snr_0", "noisy"]
    assert result.comparisons[0].p_adjusted == pytest.approx(result.comparisons[0].result.p_value)


def test_other_clips_are_refused_and_counted_when_only_the_common_ones_are_asked_for():
    fewer = POOR.select(np.arange(len(POOR)) > 9)
    with pytest.raises(ManifestError, match=r"390 rows in common, 'm0' has 400.*--common"):
        compare_contenders(contenders(GOOD, fewer), seed=0)
    result = compare_contenders(contenders(GOOD, fewer), seed=0, common=True)
    assert result.left_out == {"m0": 10, "m1": 0}
    assert result.comparisons[0].result.n == 390
    other = replace(POOR, clip_id=np.char.add("x", POOR.clip_id))
    with pytest.raises(ManifestError, match="no clip in common"):
        compare_contenders(contenders(GOOD, other), seed=0, common=True)


@pytest.mark.parametrize(("column", "value"), [("label", "NONSPEECH"), ("group", "someone")])
def test_tables_that_disagree_about_a_clip_are_refused(column, value):
    changed = np.where(np.arange(len(POOR)) == 3, value, getattr(POOR, column))
    with pytest.raises(ManifestError, match=f"clip 'c3' has the {column} .*1 such clips"):
        compare_contenders(contenders(GOOD, replace(POOR, **{column: changed})), seed=0)


@pytest.fixture
def folder(tmp_path):
    write_scores(tmp_path / "good.csv", GOOD)
    write_scores(tmp_path / "poor.csv", POOR)
    run_root = tmp_path / "run"
    table = run_root / "scores" / "fine-tuned-test.csv"
    write_scores(table, GOOD)
    write_checksummed(table.with_name("test.json"), {}, [table])
    write_threshold(run_root / "thresholds" / "fine-tuned.json", choose_threshold(make_scores(gap=4.0, seed=9)))
    write_checksummed(run_root / "results.json", make_results(("test",)))
    return tmp_path


def test_a_run_folder_stands_at_its_calibrated_threshold_and_a_table_at_the_one_given(folder):
    source = open_source(str(folder / "run"), READING)
    assert source.threshold == source.chosen.value
    assert open_source(f"{folder / 'good.csv'}@0.25", READING).threshold == 0.25
    assert open_source(str(folder / "good.csv"), READING).threshold == 0.0
    result, warnings = compare_sources([str(folder / "run"), str(folder / "poor.csv")], READING, seed=0)
    assert result.comparisons[0].result.difference > 0
    assert warnings == []


def test_a_folder_without_a_study_and_two_test_sets_are_named(folder):
    with pytest.raises(ListenwellError, match=r"results\.json: is not there"):
        open_source(str(folder), READING)
    write_checksummed(folder / "run" / "results.json", make_results(("a", "b")))
    with pytest.raises(ConfigError, match="has the test sets a, b; say which one with --test-set"):
        open_source(str(folder / "run"), READING)


def test_one_source_and_one_source_twice_are_refused(folder):
    good = str(folder / "good.csv")
    for sources in ([good], [good, good]):
        with pytest.raises(ConfigError, match="compare:"):
            compare_sources(sources, READING, seed=0)


def test_the_command_prints_one_table_with_tests_and_warnings(folder):
    short = POOR.select(np.arange(len(POOR)) > 9)
    write_scores(folder / "short.csv", short)
    arguments = ("compare", folder / "good.csv", folder / "short.csv")
    assert run(*arguments).exit_code == 1
    result = run(*arguments, "--common", "--out", folder / "c.json")
    assert result.exit_code == 0, result.output
    assert f"warning: 10 rows of {folder / 'good.csv'} were left out" in result.stdout
    assert "p corrected for all differences together" in result.stdout
    written = json.loads((folder / "c.json").read_text())
    assert written["left_out"][str(folder / "good.csv")] == 10


def test_evaluate_measures_judges_and_cuts(folder):
    table = replace(GOOD, category=np.where(GOOD.is_speech, "voice", "rain"))
    write_scores(folder / "cut.csv", table)
    result = run(
        "evaluate", folder / "cut.csv", "--target", "0.6", "--by", "category,group", "--out", folder / "e.json",
        "--costs", "1,10,0.2", "--clips", folder / "cut.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "clean: met: balanced_accuracy" in result.stdout
    assert "rain (NONSPEECH)" in result.stdout
    written = json.loads((folder / "e.json").read_text())
    names = [metric["name"] for metric in written["metrics"]["clean"]]
    assert names == [
        "balanced_accuracy", "recall", "specificity", "accuracy", "roc_auc", "equal_error_rate", "min_dcf",
        "brier", "cllr", "min_cllr", "act_dcf",
    ]  # fmt: skip
    dcf = next(metric for metric in written["metrics"]["clean"] if metric["name"] == "min_dcf")
    assert "a false alarm 10, 20% speech to come" in dcf["note"]


def test_calibrate_writes_what_evaluate_reads_and_its_transfer_is_shown(folder):
    write_scores(folder / "dev.csv", make_scores(gap=4.0, seed=9))
    chosen = run("calibrate", folder / "dev.csv", "--criterion", "target_recall=0.9", "--out", folder / "t.json")
    assert chosen.exit_code == 0, chosen.output
    assert "specificity" in chosen.stdout
    result = run("evaluate", folder / "good.csv", "--threshold", folder / "t.json")
    assert "transfer of the threshold" in result.stdout
    assert "threshold_shift" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrate", "x.csv", "--criterion", "best"),
        ("evaluate", "x.csv", "--columns", "path"),
        ("evaluate", "{good}", "--by", "speaker"),
        ("evaluate", "{good}", "--costs", "1,2"),
        ("compare", "{good}"),
        ("power",),
        ("power", "--half-width", "5"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_sentence(folder, arguments):
    result = run(*(argument.replace("{good}", str(folder / "good.csv")) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("listenwell: error:")


def test_power_answers_before_there_are_data():
    result = run("power", "--half-width", "0.05", "--difference", "0.05")
    assert result.exit_code == 0, result.output
    assert "89 speakers and 89 sound sources" in result.stdout


def test_one_class_is_refused_and_one_group_says_nothing():
    with pytest.raises(ManifestError, match="none of the 200 clips is NONSPEECH"):
        judge_predictions(Predictions(GOOD.select(GOOD.is_speech), "log-odds"), Question(0.0), seed=0)
    alone = replace(GOOD, group=np.where(GOOD.is_speech, "anna", "rain"))
    found = judge_predictions(Predictions(alone, "log-odds"), Question(0.0), seed=0)
    recall = next(metric for metric in found.metrics["clean"] if metric.name == "recall")
    assert (recall.low, recall.high) == (0.0, 1.0)
    assert any("all SPEECH clips are of one group, 'anna'" in warning for warning in found.warnings)


def test_parts_come_worst_first_and_one_group_is_measured_for_itself():
    parts = summarise_parts(GOOD, 0.0, "group")
    assert len(parts) == 80
    assert parts[0].metric.value <= parts[-1].metric.value
    assert parts[0].metric.note == "says nothing about other groups"
    assert (parts[0].metric.n_groups, parts[0].metric.method) == (1, "Wilson")
    of_corpus = summarise_parts(make_scores(n_groups=2), 0.0, "corpus")
    assert {part.label: part.metric.n_groups for part in of_corpus} == {"SPEECH": 2, "NONSPEECH": 2}
    assert all(part.metric.method != "Wilson" for part in of_corpus)


def test_the_difference_of_the_aucs_stands_beside():
    auc = compare_contenders(contenders(GOOD, POOR), seed=0).aucs["clean"]["m1"]
    assert auc == compare_auc(GOOD.score, POOR.score, GOOD.is_speech, GOOD.group)
    assert auc.low > 0


def test_settings_that_change_something_and_differ_between_two_runs_are_listed(folder):
    other = make_results(("test",))
    other["config"]["lora"]["rank"], other["config"]["output"] = 2, "elsewhere"
    shutil.copytree(folder / "run", folder / "other")
    write_checksummed(folder / "other" / "results.json", other)
    done = run("compare", folder / "run", folder / "other")
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if line.startswith("setting ")] == ["setting lora.rank: 8 and 2"]


def test_tables_are_csv_or_latex_and_a_comparison_is_a_page(folder):
    for name in ("t.csv", "t.tex"):
        done = run("evaluate", folder / "good.csv", "--table", folder / name)
        assert done.exit_code == 0, done.output
    with (folder / "t.csv").open(newline="") as file:
        (auc,) = [row for row in csv.DictReader(file) if row["measure"] == "roc_auc"]
    assert float(auc["value"]) == auc_metric(GOOD.score, GOOD.is_speech, GOOD.group).value
    latex = (folder / "t.tex").read_text()
    assert r"\toprule" in latex
    assert f"{float(auc['value']):.3f}" in latex
    assert run("evaluate", folder / "good.csv", "--table", folder / "t.xls").exit_code == 2
    tables = "--table", folder / "c.csv", "--html", folder / "c.html"
    done = run("compare", folder / "good.csv", folder / "poor.csv", *tables)
    assert done.exit_code == 0, done.output
    assert "minus" in (folder / "c.csv").read_text()
    assert "poor.csv" in (folder / "c.html").read_text()


def test_power_says_what_the_clips_of_a_table_are_worth(folder):
    done = run("power", "--table", folder / "good.csv")
    assert done.exit_code == 0, done.output
    assert "SPEECH" in done.output
    assert "independent ones" in done.output
