"""What the leak gate's audio search finds, what it calls alike that is not, and how long it takes.

Recordings of the starter corpus are changed as leaks are (renamed, quieter, MP3, telephone band, shifted, noisy, laid
into a background) and searched for; unrelated voices and unrelated stationary noises are compared pair by pair.
Writes benchmarks/results/leak_gate.json.

    python benchmarks/leak_gate.py
"""

import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import soundfile
import soxr

from listenwell.augment.mixing import mix_at_snr
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_recording, rms
from listenwell.data.check.leaks import SEARCH
from listenwell.data.check.near_duplicates import (
    LEAST_SHARPNESS,
    Sound,
    correlate,
    find_candidates,
    find_near_duplicates,
    index_sounds,
    pad_spectrum,
    whiten,
)
from listenwell.data.clip import Background, Clip
from listenwell.data.corpora.starter import prepare_starter
from listenwell.data.manifest import read_backgrounds, read_manifest
from listenwell.progress import shown_progress
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import write_json
from listenwell.storage.load_or_make import cache_root
from listenwell.storage.run_folder import provenance

N_UNRELATED, N_PLANTED, N_TRAIN, N_TEST = 1000, 100, 5000, 1000
SECOND = SAMPLE_RATE_HZ


def main() -> None:
    """Run the three measurements and write the JSON."""
    corpus = prepare_starter(cache_root())
    clips, beds = read_manifest(corpus.clips_csv), read_backgrounds(corpus.backgrounds_csv)
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "claim": "planted copies are found, unrelated sounds are not, 5,000 x 1,000 clips take under five minutes",
            "corpus": corpus.fingerprint,
            "search": SEARCH,
            "planted": measure_planted(clips, beds, Path(folder)),
            "unrelated": {
                "voices": measure_unrelated(draw("voices", cut_seconds(clips, "SPEECH"), N_UNRELATED)),
                "stationary noises": measure_unrelated(list_noises(beds, Path(folder))),
            },
            "speed": measure_speed(clips, beds),
            "provenance": provenance(),
        }
    out = Path(__file__).parent / "results" / "leak_gate.json"
    write_json(out, report)
    print(json.dumps({key: report[key] for key in ("planted", "speed")}, indent=1), out)


def measure_planted(clips: Sequence[Clip], beds: Sequence[Background], folder: Path) -> dict[str, Any]:
    """Recall of both steps by kind of change, for N_PLANTED clips of each label."""
    measured = {}
    long_beds = [bed for bed in beds if bed.duration_s >= 30]
    for label in ("SPEECH", "NONSPEECH"):
        originals = draw(f"planted {label}", [whole(c) for c in clips if c.label == label], N_PLANTED)
        changes = {**CHANGES, **{f"inside a background, {snr} dB": lay_into(long_beds, snr) for snr in (5, 0)}}
        index = index_sounds(originals)
        for name, change in changes.items():
            copies = [written(folder, f"{label}-{name}-{i}", change(s.load()), s) for i, s in enumerate(originals)]
            other = index_sounds(copies)
            by_ear = {(pair.one.sound_id, pair.other.sound_id) for pair in find_near_duplicates(index, other)}
            searched = {(originals[i].sound_id, copies[j].sound_id) for i, j in find_candidates(index, other)}
            wanted = [(one.sound_id, copy.sound_id) for one, copy in zip(originals, copies, strict=True)]
            hashes = zip(wanted, index.pcm_sha256, other.pcm_sha256, strict=True)
            by_hash = {pair for pair, one, copy in hashes if one == copy}
            measured[f"{label}: {name}"] = {
                "n": len(wanted),
                "found": sum(pair in by_hash | by_ear for pair in wanted),
                "by_hash": len(by_hash),
                "candidates": sum(pair in searched for pair in wanted),
                "by_ear": sum(pair in by_ear for pair in wanted),
                "missed": [pair[0] for pair in wanted if pair not in by_hash | by_ear],
                "others_found": sorted(pair for pair in by_ear if pair not in wanted),
            }
            print(label, name, measured[f"{label}: {name}"], flush=True)
    return measured


def measure_unrelated(sounds: Sequence[Sound]) -> dict[str, Any]:
    """All pairs of different recordings: false pairs among groups, pairs that share sound within one group."""
    index = index_sounds(sounds)
    padded = [pad_spectrum(whiten(sound.load())) for sound in sounds]
    candidates = [(i, j) for i, j in find_candidates(index, index) if i < j]
    between, within, sharpest = [], [], []
    for i, j in candidates:
        if sounds[i].recording == sounds[j].recording:
            continue
        found = correlate(padded[i], padded[j])
        if sounds[i].group != sounds[j].group:
            sharpest.append(found.sharpness)
        if found.sharpness >= LEAST_SHARPNESS:
            names = [sounds[i].recording, sounds[j].recording, round(found.value, 3), round(found.sharpness, 1)]
            (within if sounds[i].group == sounds[j].group else between).append(names)
    groups = np.array([sound.group for sound in sounds])
    n_between = int(np.sum(np.triu(groups[:, None] != groups[None, :], 1)))
    result = {
        "n": len(sounds),
        "pairs_of_different_groups": n_between,
        "compared_exactly": len(sharpest),
        "sharpness_quantiles": {str(q): float(np.quantile(sharpest, q)) for q in (0.5, 0.99, 1.0)},
        "false_pairs": between,
        "shared_sound_within_a_group": within,
    }
    print(
        {key: value for key, value in result.items() if key != "shared_sound_within_a_group"}, len(within), flush=True
    )
    return result


def measure_speed(clips: Sequence[Clip], beds: Sequence[Background]) -> dict[str, Any]:
    """Seconds for N_TRAIN x N_TEST stretches of one second, of the study pool and of the other parts."""
    sounds = [*map(whole, clips), *map(whole_bed, beds)]
    pool = [piece for sound in sounds if sound.part == "study_pool" for piece in cut(sound, 0.5)]
    rest = [piece for sound in sounds if sound.part != "study_pool" for piece in cut(sound)]
    train, test = draw("train", pool, N_TRAIN), draw("test", rest, N_TEST)
    with shown_progress() as on_progress:
        started = time.monotonic()
        one, other = index_sounds(train, on_progress, "train"), index_sounds(test, on_progress, "test")
        indexed = time.monotonic()
        n_candidates = len(find_candidates(one, other, on_progress, "searching"))
        searched = time.monotonic()
        found = find_near_duplicates(one, other, on_progress)
        ended = time.monotonic()
    return {
        "train": len(train),
        "test": len(test),
        "reading_s": indexed - started,
        "searching_s": searched - indexed,
        "searching_and_deciding_s": ended - searched,
        "whole_gate_s": (indexed - started) + (ended - searched),
        "candidates": n_candidates,
        "found": [[p.one.sound_id, p.other.sound_id, round(p.correlation.sharpness, 1)] for p in found],
    }


def whole(clip: Clip) -> Sound:
    return Sound(
        clip.split, clip.clip_id, False, clip.path, clip.start_s, clip.duration_s, clip.label, clip.group,
        clip.recording, clip.corpus, "",
    )  # fmt: skip


def whole_bed(bed: Background) -> Sound:
    return Sound(bed.split, bed.background_id, True, bed.path, 0.0, bed.duration_s, "", bed.group, "", bed.corpus, "")


def cut(sound: Sound, step_s: float = 1.0) -> list[Sound]:
    """The sound in stretches of one second, one every step_s seconds."""
    n_stretches = max(0, int(((sound.duration_s or 0) - 1.0) / step_s) + 1)
    starts_s = [sound.start_s + i * step_s for i in range(n_stretches)]
    return [replace(sound, sound_id=f"{sound.sound_id}@{s:g}", start_s=s, duration_s=1.0) for s in starts_s]


def cut_seconds(clips: Sequence[Clip], label: str) -> list[Sound]:
    return [piece for clip in clips if clip.label == label for piece in cut(whole(clip))]


def draw(name: str, sounds: Sequence[Sound], n: int) -> list[Sound]:
    """Choose n of the sounds without replacement, as far as they reach."""
    return [sounds[i] for i in sorted(stream(1, "leak_gate", name).permutation(len(sounds))[:n])]


def list_noises(beds: Sequence[Background], folder: Path) -> list[Sound]:
    """One second of every ambience group of the starter corpus, the rest made: five kinds, each unlike only by seed."""
    ambience = {bed.group: cut(whole_bed(bed))[0] for bed in beds if bed.kind == "noise" and bed.duration_s >= 1}
    found = [replace(sound, recording=sound.group) for sound in ambience.values()]
    like = replace(found[0], start_s=0.0)
    for i in range(N_UNRELATED - len(found)):
        name = f"made-{i}"
        found.append(replace(written(folder, name, make_noise(i), like), group=name, recording=name))
    return found


def make_noise(i: int) -> Waveform:
    rng = stream(1, "leak_gate", "noise", i)
    white = rng.standard_normal(SECOND)
    phases = rng.uniform(0, 2 * np.pi, 8)
    hum = sum(np.sin(2 * np.pi * 50 * (h + 1) * np.arange(SECOND) / SECOND + phases[h]) / (h + 1) for h in range(8))
    low, high = scipy.signal.butter(2, 400, fs=SECOND), scipy.signal.butter(2, [800, 2500], "band", fs=SECOND)
    kinds = (
        white,
        np.cumsum(white) - np.mean(np.cumsum(white)),
        scipy.signal.lfilter(*low, white),
        scipy.signal.lfilter(*high, white),
        hum + 0.01 * white,
    )
    chosen = kinds[i % len(kinds)]
    return (0.1 * chosen / np.max(np.abs(chosen))).astype(np.float32)


def written(folder: Path, name: str, samples: Waveform, like: Sound) -> Sound:
    path = folder / f"{name.replace('/', ' per ')}.wav"
    soundfile.write(path, samples, SECOND, subtype="FLOAT")
    return replace(like, sound_id=f"{like.sound_id}#{name}", path=path, start_s=0.0, duration_s=None)


def through_mp3(samples: Waveform) -> Waveform:
    """48 kbit/s, which libsndfile makes of this level at 16 kHz and one channel."""
    file = io.BytesIO()
    soundfile.write(file, samples, SECOND, format="MP3", bitrate_mode="CONSTANT", compression_level=0.75)
    file.seek(0)
    return np.asarray(soundfile.read(file, dtype="float32")[0], dtype=np.float32)


def through_8khz(samples: Waveform) -> Waveform:
    return np.asarray(soxr.resample(soxr.resample(samples, SECOND, 8000), 8000, SECOND), dtype=np.float32)


def with_noise(samples: Waveform) -> Waveform:
    noise = stream(1, "leak_gate", "added", len(samples)).standard_normal(len(samples)).astype(np.float32)
    return mix_at_snr(samples, noise, 5.0).samples


def lay_into(beds: Sequence[Background], snr_db: float) -> Callable[[Waveform], Waveform]:
    """Add a clip to a long background, snr_db above the stretch it lies on; both are drawn by the clip's length."""

    def laid(samples: Waveform) -> Waveform:
        rng = stream(1, "leak_gate", "bed", len(samples))
        bed = load_recording(beds[int(rng.integers(len(beds)))].path).copy()
        first = int(rng.integers(len(bed) - len(samples)))
        stretch = bed[first : first + len(samples)]
        stretch += samples * np.float32(rms(stretch) / rms(samples) * 10 ** (snr_db / 20))
        return bed

    return laid


CHANGES: dict[str, Callable[[Waveform], Waveform]] = {
    "renamed": lambda samples: samples,
    "6 dB quieter": lambda samples: samples / 2,
    "MP3, 48 kbit/s": through_mp3,
    "through 8 kHz": through_8khz,
    "shifted by 0.4 s": lambda samples: samples[round(0.4 * SECOND) :],
    "noise at 5 dB": with_noise,
}


if __name__ == "__main__":
    main()
