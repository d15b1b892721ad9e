"""Every command in README and docs exists with the options it names; every local link leads somewhere; what is
generated is up to date."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from config_page import PAGE, config_page
from readme_figures import PAGES as FIGURE_PAGES
from readme_figures import with_figures

from listenwell.cli.main import app
from listenwell.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


COMMANDS = [command for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0].endswith("listenwell")], ids=" ".join)
def test_a_listenwell_command_exists_with_its_options(command):
    found: Any = typer.main.get_command(app)
    words = iter(command[1:])
    while hasattr(found, "commands"):
        found = found.commands[next(words)]
    assert not found.hidden
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word.split("=")[0] for word in command if word.startswith("--")} <= options
    for word in command:
        if word.endswith(".yaml") and word.startswith("configs/"):
            load_config(ROOT / word)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "make"], ids=" ".join)
def test_a_make_command_has_its_target(command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in command[1:]:
        name, is_variable, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if is_variable else rf"^{name}:", makefile, re.MULTILINE), word


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_local_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_script_and_test_that_is_cited_is_there_or_its_commit_is_named(page):
    text = page.read_text(encoding="utf-8")
    for cited in re.finditer(r"`(?:python )?((?:benchmarks|tests|tools)/[\w/.*]+)[^`]*`", text):
        named = re.search(r"commit\s+`[0-9a-f]{7}`", text[cited.end() : cited.end() + 40])
        assert named or any(ROOT.glob(cited[1])), cited[1]


@pytest.mark.parametrize("page", FIGURE_PAGES, ids=[page.name for page in FIGURE_PAGES])
def test_the_figures_are_those_of_the_studies_on_file(page):
    written = page.read_text(encoding="utf-8")
    assert written.count("<!-- end of") > 0
    assert with_figures(written) == written


def test_the_page_of_settings_is_that_of_the_fields():
    assert PAGE.read_text(encoding="utf-8") == config_page(), "run: python tools/config_page.py"


def test_every_cell_about_another_tool_leads_to_a_page_that_shows_it():
    text = (ROOT / "docs" / "coming-from-scripts.md").read_text(encoding="utf-8")
    lines = text.split("## Beside other tools")[1].strip().splitlines()
    heads, _, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    assert len(rows) > 5
    for _, ours, *others in rows:
        assert re.search(r"\[[^]]+\]\([a-z-]+\.md", ours)
        assert len(others) == len(heads) - 1
        assert all(re.search(r"\[[^]]+\]\(https://[^)\s]+\)", cell) for cell in others)
