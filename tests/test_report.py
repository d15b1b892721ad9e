"""The report says what results.json says: tables, answers, advice, table files and the model card of a made study."""

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_pages import Page
from made_results import make_results

from listenwell.errors import ListenwellError
from listenwell.report.results import Results, parse_results
from listenwell.report.sections import find_answers, find_next_steps
from listenwell.report.tables import format_table, main_table
from listenwell.report.wording import MINUS, format_signed
from listenwell.report.write import CONDITIONS as CONDITIONS_TABLE
from listenwell.report.write import MODEL_CARD, escape_markdown, policy_hash, write_report


def render(record: dict[str, Any], folder: Path) -> tuple[str, str]:
    write_report(Results.model_validate(record), folder)
    return tuple((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))


@pytest.fixture
def record() -> dict[str, Any]:
    return make_results()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(make_results(), tmp_path_factory.mktemp("report"))[0]


def test_the_tree_of_a_finished_study_dumps_to_the_values_it_was_made_of(finished_study):
    record = json.loads(json.dumps(finished_study[1]))
    assert Results.model_validate(record).model_dump(mode="json") == record


def test_results_of_another_version_are_refused_in_one_sentence_with_the_next_step(record):
    with pytest.raises(ListenwellError, match=r"x\.json: no results of a study.*\('name'.*run 'listenwell study'"):
        parse_results({"zero_shot": {}}, "x.json")
    del record["evidence"]["errors"]["sealed_test"]["groups"][0]["low"]
    with pytest.raises(ListenwellError, match=r"'evidence\.errors\.sealed_test\.groups\.0\.low': field required"):
        parse_results(record, "x.json")
    with pytest.raises(ListenwellError, match=r"'speaker_curve'"):
        parse_results(make_results() | {"speaker_curve": None}, "x.json")


def test_the_page_is_written_last(tmp_path):
    (tmp_path / MODEL_CARD).mkdir()  # no file can take its place
    with pytest.raises(ListenwellError, match=r"MODEL_CARD\.md: is a folder"):
        render(make_results(), tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_same_results_give_the_same_bytes(record, page, tmp_path):
    assert render(record, tmp_path)[0] == page


@pytest.mark.slow
def test_the_terminal_table_has_the_cells_of_the_page_and_loads_no_drawing_library(page):
    table = format_table(Results.model_validate(make_results()))
    assert all(len(line) <= 130 or line.endswith(".") for line in table.splitlines())  # notes are sentences
    assert "Base model default" in table
    assert "Base model calibrated" in table
    assert "110 clips \N{MULTIPLICATION SIGN} 5, 30 groups" in table
    shown = next(table for table in Page(page).tables if "Sealed test: balanced accuracy" in table.caption)
    assert all(" ".join(cell) in table for row in shown.rows for cell in row)
    code = "import sys, listenwell.report.tables; print({'matplotlib', 'jinja2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_page_loads_nothing_and_runs_its_own_script_only(page):
    (policy,) = [a["content"] for a in Page(page).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy == (
        f"default-src 'none'; script-src '{policy_hash(script)}'; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:"
    )
    for _, attributes in Page(page).tags:
        assert not [name for name in attributes if name.startswith("on")]
        links = [attributes[name] or "" for name in ("src", "href", "xlink:href") if name in attributes]
        assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_page_is_accessible(page):
    parsed = Page(page)
    assert len(parsed.all("h1")) == 1
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("caption")) == len(parsed.all("table")) > 5
    assert {head["scope"] for head in parsed.all("th")} == {"col", "row"}
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert [name for name, n in Counter(ids).items() if n > 1] == []
    assert all(drawing["aria-label"] for drawing in parsed.all("svg"))
    named = [drawing["aria-describedby"] for drawing in parsed.all("svg")]
    links = [a[name] or "" for _, a in parsed.tags for name in ("href", "xlink:href") if name in a]
    assert {*named, *(link[1:] for link in links if link.startswith("#"))} <= set(ids)
    assert len(parsed.all("svg")) == 5


@pytest.mark.slow
def test_another_base_model_is_a_warning_that_the_first_screen_counts(record, tmp_path):
    record["model"] |= {"is_starter_base": False, "name": "own-base"}
    record["evidence"]["traps"] = {}
    page, markdown = render(record, tmp_path)
    for text in (Page(page).text, markdown):
        assert text.index("own-base, LoRA") < text.index("Does it generalise")
        assert text.index("1 warning") < text.index("Another base model")


def test_every_measure_under_every_condition_stands_in_a_table_of_its_own(record, tmp_path):
    render(record, tmp_path)
    with (tmp_path / CONDITIONS_TABLE).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(len(row["metrics"]) for row in record["rows"])
    shown = {tuple(line[name] for name in ("method", "threshold", "test_set", "condition", "measure")): line
             for line in lines}  # fmt: skip
    for row in record["rows"]:
        for metric in row["metrics"]:
            line = shown[row["method"], row["threshold"], row["test_set"], row["condition"], metric["name"]]
            assert [float(line[name]) for name in ("value", "low", "high")] == [metric["value"], metric["low"],
                                                                                metric["high"]]  # fmt: skip


def test_markdown_is_printed_as_it_is():
    assert escape_markdown("a|b_c*d`e\n<f>&") == r"a\|b\_c\*d\`e &lt;f&gt;&amp;"
    assert escape_markdown("[0.900, 0.950](b)") == r"\[0.900, 0.950\](b)"
    assert escape_markdown("[0.900, 0.950]") == "[0.900, 0.950]"


@pytest.mark.parametrize(
    ("clean", "noisy", "verdict"),
    [
        ((0.01, 0.1), (0.02, 0.1), "Yes."),
        ((-0.1, -0.01), (-0.1, -0.02), "No, worse."),
        ((-0.1, 0.1), (-0.1, 0.1), "Cannot tell."),
        ((0.01, 0.1), (-0.1, 0.1), "Yes on clean clips; cannot tell in noise."),
    ],
)
def test_the_answer_follows_the_intervals_of_the_out_of_corpus_test(record, clean, noisy, verdict):
    for comparison in record["comparisons"]:
        low, high = noisy if comparison["condition"] == "noisy" else clean
        low, high = (0.01, 0.1) if comparison["opponent"] == "zero-shot" else (low, high)
        comparison["result"] |= {"difference": (low + high) / 2, "low": low, "high": high}
        comparison["p_adjusted"] = 0.001
    answers = {answer.question: answer for answer in find_answers(Results.model_validate(record))}
    against_silero = answers["Is it better than Silero VAD?"]
    assert against_silero.strong == verdict
    middle, low, high = map(format_signed, (sum(noisy) / 2, *noisy))
    assert f"in noise {middle} [{low}, {high}]" in against_silero.text
    assert answers["Does it generalise: better than its base model?"].strong == "Yes."


@pytest.mark.parametrize(("better", "verdict"), [("default", "Cannot tell."), ("calibrated", "Yes.")])
def test_the_answer_is_against_the_opponent_at_the_better_of_its_two_thresholds(record, better, verdict):
    for row in record["rows"]:
        if row["method"] == "silero":
            level = next(metric for metric in row["metrics"] if metric["name"] == "balanced_accuracy")
            level["value"] = 0.9 if row["threshold"] == better else 0.8
    for comparison in record["comparisons"]:
        low = 0.01 if comparison["opponent_threshold"] == "calibrated" else -0.1
        comparison["result"] |= {"difference": 0.05, "low": low, "high": 0.1}
        comparison["p_adjusted"] = 0.001
    answers = {answer.question: answer for answer in find_answers(Results.model_validate(record))}
    assert answers["Is it better than Silero VAD?"].strong == verdict


@pytest.mark.parametrize(("high", "is_said"), [(0.49, True), (0.51, False)])
def test_a_method_that_ranks_the_sounds_the_wrong_way_round_is_said_to(record, high, is_said):
    for row in record["rows"]:
        auc = next(metric for metric in row["metrics"] if metric["name"] == "roc_auc")
        is_worse = row["method"] == "webrtc" and row["condition"] == "clean"
        auc |= {"value": 0.4, "low": 0.3, "high": high} if is_worse else {"high": 1.0}
    results = Results.model_validate(record)
    notes = [main_table(results, test_set).note for test_set in results.judged_sets]
    expected = "WebRTC VAD ranks the other sounds above speech (clean): it tells activity from silence"
    assert all(note.startswith(expected) == is_said for note in notes)
    assert any(notes) == is_said


def advice(record: dict[str, Any]) -> str:
    return "\n".join(f"{step.strong} {step.text}" for step in find_next_steps(Results.model_validate(record)))


def set_metric(record, condition, name, value, low, high):
    for row in record["rows"]:
        if (row["method"], row["threshold"], row["condition"]) == ("fine-tuned", "calibrated", condition):
            for metric in row["metrics"]:
                if metric["name"] == name:
                    metric.update(value=value, low=low, high=high)


def test_errors_of_a_few_speakers_ask_for_more_speakers(record):
    errors = record["evidence"]["errors"]["out_of_corpus"]
    counts, group = (9, 8, 1, 1, 1), errors["groups"][0] | {"label": "SPEECH", "n": 20}
    errors["groups"] = [group | {"group": f"g{i}", "n_wrong": n} for i, n in enumerate(counts)]
    errors["n_wrong"] = sum(counts)
    assert "then add speakers" in advice(record)
    assert "g0 (9 of 20), g1 (8 of 20)" in advice(record)
    errors["groups"] = [group | {"group": f"g{i}", "n_wrong": 2} for i in range(10)]
    assert "like those that fail" not in advice(record)


def test_a_threshold_that_moves_asks_for_calibration_on_the_spot(record):
    verdict = record["evidence"]["transfer"]["out_of_corpus"]["verdict"]
    for outcome in ("met", "not met"):
        verdict["outcome"] = outcome
        assert ("Calibrate on a few labelled clips" in advice(record)) == (outcome == "not met")


def test_a_condition_is_named_only_where_its_whole_interval_lies_below_the_clean_value(record):
    set_metric(record, "clean", "balanced_accuracy", 0.95, 0.93, 0.97)
    for condition in [*record["conditions"][1:], "noisy"]:
        set_metric(record, condition, "balanced_accuracy", 0.94, 0.92, 0.96)
    assert "Train harder for" not in advice(record)
    set_metric(record, "100ms", "balanced_accuracy", 0.80, 0.75, 0.84)
    assert "Train harder for 100 ms" in advice(record)


def test_what_is_not_decided_is_told_with_the_groups_that_would(record):
    record["evidence"]["criteria"][0] |= {"outcome": "cannot tell", "groups_needed": 70, "clips_needed": 140}
    assert "test with 70 groups" in advice(record)


def test_the_model_card_holds_the_calibrated_rows_and_no_name_breaks_out_of_it(record, tmp_path):
    record["name"] = "x\n---\nevil: true\n---\n<script>alert(1)</script>"
    render(record, tmp_path)
    front, text = (tmp_path / MODEL_CARD).read_text().removeprefix("---\n").split("\n---\n", 1)
    index = yaml.safe_load(front)["model-index"][0]
    shown = {(r["dataset"]["type"], r["dataset"]["split"]): r["metrics"][0]["value"] for r in index["results"]}
    wanted = [row for row in record["rows"] if (row["method"], row["threshold"]) == ("fine-tuned", "calibrated")]
    assert shown == {(row["test_set"], row["condition"]): row["metrics"][0]["value"] for row in wanted}
    assert index["name"] == record["name"]
    assert "evil" not in yaml.safe_load(front)
    assert "## Training" in text
    assert "<script>" not in text


def test_what_a_foreign_corpus_costs_is_told_from_two_tests_where_no_fold_leaves_one_out(record):
    wanted = ("fine-tuned", "calibrated", "sealed_test", "clean")
    names = ("method", "threshold", "test_set", "condition")
    row = next(row for row in record["rows"] if tuple(row[name] for name in names) == wanted)
    row["metrics"][0] |= {"value": 0.75, "low": 0.7, "high": 0.8}
    results = Results.model_validate(record)
    foreign = results.row("fine-tuned", "calibrated", "out_of_corpus", "clean").metrics[0].value
    (card,) = [card for card in find_answers(results) if card.question == "What does a foreign corpus cost?"]
    assert card.strong == "Nothing."
    assert card.text.startswith(f"{MINUS}{foreign - 0.75:.3f} [")
