"""A plan: the drawn augmentation of one clip in one epoch; a value that can be written, replayed and shown.

`draw_plan` turns a policy and a key into a plan: each stage has its own stream keyed by (seed, "augment", epoch,
clip_id, stage), so the plan depends on no worker, batch or order, and a new stage leaves the others' draws as they
were. `apply_plan` is pure: the same plan on the same samples gives the same bits. The stages follow nature:

    the source     speed, then pitch and tempo     (crop lengths count after these)
    its place      room, crop, room tone around it, background and babble under it
    the recording  gain, clipping, codec, band
    the model      warp and masks, on the spectrogram

Waveforms: mono float32 (n_samples,), 16 kHz.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from listenwell.augment.crop import (
    STEP_SAMPLES,
    CropConfig,
    RoomTone,
    RoomToneConfig,
    draw_crop,
    draw_room_tone,
    lay_in_room_tone,
)
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
from listenwell.augment.recording import (
    Band,
    BandConfig,
    ClippingConfig,
    GainConfig,
    change_gain,
    clip_peaks,
    code_mu_law,
    draw_line,
    filter_band,
)
from listenwell.augment.reverb import MeasuredRoom, ReverbConfig, Room, convolve_room, draw_room, reverberate
from listenwell.augment.spec_augment import Masks, SpecAugmentConfig, draw_masks
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.clip import Background, Clip
from listenwell.random_streams import stream
from listenwell.section import Section


class AugmentConfig(Section):
    """The augmentation policy, applied on the fly while training, its stages in this order."""

    speed: SpeedConfig = SpeedConfig()
    pitch: PitchConfig = PitchConfig()
    tempo: TempoConfig = TempoConfig()
    reverb: ReverbConfig = ReverbConfig()
    crop: CropConfig = CropConfig()
    room_tone: RoomToneConfig = RoomToneConfig()
    noise: NoiseConfig = NoiseConfig()
    babble: BabbleConfig = BabbleConfig()
    gain: GainConfig = GainConfig()
    clipping: ClippingConfig = ClippingConfig()
    band: BandConfig = BandConfig()
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one clip in one epoch; a field at its default is a stage that was not drawn.

    epoch: the number of the epoch, or the name of the test condition; view: which of several in one epoch.
    crop_start, crop_length: in samples, after speed and tempo; None is up to the end. clipped_db: below the peak.
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
    clipped_db: float | None = None
    codes_mu_law: bool = False
    view: int = 0
    tone: RoomTone | None = None

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, without the fields that are at their defaults."""
        record: dict[str, Any] = _PLAN.dump_python(self, mode="json", exclude_defaults=True)
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` wrote, this version's or an older one's, which wrote null for what was not drawn.

        Raises ValueError for what is no plan.
        """
        return _PLAN.validate_python({name: value for name, value in record.items() if value is not None})


_PLAN = TypeAdapter(Plan)


def draw_plan(
    policy: AugmentConfig,
    clip: Clip,
    samples: Waveform,
    backgrounds: Sequence[Background],
    n_mels: int,
    seed: int,
    epoch: int | str,
    view: int = 0,
) -> Plan:
    """Draw the plan of `clip`, with its samples (n_samples,), for one view of it in `epoch`.

    Raises ConfigError when the policy wants a background that the bank does not have.
    """
    names = (epoch, clip.clip_id) if view == 0 else (epoch, clip.clip_id, "view", view)

    def rng(stage: str) -> np.random.Generator:
        return stream(seed, "augment", *names, stage)

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
    tone = draw_room_tone(policy.room_tone, rng("room_tone")) if policy.room_tone.probability > 0 else None
    n_laid = length if tone is None else tone.before + length + tone.after
    duration_s = n_laid / SAMPLE_RATE_HZ
    is_noisy, has_babble = policy.noise.probability > 0, policy.babble.probability > 0
    band, codes_mu_law = draw_line(policy.band, rng("band")) if policy.band.probability > 0 else (None, False)
    clipping = policy.clipping
    return Plan(
        clip.clip_id,
        epoch,
        start,
        None if start == 0 and length == n_played else length,
        background=draw_noise(policy.noise, clip, duration_s, backgrounds, rng("noise")) if is_noisy else None,
        masks=_draw_masks(policy.spec_augment, n_mels, n_laid, rng("masks")),
        room=draw_room(policy.reverb, backgrounds, rng("room")) if policy.reverb.probability > 0 else None,
        band=band,
        speed=speed,
        semitones=semitones,
        tempo=tempo,
        babble=draw_babble(policy.babble, clip, duration_s, backgrounds, rng("babble")) if has_babble else None,
        gain_db=draw_uniform("gain", policy.gain.probability, policy.gain.lowest_db, policy.gain.highest_db) or 0.0,
        clipped_db=draw_uniform("clipping", clipping.probability, clipping.least_db, clipping.most_db),
        codes_mu_law=codes_mu_law,
        view=view,
        tone=tone,
    )


def _draw_masks(config: SpecAugmentConfig, n_mels: int, length: int, rng: np.random.Generator) -> Masks | None:
    if rng.random() >= config.probability:
        return None
    return draw_masks(n_mels, -(-length // STEP_SAMPLES), config, rng)


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
    clip = _place(_change_source(samples, plan), plan, load_background)
    planned = [background for background in (plan.background, plan.babble) if background is not None]
    laid = [lay_background(clip, background, load_background) for background in planned]
    backgrounds = tuple(background for background in laid if background is not None)
    mixture, gain = clip, 1.0
    if backgrounds:
        mixture, gain = add_backgrounds(clip, [(background.samples, background.gain) for background in backgrounds])
    return Steps(clip, backgrounds, gain, mixture, _record(mixture, plan))


def _change_source(samples: Waveform, plan: Plan) -> Waveform:
    if plan.speed != 1:
        samples = change_speed(samples, plan.speed)
    if plan.semitones != 0 or plan.tempo != 1:
        samples = change_pitch_and_tempo(samples, plan.semitones, plan.tempo)
    return samples


def _place(samples: Waveform, plan: Plan, load_background: LoadBackground) -> Waveform:
    if isinstance(plan.room, MeasuredRoom):
        samples = convolve_room(samples, load_background(plan.room.background_id, 0.0, plan.room.duration_s))
    elif plan.room is not None:
        samples = reverberate(samples, plan.room)
    length = samples.size if plan.crop_length is None else plan.crop_length
    samples = samples[plan.crop_start : plan.crop_start + length]
    return samples if plan.tone is None else lay_in_room_tone(samples, plan.tone)


def _record(samples: Waveform, plan: Plan) -> Waveform:
    if plan.gain_db != 0:
        samples = change_gain(samples, plan.gain_db)
    if plan.clipped_db is not None:
        samples = clip_peaks(samples, plan.clipped_db)
    if plan.codes_mu_law:
        samples = code_mu_law(samples)
    return samples if plan.band is None else filter_band(samples, plan.band)
