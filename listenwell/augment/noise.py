"""Which backgrounds go under which clips: the policy, its draws, and making what was drawn sound.

Two stages: `noise` lays music, noise or voices from the bank under clips of both labels, `babble` lays several voices
at once under speech. Voices never go under NONSPEECH, whose label they would contradict, unless the config says
allow_label_flips. Each stage has its own ratio to the clip; with both, each ratio is to the clip alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from listenwell.augment.mixing import LEAST_LEVEL, LevelOver, find_part, gain_between, measure_level, sum_at_one_level
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.clip import Background, Clip
from listenwell.errors import ConfigError
from listenwell.section import Section, in_order

Decibels = Annotated[float, Field(ge=-40, le=60)]
Kind = Literal["music", "vocal_music", "noise", "speech"]
VOICED_KINDS = ("vocal_music", "speech")
N_SPARE_OFFSETS = 3
LoadBackground = Callable[[str, float, float], Waveform]
"""load(background_id, offset_s, duration_s) gives a stretch of a background, as `BackgroundBank.load` does."""


class NoiseConfig(Section):
    """Backgrounds mixed under clips."""

    probability: float = Field(0.7, ge=0, le=1)
    """Share of clips with a background."""
    lowest_snr_db: Decibels = -5.0
    """Lowest signal-to-noise ratio; the ratio is uniform in dB."""
    highest_snr_db: Decibels = 20.0
    """Highest signal-to-noise ratio."""
    snr_db: dict[Kind, tuple[Decibels, Decibels]] = Field({})
    """Lowest and highest ratio of single kinds where they differ, as {speech: [5, 20]}."""
    shares: dict[Kind, Annotated[float, Field(ge=0)]] = Field({})
    """Share of each kind among the backgrounds, as {music: 0.3, noise: 0.7}; empty: as many as the bank has of each."""
    under_speech: tuple[Kind, ...] = ("music", "vocal_music", "noise", "speech")
    """Kinds that may go under SPEECH clips."""
    under_nonspeech: tuple[Kind, ...] = ("music", "noise")
    """Kinds that may go under NONSPEECH clips; vocal_music and speech contradict that label."""
    allow_label_flips: bool = False
    """Allows voices under NONSPEECH clips, which then are speech."""
    most_at_once: int = Field(1, ge=1, le=8)
    """Up to so many backgrounds sound together, equally loud; the ratio is that to all of them."""
    level_over: LevelOver = "clip"
    """The ratio is that over the whole clip, or over its active part: frames within 30 dB of its loudest."""

    _ordered = in_order("lowest_snr_db", "highest_snr_db")

    @model_validator(mode="after")
    def _usable(self) -> "NoiseConfig":
        for kind, (low_db, high_db) in self.snr_db.items():
            if low_db > high_db:
                raise ValueError(f"snr_db of {kind} is [{low_db:g}, {high_db:g}]; expected the lower first")
        if self.shares and not sum(self.shares.values()):
            raise ValueError(f"shares is {self.shares}; expected one of them above 0")
        voices = [kind for kind in self.under_nonspeech if kind in VOICED_KINDS]
        if voices and not self.allow_label_flips:
            raise ValueError(
                f"under_nonspeech allows {' and '.join(voices)}: voices under a NONSPEECH clip contradict its label; "
                "leave them out, or write allow_label_flips: true if that is meant"
            )
        return self


class BabbleConfig(Section):
    """Several voices at once, from the bank's speech and the training clips, under SPEECH clips of other groups."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of SPEECH clips with babble."""
    fewest_talkers: int = Field(3, ge=1)
    """Fewest voices, each of another group, none of the clip's own."""
    most_talkers: int = Field(7, ge=1)
    """Most voices."""
    lowest_snr_db: Decibels = 5.0
    """Lowest ratio of the clip to all voices together; the ratio is uniform in dB."""
    highest_snr_db: Decibels = 20.0
    """Highest ratio."""
    allow_label_flips: bool = False
    """Also under NONSPEECH clips, whose label babble contradicts."""

    _snr_ordered = in_order("lowest_snr_db", "highest_snr_db")
    _speakers_ordered = in_order("fewest_talkers", "most_talkers")


@dataclass(frozen=True, slots=True)
class PlannedStretch:
    """A stretch of a background. spare_offsets_s: where to begin instead, in this order, when it is silent there."""

    background_id: str
    offset_s: float
    spare_offsets_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedBackground:
    """Which stretch of which background is mixed in, and how loud.

    others: stretches of more backgrounds, each as loud as the first; snr_db is the clip's ratio to all together.
    """

    background_id: str
    offset_s: float
    snr_db: float
    spare_offsets_s: tuple[float, ...] = ()
    others: tuple[PlannedStretch, ...] = ()
    over: LevelOver = "clip"

    @property
    def stretches(self) -> tuple[PlannedStretch, ...]:
        """All stretches, the first one first."""
        return (PlannedStretch(self.background_id, self.offset_s, self.spare_offsets_s), *self.others)


def draw_noise(
    config: NoiseConfig, clip: Clip, duration_s: float, backgrounds: Sequence[Background], rng: np.random.Generator
) -> PlannedBackground | None:
    """Draw a background for duration_s seconds of `clip`, or none.

    Raises ConfigError when one is wanted but the bank has none that may go under the clip's label.
    """
    if rng.random() >= config.probability:
        return None
    fitting = _fitting_backgrounds(config, clip, backgrounds, rng)
    first = fitting[int(rng.integers(len(fitting)))]
    offset_s = _draw_offset(first, duration_s, rng)
    ranges_db: dict[str, tuple[float, float]] = dict(config.snr_db.items())
    snr_db = float(rng.uniform(*ranges_db.get(first.kind, (config.lowest_snr_db, config.highest_snr_db))))
    spares_s = _draw_spares(first, duration_s, rng)
    others: tuple[PlannedStretch, ...] = ()
    if config.most_at_once > 1:
        rest = [background for background in fitting if background.group != first.group]
        n_more = min(int(rng.integers(config.most_at_once)), len(rest))
        others = tuple(_draw_stretch(rest[i], duration_s, rng) for i in rng.permutation(len(rest))[:n_more])
    return PlannedBackground(first.background_id, offset_s, snr_db, spares_s, others, config.level_over)


def _fitting_backgrounds(
    config: NoiseConfig, clip: Clip, backgrounds: Sequence[Background], rng: np.random.Generator
) -> Sequence[Background]:
    """The backgrounds, of one drawn kind where shares are given, that may go under the clip; never empty."""
    kinds = config.under_speech if clip.label == "SPEECH" else config.under_nonspeech
    fitting = [background for background in backgrounds if background.kind in kinds and background.group != clip.group]
    if config.shares:
        present = {background.kind for background in fitting}
        shares = {kind: share for kind, share in config.shares.items() if kind in present and share > 0}
        if shares:
            edges = np.cumsum(list(shares.values()))
            chosen = list(shares)[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]
            return [background for background in fitting if background.kind == chosen]
        fitting = []
    if not fitting:
        wanted = [kind for kind in kinds if not config.shares or kind in config.shares]
        raise ConfigError(
            f"augment.noise: none of the bank's {len(backgrounds)} backgrounds may go under a {clip.label} clip like "
            f"'{clip.clip_id}' (kinds that may: {', '.join(wanted) or 'none'}); add such backgrounds, or set "
            "augment.noise.probability to 0."
        )
    return fitting


def draw_babble(
    config: BabbleConfig, clip: Clip, duration_s: float, backgrounds: Sequence[Background], rng: np.random.Generator
) -> PlannedBackground | None:
    """Draw speech of several speakers other than the clip's, or none.

    Raises ConfigError when the bank has fewer speakers than fewest_talkers.
    """
    if rng.random() >= config.probability or (clip.label != "SPEECH" and not config.allow_label_flips):
        return None
    speakers: dict[str, list[Background]] = {}
    for background in backgrounds:
        if background.kind == "speech" and background.group != clip.group:
            speakers.setdefault(background.group, []).append(background)
    if len(speakers) < config.fewest_talkers:
        raise ConfigError(
            f"augment.babble: the bank has voices of {len(speakers)} groups besides that of clip '{clip.clip_id}', but "
            f"fewest_talkers is {config.fewest_talkers}; add speech to the bank, lower it, or set the probability to 0."
        )
    n_mixed = int(rng.integers(config.fewest_talkers, min(config.most_talkers, len(speakers)) + 1))
    mixed = [list(speakers.values())[i] for i in rng.permutation(len(speakers))[:n_mixed]]
    first, *others = (_draw_stretch(takes[int(rng.integers(len(takes)))], duration_s, rng) for takes in mixed)
    snr_db = float(rng.uniform(config.lowest_snr_db, config.highest_snr_db))
    return PlannedBackground(first.background_id, first.offset_s, snr_db, first.spare_offsets_s, tuple(others))


def _draw_stretch(background: Background, duration_s: float, rng: np.random.Generator) -> PlannedStretch:
    offset_s = _draw_offset(background, duration_s, rng)
    return PlannedStretch(background.background_id, offset_s, _draw_spares(background, duration_s, rng))


def _draw_offset(background: Background, duration_s: float, rng: np.random.Generator) -> float:
    """Where to begin: so that the clip fits in, or anywhere in a background that is repeated."""
    room_s = background.duration_s - duration_s
    return float(rng.uniform(0.0, room_s if room_s > 0 else background.duration_s))


def _draw_spares(background: Background, duration_s: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Other places in a background that is longer than the clip; one that is repeated is heard whole anyway."""
    if background.duration_s <= duration_s:
        return ()
    return tuple(float(offset_s) for offset_s in rng.uniform(0.0, background.duration_s - duration_s, N_SPARE_OFFSETS))


@dataclass(frozen=True, slots=True)
class LaidBackground:
    """What lies under a clip: samples (n_samples,), their factor in the mix, and how many silent places were passed."""

    planned: PlannedBackground
    samples: Waveform
    gain: float
    n_redrawn: int


def lay_background(clip: Waveform, planned: PlannedBackground, load: LoadBackground) -> LaidBackground | None:
    """Return what `planned` puts under the clip; None when clip or every planned place is silent: no ratio exists.

    Raises AudioError when samples are not finite.
    """
    where = find_part(clip, planned.over)
    clip_level = measure_level(clip[where])
    if clip_level < LEAST_LEVEL:
        return None
    sounds, level, n_redrawn = [], 0.0, 0
    for stretch in planned.stretches:
        for offset_s in (stretch.offset_s, *stretch.spare_offsets_s):
            sound = load(stretch.background_id, offset_s, clip.size / SAMPLE_RATE_HZ)
            level = measure_level(sound[where])
            if not level < LEAST_LEVEL:
                sounds.append(sound)
                break
            n_redrawn += 1
    if not sounds:
        return None
    samples = sounds[0]
    if len(planned.stretches) > 1:
        samples = sum_at_one_level(sounds)
        level = measure_level(samples[where])
    if level < LEAST_LEVEL:  # sounds of a few samples can cancel out
        return None
    return LaidBackground(planned, samples, gain_between(clip_level, level, planned.snr_db), n_redrawn)
