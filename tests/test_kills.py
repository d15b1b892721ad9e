"""SIGKILL at random moments of a small study, a process of its own: every resume ends as if nothing had happened.

LISTENWELL_KILLS sets the number of moments: 5 by default, 20 in `make soak`.
"""

import os
import signal
import time

import pytest
from made_processes import require_success, start_command
from made_sounds import make_study

from listenwell.config import dump
from listenwell.random_streams import stream
from listenwell.storage.run_folder import RunFolder, read_kept_results

N_KILLS = int(os.environ["LISTENWELL_KILLS"]) if "LISTENWELL_KILLS" in os.environ else 5
SETTINGS = (
    "arms={quiet: {augment.noise.probability: 0.0}, tuned: {search.best: true}}",
    "search.sampled.space={lora.rank: [1, 2], lora.alpha: [4, 8]}",
    "search.sampled.trials=3",
    "search.sampled.rungs=[1]",
    "loso.arms=[final]",
    "loso.folds=2",
    "loso.dev_speakers=1",
    "evaluation.conditions=[clean]",
    "train.checkpoint_steps=1",
    "train.stack=3",
)
ABOUT_ONE_RUN = ("name", "config", "seal", "provenance")
ENDS = ("fits/*/spec.json", "fits/*/dropped-*.json", "fits/*/failed.json")


def start(config, folder):
    """The study as a process of its own, and the file of what it says; returns once it works in its folder."""
    said = folder / f"{config.output.name}.txt"
    process = start_command(["study", str(folder / "study.yaml"), f"output={config.output}"], said)
    while process.exitcode is None and not (config.output / "run.lock").is_file():
        time.sleep(0.01)
    return process, said


def results_of(output):
    """The results, and every byte that training left."""
    results = {key: value for key, value in read_kept_results(RunFolder(output)).items() if key not in ABOUT_ONE_RUN}
    files = [path for path in sorted((output / "fits").rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return results, {str(path.relative_to(output)): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.timeout(60 + 60 * N_KILLS)
def test_a_study_killed_at_any_moment_ends_as_if_it_never_was_and_trains_no_fit_twice(tmp_path):
    config = make_study(tmp_path, *SETTINGS)
    (tmp_path / "study.yaml").write_text(dump(config))
    whole = config.model_copy(update={"output": tmp_path / "whole"})
    begun = start(whole, tmp_path)
    first = time.monotonic()
    require_success(*begun)
    duration_s = time.monotonic() - first
    expected = results_of(whole.output)
    n_killed = n_started = 0
    while n_killed < N_KILLS:
        own = config.model_copy(update={"output": tmp_path / f"killed-{n_started}"})
        wait_s = float(stream(0, "kills", n_started).uniform(0, 0.95 * duration_s))
        n_started += 1
        process, said = start(own, tmp_path)
        time.sleep(wait_s)
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:  # it was faster than the first
            assert process.exitcode == 0, said.read_text()
            duration_s = wait_s
            continue
        n_killed += 1
        done = {path: path.stat().st_mtime_ns for pattern in ENDS for path in own.output.glob(pattern)}
        require_success(*start(own, tmp_path))
        assert results_of(own.output) == expected
        assert {path: path.stat().st_mtime_ns for path in done} == done  # no finished fit was trained again
        assert not list(own.output.glob("stacks/*"))
