"""Worker processes hold no more than was requested, and neither hang nor hide when one dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sounds import make_corpus

from listenwell.augment.plan import AugmentConfig
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background
from listenwell.data.sample_hashes import fill_backgrounds
from listenwell.errors import AudioError, TrainingError
from listenwell.model.mel import ShortClipConfig
from listenwell.random_streams import stream
from listenwell.train.loader import ClipLoader, ClipRequest, Source

FEATURES = np.abs(stream(0, "filters").standard_normal((201, 16))).astype(np.float32), ShortClipConfig()
POLICY = AugmentConfig.model_validate({"pitch": {"probability": 0.5}, "noise": {"probability": 1}})


class DeadlyBank(BackgroundBank):
    """Ends the process that reads from it, unless it is the one that trains."""

    def load(self, background_id, offset_s, duration_s):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(background_id, offset_s, duration_s)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("clips"), n_groups=4)


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backgrounds")
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", 0.1 * stream(0, "bed", i).standard_normal(32_000), 16_000)
    return fill_backgrounds(
        [Background(f"b{i}", folder / f"{i}.wav", 2.0, "noise", f"b{i}", "made", "CC0") for i in range(3)]
    )


def test_no_more_clips_are_held_than_were_requested(clips, backgrounds):
    wanted = [ClipRequest(0, clip, epoch) for epoch in range(1, 5) for clip in clips]
    with ClipLoader([Source(POLICY, 42, BackgroundBank(backgrounds))], *FEATURES, workers=2) as loader:
        loader.load(wanted[:2], wanted[2:8])
        assert set(loader._pending) == set(wanted[2:8])
        loader.load(wanted[2:4], wanted[10:12])  # those in between are not wanted any more
        assert set(loader._pending) == set(wanted[10:12])


def test_a_recording_that_cannot_be_read_is_told_when_its_turn_comes(clips, backgrounds, tmp_path):
    broken = replace(clips[1], path=tmp_path / "gone.wav", clip_id="gone")
    for workers in (0, 1):
        with ClipLoader([Source(POLICY, 42, BackgroundBank(backgrounds))], *FEATURES, workers) as loader:
            wanted = [ClipRequest(0, clips[0], 1), ClipRequest(0, broken, 1)]
            if workers:
                assert loader.load(wanted[:1], wanted[1:])[0].clip is not None
            with pytest.raises(AudioError, match=r"gone\.wav"):
                loader.load(wanted[1:])


def test_when_a_process_dies_the_clips_in_hand_are_named(clips, backgrounds):
    wanted = [ClipRequest(0, clip, 1) for clip in clips[:2]]
    with (
        ClipLoader([Source(POLICY, 42, DeadlyBank(backgrounds))], *FEATURES, workers=1) as loader,
        pytest.raises(TrainingError, match=f"prepared one of the clips '{clips[0].clip_id}' .*, '{clips[1].clip_id}'"),
    ):
        loader.load(wanted[:1], wanted[1:])


@pytest.mark.slow
def test_workers_end_when_the_training_process_is_killed(clips, backgrounds, tmp_path):
    script = tmp_path / "trains.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from test_loader import BackgroundBank, ClipLoader, FEATURES, POLICY, Source, ClipRequest, make_corpus\n"
        "if __name__ == '__main__':\n"
        "    clips = make_corpus(Path(sys.argv[1]), n_groups=2)\n"
        "    policy = POLICY.model_copy(update={'noise': POLICY.noise.model_copy(update={'probability': 0.0})})\n"
        "    with ClipLoader([Source(policy, 1, BackgroundBank([]))], *FEATURES, workers=2) as loader:\n"
        "        loader.load([ClipRequest(0, clip, 1) for clip in clips])\n"
        "        print(*loader._pool._processes, flush=True)\n"
        "        time.sleep(120)\n",
        encoding="utf-8",
    )
    (tmp_path / "clips").mkdir()
    trains = subprocess.Popen([sys.executable, script, tmp_path / "clips"], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in trains.stdout.readline().split()]
    assert len(pids) >= 1
    assert all(is_running(pid) for pid in pids)
    trains.kill()
    trains.wait()
    trains.stdout.close()
    until = time.monotonic() + 20
    while any(is_running(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    """False for a process that is gone or only waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
