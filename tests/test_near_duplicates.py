"""Changed copies are found, also inside backgrounds; unrelated sounds, however alike, are not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from listenwell.augment.mixing import mix_at_snr
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.check.near_duplicates import NearDuplicate, Sound, find_near_duplicates, index_sounds
from listenwell.random_streams import stream

N_SOUNDS = 6
SECOND = SAMPLE_RATE_HZ


def make_voice(i: int, seconds: float = 1.5) -> Waveform:
    """Harmonics of a wandering pitch in syllables, over faint noise."""
    rng = stream(11, "voice", i)
    n_samples = round(seconds * SECOND)
    t = np.arange(n_samples) / SECOND
    wander = np.interp(t, np.linspace(0, seconds, 8), rng.uniform(-20, 20, 8))
    phase = 2 * np.pi * np.cumsum(rng.uniform(100, 220) + wander) / SECOND
    tone = sum(rng.uniform(0.2, 1) / h * np.sin(h * phase + rng.uniform(0, 6)) for h in range(1, 25))
    syllables = np.interp(t, np.linspace(0, seconds, 12), rng.uniform(0.1, 1, 12))
    return (0.1 * syllables * tone + 0.003 * rng.standard_normal(n_samples)).astype(np.float32)


def make_noise(i: int, seconds: float = 1.0) -> Waveform:
    """Stationary noises, unrelated but of few kinds: white, brown, a band, and hums of one frequency."""
    rng = stream(12, "noise", i)
    n_samples = round(seconds * SECOND)
    noise = rng.standard_normal(n_samples)
    hum = np.sin(2 * np.pi * 100 * np.arange(n_samples) / SECOND + rng.uniform(0, 6))
    brown = np.cumsum(noise) - np.mean(np.cumsum(noise))
    band = np.convolve(noise, np.hanning(64) * np.cos(2 * np.pi * 1000 * np.arange(64) / SECOND), "same")
    chosen = (noise, brown / 30, band, hum + 0.01 * noise)[i % 4]
    return (0.05 * chosen).astype(np.float32)


def through_mp3(samples: Waveform) -> Waveform:
    """48 kbit/s, which libsndfile makes of this level at 16 kHz and one channel."""
    file = io.BytesIO()
    soundfile.write(file, samples, SECOND, format="MP3", bitrate_mode="CONSTANT", compression_level=0.75)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def through_8khz(samples: Waveform) -> Waveform:
    return soxr.resample(soxr.resample(samples, SECOND, 8000), 8000, SECOND).astype(np.float32)


CHANGES: dict[str, Callable[[Waveform], Waveform]] = {
    "renamed and 6 dB quieter": lambda samples: samples / 2,
    "upside down": lambda samples: -samples,
    "mp3": through_mp3,
    "8 kHz": through_8khz,
    "shifted by 0.4 s": lambda samples: samples[round(0.4 * SECOND) :],
    "5 dB noise": lambda samples: mix_at_snr(samples, make_noise(0, len(samples) / SECOND), 5.0).samples,
}


def write_sounds(folder: Path, waveforms: list[Waveform], part: str, label: str = "SPEECH") -> list[Sound]:
    sounds = []
    for i, samples in enumerate(waveforms):
        path = folder / f"{part}_{i}.wav"
        soundfile.write(path, samples, SECOND, subtype="FLOAT")
        sounds.append(Sound(part, path.stem, False, path, 0.0, None, label, path.stem, "", "made", ""))
    return sounds


def search(folder: Path, ours: list[Waveform], theirs: list[Waveform]) -> list[NearDuplicate]:
    one, other = (index_sounds(write_sounds(folder, w, part)) for w, part in ((ours, "train"), (theirs, "test")))
    return find_near_duplicates(one, other)


def found_pairs(found: list[NearDuplicate]) -> list[tuple[str, str]]:
    return [(pair.one.sound_id, pair.other.sound_id) for pair in found]


@pytest.mark.parametrize("change", list(CHANGES))
def test_every_changed_copy_is_found_and_nothing_else(tmp_path: Path, change: str) -> None:
    voices = [make_voice(i) for i in range(N_SOUNDS)]
    found = search(tmp_path, voices, [CHANGES[change](voice) for voice in voices])
    assert found_pairs(found) == [(f"train_{i}", f"test_{i}") for i in range(N_SOUNDS)]


@pytest.mark.parametrize("snr_db", [0.0, 5.0])
def test_a_background_that_holds_a_clip_is_found_and_the_place_told(tmp_path: Path, snr_db: float) -> None:
    clips = [make_voice(i, seconds=1.0) for i in range(5)]
    beds, places_s = [], [0.5, 9.3, 17.7, 25.1, 38.9]
    for i, (clip, place_s) in enumerate(zip(clips, places_s, strict=True)):
        bed, first = make_noise(100 + 4 * i, seconds=40.0), round(place_s * SECOND)
        bed[first : first + SECOND] = mix_at_snr(clip, bed[first : first + SECOND], snr_db).samples
        beds.append(bed)
    found = search(tmp_path, clips, beds)
    assert found_pairs(found) == [(f"train_{i}", f"test_{i}") for i in range(5)]
    assert [pair.shift_s for pair in found] == pytest.approx(places_s, abs=1 / SECOND)


def test_unrelated_stationary_noises_are_not_called_duplicates(tmp_path: Path) -> None:
    assert search(tmp_path, [make_noise(i) for i in range(40)], [make_noise(i) for i in range(40, 80)]) == []


def test_silence_one_sample_and_an_offset_are_alike_to_nothing(tmp_path: Path) -> None:
    odd = [np.zeros(SECOND, np.float32), np.full(1, 0.5, np.float32), np.full(SECOND, 0.25, np.float32)]
    assert search(tmp_path, odd, odd) == []
