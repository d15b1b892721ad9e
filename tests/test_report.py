"""The report says what results.json says, escapes names, needs nothing from elsewhere, and is reproducible."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from made_pages import Page
from made_results import CONDITIONS, make_results

from listenwell.errors import ListenwellError
from listenwell.report.answer import find_answers
from listenwell.report.rendering import escape_markdown
from listenwell.report.results import read_results
from listenwell.report.tables import main_tables
from listenwell.report.terminal import format_table
from listenwell.report.wording import condition_title, format_difference, format_interval, format_number, verdict_of
from listenwell.report.write import write_report


def render(results: dict[str, Any], folder: Path) -> tuple[str, str]:
    write_report(results, folder)
    return tuple((folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    results = make_results()
    return results, *render(results, tmp_path_factory.mktemp("report"))


def test_the_page_is_written_last(tmp_path):
    (tmp_path / "MODEL_CARD.md").mkdir()  # no file can take its place
    with pytest.raises(ListenwellError, match=r"MODEL_CARD\.md: is a folder"):
        write_report(make_results(), tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_every_number_of_the_results_stands_on_the_page_and_in_the_markdown(written):
    results, page, markdown = written
    text, plain = Page(page).text, markdown.replace("\\", "")
    for row in results["rows"]:
        for metric in row["metrics"]:
            number = f"{format_number(metric['value'])} {format_interval(metric['low'], metric['high'])}"
            assert number in text
            assert number in plain
    for comparison in results["comparisons"]:
        difference = format_difference(comparison["result"]["difference"])
        assert difference in text
        assert difference in plain


def test_a_cell_stands_in_the_row_and_column_it_belongs_to(written):
    results, _, markdown = written
    section = (
        markdown.split("### Sealed test: balanced accuracy")[1].split("###")[0].replace("\\", "").replace("**", "")
    )
    rows = {line.split("|")[1].strip(): line.split("|")[2:6] for line in section.splitlines() if line.startswith("|")}
    for method, title in (("fine-tuned", "Fine-tuned model"), ("silero", "Silero VAD")):
        for threshold in ("default", "calibrated"):
            for cell, condition in zip(rows[f"{title} {threshold}"], ("clean", "noisy", "200ms", "100ms"), strict=True):
                key = (method, threshold, "sealed_test", condition)
                fields = ("method", "threshold", "test_set", "condition")
                metric = next(r for r in results["rows"] if tuple(r[f] for f in fields) == key)["metrics"][0]
                expected = f"{format_number(metric['value'])} {format_interval(metric['low'], metric['high'])}"
                assert cell.strip() == expected


def test_the_terminal_table_has_the_rows_and_counts_of_the_page(written):
    results, page, _ = written
    table = format_table(results)
    assert all(len(line) <= 130 for line in table.splitlines())
    assert "Base model, zero-shot default" in table
    assert "Base model, zero-shot calibrated" not in table
    for number in re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", table):
        assert number in Page(page).text
    assert "550 clips, 30 groups" in table


def test_the_terminal_table_loads_no_drawing_library():
    code = "import sys, listenwell.report.terminal; print({'matplotlib', 'jinja2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_page_is_read_back_from_json_to_the_same_bytes(written, tmp_path):
    results, page, markdown = written
    assert render(json.loads(json.dumps(results)), tmp_path) == (page, markdown)


def test_the_page_loads_nothing_and_runs_its_own_script_only(written):
    _, page, _ = written
    parsed = Page(page)
    assert not [tag for tag, _ in parsed.tags if tag in ("img", "iframe", "object", "embed")]
    (policy,) = [a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; media-src data:"
    )
    for _, attributes in parsed.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith(("#", "data:"))
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_page_is_accessible(written):
    _, page, _ = written
    parsed = Page(page)
    assert len(parsed.all("h1")) == 1
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("caption")) == len(parsed.all("table")) > 5
    assert {head["scope"] for head in parsed.all("th")} == {"col", "row"}
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert [name for name, n in Counter(ids).items() if n > 1] == []
    drawings = parsed.all("svg")
    assert len(drawings) == 5
    for drawing in drawings:
        assert set((drawing["aria-labelledby"] or "").split()) <= set(ids)
    for _, attributes in parsed.tags:
        for name in ("href", "xlink:href"):
            if (attributes.get(name) or "").startswith("#"):
                assert attributes[name][1:] in ids


def relative_luminance(colour: str) -> float:
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_and_lines_have_the_contrast_of_wcag_aa(written):
    _, page, _ = written
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S)
    ]
    assert len(schemes) == 2
    for scheme in schemes:
        for name, ground, least in (
            *((name, ground, 4.5) for name in ("ink", "quiet", "notice") for ground in ("paper", "tint")),
            *((f"line-{i}", "paper", 3.0) for i in range(1, 5)),
        ):
            low, high = sorted(relative_luminance(scheme[key]) for key in (name, ground))
            assert (high + 0.05) / (low + 0.05) >= least, f"{name} on {ground}"


def test_markdown_is_printed_as_it_is():
    assert escape_markdown("a|b_c*d`e\n<f>&") == r"a\|b\_c\*d\`e &lt;f&gt;&amp;"
    assert escape_markdown("[0.900, 0.950](b)") == r"\[0.900, 0.950\](b)"
    assert escape_markdown("[0.900, 0.950]") == "[0.900, 0.950]"


def test_a_study_on_own_data_without_baselines_renders(tmp_path):
    results = make_results(("test",))
    for name in ("comparisons", "fits", "thresholds", "allocation", "backgrounds", "quarantine", "warnings", "config"):
        del results[name]
    results["rows"] = [row for row in results["rows"] if row["method"] == "fine-tuned" and row["condition"] == "clean"]
    results["methods"] = {"fine-tuned": results["methods"]["fine-tuned"]}
    page, markdown = render(results, tmp_path)
    assert "against chance (0.5)" in page
    assert "Does it generalise? **Yes.**" in markdown
    assert "<svg" not in page
    assert "Comparisons" not in page


def test_other_conditions_than_the_main_ones_are_shown(tmp_path):
    results = make_results(("test",))
    results["rows"] = [row for row in results["rows"] if row["condition"] in ("snr_0", "500ms")]
    results["comparisons"] = []
    page, _ = render(results, tmp_path)
    assert "500 ms" in Page(page).text
    assert "0 dB" in format_table(results)


def test_results_of_something_else_are_refused_with_the_next_step(tmp_path):
    with pytest.raises(ListenwellError, match=r"no 'name'.*listenwell evaluate"):
        write_report({"zero_shot": {}}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_base_model_is_said_at_the_top(tmp_path):
    results = make_results()
    results["model"] |= {"is_starter_base": False, "name": "own-base"}
    for text in render(results, tmp_path):
        assert text.index("Another base model") < text.index("Does it generalise")


def test_a_group_in_two_parts_is_said(tmp_path):
    results = make_results()
    assert "No group stands in two parts." in render(results, tmp_path)[0]
    results["allocation"][2]["groups"].append(results["allocation"][0]["groups"][0])
    page, markdown = render(results, tmp_path)
    assert "Groups in more than one part" in page
    assert r"- speech\_0: train, dev" in markdown


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (-0.1, 0.1, "cannot tell"), (0.0, 0.0, "cannot tell"),
     (0.0, 0.1, "cannot tell"), (0.5, 0.5, "cannot tell")],
)  # fmt: skip
def test_only_an_interval_beside_zero_decides(low, high, verdict):
    assert verdict_of(low, high) == verdict


@pytest.mark.parametrize(
    ("clean", "noisy", "verdict"),
    [
        ((0.01, 0.1), (0.02, 0.1), "Yes."),
        ((-0.1, -0.01), (-0.1, -0.02), "No, it is worse."),
        ((-0.1, 0.1), (-0.1, 0.1), "Cannot tell from this many clips."),
        ((0.01, 0.1), (-0.1, 0.1), "Not under every condition."),
    ],
)
def test_the_answer_follows_the_intervals_of_the_out_of_corpus_test(clean, noisy, verdict):
    results = make_results(("out_of_corpus", "sealed_test"))
    for comparison in results["comparisons"]:
        if comparison["opponent"] == "silero" and comparison["test_set"] == "out_of_corpus":
            low, high = noisy if comparison["condition"] == "noisy" else clean
            comparison["result"] |= {"low": low, "high": high}
    answers = {answer.question: answer for answer in find_answers(read_results(results))}
    found = answers["Is it better than Silero VAD?"]
    assert found.verdict == verdict
    assert "352 clips, 64 groups" in found.evidence
    assert answers["Does it generalise?"].verdict == "Yes."


@pytest.mark.parametrize(("high", "is_said"), [(0.49, True), (0.51, False)])
def test_a_method_that_ranks_the_sounds_the_wrong_way_round_is_said_to(high, is_said):
    results = make_results()
    for row in results["rows"]:
        auc = row["metrics"][3]
        if row["method"] == "webrtc" and row["condition"] == "clean":
            auc["value"], auc["low"], auc["high"] = 0.4, 0.3, high
    notes = [table.note for table in main_tables(read_results(results))]
    expected = "WebRTC VAD ranks the other sounds above speech (clean): it tells activity from silence"
    assert all(note.startswith(expected) == is_said for note in notes)
    assert any(notes) == is_said


def test_conditions_are_called_by_what_they_are():
    minus = "\N{MINUS SIGN}"
    assert [condition_title(name) for name in ("snr_-5", "100ms", "clean", "")] == [
        f"{minus}5 dB", "100 ms", "clean", "as recorded",
    ]  # fmt: skip
    assert len({condition_title(name) for name in CONDITIONS}) == len(CONDITIONS)
