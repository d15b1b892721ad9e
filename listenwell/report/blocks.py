"""What a page is made of, as plain values: cards, paragraphs, tables, figures, sounds and code, in sections.

Web page, Markdown and terminal print the same strings; `kind` tells a template how to set a block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
    """A table; the first cell of a row is the row's name. `note` stands below it."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    note: str = ""
    kind: ClassVar = "table"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A text, what is emphasised standing first."""

    text: str
    strong: str = ""
    style: str = ""  # "", "note" (small print) or "notice" (a warning)
    kind: ClassVar = "paragraph"


@dataclass(frozen=True, slots=True)
class Card:
    """A question, its answer, and what that rests on; link: the anchor of the section that says more, or ""."""

    question: str
    strong: str
    lines: Sequence[Cell]
    tone: str  # "good", "bad" or "open" (nothing is decided)
    link: str = ""

    @property
    def text(self) -> str:
        """What the answer rests on, in one sentence."""
        return "; ".join(map(str, self.lines)) + "."


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards side by side."""

    cards: Sequence[Card]
    kind: ClassVar = "cards"


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
    """A spectrogram as a data URI: n_frames wide, n_mels high.

    ticks_s, ticks_khz: labels of its axes, each with its place as a share of the width or the height from below.
    """

    title: str
    uri: str
    n_frames: int
    n_mels: int
    ticks_s: Sequence[tuple[str, float]]
    ticks_khz: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound to listen to; uri: "" where the page does not hold it; file: in the run folder, or "".

    key: what the list of errors finds it by.
    """

    title: str
    details: str
    label: str
    uri: str
    picture: Picture | None
    file: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Sounds:
    """Sounds with players, and the table that stands for them in Markdown, if any."""

    title: str
    note: str
    sounds: Sequence[Sound]
    table: Table | None = None
    kind: ClassVar = "sounds"


@dataclass(frozen=True, slots=True)
class Explorer:
    """A threshold to move; content: what page.js computes from, as `listenwell.report.threshold` describes it."""

    content: Mapping[str, Any]
    kind: ClassVar = "explorer"


@dataclass(frozen=True, slots=True)
class Code:
    """A text to be printed as it is, folded under its title."""

    title: str
    text: str
    kind: ClassVar = "code"


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that open by a click."""

    title: str
    blocks: Sequence["Block"]
    kind: ClassVar = "fold"


Block = Paragraph | Cards | Table | Figures | Sounds | Code | Explorer | Fold


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page under one heading."""

    title: str
    anchor: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A page: what it is, its name, who or what it is about, and its sections."""

    kicker: str
    title: str
    bylines: Sequence[str]
    sections: Sequence[Section]


def make_page(
    kicker: str, title: str, bylines: Sequence[str], parts: Iterable[tuple[str, str, Sequence[Block]]]
) -> Page:
    """Return a page of sections (title, anchor, blocks), without what is empty."""
    sections = [Section(head, anchor, _filled(blocks)) for head, anchor, blocks in parts]
    return Page(kicker, title, bylines, [section for section in sections if section.blocks])


def _filled(blocks: Iterable[Block]) -> list[Block]:
    """The blocks that hold something."""
    opened = [Fold(block.title, _filled(block.blocks)) if isinstance(block, Fold) else block for block in blocks]
    held = {Table: "rows", Figures: "drawings", Fold: "blocks"}
    return [block for block in opened if type(block) not in held or getattr(block, held[type(block)])]


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
