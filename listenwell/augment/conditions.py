"""Test conditions: named, fixed versions of a clip; a condition is a plan, no audio is copied.

| name | the clip |
|---|---|
| clean | as it is |
| 100ms | its loudest 100 ms: speech has pauses, and a pause must not be tested as speech |
| snr_-5 | with a background at -5 dB |
| t60_0.3 | in a room with a reverberation time of 0.3 s |
| bandpass_300_3400, lowpass_3400, highpass_300 | what is left between, below or above these frequencies in Hz |

What is random (the background and its stretch, the room's tail) is drawn from a stream keyed by (seed, "condition",
clip_id): one clip meets the same stretch of the same background at every SNR and the same room noise at every T60, so
a curve over either compares like with like.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from listenwell.augment.noise import PlannedBackground
from listenwell.augment.plan import Plan, stretch_levels
from listenwell.augment.recording import Band
from listenwell.augment.reverb import Room
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.errors import ConfigError
from listenwell.random_streams import stream

CLEAN, FULL = "clean", "full"
FULL_CONDITIONS = (
    CLEAN,
    *(f"{duration_ms}ms" for duration_ms in (20, 40, 60, 80, 100, 200, 500, 1000)),
    *(f"snr_{snr_db}" for snr_db in (-10, -5, 0, 5, 10, 20)),
    *(f"t60_{t60_s}" for t60_s in ("0.3", "1.0", "2.5")),
    "bandpass_300_3400", "lowpass_3400", "highpass_300",
)  # fmt: skip
"""What "full" stands for: 8 durations, 6 SNRs, T60 none and three, band none and three; both "none" are "clean"."""

VOICELESS_KINDS = ("music", "noise")
"""Only these are mixed under test clips: a voice under a NONSPEECH clip would contradict its label."""

_NUMBER = r"\d+(?:\.\d+)?"
_PATTERN = re.compile(
    rf"(?P<duration_ms>[1-9]\d*)ms|snr_(?P<snr_db>-?{_NUMBER})|t60_(?P<t60_s>{_NUMBER})"
    rf"|bandpass_(?P<low>{_NUMBER})_(?P<high>{_NUMBER})|lowpass_(?P<below>{_NUMBER})|highpass_(?P<above>{_NUMBER})"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a condition does to a clip: one of the four, or none of them (clean)."""

    duration_ms: int | None = None
    snr_db: float | None = None
    t60_s: float | None = None
    band: Band | None = None


def parse_condition(name: str) -> Condition:
    """Return the condition that `name` stands for. Raises ConfigError when it stands for none."""
    condition = match_condition(name)
    if condition is None:
        raise ConfigError(
            f"condition '{name}' is unknown; give clean, <duration>ms (100ms), snr_<dB> (snr_-5), t60_<seconds> "
            "(t60_0.3), bandpass_<Hz>_<Hz> (bandpass_300_3400), lowpass_<Hz> or highpass_<Hz>."
        )
    return condition


@lru_cache(maxsize=1024)
def match_condition(name: str) -> Condition | None:
    """Return the condition that `name` stands for, None when it stands for none.

    Raises ConfigError for a name of the right form whose number no clip can be given.
    """
    if name == CLEAN:
        return Condition()
    matched = _PATTERN.fullmatch(name)
    if matched is None:
        return None
    try:
        return _read_condition({part: float(text) for part, text in matched.groupdict().items() if text is not None})
    except ValueError as error:
        raise ConfigError(f"condition '{name}': {error}.") from error


def _read_condition(numbers: dict[str, float]) -> Condition:
    match numbers:
        case {"duration_ms": duration_ms}:
            return Condition(duration_ms=int(duration_ms))
        case {"snr_db": snr_db}:
            if abs(snr_db) > 60:
                raise ValueError(f"the SNR is {snr_db:g} dB; expected -60 to 60 dB")
            return Condition(snr_db=snr_db)
        case {"t60_s": t60_s}:
            return Condition(t60_s=Room(t60_s, 0).t60_s)
        case {"low": low_hz, "high": high_hz}:
            return Condition(band=Band(low_hz, high_hz))
        case {"below": high_hz}:
            return Condition(band=Band(high_hz=high_hz))
        case _:
            return Condition(band=Band(low_hz=numbers["above"]))


def plan_condition(name: str, clip: Clip, samples: Waveform, bank: BackgroundBank, seed: int) -> Plan:
    """The plan that puts `clip`, with its samples (n_samples,), under the condition of this name.

    Raises ConfigError for an unknown condition, or an SNR condition without backgrounds.
    """
    condition = parse_condition(name)
    rng = stream(seed, "condition", clip.clip_id)
    if condition.snr_db is not None:
        return Plan(clip.clip_id, name, background=_draw_background(clip, samples.size, bank, condition.snr_db, rng))
    if condition.t60_s is not None:
        return Plan(clip.clip_id, name, room=Room(condition.t60_s, int(rng.integers(2**63))))
    if condition.duration_ms is not None:
        n_kept = min(samples.size, round(condition.duration_ms * SAMPLE_RATE_HZ / 1000))
        starts, levels_db = stretch_levels(samples, n_kept)
        return Plan(clip.clip_id, name, crop_start=int(starts[np.argmax(levels_db)]), crop_length=n_kept)
    return Plan(clip.clip_id, name, band=condition.band)


def _draw_background(
    clip: Clip, n_samples: int, bank: BackgroundBank, snr_db: float, rng: np.random.Generator
) -> PlannedBackground:
    voiceless = [background for background in bank.entries if background.kind in VOICELESS_KINDS]
    if not voiceless:
        raise ConfigError(
            f"condition snr_{snr_db:g} needs backgrounds without voices ({' or '.join(VOICELESS_KINDS)}), but the bank "
            f"for clips of split '{clip.split}' has {len(bank.entries)} backgrounds and none of these kinds; add some "
            "to backgrounds.csv, or leave the snr_ conditions out."
        )
    background = voiceless[int(rng.integers(len(voiceless)))]
    latest_s = max(0.0, background.duration_s - n_samples / SAMPLE_RATE_HZ)
    return PlannedBackground(background.background_id, float(rng.uniform(0.0, latest_s)), snr_db)
