"""Pages and Markdown from templates, the same for every page of a report.

Names come from users' files, so everything printed is escaped: by Jinja's autoescape on a page, by `escape_markdown` in
Markdown; signs that act unseen are written out. A page runs one script, page.js, which its content-security policy
names by hash.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from listenwell.report.tables import Table
from listenwell.report.wording import MINUS, part_title, show_signs

# An interval that no link can follow keeps its brackets; every other sign that Markdown reads is escaped.
_INTERVAL = rf"\[[+{MINUS}]?\d\.\d{{3}}, [+{MINUS}]?\d\.\d{{3}}\](?![(\[:])"
_MARKDOWN_SIGN = re.compile(rf"({_INTERVAL})|([\\`*_\[\]|~])")


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """Return the page that a template of this folder makes of `values`; the script and its hash come on top."""
    script = files("listenwell.report").joinpath("page.js").read_text(encoding="utf-8")
    own = {"script": Markup(script), "script_hash": policy_hash(script)}
    return _environment(show_on_page, autoescape=True).get_template(template).render({**values, **own})


def render_markdown(template: str, values: Mapping[str, Any]) -> str:
    """Return the Markdown that a template of this folder makes of `values`."""
    return _environment(escape_markdown).get_template(template).render(values)


def policy_hash(script: str) -> str:
    """Return what a content-security policy calls an inline script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _environment(finalize: Callable[[Any], Any], autoescape: bool = False) -> Environment:
    environment = Environment(
        loader=PackageLoader("listenwell.report", "."),
        autoescape=autoescape,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"markdown_table": markdown_table, "indent_code": indent_code, "part_title": part_title}
    return environment


def show_on_page(value: Any) -> Any:
    """Return a text with every sign visible, for autoescape to escape; anything else passes through, Markup too."""
    return show_signs(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def escape_markdown(value: Any) -> str:
    """Return `value` so that Markdown prints it as it is, on one line; Markup passes through."""
    if isinstance(value, Markup):
        return str(value)
    text = " ".join(show_signs(str(value)).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_SIGN.sub(lambda found: found[1] or f"\\{found[2]}", text)


def markdown_table(table: Table) -> Markup:
    """Return a table in GitHub's Markdown; the main row is bold."""
    heads = [escape_markdown(" ".join(filter(None, (column.title, column.detail)))) for column in table.columns]
    lines = [heads, ["---:" if column.is_number else "---" for column in table.columns]]
    for row in table.rows:
        texts = [escape_markdown(cell) for cell in row.cells]
        lines.append([f"**{text}**" if row.is_main and text else text for text in texts])
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))


def indent_code(text: str) -> Markup:
    """Return `text` as an indented code block: no content of it can end the block."""
    return Markup("\n".join(f"    {line}" for line in show_signs(text).splitlines()))
