"""How fast augmentation is, on one core, against what people use: both sides in one run, in turns.

    mixing     bank + mix_at_snr against audiomentations' AddBackgroundNoise: 200 files, of 16 and of 44.1 kHz, clips of
               1 and 10 s; and against copying the same bytes between buffers larger than the caches
    log-mel    128 bins of 1 s and 10 s clips against WhisperFeatureExtractor, which pads to 30 s; and the difference
    policy     the default policy, wave to masked log-mel, 1 s clips; and with pitch or tempo on 30 % of them

Every figure is the median over ROUNDS rounds in which all sides take turns; ratios are medians of the rounds' ratios.
Seconds are those of the processor that this process used: others may use the machine at the same time.
Writes benchmarks/results/augmentation.json.

    pip install audiomentations && OMP_NUM_THREADS=1 python benchmarks/augmentation.py
"""

import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audiomentations
import numpy as np
import soundfile
from threadpoolctl import threadpool_limits
from transformers import WhisperFeatureExtractor

from listenwell.atomic_files import write_json
from listenwell.augment.mixing import mix_at_snr
from listenwell.augment.pitch_time import PitchConfig, TempoConfig
from listenwell.augment.plan import AugmentConfig, apply_plan, draw_plan
from listenwell.augment.spec_augment import apply_masks
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.background_file import BackgroundFile, build_background_file
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.model.mel import log_mel
from listenwell.random_streams import stream
from listenwell.run_folder import provenance

N_FILES, FILE_S, N_CLIPS, ROUNDS = 200, 15.0, 32, 9
CLIP = Clip("c", Path("c.wav"), 0.0, 1.0, "SPEECH", "g", "r", "made", "CC0")
Work = Callable[[int], object]


def main() -> None:
    """Measure everything and write the JSON."""
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        banks = {rate_hz: make_bank(Path(folder) / str(rate_hz), rate_hz) for rate_hz in (16_000, 44_100)}
        report = {
            "claim": "mixing is 5 times audiomentations (20 at 44.1 kHz), the mel 20 times WhisperFeatureExtractor",
            "clips_per_s_and_ratios": {
                **{
                    f"mixing, {length_s} s, backgrounds of {rate_hz} Hz": measure_mixing(*banks[rate_hz], length_s)
                    for rate_hz, length_s in itertools.product(banks, (1, 10))
                },
                **{f"log-mel, {length_s} s": measure_mel(length_s) for length_s in (1, 10)},
                "policies, 1 s": measure_policies(banks[16_000][1]),
            },
            "versions": {"audiomentations": audiomentations.__version__},
            "rounds": ROUNDS,
            "provenance": provenance(),
        }
    out = Path(__file__).parent / "results" / "augmentation.json"
    write_json(out, report)
    print(json.dumps(report["clips_per_s_and_ratios"], indent=1), out)


def make_bank(folder: Path, rate_hz: int) -> tuple[Path, BackgroundBank]:
    """Write N_FILES recordings of noise, and a bank of them in one mapped file."""
    recordings = folder / "recordings"
    recordings.mkdir(parents=True)
    entries = []
    for i in range(N_FILES):
        path = recordings / f"{i}.wav"
        soundfile.write(path, 0.05 * stream(1, "bench", i).standard_normal(round(FILE_S * rate_hz)), rate_hz)
        entries.append(Background(f"b{i}", path, FILE_S, "noise", f"b{i}", "made", "CC0"))
    build_background_file(folder / "bank", entries)
    return recordings, BackgroundBank(entries, stored=BackgroundFile(folder / "bank", entries))


def measure_mixing(recordings: Path, bank: BackgroundBank, length_s: int) -> dict[str, Any]:
    """Clips mixed in a second: ours, audiomentations', and the copies that any mixing must make."""
    clips = make_clips(length_s)
    theirs = audiomentations.AddBackgroundNoise(sounds_path=str(recordings), min_snr_db=-5, max_snr_db=20, p=1.0)
    rng = stream(2, "draws")
    # A mixing reads 2 bytes a sample of the background and 4 of the clip, and writes 4: copying 5 moves as many.
    originals = np.ones((2 * N_CLIPS, 5 * length_s * SAMPLE_RATE_HZ), dtype=np.uint8)
    copies = np.empty_like(originals)

    def mix(i: int) -> object:
        background = bank.entries[int(rng.integers(N_FILES))]
        offset_s = float(rng.uniform(0, background.duration_s - length_s))
        stretch = bank.load(background.background_id, offset_s, length_s)
        return mix_at_snr(clips[i % N_CLIPS], stretch, float(rng.uniform(-5, 20)))

    def copy(i: int) -> None:
        np.copyto(copies[i % len(copies)], originals[i % len(copies)])

    sides: dict[str, Work] = {
        "listenwell": mix,
        "audiomentations": lambda i: theirs(clips[i % N_CLIPS], SAMPLE_RATE_HZ),
        "memory copy": copy,
    }
    return compare(sides, {"listenwell": 400, "audiomentations": 60, "memory copy": 400})


def measure_mel(length_s: int) -> dict[str, Any]:
    """Clips in a second, and the largest difference on the frames that both have."""
    extractor = WhisperFeatureExtractor(feature_size=128)
    filters = np.asarray(extractor.mel_filters, dtype=np.float32)
    clips = make_clips(length_s)

    def theirs(i: int) -> Any:
        return extractor(clips[i % N_CLIPS], sampling_rate=SAMPLE_RATE_HZ, return_tensors="np").input_features[0]

    n_frames = 100 * length_s
    differences = [
        np.abs(log_mel(clips[i], filters).features[:, :n_frames] - theirs(i)[:, :n_frames]) for i in range(4)
    ]
    sides: dict[str, Work] = {
        "listenwell": lambda i: log_mel(clips[i % N_CLIPS], filters),
        "WhisperFeatureExtractor": theirs,
    }
    measured = compare(sides, {"listenwell": 200, "WhisperFeatureExtractor": 6})
    return {**measured, "largest_difference": float(np.max(differences))}


def measure_policies(bank: BackgroundBank) -> dict[str, Any]:
    """Clips in a second from a waveform to the masked spectrogram, draws included."""
    default = AugmentConfig()
    changing = {"pitch": PitchConfig(probability=0.15), "tempo": TempoConfig(probability=0.15)}
    filters = np.asarray(WhisperFeatureExtractor(feature_size=128).mel_filters, dtype=np.float32)
    clips, epoch = make_clips(1), itertools.count()

    def hear(policy: AugmentConfig) -> Work:
        def work(i: int) -> object:
            samples = clips[i % N_CLIPS]
            plan = draw_plan(policy, CLIP, samples, bank.entries, 128, 42, next(epoch))
            mel = log_mel(apply_plan(samples, plan, bank.load), filters)
            return mel if plan.masks is None else apply_masks(mel.features, plan.masks, 0, mel.floor)

        return work

    uncropped = {"crop": default.crop.model_copy(update={"probability": 0.0})}
    sides = {
        "default policy": hear(default),
        "default policy, not cropped": hear(default.model_copy(update=uncropped)),
        "default policy, pitch or tempo on 30 %": hear(default.model_copy(update=changing)),
        "default policy, not cropped, pitch or tempo on 30 %": hear(default.model_copy(update=uncropped | changing)),
    }
    return compare(sides, dict.fromkeys(sides, 200))


def make_clips(length_s: int) -> list[Waveform]:
    n_samples = length_s * SAMPLE_RATE_HZ
    return [(0.1 * stream(3, "clip", i).standard_normal(n_samples)).astype(np.float32) for i in range(N_CLIPS)]


def compare(sides: dict[str, Work], n_calls: dict[str, int]) -> dict[str, Any]:
    """Let all sides take turns; clips in a second of each, and how many times as fast the first is."""
    first, *others = sides
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():
        work(0)
    for _ in range(ROUNDS):
        for name, work in sides.items():
            started = time.process_time()
            for i in range(n_calls[name]):
                work(i)
            rates[name].append(n_calls[name] / (time.process_time() - started))
    ratios = {other: float(np.median(np.divide(rates[first], rates[other]))) for other in others}
    return {
        "clips_per_s": {name: round(float(np.median(rate)), 1) for name, rate in rates.items()},
        f"times_as_fast_is_{first}": {other: round(ratio, 2) for other, ratio in ratios.items()},
    }


if __name__ == "__main__":
    main()
