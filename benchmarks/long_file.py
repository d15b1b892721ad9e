"""Hours of audio in one file through `listenwell detect`: memory, speed, and a kill in the middle.

The file is laid out from the starter corpus's out-of-corpus clips over its backgrounds, a minute at a time, so it is
known where speech is and a shorter file is the beginning of a longer one. The command runs in a process of its own:

    undisturbed   on a file of --short-minutes, on one core and with a worker per core
    killed        the same file, SIGKILL as soon as a third of its windows is scored, then the same command again
    long          a file of --hours, killed and gone on with in the same way

Claims: peak memory stays below --memory-bar however long the file; what a killed run answers in the end is what an
undisturbed one answers, to the byte; and the long file's answer begins with that of the short one.
Processor seconds hardly depend on what else runs on the machine; wall times do, so the load stands beside them.

    listenwell export runs/starter --out detector && python benchmarks/long_file.py detector
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import soundfile
from long_recordings import Stretches, foreign_clips

from listenwell.cli.use import JOURNAL
from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.detect.bundle import read_bundle
from listenwell.detect.segmentation import count_windows
from listenwell.evaluate.metrics import balanced_accuracy
from listenwell.storage.atomic_files import companion, write_json
from listenwell.storage.run_folder import provenance
from listenwell.tasks.export import lay_out_recording, mark_frames

SEED, PIECE_S = 11, 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One process: whether it was killed, what it took, the machine's load (one minute) around it."""

    killed: bool
    wall_s: float
    processor_s: float
    peak_memory_gib: float
    load: tuple[float, float]


def main() -> None:
    """Make the files, run the command on them, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--hours", type=float, default=8.0, help="0 leaves the long file out")
    parser.add_argument("--short-minutes", type=float, default=30.0)
    parser.add_argument("--memory-bar", type=float, default=2.0, help="GiB")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "long_file.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        report = measure(asked, Path(name))
    write_json(asked.out, report)
    print(json.dumps(report, indent=1), asked.out)


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What all runs took and answered."""
    report: dict[str, Any] = {
        "claim": f"peak memory below {asked.memory_bar:g} GiB at any length, and a killed run ends at the same answer",
        "rule": asdict(read_bundle(asked.detector).rule),
        "provenance": provenance(),
    }
    short, truth = make_file(folder / "recording.flac", asked.short_minutes * 60.0)
    answers = {name: folder / f"{name}.json" for name in ("one-core", "undisturbed", "killed")}
    runs = {
        "one-core": [detect(asked.detector, short, answers["one-core"], one_core=True)],
        "undisturbed": [detect(asked.detector, short, answers["undisturbed"])],
        "killed": detect_killed(asked.detector, short, answers["killed"]),
    }
    same = {answers["undisturbed"].read_bytes() == answer.read_bytes() for answer in answers.values()}
    report["short"] = describe(runs, answers["undisturbed"], truth) | {"same_answer_to_the_byte": same == {True}}
    peaks = [run.peak_memory_gib for of_one in runs.values() for run in of_one]
    if asked.hours:
        whole, truth = make_file(folder / "long.flac", asked.hours * 3600.0)
        answer = folder / "long.json"
        long_runs = {"killed": detect_killed(asked.detector, whole, answer)}
        begins = begins_with(segments_of(answer), segments_of(answers["undisturbed"]))
        report["long"] = describe(long_runs, answer, truth) | {"begins_with_the_short_answer": begins}
        peaks += [run.peak_memory_gib for run in long_runs["killed"]]
    report["peak_memory_gib"] = max(peaks)
    report["holds"] = max(peaks) < asked.memory_bar and same == {True} and report.get("long", report["short"])["whole"]
    return report


def make_file(path: Path, least_s: float) -> tuple[Path, Stretches]:
    """Write at least least_s seconds of FLAC and return the file and where it is speech."""
    clips, bank = foreign_clips()
    speech: Stretches = []
    n_samples = number = 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1, "PCM_16") as file:
        while n_samples < least_s * SAMPLE_RATE_HZ:
            piece = lay_out_recording(clips, bank, PIECE_S, SEED, f"minute_{number}")
            file.write(piece.samples)
            speech += [(n_samples / SAMPLE_RATE_HZ + a, n_samples / SAMPLE_RATE_HZ + b) for a, b in piece.speech]
            n_samples, number = n_samples + piece.samples.size, number + 1
    return path, speech


def detect(detector: Path, recording: Path, answer: Path, *, one_core: bool = False, kill_at: int | None = None) -> Run:
    """Run the command; kill_at: SIGKILL it once so many windows are in its journal."""
    command = [sys.executable, "-m", "listenwell", "detect", str(recording), "--detector", str(detector.resolve())]
    command += ["--format", "json", "--out", str(answer), *(["--workers", "1"] if one_core else [])]
    load, began = os.getloadavg()[0], time.monotonic()
    process = subprocess.Popen(
        command,
        stderr=subprocess.DEVNULL,
        preexec_fn=(lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if one_core else None,
    )
    while kill_at is not None and n_scored(answer) < kill_at and process.poll() is None:
        time.sleep(0.2)
    if kill_at is not None:
        process.send_signal(signal.SIGKILL)
    _, status, used = os.wait4(process.pid, 0)
    wall_s, killed = time.monotonic() - began, kill_at is not None
    if killed != os.WIFSIGNALED(status) or (not killed and os.waitstatus_to_exitcode(status) != 0):
        raise RuntimeError(f"{' '.join(command)}: ended with status {status}; run it by hand to see why.")
    peak_gib = used.ru_maxrss / 2**20
    return Run(killed, wall_s, used.ru_utime + used.ru_stime, peak_gib, (load, os.getloadavg()[0]))


def detect_killed(detector: Path, recording: Path, answer: Path) -> list[Run]:
    """Kill the command in the middle of the recording, then run it again."""
    duration_s = soundfile.info(recording).duration
    third = count_windows(duration_s, read_bundle(detector).rule) // 3  # up to half are never scored
    return [detect(detector, recording, answer, kill_at=third), detect(detector, recording, answer)]


def n_scored(answer: Path) -> int:
    """Windows in the journal of an answer that is not there yet."""
    journal = companion(answer, JOURNAL)
    if not journal.is_file():
        return 0
    lines = [line for line in journal.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return sum(len(json.loads(line)["value"].get("windows", [])) for line in lines)


def describe(runs: dict[str, Sequence[Run]], answer: Path, truth: Stretches) -> dict[str, Any]:
    """What the runs took a second of audio, and how good the answer is."""
    (record,) = json.loads(answer.read_text(encoding="utf-8"))
    audio_s, found = record["duration_s"], segments_of(answer)
    return {
        "audio_s": audio_s,
        "n_segments": len(found),
        "whole": bool(found) and found[-1][1] > audio_s - 60.0,
        "frame_balanced_accuracy": balanced_accuracy(mark_frames(found, audio_s), mark_frames(truth, audio_s)),
        "runs": {
            name: {
                "processor_s_per_audio_s": sum(run.processor_s for run in of_one) / audio_s,
                "wall_s_per_audio_s": sum(run.wall_s for run in of_one) / audio_s,
                "processes": [asdict(run) for run in of_one],
            }
            for name, of_one in runs.items()
        },
    }


def segments_of(answer: Path) -> Stretches:
    """Where an answer says speech is."""
    (record,) = json.loads(answer.read_text(encoding="utf-8"))
    return [(segment["start_s"], segment["end_s"]) for segment in record["segments"]]


def begins_with(longer: Stretches, shorter: Stretches) -> bool:
    """Whether the answers agree up to the last segment of the shorter, which its end may have cut."""
    return longer[: len(shorter) - 1] == shorter[:-1]


if __name__ == "__main__":
    main()
