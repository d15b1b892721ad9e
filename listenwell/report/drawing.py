"""What every drawing of a report shares: its look, and the way from matplotlib to an inline <svg>.

Drawn by matplotlib without a display; the same results give the same bytes (fixed hash salt, no date). Colours are CSS
variables with a value to fall back on, so one drawing serves the light and the dark page and stands alone too; lines
also differ in marker and dash. Text stays text, in the page's own font. Knows nothing of results.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from listenwell.report.wording import show_characters

WIDTH_INCHES, HEIGHT_INCHES = 5.2, 3.7
WIDE_INCHES = 1.9 * WIDTH_INCHES
LONGEST_NAME = 28
# What matplotlib draws with -> the page's variable and its value in the light page.
INK, QUIET, GRID = "#010101", "#020202", "#030303"
LINES = ("#040404", "#050505", "#060606", "#070707")
VARIABLES = {
    INK: ("--ink", "#1f2328"),
    QUIET: ("--quiet", "#5c6168"),
    GRID: ("--rule", "#dcd9d0"),
    LINES[0]: ("--line-1", "#6b6f76"),
    LINES[1]: ("--line-2", "#b3321f"),
    LINES[2]: ("--line-3", "#1f5f99"),
    LINES[3]: ("--line-4", "#7a6312"),
}
MARKERS, DASHES = ("D", "o", "s", "^"), ("--", "-", "-", "-.")
STYLE_OF = {"zero-shot": 0, "fine-tuned": 1, "silero": 2, "webrtc": 3}
SETTINGS: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextmanager
def new_panels(n_panels: int, width_inches: float, height_inches: float) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure in the report's look and its panels, side by side; draw and call to_svg within the block."""
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # Names may be in any script. The browser's fonts draw them; matplotlib's own only measures.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
        yield figure, list(figure.subplots(1, n_panels, squeeze=False)[0])


def style_of(method: str, place: int) -> int:
    """Which of the four line styles a method has: the same in every drawing; others by their place."""
    return STYLE_OF[method] if method in STYLE_OF else place % len(LINES)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Set the labels of one panel below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)


def short_name(name: str) -> str:
    """A name from a user's file as a label: on one line, every character visible, not too long."""
    shown = show_characters(" ".join(name.split()))
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Return the drawing as an <svg> element; `name` keeps its ids apart from those of other drawings on the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for drawn, (variable, value) in VARIABLES.items():
        svg = svg.replace(drawn, f"var({variable}, {value})")
    labelled = f'<svg role="img" aria-labelledby="{name}-title {name}-desc"'
    shown_title, shown_description = (escape(show_characters(text)) for text in (title, description))
    head = f'<title id="{name}-title">{shown_title}</title><desc id="{name}-desc">{shown_description}</desc>'
    svg = svg.replace("<svg", labelled, 1)
    end = svg.index(">") + 1
    return svg[:end] + head + svg[end:]
