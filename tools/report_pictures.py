"""Write the pictures of docs/reading-the-report.md from the report of a finished study.

Run as python tools/report_pictures.py RUN; needs Chromium and Pillow. Pages are drawn 960 px wide, 48 colours.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from chromium import open_tab  # noqa: E402

FOLDER = ROOT / "docs" / "reading-the-report"
WIDTH, COLOURS, MARGIN = 960, 48, 14
HEADS = "[...document.querySelectorAll('h2')].map(h => [h.id, h.getBoundingClientRect().top + scrollY])"
FIRST_TABLE, SECOND_CURVE = "[aria-labelledby=results] table", "[aria-labelledby=curves] figure:nth-of-type(2)"
END = "document.querySelector({!r}).getBoundingClientRect().bottom + scrollY"


def write_pictures(report: Path, folder: Path) -> None:
    """Cut the report at its heads: the first page, the first main table, the first two curves."""
    with tempfile.TemporaryDirectory() as profile, open_tab(Path(profile)) as tab:
        tab.open(report, width=WIDTH)
        top = {name: float(y) for name, y in json.loads(tab.run(f"JSON.stringify({HEADS})"))}
        ends = {
            "first-page.png": (0.0, top["next"] - MARGIN),
            "main-table.png": (top["results"], tab.run(END.format(FIRST_TABLE)) + MARGIN),
            "curves.png": (top["curves"], tab.run(END.format(SECOND_CURVE)) + MARGIN),
        }
        for name, (first, last) in ends.items():
            picture = Image.open(io.BytesIO(tab.picture(x=0, y=first, width=WIDTH, height=last - first))).convert("RGB")
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(folder / name, optimize=True)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write_pictures(Path(sys.argv[1]) / "report.html", FOLDER)
