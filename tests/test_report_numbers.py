"""Every number that report.html and report.md of a finished study show is one of results.json, rounded for print.

A number of a table is looked for in the part of results.json that its column is about, so that a wrong figure does not
pass because another part of the study happens to hold it.
"""

import functools
import json
import operator
import re
from collections.abc import Iterator
from typing import Any

import pytest
from made_pages import Page, ShownTable, markdown_tables, plain_markdown

from listenwell.report.wording import MINUS, condition_title, plain_sentence, spaced

NUMBER = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")
SCOPES = {
    r"balanced accuracy, with 95": ("rows",),
    r"minus opponent": ("comparisons",),
    r"Success criteria": ("evidence.criteria",),
    r"Transfer of the threshold": ("evidence.transfer",),
    r"fitted curves pass": ("evidence.curves",),
    r"Probabilities by the map": ("evidence.probability",),
    r"Groups with errors|errors to listen|hardest group": ("evidence.errors",),
    r"The ladder": ("ladder",),
    r"^Search": ("search",),
    r"^Speakers held out": ("leave_one_speaker_out",),
    r"Clips and groups of each split": ("allocation",),
    r"Background recordings": ("backgrounds",),
    r"^Thresholds": ("thresholds", "methods"),
    r"(Clips|Licences) of the tests": ("test_sets",),
    r"leak gate found": ("leaks",),
    r"left out because": ("quarantine",),
    r"What made these": ("provenance", "model"),
}
"""Caption -> the parts of results.json its numbers come from."""
OTHER_SCOPES = {
    ("The ladder", "Leave one speaker out"): "leave_one_speaker_out",
    ("Probabilities", "minDCF"): "rows",
}
"""Caption, head -> the part this column comes from, where it is another."""


def numbers_in(text: str) -> list[str]:
    """The numbers of a text, without "+" and thousands commas, the minus as in ASCII."""
    found = NUMBER.findall(text.replace(MINUS, "-").replace("±", "+"))
    return [number.removeprefix("+").replace(",", "") for number in found]


def forms_of(value: Any) -> set[str]:
    """How a value of results.json may stand in print."""
    if isinstance(value, bool) or value is None:
        return set()
    if isinstance(value, str):
        return {number for shown in {value, spaced(value), plain_sentence(value), condition_title(value)}
                for number in numbers_in(shown)}  # fmt: skip
    forms = {str(value)} if isinstance(value, int) else set()
    forms |= {"0.001"} if 0 <= value < 0.001 else set()  # a p value below it
    forms |= {f"{value:{form}}" for form in (".3f", ".2f", ".1f", ".0f", ".4g", ".2g", "g", ".1e")}
    forms |= {f"{100 * value:{form}}" for form in (".0f", ".1f")}
    return forms | {form.removeprefix("-") for form in forms if not float(form)}


def leaves(tree: Any) -> Iterator[Any]:
    """Every key and every value in a tree of JSON values."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from leaves(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def printed(tree: Any) -> set[str]:
    return {form for leaf in leaves(tree) for form in forms_of(leaf)}


def allowed_in(results: dict[str, Any], caption: str, head: str) -> set[str]:
    """The numbers that a column of a table may hold: those of the parts of results.json that it is about."""
    (parts,) = [parts for pattern, parts in SCOPES.items() if re.search(pattern, caption)]
    for (begin, title), part in OTHER_SCOPES.items():
        parts = (part,) if caption.startswith(begin) and head == title else parts
    return printed([functools.reduce(operator.getitem, part.split("."), results) for part in parts])


VERSIONS = re.compile(r"(\d+)( clips?) \N{MULTIPLICATION SIGN} (\d+)")


def foreign_numbers(results: dict[str, Any], table: ShownTable) -> list[tuple[str, str]]:
    """The numbers in the rows of a table that are not in the parts they are about, each with its row."""
    allowed = [allowed_in(results, table.caption, head[0] if head else "") for head in table.heads]
    return [
        (number, row[0][0])
        for row in table.rows
        for column, cell in zip(allowed, row, strict=True)
        for text in cell
        # clips scored in several versions: the results count the rows
        for number in numbers_in(VERSIONS.sub(lambda m: f"{int(m[1]) * int(m[3])}{m[2]}", text))
        if number not in column
    ]


@pytest.fixture(scope="module")
def shown(finished_study):
    config, results = finished_study
    texts = [(config.output / name).read_text(encoding="utf-8") for name in ("report.html", "report.md")]
    return json.loads(json.dumps(results)), *texts


def test_every_number_in_a_table_of_the_page_is_one_of_the_results(shown):
    results, page, _ = shown
    tables = Page(page).tables
    assert sum(len(numbers_in(text)) for t in tables for row in t.rows for cell in row for text in cell) > 500
    assert {t.caption: foreign for t in tables if (foreign := foreign_numbers(results, t))} == {}


def test_the_tables_of_the_markdown_hold_the_cells_of_the_page(shown):
    _, page, markdown = shown
    on_page = [
        [[" ".join(" ".join(cell).split()) for cell in row] for row in [table.heads, *table.rows]]
        for table in Page(page).tables
    ]
    in_markdown = markdown_tables(markdown)
    assert [table for table in on_page if table not in in_markdown] == []
    heard = [table for table in in_markdown if table not in on_page]
    assert [table[0][-1] for table in heard] == ["Sound"]


def derived_from(results: dict[str, Any]) -> set[str]:
    """Numbers of the prose that are counts or sums of the results."""
    leaks, errors = results["leaks"], results["evidence"]["errors"]
    numbers = [
        sum(leaks["n_clips"].values()), sum(leaks["n_backgrounds"].values()), len(leaks["n_clips"]),
        len(leaks["findings"]) - leaks["n_leaks"], len(results["comparisons"]), 95,
        *(sum(bool(group["n_wrong"]) for group in found["groups"]) for found in errors.values()),
    ]  # fmt: skip
    return {str(number) for number in numbers}


def test_every_number_in_the_prose_of_the_markdown_is_one_of_the_results_or_counts_them(shown):
    results, _, markdown = shown
    allowed = printed(results) | derived_from(results)
    prose = [plain_markdown(line) for line in markdown.splitlines() if not line.startswith("|")]
    assert {line: foreign for line in prose if (foreign := [n for n in numbers_in(line) if n not in allowed])} == {}
