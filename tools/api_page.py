"""Rewrite the list of public names in docs/api.md from their signatures and docstrings.

Run as python tools/api_page.py; a test checks that this changes nothing.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import listenwell
from listenwell.storage.atomic_files import write_text

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
BEGIN, END = "<!-- names -->\n", "<!-- /names -->\n"


def with_names(page: str) -> str:
    """Return the page with the list as the code has it."""
    before, _, rest = page.partition(BEGIN)
    lines = ["| name | what |", "|---|---|", *_rows(), ""]
    return before + BEGIN + "\n".join(lines) + END + rest.partition(END)[2]


def _rows() -> Iterator[str]:
    """A row for each name, and for each method of its own that a class has."""
    for name in listenwell.__all__:
        found = getattr(listenwell, name)
        if isinstance(found, str):
            yield f"| `{name}` | the version |"
        elif not inspect.isclass(found):
            yield _row(name, found)
        else:
            yield f"| `{name}` | {_summary(found)} |"
            own = [method for method in vars(found) if not method.startswith(("_", "model_"))]
            methods = [(method, getattr(found, method)) for method in own]
            yield from (_row(f"{name}.{method}", called) for method, called in methods if inspect.isroutine(called))


def _row(name: str, called: Any) -> str:
    parameters = [parameter for parameter in inspect.signature(called).parameters if parameter != "self"]
    return f"| `{name}({', '.join(parameters)})` | {_summary(called)} |"


def _summary(found: Any) -> str:
    """The first paragraph of the docstring, on one line."""
    return " ".join(inspect.getdoc(found).split("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    write_text(PAGE, with_names(PAGE.read_text(encoding="utf-8")))
