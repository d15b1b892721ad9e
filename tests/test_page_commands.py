"""The commands of the walk-through pages and of the notebook run, in the order in which a reader meets them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from page_commands import block_commands, commands, make_sounds, run_commands

from listenwell.random_streams import stream

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def page(name: str) -> list[str]:
    return commands((ROOT / "docs" / name).read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A reader's folder with the repository's configs."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recordings(folder) -> Path:
    """Recordings as the tutorial sorts them: eight speakers and eight sources with three clips each, noise."""
    root = folder / "my_recordings"
    for kind in ("speech", "nonspeech"):
        for i in range(24):
            group = "anna" if (kind, i % 8) == ("speech", 0) else f"{kind[0]}{i % 8}"
            path = root / kind / group / f"{i // 8}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = 0.1 * stream(5, kind, i).standard_normal(8_000)
            soundfile.write(path, samples * np.sin(np.arange(8_000) / 800) if kind == "speech" else samples, 16_000)
    for i in range(8):
        path = root / "backgrounds" / "noise" / f"bed{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * stream(6, i).standard_normal(16_000), 16_000)
    return root


def test_coming_from_scripts(folder):
    make_sounds(folder, speakers=14, clips_each=5, sounds=20, takes=3)
    run_commands(page("coming-from-scripts.md"))
    assert (folder / "runs" / "qwen2_audio_7b" / "report.html").is_file()
    assert (folder / "best_prompt.txt").is_file()


def test_tutorial(recordings):
    printed = run_commands(page("tutorial.md"))
    assert (recordings / "run" / "report.html").is_file()
    assert "my_recordings/speech/anna/0.wav" in printed


def test_the_7b_page(folder):
    make_sounds(folder, speakers=8, clips_each=3, sounds=8, takes=3)
    run_commands(page("seven-b.md"))
    assert (folder / "detector" / "detector.json").is_file()


def test_the_notebook_holds_no_outputs_and_its_cells_run(recordings, capsys):
    """Python as Jupyter runs it; a line that begins with ! is a command, {NAME} in it a variable."""
    notebook = json.loads((ROOT / "notebooks" / "qwen2_audio_7b.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        source = "".join(cell["source"])
        if source.startswith("# not run"):
            continue
        python = "\n".join(line for line in source.splitlines() if not line.startswith("!"))
        exec(compile(python, "cell", "exec"), names)
        shell = [line[1:].format_map(names) for line in source.splitlines() if line.startswith("!")]
        run_commands(block_commands("\n".join(shell)))
    assert "SPEECH" in capsys.readouterr().out
    assert (recordings.parent / "detector.tar.gz").is_file()


@pytest.mark.parametrize("link", ["", "[x](no-such-page.md)", "[x](faq.md#no-such-heading)"])
def test_the_site_is_not_built_with_a_broken_link(tmp_path, link):
    pytest.importorskip("mkdocs")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copyfile(ROOT / "mkdocs.yml", tmp_path / "mkdocs.yml")
    page = tmp_path / "docs" / "faq.md"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n{link}\n", encoding="utf-8")
    recipe = re.search(r"^docs:.*\n\t(\w+)=(\w+) \$\(BIN\)/mkdocs (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    command = [sys.executable, "-m", "mkdocs", *recipe[3].split()]
    environment = os.environ | {recipe[1]: recipe[2]}
    built = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (built.returncode == 0) == (link == ""), built.stderr
