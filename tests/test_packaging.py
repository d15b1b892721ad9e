"""The wheel, installed where nothing else of this project can be imported: it holds its files, and its commands run.

The environment is fresh and sees the heavy dependencies of the running one through a path file. A folder that a path
file names is searched for modules only, its own path files are not read: an editable install in the running environment
stays unseen, and everything runs in a folder outside the sources.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import soundfile
from made_scores import make_scores

import listenwell
from listenwell.detect.detector import Detector
from listenwell.evaluate.scores import write_scores
from listenwell.random_streams import stream

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.network  # the build fetches hatchling


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of executables of an environment that the wheel was installed into."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths("venv", {"base": str(root), "platbase": str(root)})
    (Path(paths["purelib"]) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = Path(paths["scripts"]) / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    # the running environment has a listenwell of its own, which must neither be taken for this one nor removed
    subprocess.run([*command, "--ignore-installed", str(wheel)], check=True)
    return python.parent


def run(installed: Path, folder: Path, *command: str | Path) -> str:
    """The output of a command of that environment, run in a folder outside the sources."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["LISTENWELL_CACHE"] = str(folder / "cache")
    program, *arguments = command
    done = subprocess.run(
        [installed / program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    package = ROOT / "listenwell"
    files = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert names == {path.relative_to(ROOT).as_posix() for path in files}
    kinds = {Path(name).suffix for name in names} | {Path(name).name for name in names}
    assert kinds >= {".csv", ".safetensors", ".json", ".css", ".js", ".j2", ".mplstyle", "py.typed"}


def test_the_installed_package_is_the_one_imported(installed, tmp_path):
    where = run(installed, tmp_path, "python", "-c", "import listenwell; print(listenwell.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert run(installed, tmp_path, "listenwell", "--version") == f"listenwell {listenwell.__version__}\n"


def test_the_installed_program_evaluates_a_table_of_scores(installed, tmp_path):
    write_scores(tmp_path / "scores.csv", make_scores())
    text = run(installed, tmp_path, "listenwell", "evaluate", "scores.csv", "--threshold", "0.5")
    assert "Balanced accuracy" in text
    assert "400 clips, 80 groups" in text


def test_the_detector_that_is_shipped_answers_without_being_named(installed, made_detector, tmp_path):
    soundfile.write(tmp_path / "short.wav", 0.1 * stream(0, "short").standard_normal(8_000), 16_000)
    command = ("detect", "--device", "cpu", "--dtype", "float32", "--format", "csv", "short.wav")
    ready = "from listenwell.detect.bundle import READY; print(READY)"
    place = Path(run(installed, tmp_path, "python", "-c", ready).strip())
    assert place.parent.name == "listenwell"
    if not place.is_dir():  # nothing is shipped yet
        shutil.copytree(made_detector, place)
    assert "SPEECH" in run(installed, tmp_path, "listenwell", *command)
    loaded = run(
        installed, tmp_path, "python", "-c", "from listenwell import Detector; print(Detector.load().threshold)"
    )
    assert float(loaded) == Detector.load(place, device="cpu", dtype="float32").threshold
