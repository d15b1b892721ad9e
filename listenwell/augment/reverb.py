"""Reverberation by a measured room, or a simulated one: a direct sound and noise that decays by 60 dB in T60 seconds.

    h[0] = 1,   h[n] = g w[n] 10^(-3 n / (T60 rate)),   w white Gaussian noise   (Polack 1988, Moorer 1979)

g gives the tail the energy that a diffuse room has: direct to reverberant = (critical distance / distance)^2 with
the critical distance 0.057 sqrt(V / T60) m of a room of V m^3 (Kuttruff, Room Acoustics, 5.1). So a longer T60 is also
a louder tail, as in one room whose walls are made harder. The direct sound comes first and is not delayed: an onset
stays where it is. There are no single early reflections, and all frequencies decay alike.
Waveforms: mono float32 (n_samples,), 16 kHz.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, is_silent, peak, rms
from listenwell.data.clip import ROOM, Background
from listenwell.errors import AudioError, ConfigError
from listenwell.random_streams import stream
from listenwell.section import Section, in_order

ROOM_M3, DISTANCE_M = 200.0, 1.0
"""A class room, one metre from speaker to microphone: +3.4 dB direct to reverberant at T60 0.3 s, -5.9 at 2.5."""
CRITICAL_DISTANCE_FACTOR = 0.057
SHORTEST_T60_S, LONGEST_T60_S = 0.05, 10.0


class ReverbConfig(Section):
    """Clips heard in rooms."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of clips in a room."""
    shortest_t60_s: float = Field(0.2, ge=SHORTEST_T60_S, le=LONGEST_T60_S)
    """Shortest reverberation time; times are log-uniform."""
    longest_t60_s: float = Field(1.0, ge=SHORTEST_T60_S, le=LONGEST_T60_S)
    """Longest reverberation time."""
    measured_share: float = Field(0.0, ge=0, le=1)
    """Of the clips in a room, the share in a measured one: a background of kind room; the others' are simulated."""

    _ordered = in_order("shortest_t60_s", "longest_t60_s")


@dataclass(frozen=True, slots=True)
class Room:
    """A simulated room; noise_seed keys its tail, so one room can be given several reverberation times.

    Raises ValueError for a T60 outside SHORTEST_T60_S to LONGEST_T60_S.
    """

    t60_s: float
    noise_seed: int

    def __post_init__(self) -> None:
        if not SHORTEST_T60_S <= self.t60_s <= LONGEST_T60_S:
            raise ValueError(
                f"the reverberation time is {self.t60_s:g} s; expected {SHORTEST_T60_S:g} to {LONGEST_T60_S:g} s"
            )


@dataclass(frozen=True, slots=True)
class MeasuredRoom:
    """An impulse response of the bank, in full."""

    background_id: str
    duration_s: float


def draw_room(
    config: ReverbConfig, backgrounds: Sequence[Background], rng: np.random.Generator
) -> Room | MeasuredRoom | None:
    """Draw a room, or none. Raises ConfigError when a measured one is wanted and no background is a room."""
    if rng.random() >= config.probability:
        return None
    if config.measured_share > 0 and rng.random() < config.measured_share:
        rooms = [background for background in backgrounds if background.kind == ROOM]
        if not rooms:
            raise ConfigError(
                f"augment.reverb.measured_share is {config.measured_share:g}, but none of the bank's "
                f"{len(backgrounds)} backgrounds is a room; add impulse responses of kind room, or set it to 0."
            )
        chosen = rooms[int(rng.integers(len(rooms)))]
        return MeasuredRoom(chosen.background_id, chosen.duration_s)
    t60_s = float(np.exp(rng.uniform(np.log(config.shortest_t60_s), np.log(config.longest_t60_s))))
    return Room(min(max(t60_s, config.shortest_t60_s), config.longest_t60_s), int(rng.integers(2**63)))


def reverberate(samples: Waveform, room: Room) -> Waveform:
    """Return the samples as heard in `room`: same length (the tail past the end is cut), same level, within +-1.

    Where the level would take a peak beyond +-1, the whole is lower. Silence stays silence.
    """
    return samples if is_silent(samples) else convolve_room(samples, room_response(room, samples.size))


def convolve_room(samples: Waveform, response: NDArray[np.floating]) -> Waveform:
    """Return the samples through an impulse response, shape (n,), simulated or measured, as `reverberate` does.

    The response's largest sample is taken for the direct sound and not delayed: what lies before it is dropped. Where
    nothing would be heard, the samples are returned. Raises AudioError for an empty, silent or infinite response.
    """
    if response.size == 0 or not np.isfinite(response).all() or not np.any(response):
        raise AudioError("the impulse response is empty, silent or not finite; remove it from its table.")
    from scipy import signal  # loads scipy.stats, which a config must do without

    direct = int(np.argmax(np.abs(response)))
    heard = signal.oaconvolve(samples.astype(np.float64), response[direct:])[: samples.size]
    if not np.any(heard):
        return samples
    reverberant: Waveform = (heard * min(rms(samples) / rms(heard), 1.0 / peak(heard))).astype(np.float32)
    return reverberant


def room_response(room: Room, n_samples: int) -> NDArray[np.float64]:
    """Return the first n_samples of the room's impulse response, direct sound first, shape (n_samples,)."""
    decay = 10 ** (-3 * np.arange(n_samples) / (room.t60_s * SAMPLE_RATE_HZ))
    # g: the energy the tail should have, over that of a decay of unit noise, as an amplitude
    reverberant_energy = DISTANCE_M**2 * room.t60_s / (CRITICAL_DISTANCE_FACTOR**2 * ROOM_M3)
    ratio = 10 ** (-6 / (room.t60_s * SAMPLE_RATE_HZ))
    gain = float(np.sqrt(reverberant_energy * (1 - ratio) / ratio))
    response = decay * stream(room.noise_seed, "room").standard_normal(n_samples) * gain
    response[0] = 1.0
    return np.asarray(response)
