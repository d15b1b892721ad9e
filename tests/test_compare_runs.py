"""Two finished studies side by side on a page: the same clips, the numbers of the score tables, names as they are."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chromium import open_tab
from made_pages import Page
from typer.testing import CliRunner, Result

from listenwell.cli.main import app
from listenwell.config import change_config
from listenwell.errors import ConfigError, ListenwellError, ManifestError
from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.scores import read_scores, write_scores
from listenwell.report.comparison import ComparedTestSet, GroupChange, comparison_page
from listenwell.report.rendering import policy_hash
from listenwell.report.wording import (
    condition_title,
    format_difference,
    format_difference_interval,
    format_interval,
    format_number,
    show_signs,
)
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.run_folder import RunFolder, read_kept_results
from listenwell.study.run import run_study
from listenwell.tasks.compare import Reading, compare_runs

READING = Reading({})
OTHERWISE = {
    "arms": {}, "seeds": (), "search.grid": (), "loso.arms": (), "lora.rank": 2,
    "augment.noise.probability": 0.0,
}  # fmt: skip
HOSTILE = "<script>alert('x')</script>\"|\u202e`[a](javascript:b)"


@pytest.fixture(scope="module")
def runs(finished_study, tmp_path_factory) -> tuple[Path, Path]:
    """The finished study, and another one on the same clips."""
    folder = tmp_path_factory.mktemp("otherwise")
    config = change_config(finished_study[0], OTHERWISE, "here")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LISTENWELL_CACHE", str(folder / "cache"))
        run_study(config.model_copy(update={"output": folder / "run"}))
    return finished_study[0].output, folder / "run"


@pytest.fixture(scope="module")
def compared(runs):
    return compare_runs([str(run) for run in runs], READING, seed=0)


@pytest.fixture(scope="module")
def page(compared) -> Page:
    return Page(comparison_page(compared))


@pytest.fixture
def copied(runs, tmp_path) -> Path:
    """The second run, to be changed."""
    return Path(shutil.copytree(runs[1], tmp_path / "copied"))


def results_of(run: Path) -> dict:
    return read_kept_results(RunFolder(run))


def rewrite_scores(run: Path, change) -> None:
    """Change the fine-tuned model's test scores, and the note that vouches for them."""
    path = run / "scores" / "fine-tuned-test.csv"
    write_scores(path, change(read_scores(path)))
    note = {key: value for key, value in read_checksummed(path.with_name("test.json")).items() if key != "files"}
    write_checksummed(path.with_name("test.json"), note, sorted(run.glob("scores/*-test.csv")))


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_a_run_stands_beside_another_with_the_numbers_of_their_score_tables(runs, compared):
    (test_set,) = compared.test_sets
    tables = [read_scores(run / "scores" / "fine-tuned-test.csv") for run in runs]
    for threshold in ("default", "calibrated"):
        for pair in test_set.at[threshold].pairs:
            if pair.condition == "noisy":
                continue
            decided = []
            for run, table in zip(runs, tables, strict=True):
                value = json.loads((run / "thresholds" / "fine-tuned.json").read_text())["value"]
                own = table.select(table.condition == pair.condition)
                decided.append(decide(own.score, 0.0 if threshold == "default" else value))
            expected = compare_balanced_accuracy(*decided, own.is_speech, own.group, seed=0)
            assert pair.difference == expected


def test_the_intervals_of_each_run_are_those_of_its_own_report(runs, compared):
    for run, index in zip(runs, (0, 1), strict=True):
        for row in results_of(run)["rows"]:
            if row["method"] != "fine-tuned":
                continue
            found = [s for s in compared.test_sets[0].at[row["threshold"]].standings if s.condition == row["condition"]]
            metric = found[index].metrics[0]
            assert (metric.value, metric.low, metric.high) == tuple(
                row["metrics"][0][k] for k in ("value", "low", "high")
            )


def test_every_p_value_of_the_page_is_corrected_together(compared):
    pairs = [pair for found in compared.test_sets[0].at.values() for pair in found.pairs]
    least = min(pair.difference.p_value for pair in pairs)
    assert len(pairs) == 12
    assert min(pair.p_holm for pair in pairs) == pytest.approx(min(1.0, 12 * least))


def test_the_page_prints_them_with_their_conditions(compared, page):
    (table,) = [table for table in page.tables if "balanced accuracy" in table.caption]
    assert [head[0] for head in table.heads] == ["Condition", *2 * ["A", "B", "A minus B"]]
    for row, pair in zip(table.rows, compared.test_sets[0].at["calibrated"].pairs, strict=True):
        assert row[0][0] == condition_title(pair.condition)
        metrics = [
            s.metrics[0] for s in compared.test_sets[0].at["calibrated"].standings if s.condition == pair.condition
        ]
        for cell, metric in zip(row[4:6], metrics, strict=True):
            assert cell == [format_number(metric.value), format_interval(metric.low, metric.high)]
        assert row[6][0].endswith(format_difference(pair.difference.difference))
        assert format_difference_interval(pair.difference.low, pair.difference.high) in row[6][1]


def test_only_settings_that_change_something_and_differ_are_listed(page):
    (table,) = [table for table in page.tables if table.caption == "Settings that differ"]
    found = {row[0][0]: (row[1][0], row[2][0]) for row in table.rows}
    assert found["lora.rank"] == ("8", "2")
    assert found["augment.noise.probability"] == ("0.7", "0.0")
    assert found["loso.arms"] == ('["final"]', "[]")
    assert not {"output", "ledger", "train.epochs"} & set(found)


def test_groups_that_changed_are_counted_the_largest_change_first(compared):
    groups = [
        GroupChange("few", "SPEECH", 9, 5, 4),
        GroupChange("many", "SPEECH", 9, 9, 2),
        GroupChange("alike", "NONSPEECH", 3, 1, 1),
        *(GroupChange(f"g{i:02d}", "NONSPEECH", 5, 1, 3) for i in range(17)),
    ]
    (test_set,) = compared.test_sets
    changed = type(compared)(compared.runs, compared.method, [ComparedTestSet("test", test_set.at, groups)], [])
    page = Page(comparison_page(changed))
    better, worse = (table for table in page.tables if "groups that A decides" in table.caption)
    assert better.caption == "Test: groups that A decides better (2)"
    assert [[cell[0] for cell in row] for row in better.rows] == [
        ["many", "SPEECH", "9", "9", "2", "+7"], ["few", "SPEECH", "9", "5", "4", "+1"],
    ]  # fmt: skip
    assert worse.caption == "Test: groups that A decides worse (17), the first 15"
    assert len(worse.rows) == 15
    assert "Test: 1 of 20 groups have as many clips right in A as in B." in page.text


def test_groups_are_counted_from_the_clean_clips(runs, compared):
    table = read_scores(runs[0] / "scores" / "fine-tuned-test.csv")
    clean = table.select(table.condition == "clean")
    groups = compared.test_sets[0].groups
    assert {(g.group, g.label): g.n for g in groups} == {
        (group, label): int(((clean.group == group) & (clean.label == label)).sum())
        for group, label in set(zip(clean.group.tolist(), clean.label.tolist(), strict=True))
    }
    value = json.loads((runs[0] / "thresholds" / "fine-tuned.json").read_text())["value"]
    assert sum(g.n_right_a for g in groups) == int((decide(clean.score, value) == clean.is_speech).sum())


def test_other_clips_are_refused_unless_the_common_ones_are_asked_for_and_then_it_is_said(runs, copied):
    rewrite_scores(copied, lambda table: table.select(table.clip_id != table.clip_id[0]))
    with pytest.raises(ManifestError, match="not scored on the same clips"):
        compare_runs([str(runs[0]), str(copied)], READING, seed=0)
    found = compare_runs([str(runs[0]), str(copied)], READING, seed=0, common=True)
    (warning,) = found.warnings
    assert warning.startswith(f"5 rows of {runs[0]} were left out")
    assert warning in Page(comparison_page(found)).text


def test_a_clip_of_another_group_is_refused(runs, copied):
    rewrite_scores(
        copied, lambda table: replace(table, group=np.where(table.group == table.group[0], "x", table.group))
    )
    with pytest.raises(ManifestError, match="has the group"):
        compare_runs([str(runs[0]), str(copied)], READING, seed=0, common=True)


def test_other_recordings_under_the_same_names_are_told(runs, copied):
    results = results_of(copied)
    results["seal"]["test_sets"]["test"] = "0" * 64
    write_checksummed(copied / "results.json", results)
    found = compare_runs([str(runs[0]), str(copied)], READING, seed=0)
    assert found.warnings == ["Test: the runs tested other recordings, or other clips, under this name"]


@pytest.mark.parametrize(
    ("reading", "error", "message"),
    [
        (Reading({}, method="nobody"), ConfigError, "has no method 'nobody'; --method takes zero-shot, fine-tuned"),
        (Reading({}, test_set="other"), ConfigError, "'other' is not a test set of both"),
    ],
)
def test_a_method_and_a_test_set_that_are_not_there_are_named(runs, reading, error, message):
    with pytest.raises(error, match=message):
        compare_runs([str(run) for run in runs], reading, seed=0)


def test_anything_but_two_finished_runs_is_refused(runs, tmp_path):
    one = str(runs[0])
    for folders in ([one], [one, one], [one, one, str(runs[1])]):
        with pytest.raises(ConfigError, match="give two different run folders"):
            compare_runs(folders, READING, seed=0)
    with pytest.raises(ListenwellError, match="holds no results of a study"):
        compare_runs([one, str(tmp_path)], READING, seed=0)


def test_another_method_of_both_can_be_compared(runs):
    found = compare_runs([str(run) for run in runs], Reading({}, method="zero-shot"), seed=0)
    assert {pair.difference.difference for pair in found.test_sets[0].at["default"].pairs} == {0.0}
    assert "Base model, zero-shot of both" in Page(comparison_page(found)).text


def test_the_command_writes_page_and_numbers(runs, tmp_path):
    done = command(*runs, "--html", tmp_path / "c.html", "--out", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    assert "Test: is A better than B?" in done.stdout
    assert f"page: {tmp_path / 'c.html'}" in done.stdout
    (written,) = json.loads((tmp_path / "c.json").read_text())["test_sets"]
    assert written["name"] == "test"
    assert {pair["condition"] for pair in written["at"]["calibrated"]["pairs"]} >= {"clean", "noisy"}
    assert command(runs[0], "--html", tmp_path / "d.html").exit_code == 2
    assert not (tmp_path / "d.html").exists()


def test_the_page_loads_nothing_and_runs_its_own_script_only(compared, page):
    text = comparison_page(compared)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; script-src '{policy_hash(script)}';")
    assert not re.search(r"@import|url\((?!#)|https?://", text)
    assert comparison_page(compared) == text


def test_a_name_writes_no_tag_and_is_printed_as_it_is(runs, copied, page):
    results = results_of(copied)
    results["name"] = results["model"]["name"] = results["provenance"]["commit"] = HOSTILE
    results["config"]["prompt"]["question"] = results["config"]["data"]["manifest"] = HOSTILE
    results["test_sets"][0]["title"] = HOSTILE
    write_checksummed(copied / "results.json", results)
    rewrite_scores(copied, lambda table: table)
    found = compare_runs([str(copied), str(runs[0])], READING, seed=0)
    (test_set,) = found.test_sets
    groups = [GroupChange(HOSTILE, "SPEECH", 3, 1, 2)]
    text = comparison_page(
        type(found)(found.runs, found.method, [ComparedTestSet("test", test_set.at, groups)], [HOSTILE])
    )
    attacked = Page(text)
    assert {tag for tag, _ in attacked.tags} <= {tag for tag, _ in page.tags} | {"td", "tr"}
    assert len(attacked.all("script")) == 1
    assert attacked.text.count(" ".join(show_signs(HOSTILE).split())) >= 7
    assert "\u202e" not in text


@pytest.mark.browser
def test_in_a_browser_it_is_silent_sortable_and_fits_a_phone(compared, tmp_path):
    path = tmp_path / "comparison.html"
    path.write_text(comparison_page(compared), encoding="utf-8")
    with open_tab(tmp_path / "browser") as tab:
        tab.requests.clear()
        tab.complaints.clear()
        tab.open(path, width=360, height=740)
        outside = [url for url in tab.requests if not url.startswith(("data:", path.resolve().as_uri()))]
        assert (outside, tab.complaints) == ([], [])
        assert tab.run("document.documentElement.scrollWidth") <= 360
        names = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].textContent)"
        before = tab.run(names)
        tab.run("document.querySelector('table thead button').click()")
        assert tab.run(names) == sorted(before)
