"""Tables as CSV and LaTeX: the numbers of results.json unrounded, names that do no harm in a spreadsheet or a paper."""

import copy
import csv

import pytest
import yaml
from made_results import make_results

from listenwell.report.model_card import MODEL_CARD
from listenwell.report.results import read_results
from listenwell.report.table_files import escape_latex, guard_cell, write_tables
from listenwell.report.write import write_report

HOSTILE = ["=cmd|' /C calc'!A0", "+1+2", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\u202e=1"]


@pytest.fixture
def results():
    return copy.deepcopy(make_results())


def test_every_measure_of_every_row_is_in_the_csv_unrounded(results, tmp_path):
    write_tables(read_results(results), tmp_path)
    with (tmp_path / "tables" / "rows.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    found = {
        (line["method"], line["threshold"], line["test_set"], line["condition"], line["measure"]): line
        for line in lines
    }
    assert len(found) == len(lines) == sum(len(row["metrics"]) for row in results["rows"])
    for row in results["rows"]:
        for metric in row["metrics"]:
            key = (row["method"], row["threshold"], row["test_set"], row["condition"], metric["name"])
            assert float(found[key]["value"]) == metric["value"]
            assert int(found[key]["clips"]) == metric["n"]
    with (tmp_path / "tables" / "comparisons.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(results["comparisons"])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_like_a_formula_stays_text(name):
    guarded = guard_cell(name)
    assert not str(guarded).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert "\n" not in str(guarded)
    assert guard_cell(-0.5) == -0.5


def test_every_sign_of_latex_is_escaped(results, tmp_path):
    assert escape_latex(r"a_b & 5% {x} \input{y} $z$ #1 ~ ^") == (
        r"a\_b \& 5\% \{x\} \textbackslash{}input\{y\} \$z\$ \#1 \textasciitilde{} \textasciicircum{}"
    )
    write_tables(read_results(results), tmp_path)
    text = (tmp_path / "tables" / "tables.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") >= 4
    assert r"\textbf{Fine-tuned model calibrated}" in text


def card_of(results, folder) -> tuple[dict, str]:
    write_report(results, folder)
    front, text = (folder / MODEL_CARD).read_text().removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(front), text


def test_the_model_card_holds_the_calibrated_rows_in_a_model_index(results, tmp_path):
    front, text = card_of(results, tmp_path)
    entries = front["model-index"][0]["results"]
    wanted = [row for row in results["rows"] if (row["method"], row["threshold"]) == ("fine-tuned", "calibrated")]
    found = {(entry["dataset"]["type"], entry["dataset"]["split"]): entry["metrics"][0]["value"] for entry in entries}
    assert found == {(row["test_set"], row["condition"]): row["metrics"][0]["value"] for row in wanted}
    assert "## Training" in text


def test_a_hostile_study_name_cannot_break_out_of_the_card(results, tmp_path):
    results["name"] = "x\n---\nevil: true\n---\n<script>alert(1)</script>"
    front, text = card_of(results, tmp_path)
    assert front["model-index"][0]["name"] == results["name"]
    assert "evil" not in front
    assert "<script>" not in text


def test_the_report_writes_them_all(results, tmp_path):
    write_report(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"report.html", "report.md", MODEL_CARD, "tables"}
