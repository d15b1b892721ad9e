"""Rewrite docs/config.md, the reference of every setting, from the config's fields and their help.

Run as python tools/config_page.py; a test checks that this changes nothing.
"""

import functools
from pathlib import Path

import yaml

from listenwell.config import Config, Setting, settings
from listenwell.storage.atomic_files import write_text

PAGE = Path(__file__).parents[1] / "docs" / "config.md"
HEAD = """# Every setting

Written by `python tools/config_page.py` from the fields themselves. A config file holds only what differs from
these defaults; `section.key=value` on the command line comes on top. `listenwell config CONFIG` prints what a study
will use. A key below is the heading's section and the name.
"""


def config_page() -> str:
    """Return the page as Markdown."""
    pages, sections = [HEAD], {}
    for setting in settings(Config()):
        sections.setdefault(setting.key.rpartition(".")[0], []).append(setting)
    for section, found in sections.items():
        inside = functools.reduce(getattr, section.split(".") if section else [], Config())
        title = f"## `{section}`\n\n{inside.__doc__}" if section else "## The study itself"
        pages.append("\n".join([title, "", "| key | default | what |", "|---|---|---|", *map(_row, found), ""]))
    return "\n".join(pages)


def _row(setting: Setting) -> str:
    choices = f" One of: {', '.join(setting.choices)}." if setting.choices else ""
    default = yaml.safe_dump(setting.default, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    return f"| `{setting.key.rpartition('.')[2]}` | `{_cell(default)}` | {_cell(setting.help + choices)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_text(PAGE, config_page())
