"""A disk that is full, fails or is read-only, at any moment of a study: one sentence, and the next run ends as if
nothing had happened.

Every moment is a process of its own (tests/disk_faults.py). LISTENWELL_DISK_FAULTS sets how many moments, spread over
the study: 3 by default, 40 in `make soak`, or "all" of them (some hours).
"""

import errno
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_faults import FailingDisk
from made_sounds import make_study
from test_kills import ABOUT_ONE_RUN
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import Config, dump
from listenwell.run_folder import RunFolder, read_kept_results

ASKED = os.environ.get("LISTENWELL_DISK_FAULTS", "3")
SETTINGS = (
    "train.epochs=1",
    "train.checkpoint_steps=2",
    "search.sampled.space={lora.rank: [1, 2]}",
    "search.sampled.trials=2",
    "evaluation.conditions=[clean]",
    "evaluation.baselines=[]",
)
NO_FAULT = 0


def study_in_child(folder: Path, output: Path, disk: FailingDisk) -> dict[str, Any]:
    """Run the study's command in a child with this disk: its exit status, what it said, requests of the disk."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_study, args=(folder, output, disk, there))
    child.start()
    there.close()
    answer: dict[str, Any] = here.recv()
    child.join()
    return answer


def _study(folder: Path, output: Path, disk: FailingDisk, answer_to: Any) -> None:
    disk.arm()
    done = CliRunner().invoke(app, ["study", str(folder / "study.yaml"), f"output={output}"])
    is_ours = done.exception is None or isinstance(done.exception, SystemExit)
    answer_to.send(
        {
            "status": done.exit_code,
            "said": done.output if is_ours else f"TRACEBACK {done.exception!r}",
            "requests": disk.n_requests,
        }
    )


def results_of(output: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The results, and every byte that training left."""
    results = read_kept_results(RunFolder(output))
    files = [path for path in sorted(output.glob("fits/**/*")) if path.is_file()]
    own = {key: value for key, value in results.items() if key not in ABOUT_ONE_RUN}
    return own, {str(path.relative_to(output)): path.read_bytes() for path in files}


def nothing_half(output: Path) -> bool:
    """True when no temporary file or folder was left, but for a replaced folder that could not be put back."""
    return all(is_only_copy(path) for path in output.rglob(".*") if path.suffix != ".lock")


def is_only_copy(path: Path) -> bool:
    return path.is_dir() and any(not (path.parent / each.name).exists() for each in path.iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any, int]]:
    """The folder of a study's config, what it finds undisturbed, and how often it asks the disk."""
    folder = tmp_path_factory.mktemp("disk")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LISTENWELL_CACHE", str(folder / "cache"))
        config: Config = make_study(folder, *SETTINGS)
        (folder / "study.yaml").write_text(dump(config))
        # the second one: the first also fills the cache
        for name in ("first", "whole"):
            done = study_in_child(folder, folder / name, FailingDisk(folder / name, NO_FAULT))
            assert done["status"] == 0, done["said"]
        yield folder, results_of(folder / "whole"), done["requests"]


def moments(n_requests: int) -> list[int]:
    n_moments = n_requests if ASKED == "all" else int(ASKED)
    return sorted({int(each) for each in np.linspace(1, n_requests, n_moments).round()})


@pytest.mark.slow
@pytest.mark.timeout(60 * (1000 if ASKED == "all" else 10))
def test_a_disk_that_refuses_any_request_stops_the_study_in_one_sentence_and_costs_no_result(whole):
    folder, expected, n_requests = whole
    faults = (errno.ENOSPC, errno.EIO, errno.EROFS)
    for turn, fails_at in enumerate(moments(n_requests)):
        output, number = folder / f"fails-{fails_at}", faults[turn % len(faults)]
        stopped = study_in_child(folder, output, FailingDisk(output, fails_at, number))
        assert stopped["status"] == 1, (fails_at, stopped)
        assert "listenwell: error: " in stopped["said"], (fails_at, stopped)
        assert str(output) in stopped["said"], (fails_at, stopped)
        assert not (output / "report.html").is_file() or fails_at == n_requests
        assert nothing_half(output)
        again = study_in_child(folder, output, FailingDisk(output, NO_FAULT))
        assert again["status"] == 0, (fails_at, again)
        assert results_of(output) == expected, fails_at
