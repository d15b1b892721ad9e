"""What a page is made of, as plain values: paragraphs, tables, figures, sounds and code, in sections.

Web page, Markdown and terminal print the same strings; `kind` tells a template how to set a block.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from listenwell.evaluate.intervals import Metric
from listenwell.report.wording import format_interval, format_number


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, and in smaller print what belongs to it."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".rstrip()


@dataclass(frozen=True, slots=True)
class Column(Cell):
    """The head of a column; `is_number` columns are set flush right."""

    is_number: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row; `is_main` marks the row the study is about."""

    cells: tuple[Cell, ...]
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of a row is the row's name. `note` stands below it; is_folded: opens by a click."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    note: str = ""
    is_folded: bool = False
    kind: ClassVar = "table"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A question or nothing, its emphasised answer, and what it rests on."""

    text: str
    strong: str = ""
    question: str = ""
    style: str = ""  # "", "lead", "note" (small print) or "notice" (a warning)
    kind: ClassVar = "paragraph"


@dataclass(frozen=True, slots=True)
class Drawing:
    """An inline <svg> and what stands below it: its title, and the sentence that explains it."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Drawings side by side, or wide ones one below the other; Markdown leaves them out."""

    drawings: Sequence[Drawing]
    is_wide: bool = False
    kind: ClassVar = "figures"


@dataclass(frozen=True, slots=True)
class Picture:
    """A spectrogram as a data URI: n_frames wide, n_mels high."""

    title: str
    uri: str
    n_frames: int
    n_mels: int


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip to listen to; uri, picture: "" and None where the page holds no sound; file: in the run folder, or ""."""

    title: str
    details: str
    label: str
    uri: str
    picture: Picture | None
    file: str


@dataclass(frozen=True, slots=True)
class Sounds:
    """Sounds with players, and the table that stands for them in Markdown."""

    note: str
    sounds: Sequence[Sound]
    table: Table
    kind: ClassVar = "sounds"


@dataclass(frozen=True, slots=True)
class Code:
    """A text to be printed as it is, folded under its title."""

    title: str
    text: str
    kind: ClassVar = "code"


Block = Paragraph | Table | Figures | Sounds | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page under one heading."""

    title: str
    anchor: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A page: what it is, its name, who or what it is about, and its sections; notices stand above them."""

    kicker: str
    title: str
    bylines: Sequence[str]
    notices: Sequence[Paragraph]
    sections: Sequence[Section]


def make_page(
    kicker: str,
    title: str,
    bylines: Sequence[str],
    notices: Sequence[Paragraph],
    parts: Iterable[tuple[str, str, Sequence[Block]]],
) -> Page:
    """Return a page of sections (title, anchor, blocks), without tables, figures and sections that are empty."""
    sections = [Section(head, anchor, [b for b in blocks if not _is_empty(b)]) for head, anchor, blocks in parts]
    return Page(kicker, title, bylines, notices, [section for section in sections if section.blocks])


def _is_empty(block: Block) -> bool:
    return (isinstance(block, Table) and not block.rows) or (isinstance(block, Figures) and not block.drawings)


def answer_blocks(answers: Sequence[Paragraph], note: str) -> list[Block]:
    """The answers in large print, what each rests on below them."""
    leads = [Paragraph("", answer.strong, answer.question, "lead") for answer in answers]
    return [*leads, *(Paragraph(answer.text) for answer in answers), Paragraph(note, style="note")]


def make_table(
    caption: str, heads: Iterable[str | Column], rows: Iterable[TableRow | Iterable[object]], note: str = ""
) -> Table:
    """Return a table; a head that begins with # stands over numbers, and a row of values alone is no main one."""
    columns = [head if isinstance(head, Column) else make_column(head) for head in heads]
    return Table(caption, columns, [row if isinstance(row, TableRow) else make_row(row) for row in rows], note)


def make_row(values: Iterable[object], is_main: bool = False) -> TableRow:
    """Return a row; a measure stands with its interval."""
    return TableRow(tuple(map(_make_cell, values)), is_main)


def _make_cell(value: object) -> Cell:
    if isinstance(value, Metric):
        return Cell(format_number(value.value), format_interval(value))
    return value if isinstance(value, Cell) else Cell(str(value))


def make_column(head: str, detail: str = "") -> Column:
    """Return a column, of numbers where its head begins with #."""
    return Column(head.removeprefix("#"), detail, head.startswith("#"))


def folded(table: Table) -> Table:
    """The same table, opened by a click."""
    return replace(table, is_folded=True)
