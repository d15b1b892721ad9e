"""Small corpora made in code: tones stand for speech, noise for non-speech."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from listenwell.config import Config, load_config
from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.data.manifest import read_manifest, write_backgrounds, write_manifest
from listenwell.progress import OnProgress, ignore_progress
from listenwell.random_streams import stream

N_BEDS = 8


def make_corpus(folder: Path, n_groups: int = 4, clips_each: int = 2, split: str = "") -> list[Clip]:
    """Write clips.csv and its recordings, 0.05 to 1.5 s long, n_groups groups a class; return the clips as read."""
    clips = []
    for label in ("SPEECH", "NONSPEECH"):
        for i in range(n_groups * clips_each):
            rng = stream(0, label, i)
            n_samples = int(rng.integers(SAMPLE_RATE_HZ // 20, SAMPLE_RATE_HZ * 3 // 2))
            tone = np.sin(2 * np.pi * rng.uniform(100, 400) * np.arange(n_samples) / SAMPLE_RATE_HZ)
            samples = tone if label == "SPEECH" else rng.standard_normal(n_samples)
            path = folder / f"{label.lower()}_{i}.wav"
            soundfile.write(path, 0.1 * samples, SAMPLE_RATE_HZ)
            group = f"{label.lower()}_group_{i % n_groups}"
            seconds = n_samples / SAMPLE_RATE_HZ
            clips.append(Clip(path.stem, path, 0.0, seconds, label, group, path.name, "made", "CC0", split=split))
    write_manifest(folder / "clips.csv", clips)
    return read_manifest(folder / "clips.csv")


def make_tones(folder: Path, n_clips: int) -> tuple[list[Clip], BackgroundBank]:
    """Tones (SPEECH) and noises (NONSPEECH), by turns: separable, so a fit that learns must get better."""
    rng = np.random.default_rng(0)
    clips = []
    for i in range(n_clips):
        label, time = ("SPEECH", "NONSPEECH")[i % 2], np.arange(8000 + 400 * i) / 16_000
        samples = rng.standard_normal(time.size) if i % 2 else np.sin(2 * np.pi * (300 + 40 * i) * time)
        path, group = folder / f"{i}.wav", f"g{i // 4}{label}"
        soundfile.write(path, 0.2 * samples, 16_000)
        clips.append(Clip(f"c{i}", path, 0.0, time.size / 16_000, label, group, f"r{i}", "made", "CC0"))
    soundfile.write(folder / "noise.wav", 0.1 * rng.standard_normal(40_000), 16_000)
    return clips, BackgroundBank([Background("bed", folder / "noise.wav", 2.5, "noise", "bed", "made", "CC0")])


def make_backgrounds(folder: Path) -> Path:
    """Write backgrounds.csv and its recordings, each a group of its own."""
    beds = []
    for i in range(N_BEDS):
        path = folder / f"bed_{i}.wav"
        soundfile.write(path, 0.1 * stream(1, "bed", i).standard_normal(24_000), 16_000)
        beds.append(Background(path.stem, path, 1.5, "noise", f"bed_group_{i}", "made", "CC0"))
    write_backgrounds(folder / "backgrounds.csv", beds)
    return folder / "backgrounds.csv"


def make_study(folder: Path, *overrides: str, base: Path | None = None) -> Config:
    """A quick study on a made corpus in `folder`, the settings of `base` below its own."""
    make_corpus(folder, n_groups=8)
    settings = [
        "model.name=random",
        f"data.manifest={folder / 'clips.csv'}",
        f"data.backgrounds={make_backgrounds(folder)}",
        f"output={folder / 'run'}",
        "train.epochs=2",
        "train.learning_rate=0.005",
        "evaluation.conditions=[clean, snr_0, 200ms]",
        "evaluation.baselines=[webrtc]",
    ]
    return load_config(base, [*settings, *overrides])


def name_sites(table: Path, **split_of: str) -> None:
    """Give every clip one of three sites as its corpus, and the split of its group where one is named."""
    clips = read_manifest(table)
    sites = [replace(c, corpus=f"site{int(c.group[-1]) % 3}", split=split_of.get(c.group, "")) for c in clips]
    write_manifest(table, sites)


def study_record(config: Config, on_progress: OnProgress = ignore_progress) -> dict[str, Any]:
    """Run the study and return what its results.json holds."""
    from listenwell.study.run import run_study

    record: dict[str, Any] = run_study(config, on_progress).model_dump(mode="json")
    return record


def search_record(config: Config) -> dict[str, Any]:
    """Search alone and return what its search.json holds."""
    from listenwell.study.run import search_alone

    record: dict[str, Any] = search_alone(config).model_dump(mode="json")
    return record


def fold_records(config: Config) -> list[dict[str, Any]]:
    """Leave one out alone and return what its loso.json holds."""
    from listenwell.study.run import leave_one_out_alone

    return [record.model_dump(mode="json") for record in leave_one_out_alone(config)]
