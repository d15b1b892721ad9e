"""What a recorder and a telephone line do to a sound: its level, an 8-bit codec, a band of frequencies.

The mu-law codec: 8 bits a sample, finer steps for quieter samples (ITU-T G.711, mu = 255),
    y = sign(x) ln(1 + mu |x|) / ln(1 + mu), rounded to 255 levels, and back: the curve's continuous form.
The rounding is about 38 dB below the signal over 40 dB of levels. G.711 works at 8 kHz; here it rounds 16 kHz samples,
and the line's band filter, which comes after, takes away what the rounding put beyond the band.

The band: Butterworth second-order sections (scipy.signal), order ORDER, run forwards and backwards: zero phase, so
nothing moves in time, 6 dB down at an edge and about 48 dB per octave beyond it. The clip's ends are extended by odd
reflection before filtering, by less where the clip is shorter: one sample is enough.

Waveforms: mono float32 (n_samples,), 16 kHz, full scale +-1.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from listenwell.augment.mixing import keep_in_range
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, peak
from listenwell.section import Section, in_order

ORDER = 4
LOWEST_HZ, HIGHEST_HZ = 20.0, 7800.0
"""Edges outside make filters that ring for longer than a clip, or that filter nothing."""
MU = 255.0
LEVELS_PER_SIDE = 127


class GainConfig(Section):
    """Changes of level."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips whose level is changed."""
    lowest_db: float = Field(-20.0, ge=-60, le=60)
    """Lowest gain; gains are uniform in dB."""
    highest_db: float = Field(6.0, ge=-60, le=60)
    """Highest gain; less where a peak would leave full scale."""

    _ordered = in_order("lowest_db", "highest_db")


def change_gain(samples: Waveform, gain_db: float) -> Waveform:
    """Return the samples `gain_db` louder, same shape; less where a peak would leave +-1."""
    return keep_in_range(samples * np.float32(10 ** (gain_db / 20)))


class BandConfig(Section):
    """Telephone lines: a band of frequencies, and on some of them an 8-bit codec."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips heard over a line."""
    lowest_low_hz: float = Field(100.0, ge=LOWEST_HZ, le=HIGHEST_HZ)
    """Lowest place of the band's lower edge; edges are uniform in Hz."""
    highest_low_hz: float = Field(400.0, ge=LOWEST_HZ, le=HIGHEST_HZ)
    """Highest place of the lower edge."""
    lowest_high_hz: float = Field(2800.0, ge=LOWEST_HZ, le=HIGHEST_HZ)
    """Lowest place of the upper edge."""
    highest_high_hz: float = Field(3800.0, ge=LOWEST_HZ, le=HIGHEST_HZ)
    """Highest place of the upper edge."""
    mu_law_share: float = Field(0.5, ge=0, le=1)
    """Share of the lines that code with 8 bit mu-law."""

    @model_validator(mode="after")
    def _ordered(self) -> "BandConfig":
        edges = [self.lowest_low_hz, self.highest_low_hz, self.lowest_high_hz, self.highest_high_hz]
        if sorted(edges) != edges or self.highest_low_hz == self.lowest_high_hz:
            raise ValueError(
                f"the edges are {', '.join(f'{edge:g}' for edge in edges)} Hz; lowest_low_hz <= highest_low_hz < "
                "lowest_high_hz <= highest_high_hz was expected"
            )
        return self


@dataclass(frozen=True, slots=True)
class Band:
    """The frequencies that are kept; None means that this side is open.

    Raises ValueError when no side is closed or the edges are not LOWEST_HZ <= low < high <= HIGHEST_HZ.
    """

    low_hz: float | None = None
    high_hz: float | None = None

    def __post_init__(self) -> None:
        edges = self.edges_hz
        is_usable = all(LOWEST_HZ <= edge <= HIGHEST_HZ for edge in edges) and sorted(set(edges)) == edges
        if not edges or not is_usable:
            raise ValueError(
                f"the band's edges are {self.low_hz} and {self.high_hz} Hz; expected at least one, ascending, from "
                f"{LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz"
            )

    @property
    def edges_hz(self) -> list[float]:
        """The edges there are, low before high."""
        return [edge for edge in (self.low_hz, self.high_hz) if edge is not None]


def draw_line(config: BandConfig, rng: np.random.Generator) -> tuple[Band | None, bool]:
    """Draw a line: its band, None for no line, and whether it codes with mu-law."""
    if rng.random() >= config.probability:
        return None, False
    low_hz = float(rng.uniform(config.lowest_low_hz, config.highest_low_hz))
    high_hz = float(rng.uniform(config.lowest_high_hz, config.highest_high_hz))
    return Band(low_hz, high_hz), bool(rng.random() < config.mu_law_share)


def filter_band(samples: Waveform, band: Band) -> Waveform:
    """Return what `band` leaves of the samples, same shape and place in time, within +-1 as a whole."""
    sections = _sections(band)
    longest_padding = 3 * (2 * len(sections) + 1)
    from scipy import signal  # loads scipy.stats, which a config must do without

    kept = signal.sosfiltfilt(sections, samples.astype(np.float64), padlen=min(longest_padding, samples.size - 1))
    filtered: Waveform = kept.astype(np.float32)
    return filtered / np.float32(max(1.0, peak(filtered)))


@lru_cache(maxsize=64)
def _sections(band: Band) -> NDArray[np.float64]:
    """Return the second-order sections of the band's filter, shape (n_sections, 6)."""
    edge_hz, *others = band.edges_hz
    kind = "bandpass" if others else "highpass" if band.high_hz is None else "lowpass"
    edges_hz = (edge_hz, *others) if others else edge_hz
    from scipy import signal

    sections: NDArray[np.float64] = signal.butter(ORDER, edges_hz, kind, fs=SAMPLE_RATE_HZ, output="sos")
    return sections


def code_mu_law(samples: Waveform) -> Waveform:
    """Return the samples after coding and decoding, same shape; 0 stays 0, +-1 stay +-1, beyond is held there."""
    held = np.clip(samples.astype(np.float64), -1, 1)
    coded = np.rint(np.log1p(MU * np.abs(held)) / np.log1p(MU) * LEVELS_PER_SIDE)
    decoded: Waveform = (np.sign(held) * np.expm1(coded / LEVELS_PER_SIDE * np.log1p(MU)) / MU).astype(np.float32)
    return decoded
