"""Write the report of a study: one web page that needs nothing else, the same in Markdown, a model card and, as CSV,
every measure under every condition.

Every number comes from results.json, sounds from the folder errors/ of the run and the scores that the threshold moves
over from its folder scores/; the same of them gives the same bytes.
Names come from users' files, so everything printed is escaped: by Jinja's autoescape on a page, by `escape_markdown`
in Markdown; characters that act unseen are written out. A page runs one script, page.js, which its content-security
policy names by hash. Model card: https://huggingface.co/docs/hub/model-cards; Mitchell et al. 2019.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from listenwell.data.tables import write_rows
from listenwell.report.blocks import Page, Table
from listenwell.report.errors import MOST_BYTES, read_error_sounds
from listenwell.report.results import Results
from listenwell.report.sections import model_card, study_page
from listenwell.report.tables import CONDITION_COLUMNS, MEASURES, condition_rows
from listenwell.report.threshold import threshold_blocks
from listenwell.report.wording import MINUS, show_characters
from listenwell.storage.atomic_files import write_text
from listenwell.storage.run_folder import RunFolder

PAGE, MARKDOWN, MODEL_CARD, CONDITIONS = "report.html", "report.md", "MODEL_CARD.md", "tables/conditions.csv"
TAG = "listenwell"
"""Of every model card."""
# An interval that no link can follow keeps its brackets; every other character that Markdown reads is escaped.
_INTERVAL = rf"\[[+{MINUS}]?\d\.\d{{3}}, [+{MINUS}]?\d\.\d{{3}}\](?![(\[:])"
_MARKDOWN_CHARACTER = re.compile(rf"({_INTERVAL})|([\\`*_\[\]|~])")


def write_report(results: Results, folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Write report.html, report.md, MODEL_CARD.md and tables/ into `folder`, the run's, each file atomically.

    most_bytes: of sounds and pictures on the page. Raises ListenwellError for a broken index of the sounds, or a score
    table that was changed.
    """
    sounds = read_error_sounds(results, folder, most_bytes)
    page = study_page(results, sounds, threshold_blocks(results, RunFolder(folder)))
    write_rows(folder / CONDITIONS, CONDITION_COLUMNS, condition_rows(results))
    write_text(folder / MARKDOWN, render_markdown(page))
    write_text(folder / MODEL_CARD, f"---\n{front_matter(results)}---\n\n{render_markdown(model_card(results))}")
    # last: where the page is, the rest is too
    write_page(folder / PAGE, page)


def write_page(path: Path, page: Page) -> None:
    """Write a web page atomically."""
    write_text(path, render_page(page))


def render_page(page: Page) -> str:
    """Return the web page."""
    names = ("page.js", "page.css", "glossary.yaml")
    script, style, glossary = (files("listenwell.report").joinpath(name).read_text("utf-8") for name in names)
    template = _environment(show_on_page, autoescape=True).get_template("page.html.j2")
    return template.render(
        page=page, script=Markup(script), script_hash=policy_hash(script), style=Markup(style),
        glossary=yaml.safe_load(glossary),
    )  # fmt: skip


def render_markdown(page: Page) -> str:
    """Return the page in Markdown, without figures and sounds."""
    return _environment(escape_markdown).get_template("page.md.j2").render(page=page)


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
    environment.filters |= {"markdown_table": markdown_table, "indent_code": indent_code, "embed": embed_json}
    return environment


def embed_json(content: Any) -> Markup:
    """Return `content` as JSON that no character of it can end the script element around."""
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def show_on_page(value: Any) -> Any:
    """Return a text with every character visible, for autoescape; anything else passes through, Markup too."""
    return show_characters(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def escape_markdown(value: Any) -> str:
    """Return `value` so that Markdown prints it as it is, on one line; Markup passes through."""
    if isinstance(value, Markup):
        return str(value)
    text = " ".join(show_characters(str(value)).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_CHARACTER.sub(lambda match: match[1] or f"\\{match[2]}", text)


def markdown_table(table: Table) -> Markup:
    """Return a table in GitHub's Markdown; the main row is bold."""
    lines = [
        [escape_markdown(column) for column in table.columns],
        ["---:" if column.is_number else "---" for column in table.columns],
    ]
    for row in table.rows:
        cells = [escape_markdown(cell) for cell in row.cells]
        lines.append([f"**{cell}**" if row.is_main and cell else cell for cell in cells])
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))


def indent_code(text: str) -> Markup:
    """Return `text` as an indented code block: no content of it can end the block."""
    return Markup("\n".join(f"    {line}" for line in show_characters(text).splitlines()))


def front_matter(results: Results) -> str:
    """Return the model-index that Hugging Face's hub reads, as YAML; names are data of it, whatever they hold."""
    measured = [
        {
            "task": {"type": "audio-classification", "name": "speech detection"},
            "dataset": {"name": test_set.title, "type": test_set.name, "split": row.condition},
            "metrics": [
                {"type": m.name, "value": m.value, "name": f"{MEASURES[m.name]}, 95 % interval {[m.low, m.high]}"}
                for m in row.metrics
                if m.name in MEASURES
            ],
        }
        for test_set in results.test_sets
        for row in results.delivered_rows(test_set.name)
    ]
    bases = results.model.hub_ids
    front = {
        "library_name": "peft",
        # the hub refuses what is no model of its own, such as a folder
        **({"base_model": bases[0] if len(bases) == 1 else bases, "base_model_relation": "adapter"} if bases else {}),
        "pipeline_tag": "audio-classification",
        "tags": ["speech-detection", "lora", TAG],
        "model-index": [{"name": results.name, "results": measured}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
