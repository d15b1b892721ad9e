"""Test conditions: named, fixed versions of a clip; a condition is a plan, no audio is copied.

"clean" is the clip as it is; "snr_-5" mixes a background at -5 dB; "100ms" keeps the loudest 100 ms: a clip of speech
has pauses, and a pause must not be tested as speech. The background and
its stretch are drawn from a stream keyed by (seed, "condition", clip_id): one clip meets the same stretch of the same
background at every SNR, so a curve over SNR compares like with like.
"""

import re

import numpy as np

from listenwell.augment.plan import Plan, PlannedBackground, stretch_levels
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.errors import ConfigError
from listenwell.random_streams import stream

CLEAN = "clean"
_SNR, _DURATION = re.compile(r"snr_(-?\d+(?:\.\d+)?)"), re.compile(r"(\d+)ms")


def plan_condition(condition: str, clip: Clip, samples: Waveform, bank: BackgroundBank, seed: int) -> Plan:
    """The plan that puts `clip`, with its samples (n_samples,), under `condition`.

    Raises ConfigError for an unknown condition, or an SNR condition without backgrounds.
    """
    if condition == CLEAN:
        return Plan(clip.clip_id, condition)
    if (snr_db := snr_of(condition)) is not None:
        return Plan(clip.clip_id, condition, background=_draw_background(clip, samples.size, bank, snr_db, seed))
    n_kept = min(samples.size, round(duration_ms_of(condition) * SAMPLE_RATE_HZ / 1000))
    starts, levels_db = stretch_levels(samples, n_kept)
    return Plan(clip.clip_id, condition, crop_start=int(starts[np.argmax(levels_db)]), crop_length=n_kept)


def snr_of(condition: str) -> float | None:
    """The SNR in dB that an "snr_X" condition names, otherwise None."""
    match = _SNR.fullmatch(condition)
    return float(match[1]) if match else None


def duration_ms_of(condition: str) -> int:
    """The duration in ms that an "Nms" condition names. Raises ConfigError for an unknown condition."""
    match = _DURATION.fullmatch(condition)
    if not match or int(match[1]) == 0:
        raise ConfigError(f"condition '{condition}' is unknown; give clean, snr_<dB> (snr_-5) or <duration>ms (100ms).")
    return int(match[1])


def _draw_background(clip: Clip, n_samples: int, bank: BackgroundBank, snr_db: float, seed: int) -> PlannedBackground:
    if not bank.entries:
        raise ConfigError(f"condition snr_{snr_db:g} needs backgrounds, but the bank of split '{clip.split}' is empty.")
    rng: np.random.Generator = stream(seed, "condition", clip.clip_id)
    background = bank.entries[int(rng.integers(len(bank.entries)))]
    latest_s = max(0.0, background.duration_s - n_samples / SAMPLE_RATE_HZ)
    return PlannedBackground(background.background_id, float(rng.uniform(0.0, latest_s)), snr_db)
