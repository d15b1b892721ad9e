"""A plan: the drawn augmentation of one clip in one epoch; a value that can be written, replayed and shown.

`draw_plan` turns a policy and a key into a plan: each stage has its own stream keyed by (seed, "augment", epoch,
clip_id, stage), so the plan depends on no worker, batch or order, and a new stage leaves the others' draws as they
were. `apply_plan` is pure: the same plan on the same samples gives the same bits. The stages follow nature:

    the source     speed, then pitch and tempo
    its place      room, crop, background and babble under it
    the recording  gain, codec, band
    the model      masks, on the spectrogram

Crop: train on stretches shorter than the recordings, never on a pause. A crop's length is log-uniform and counts after
speed and tempo. Its place is drawn among the stretches of that length, one every 10 ms, that are not much quieter than
the loudest of them.

Waveforms: mono float32 (n_samples,), 16 kHz.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from listenwell.augment.mixing import add_backgrounds
from listenwell.augment.noise import (
    BabbleConfig,
    LaidBackground,
    LoadBackground,
    NoiseConfig,
    PlannedBackground,
    draw_babble,
    draw_noise,
    lay_background,
)
from listenwell.augment.pitch_time import (
    PitchConfig,
    SpeedConfig,
    TempoConfig,
    change_pitch_and_tempo,
    change_speed,
    count_after,
)
from listenwell.augment.recording import Band, BandConfig, GainConfig, change_gain, code_mu_law, draw_line, filter_band
from listenwell.augment.reverb import MeasuredRoom, ReverbConfig, Room, convolve_room, draw_room, reverberate
from listenwell.augment.spec_augment import Masks, SpecAugmentConfig, draw_masks
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.clip import Background, Clip
from listenwell.random_streams import stream
from listenwell.section import Section, in_order

STEP_SAMPLES = 160


class CropConfig(Section):
    """Training on clips shorter than the recordings."""

    probability: float = Field(0.7, ge=0, le=1)
    """Share of clips that are cropped; the others keep their length."""
    shortest_s: float = Field(0.1, gt=0)
    """Shortest crop; durations are log-uniform."""
    longest_s: float = Field(1.0, gt=0)
    """Longest crop (a shorter clip is its own limit)."""
    quietest_db: float = Field(-12.0, le=0)
    """A crop is no more than this below the clip's loudest stretch of its length: a pause must not be called speech."""

    _ordered = in_order("shortest_s", "longest_s")


class AugmentConfig(Section):
    """The augmentation policy, applied on the fly while training, its stages in this order."""

    speed: SpeedConfig = SpeedConfig()
    pitch: PitchConfig = PitchConfig()
    tempo: TempoConfig = TempoConfig()
    reverb: ReverbConfig = ReverbConfig()
    crop: CropConfig = CropConfig()
    noise: NoiseConfig = NoiseConfig()
    babble: BabbleConfig = BabbleConfig()
    gain: GainConfig = GainConfig()
    band: BandConfig = BandConfig()
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one clip in one epoch; a field at its default is a stage that was not drawn.

    epoch: the number of the epoch, or the name of the test condition.
    crop_start, crop_length: in samples, after speed and tempo; None is up to the end.
    """

    clip_id: str
    epoch: int | str
    crop_start: int = 0
    crop_length: int | None = None
    background: PlannedBackground | None = None
    masks: Masks | None = None
    room: Room | MeasuredRoom | None = None
    band: Band | None = None
    speed: float = 1.0
    semitones: float = 0.0
    tempo: float = 1.0
    babble: PlannedBackground | None = None
    gain_db: float = 0.0
    codes_mu_law: bool = False

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, without the fields that are at their defaults."""
        record: dict[str, Any] = _PLAN.dump_python(self, mode="json", exclude_defaults=True)
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` wrote. Raises ValueError for what is no plan."""
        return _PLAN.validate_python(record)


_PLAN = TypeAdapter(Plan)


def draw_plan(
    policy: AugmentConfig,
    clip: Clip,
    samples: Waveform,
    backgrounds: Sequence[Background],
    n_mels: int,
    seed: int,
    epoch: int | str,
) -> Plan:
    """Draw the plan of `clip`, with its samples (n_samples,), in `epoch`.

    Raises ConfigError when the policy wants a background that the bank does not have.
    """

    def rng(stage: str) -> np.random.Generator:
        return stream(seed, "augment", epoch, clip.clip_id, stage)

    def draw_uniform(stage: str, probability: float, low: float, high: float) -> float | None:
        if probability == 0:  # making a stream costs as much as a stage
            return None
        generator = rng(stage)
        return float(generator.uniform(low, high)) if generator.random() < probability else None

    speed = draw_uniform("speed", policy.speed.probability, policy.speed.lowest, policy.speed.highest) or 1.0
    tempo = draw_uniform("tempo", policy.tempo.probability, policy.tempo.lowest, policy.tempo.highest) or 1.0
    pitch = policy.pitch
    semitones = draw_uniform("pitch", pitch.probability, pitch.lowest_semitones, pitch.highest_semitones) or 0.0
    n_played = count_after(count_after(samples.size, speed), tempo)
    start, length = draw_crop(policy.crop, samples, n_played, rng("crop"))
    duration_s = length / SAMPLE_RATE_HZ
    is_noisy, has_babble = policy.noise.probability > 0, policy.babble.probability > 0
    masking, masks_rng = policy.spec_augment, rng("masks")
    is_masked = masks_rng.random() < masking.probability
    band, codes_mu_law = draw_line(policy.band, rng("band")) if policy.band.probability > 0 else (None, False)
    return Plan(
        clip.clip_id,
        epoch,
        start,
        None if start == 0 and length == n_played else length,
        background=draw_noise(policy.noise, clip, duration_s, backgrounds, rng("noise")) if is_noisy else None,
        masks=draw_masks(n_mels, -(-length // STEP_SAMPLES), masking, masks_rng) if is_masked else None,
        room=draw_room(policy.reverb, backgrounds, rng("room")) if policy.reverb.probability > 0 else None,
        band=band,
        speed=speed,
        semitones=semitones,
        tempo=tempo,
        babble=draw_babble(policy.babble, clip, duration_s, backgrounds, rng("babble")) if has_babble else None,
        gain_db=draw_uniform("gain", policy.gain.probability, policy.gain.lowest_db, policy.gain.highest_db) or 0.0,
        codes_mu_law=codes_mu_law,
    )


def draw_crop(config: CropConfig, samples: Waveform, n_played: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw (start, length), counted in the n_played samples that `samples` become by speed and tempo."""
    limits = (round(seconds * SAMPLE_RATE_HZ) for seconds in (config.shortest_s, config.longest_s))
    shortest, longest = (max(1, min(n_played, limit)) for limit in limits)
    if rng.random() >= config.probability:
        return 0, n_played
    length = round(float(np.exp(rng.uniform(np.log(shortest), np.log(longest)))))
    starts, levels_db = stretch_levels(samples, length, n_played)
    loud = starts[levels_db >= levels_db.max() + config.quietest_db]
    return int(loud[rng.integers(loud.size)]), length


def stretch_levels(
    samples: Waveform, length: int, n_played: int | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Starts (n,) of the stretches of `length` samples, one every 10 ms, and their levels in dB, full scale = 0.

    n_played: how many samples the whole becomes, where speed or tempo change that; starts and length count there.
    """
    n_played = samples.size if n_played is None else n_played
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, n_played - length + 1, STEP_SAMPLES)
    first, end = (place * samples.size // n_played for place in (starts, starts + length))
    mean_square = (energy[end] - energy[first]) / np.maximum(end - first, 1)
    return starts, 10 * np.log10(np.maximum(mean_square, 1e-12))


def apply_plan(samples: Waveform, plan: Plan, load_background: LoadBackground) -> Waveform:
    """Return the augmented waveform, shape (n,); load_background is `BackgroundBank.load` or one like it.

    A clip or backgrounds that are silent in every planned place are left unmixed: no ratio to silence exists.
    """
    return apply_in_steps(samples, plan, load_background).augmented


@dataclass(frozen=True, slots=True)
class Steps:
    """What a waveform was on its way, each (n,): mixture = gain * (clip + sum of backgrounds)."""

    clip: Waveform
    backgrounds: tuple[LaidBackground, ...]
    gain: float
    mixture: Waveform
    augmented: Waveform


def apply_in_steps(samples: Waveform, plan: Plan, load_background: LoadBackground) -> Steps:
    """Do what `apply_plan` does, and return the steps on the way too."""
    if plan.speed != 1:
        samples = change_speed(samples, plan.speed)
    if plan.semitones != 0 or plan.tempo != 1:
        samples = change_pitch_and_tempo(samples, plan.semitones, plan.tempo)
    if isinstance(plan.room, MeasuredRoom):
        samples = convolve_room(samples, load_background(plan.room.background_id, 0.0, plan.room.duration_s))
    elif plan.room is not None:
        samples = reverberate(samples, plan.room)
    length = samples.size if plan.crop_length is None else plan.crop_length
    clip = samples[plan.crop_start : plan.crop_start + length]
    planned = [background for background in (plan.background, plan.babble) if background is not None]
    laid = [lay_background(clip, background, load_background) for background in planned]
    backgrounds = tuple(background for background in laid if background is not None)
    mixture, gain = clip, 1.0
    if backgrounds:
        mixture, gain = add_backgrounds(clip, [(background.samples, background.gain) for background in backgrounds])
    augmented = mixture if plan.gain_db == 0 else change_gain(mixture, plan.gain_db)
    if plan.codes_mu_law:
        augmented = code_mu_law(augmented)
    if plan.band is not None:
        augmented = filter_band(augmented, plan.band)
    return Steps(clip, backgrounds, gain, mixture, augmented)
