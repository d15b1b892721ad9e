"""A report read back as a reader sees it: the text of a page and its tables, cell by cell."""

import re
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser


@dataclass
class ShownTable:
    """caption, heads and rows as printed; a cell is its text and the smaller print below it, one after the other."""

    caption: str = ""
    heads: list[list[str]] = field(default_factory=list)
    is_number: list[bool] = field(default_factory=list)
    rows: list[list[list[str]]] = field(default_factory=list)


class Page(HTMLParser):
    """Tags with their attributes, the text with its whitespace folded, the tables, and what scripts hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[ShownTable] = []
        self.scripts: list[str] = []
        self._words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("table", "caption", "thead", "tbody", "script", "style"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append(ShownTable())
        elif tag == "tr" and "tbody" in self._open:
            self.tables[-1].rows.append([])
        elif tag in ("th", "td"):
            table, is_head = self.tables[-1], "thead" in self._open
            (table.heads if is_head else table.rows[-1]).append([])
            if is_head:
                table.is_number.append("number" in (dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("table", "caption", "thead", "tbody", "script", "style"):
            self._open.pop()

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self._words.append(data)
        if not data.strip():
            return
        if inside == "caption":
            self.tables[-1].caption += data
        elif inside == "thead":
            self.tables[-1].heads[-1].append(" ".join(data.split()))
        elif inside == "tbody":
            self.tables[-1].rows[-1][-1].append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def plain_markdown(text: str) -> str:
    """Markdown text as a reader sees it: escapes, entities and bold taken away."""
    return unescape(re.sub(r"\\(.)", r"\1", text.replace("**", "")))


def markdown_tables(markdown: str) -> list[list[list[str]]]:
    """The tables of a Markdown file, each as rows of cells, heads first, as a reader sees them."""
    tables: list[list[list[str]]] = []
    before = ""
    for line in markdown.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            cells = [plain_markdown(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not all(re.fullmatch(r"-+:?", cell) for cell in cells):
                tables[-1].append(cells)
        before = line
    return tables
