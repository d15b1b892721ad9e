"""The notebooks, cell after cell, in a folder with made recordings: the second reads the study of the first."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from page_commands import run_commands

from listenwell.random_streams import stream

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SPEAKERS = ("anna", "ben", "chris", "dora", "emil", "fay", "gus", "hanna")
pytestmark = pytest.mark.slow


def run_notebook(path: Path) -> list[Any]:
    """Run its cells as Jupyter does, and return the value of each one's last line."""
    namespace: dict[str, Any] = {}
    values = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and text.startswith("!"):
            values.append(run_commands([text.removeprefix("!").strip()]))
        elif cell["cell_type"] == "code":
            tree = ast.parse(text)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, path.name, "exec"), namespace)
            values.append(
                None if last is None else eval(compile(ast.Expression(last.value), path.name, "eval"), namespace)
            )
    return values


def test_the_notebooks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in ("speech", "nonspeech"):
        for i, who in enumerate(SPEAKERS):
            for take in range(5):
                path = Path("my_recordings", label, who, f"{take}.wav")
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.1 * stream(5, label, i, take).standard_normal(8_000), 16_000)
    *_, table, exported, decision = run_notebook(NOTEBOOKS / "own_recordings.ipynb")
    assert {"fine-tuned", "zero-shot"} <= set(table.method)
    assert table.value.between(0, 1).all()
    assert "detector" in exported
    assert 0 <= decision.probability <= 1
    named, _, figure, _, _, judged = run_notebook(NOTEBOOKS / "reading_results.ipynb")
    assert "fine-tuned" in named[2]
    assert figure.axes[0].get_ylabel() == "Balanced accuracy"
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert "a miss costs 1" in judged
