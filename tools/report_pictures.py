"""Write the pictures of docs/reading-the-report.md from the report of a finished study.

Run as python tools/report_pictures.py RUN; needs Chromium and Pillow. Pages are drawn 1200 px wide, 96 colours.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from chromium import open_tab  # noqa: E402

FOLDER = ROOT / "docs" / "reading-the-report"
WIDTH, COLOURS, MARGIN = 1200, 96, 14
FIRST_TABLE = "[aria-labelledby=results] table"
TOP = "document.querySelector({!r}).getBoundingClientRect().top + scrollY"
END = "document.querySelector({!r}).getBoundingClientRect().bottom + scrollY"


def write_pictures(report: Path, folder: Path) -> None:
    """Cut the report: its first screen, the first main table, the threshold."""
    with tempfile.TemporaryDirectory() as profile, open_tab(Path(profile)) as tab:
        tab.open(report, width=WIDTH)
        parts = {
            "first-page.png": (0.0, tab.run(TOP.format("#next")) - MARGIN),
            "main-table.png": (tab.run(TOP.format("#results")), tab.run(END.format(FIRST_TABLE)) + MARGIN),
            "threshold.png": (tab.run(TOP.format("#threshold")), tab.run(END.format(".explorer")) + MARGIN),
        }
        for name, (first, last) in parts.items():
            picture = Image.open(io.BytesIO(tab.picture(x=0, y=first, width=WIDTH, height=last - first))).convert("RGB")
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(folder / name, optimize=True)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write_pictures(Path(sys.argv[1]) / "report.html", FOLDER)
