"""Names come from users' files: whatever they hold, page and Markdown stay what they are."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_pages import Page, markdown_tables

from listenwell.report.results import Results
from listenwell.report.wording import show_characters
from listenwell.report.write import MARKDOWN, PAGE, escape_markdown, policy_hash, show_on_page, write_report

pytestmark = pytest.mark.slow

TURNED, MARK, ZERO, BELL = "\u202e", "\u200f", "\x00", "\x07"
HOSTILE = {
    "script": "<script>alert('x')</script><img src=http://evil.example/x onerror=1>",
    "quotes": "\"'`&quot;' onmouseover=alert(1) x=\"",
    "lines": "first\n\n# heading\r\n| cell | cell |\n- [link](javascript:alert(1))\n</svg></table>",
    "turned": f"abc{TURNED}fdp.exe{MARK}{ZERO}{BELL}",
    "long": 300 * "W",
    "maths": "$\\frac{a}{b}$ **bold** ~~gone~~ \\",
    "foreign": "говорун_話者_متحدث",
}


def renamed(tree: Any, rename: Callable[[str], str]) -> Any:
    """The tree of JSON values with every text changed, keys too."""
    if isinstance(tree, dict):
        return {rename(key): renamed(value, rename) for key, value in tree.items()}
    if isinstance(tree, list):
        return [renamed(value, rename) for value in tree]
    return rename(tree) if isinstance(tree, str) else tree


def render_named(name: str, finished_study: Any, folder: Path) -> tuple[str, str]:
    """Page and Markdown of the study with `name` before the names of clips, groups, paths, prompt and the study."""
    config, results = finished_study
    groups = {group for entry in results["allocation"] for group in entry["groups"]}
    clips = {error["clip_id"] for found in results["evidence"]["errors"].values() for error in found["heard"]}
    paths = {results["config"]["data"]["manifest"], results["config"]["prompt"]["question"], results["name"]}

    def rename(text: str) -> str:
        return f"{name}{text}" if text in groups | clips | paths else text

    shutil.copytree(config.output / "errors", folder / "errors")
    index = folder / "errors" / "errors.json"
    index.write_text(json.dumps(renamed(json.loads(index.read_text()), rename)))
    changed = renamed(json.loads(json.dumps(results)), rename)
    changed |= {"warnings": [name], "quarantine": [{"clip_id": name, "reason": name}]}
    changed["failed_fits"] = [{"name": name, "reason": name}]
    write_report(Results.model_validate(changed), folder)
    return tuple((folder / file).read_text(encoding="utf-8") for file in (PAGE, MARKDOWN))


@pytest.fixture(scope="module")
def tame(finished_study, tmp_path_factory):
    page, _ = render_named("tame", finished_study, tmp_path_factory.mktemp("tame"))
    return Page(page)


@pytest.fixture(scope="module", params=list(HOSTILE), ids=list(HOSTILE))
def attacked(request, finished_study, tmp_path_factory):
    bad = HOSTILE[request.param]
    return bad, *render_named(bad, finished_study, tmp_path_factory.mktemp("attacked"))


def shape(page: Page) -> list[tuple[str, list[str]]]:
    """The tags of a page with the names of their attributes; how a drawing's text is set out is left aside."""
    return [(tag, list(attributes)) for tag, attributes in page.tags]


def test_a_name_writes_no_tag_no_attribute_and_no_script(attacked, tame):
    _, page, _ = attacked
    assert shape(Page(page)) == shape(tame)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert f"script-src '{policy_hash(script)}'" in page


def test_a_name_is_printed_as_it_is_with_every_character_visible(attacked):
    bad, page, markdown = attacked
    shown = " ".join(show_characters(bad).split())
    assert shown in Page(page).text
    assert escape_markdown(bad) in markdown
    for character in (TURNED, MARK, ZERO, BELL):
        assert character not in page + markdown


def test_a_name_ends_no_line_and_no_cell_of_the_markdown(attacked):
    _, _, markdown = attacked
    outside_code = [line for line in markdown.splitlines() if not line.startswith("    ")]
    assert not [line for line in outside_code if re.search(r"<(script|img|/)|(?<!\\)\[link\]|^# heading", line)]
    for table in markdown_tables(markdown):
        assert {len(row) for row in table} == {len(table[0])}


def test_a_name_is_cut_where_a_drawing_has_no_room_for_it(attacked):
    _, page, _ = attacked
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert not [text for d in drawings for text in re.findall(r">([^<>]*)</text>", d) if len(text) > 100]


@given(st.text(st.characters(codec="utf-8")))
def test_what_is_shown_holds_no_character_that_acts_unseen_and_loses_nothing_else(text):
    shown = show_on_page(text)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    assert re.sub(r"\[U\+([0-9A-F]{4,6})\]", lambda found: chr(int(found[1], 16)), shown) == text or "[U+" in text
