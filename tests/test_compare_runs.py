"""Two finished studies side by side on a page: the same clips, the numbers of the score tables, names as they are."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made_pages import Page
from made_sounds import study_record
from typer.testing import CliRunner, Result

from listenwell.cli.main import app
from listenwell.config import change_config
from listenwell.errors import ConfigError, ListenwellError, ManifestError
from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.pairing import GroupCount
from listenwell.evaluate.scores import read_scores, write_scores
from listenwell.report.comparison import RunComparison, comparison_page
from listenwell.report.wording import show_characters
from listenwell.report.write import policy_hash, render_page
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.run_folder import RunFolder, read_kept_results
from listenwell.tasks.compare import Reading, compare_runs

READING = Reading({})
OTHERWISE = {
    "arms": {}, "seeds": (), "search.grid": (), "leave_one_out.arms": (), "lora.rank": 2,
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
        study_record(config.model_copy(update={"output": folder / "run"}))
    return finished_study[0].output, folder / "run"


def compare_both(*runs: Path, reading: Reading = READING, common: bool = False) -> RunComparison:
    return compare_runs([str(run) for run in runs], reading, seed=0, common=common)


def shown(comparison: RunComparison) -> Page:
    return Page(render_page(comparison_page(comparison)))


@pytest.fixture(scope="module")
def compared(runs) -> RunComparison:
    return compare_both(*runs)


@pytest.fixture(scope="module")
def page(compared) -> Page:
    return shown(compared)


@pytest.fixture
def copied(runs, tmp_path) -> Path:
    """The second run, to be changed."""
    return Path(shutil.copytree(runs[1], tmp_path / "copied"))


def results_of(run: Path) -> dict:
    return read_kept_results(RunFolder(run))


def threshold_of(run: Path) -> float:
    return json.loads((run / "thresholds" / "fine-tuned.json").read_text())["value"]


def rewrite_scores(run: Path, change) -> None:
    """Change the fine-tuned model's test scores, and the hashes that stand beside them."""
    path = run / "scores" / "fine-tuned-test.csv"
    write_scores(path, change(read_scores(path)))
    note = {key: value for key, value in read_checksummed(path.with_name("test.json")).items() if key != "files"}
    write_checksummed(path.with_name("test.json"), note, sorted(run.glob("scores/*-test.csv")))


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_a_run_stands_beside_another_with_the_numbers_of_their_score_tables(runs, compared):
    tables = [read_scores(run / "scores" / "fine-tuned-test.csv") for run in runs]
    pairs = compared.test_sets["test"].pairs
    for pair in (pair for pair in pairs if pair.condition != "noisy"):
        chosen = [table.select(table.condition == pair.condition) for table in tables]
        decided = [decide(table.score, threshold_of(run)) for run, table in zip(runs, chosen, strict=True)]
        assert pair.difference == compare_balanced_accuracy(*decided, chosen[0].is_speech, chosen[0].group, seed=0)
    least = min(pair.difference.p_value for pair in pairs)
    assert all(least <= pair.difference.p_value <= pair.p_adjusted for pair in pairs)


def test_only_settings_that_change_something_and_differ_are_listed(page):
    (table,) = [table for table in page.tables if table.caption == "Settings that differ"]
    listed = {row[0][0]: (row[1][0], row[2][0]) for row in table.rows}
    assert listed["lora.rank"] == ("8", "2")
    assert listed["augment.noise.probability"] == ("0.7", "0.0")
    assert listed["leave_one_out.arms"] == ('["final"]', "[]")
    assert not {"output", "ledger", "train.epochs"} & set(listed)


def with_groups(compared: RunComparison, groups: list[GroupCount]) -> RunComparison:
    return replace(compared, test_sets={"test": replace(compared.test_sets["test"], groups=tuple(groups))})


def test_groups_that_changed_are_listed_the_largest_change_first(compared):
    groups = [
        GroupCount("few", "SPEECH", 9, (5, 4)),
        GroupCount("many", "SPEECH", 9, (9, 2)),
        GroupCount("alike", "NONSPEECH", 3, (1, 1)),
        *(GroupCount(f"g{i:02d}", "NONSPEECH", 5, (1, 3)) for i in range(17)),
    ]
    page = shown(with_groups(compared, groups))
    better, worse = (table for table in page.tables if "groups that A decides" in table.caption)
    assert better.caption == "Test: groups that A decides better (2)"
    assert [[cell[0] for cell in row] for row in better.rows] == [
        ["many", "SPEECH", "9", "9", "2", "+7"], ["few", "SPEECH", "9", "5", "4", "+1"],
    ]  # fmt: skip
    assert worse.caption == "Test: groups that A decides worse (17), the first 15"
    assert len(worse.rows) == 15
    assert "Test: 1 of 20 groups have as many clips right in A as in B." in page.text


def test_other_clips_are_refused_unless_the_common_ones_are_asked_for_and_then_it_is_said(runs, copied):
    rewrite_scores(copied, lambda table: table.select(table.clip_id != table.clip_id[0]))
    with pytest.raises(ManifestError, match="not scored on the same clips"):
        compare_both(runs[0], copied)
    comparison = compare_both(runs[0], copied, common=True)
    warning = comparison.warnings[0]
    assert warning.startswith(f"5 rows of {runs[0]} fine-tuned were left out")
    assert warning in shown(comparison).text


def test_other_recordings_under_the_same_names_are_told(runs, copied):
    results = results_of(copied)
    results["seal"]["test_sets"]["test"] = "0" * 64
    write_checksummed(copied / "results.json", results)
    warnings = compare_both(runs[0], copied).warnings
    assert "Test: the runs tested other recordings, or other clips, under this name" in warnings


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading({}, method="nobody"), "has no method 'nobody'; --method takes final-seed2, fine-tuned"),
        (Reading({}, test_set="other"), "'other' is not a test set of both"),
    ],
)
def test_a_method_and_a_test_set_that_are_not_there_are_named(runs, reading, message):
    with pytest.raises(ConfigError, match=message):
        compare_both(*runs, reading=reading)


def test_anything_but_two_finished_runs_is_refused(runs, tmp_path):
    for folders in ([runs[0]], [runs[0], runs[0]], [runs[0], runs[0], runs[1]]):
        with pytest.raises(ConfigError, match=r"give (two different|at least two)"):
            compare_both(*folders)
    with pytest.raises(ListenwellError, match=r"results\.json: is not there"):
        compare_both(runs[0], tmp_path)


def test_the_command_writes_page_and_numbers(runs, tmp_path):
    done = command(*runs, "--html", tmp_path / "c.html", "--out", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    assert "Test: is A better than B?" in done.stdout
    assert f"page: {tmp_path / 'c.html'}" in done.stdout
    written = json.loads((tmp_path / "c.json").read_text())["test_sets"]
    assert {pair["condition"] for pair in written["test"]["pairs"]} >= {"clean", "noisy"}
    assert command(runs[0], "--html", tmp_path / "d.html").exit_code == 2
    assert not (tmp_path / "d.html").exists()


def test_a_name_writes_no_tag_and_is_printed_as_it_is(runs, copied, page):
    results = results_of(copied)
    results["name"] = results["model"]["name"] = results["provenance"]["commit"] = HOSTILE
    results["config"]["prompt"]["question"] = results["config"]["data"]["manifest"] = HOSTILE
    results["test_sets"][0]["title"] = HOSTILE
    write_checksummed(copied / "results.json", results)
    comparison = with_groups(compare_both(copied, runs[0]), [GroupCount(HOSTILE, "SPEECH", 3, (1, 2))])
    text = render_page(comparison_page(replace(comparison, warnings=[HOSTILE])))
    attacked = Page(text)
    assert {tag for tag, _ in attacked.tags} <= {tag for tag, _ in page.tags} | {"td", "tr"}
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert f"script-src '{policy_hash(script)}'" in text
    assert attacked.text.count(" ".join(show_characters(HOSTILE).split())) >= 7
    assert "\u202e" not in text
