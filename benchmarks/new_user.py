"""A new user's path, timed: from `pip install .` in a new environment to thirty own recordings scored and a report.

The recordings are clips of the starter corpus that the base model was never joined on (its out-of-corpus part), written
as a user has them: six speakers with three recordings each and six sounds with two, in folders with names that people
give, with spaces and accents, as WAV, FLAC and Ogg at three sample rates. Then the commands of docs/tutorial.md run one
after another in processes of their own, with an empty cache, so weights are fetched too. Each must end with status 0.

    python benchmarks/new_user.py        writes benchmarks/results/new_user.json and, beside it, what was printed
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from listenwell.atomic_files import write_json, write_text
from listenwell.cache import cache_root
from listenwell.data.audio import SAMPLE_RATE_HZ, load_waveform
from listenwell.data.clip import Clip
from listenwell.data.corpora.starter import prepare_starter
from listenwell.data.manifest import read_manifest
from listenwell.run_folder import provenance

ROOT = Path(__file__).parents[1]
PART = "out_of_corpus"
SPEAKERS = ("Anna Müller", "ben", "Chloé", "Grandpa (phone)", "Mr. O'Brien", "Zoë_2")
SOUNDS = ("Door slam", "dog barking", "kettle", "rain & wind", "Straßenbahn", "washing-machine")
FILES = (("wav", 44_100), ("flac", 16_000), ("ogg", 48_000))


def main() -> None:
    """Walk the path and write how long every step took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "new_user.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = folder / "my_recordings"
        n_recordings = write_recordings(recordings)
        steps, printed = walk(folder, recordings)
        scored = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    right = [("/speech/" in each["path"]) == (each["label"] == "SPEECH") for each in scored]
    report = {
        "claim": "from pip install to a report and own recordings scored, by the commands of the tutorial alone",
        "recordings": n_recordings,
        "scored": len(scored),
        "scored_rightly_trained_on_most": sum(right),
        "steps": steps,
        "wall_s": sum(step["wall_s"] for step in steps),
        "processor_s": sum(step["processor_s"] for step in steps),
        "load_of_the_machine": os.getloadavg(),
        "provenance": provenance(),
    }
    write_json(asked.out, report)
    write_text(asked.out.with_suffix(".txt"), printed)
    print(json.dumps(report, indent=1), asked.out)


def write_recordings(folder: Path) -> int:
    """Write the thirty recordings sorted as the tutorial says and return their number."""
    clips = [clip for clip in read_manifest(prepare_starter(cache_root()).clips_csv) if clip.split == PART]
    n_written = 0
    for label, names, n_each in (("SPEECH", SPEAKERS, 3), ("NONSPEECH", SOUNDS, 2)):
        groups = sorted({clip.group for clip in clips if clip.label == label and _count(clips, clip) >= n_each})
        for name, group in zip(names, groups[:: len(groups) // len(names)], strict=False):
            for number, clip in enumerate([clip for clip in clips if clip.group == group][:n_each], start=1):
                suffix, rate_hz = FILES[n_written % len(FILES)]
                path = folder / label.lower() / name / f"recording {number}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                samples = np.clip(soxr.resample(load_waveform(clip), SAMPLE_RATE_HZ, rate_hz), -1.0, 1.0)
                soundfile.write(path, samples, rate_hz)
                n_written += 1
    return n_written


def _count(clips: Sequence[Clip], like: Clip) -> int:
    return sum(clip.group == like.group for clip in clips)


def walk(folder: Path, recordings: Path) -> tuple[list[dict[str, Any]], str]:
    """Run every step; return what each took, and all that was printed."""
    sources, environment = folder / "listenwell", folder / "env"
    # a user's clone holds what is committed, and no caches or runs
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(sources)], check=True)
    pip, program = environment / "bin" / "pip", environment / "bin" / "listenwell"
    study = recordings / "study.yaml"
    commands: list[tuple[str, Sequence[str | Path]]] = [
        ("venv", [sys.executable, "-m", "venv", environment]),
        ("install", [pip, "install", "--quiet", "-c", "constraints.txt", ".[baselines]"]),
        ("doctor", [program, "doctor"]),
        ("init", [program, "init", recordings]),
        ("audio-check", [program, "audio-check", recordings / "clips.csv"]),
        ("check", [program, "check", study]),
        ("plan", [program, "plan", study]),
        ("study", [program, "study", study]),
        ("export", [program, "export", recordings / "run", "--out", folder / "detector"]),
        ("detect", [program, "detect", "--detector", folder / "detector", recordings / "speech",
                    recordings / "nonspeech", "--format", "json", "--out", folder / "answers.json"]),
    ]  # fmt: skip
    steps, printed = [], ""
    for name, command in commands:
        step, text = run(name, command, sources if name == "install" else folder, folder / "cache")
        steps.append(step)
        printed += f"$ {' '.join(shown(part, folder) for part in command)}\n{text}\n"
        print(step, file=sys.stderr)
    if not (recordings / "run" / "report.html").is_file():
        raise RuntimeError(f"{recordings}/run: the study wrote no report.html.")
    shutil.rmtree(environment)
    return steps, printed


def shown(part: str | Path, folder: Path) -> str:
    """A word of a command as a user in `folder` would type it."""
    text = str(part).removeprefix(f"{folder}/").removeprefix("env/bin/")
    return f"'{text}'" if " " in text or "[" in text else text


def run(name: str, command: Sequence[str | Path], folder: Path, cache: Path) -> tuple[dict[str, Any], str]:
    """Run one command; return its wall and processor seconds, and what it printed. Raises RuntimeError if it failed."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env=variables | {"LISTENWELL_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = done.stdout.replace(f"{folder}/", "")
    if done.returncode != 0:
        raise RuntimeError(f"{name}: ended with status {done.returncode}; {text}")
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"step": name, "wall_s": time.monotonic() - began, "processor_s": processor_s}, text


if __name__ == "__main__":
    main()
