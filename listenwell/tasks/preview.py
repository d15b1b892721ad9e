"""Hear and see what training hears: one web page of chosen clips in chosen epochs, which needs nothing else.

Plans and samples come from the functions that training calls (`draw_plan`, `apply_in_steps`, `log_mel`,
`apply_masks`), with the config's seed, clips and backgrounds; no model weights are loaded. The page carries the hash of
the float32 samples; its players hold them rounded to 16 bit. It looks like a report and is rendered by the same
template. Waveforms: mono float32 (n_samples,), 16 kHz.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from listenwell.augment.mixing import find_part, measure_level
from listenwell.augment.noise import PlannedBackground
from listenwell.augment.plan import Plan, Steps, apply_in_steps, draw_plan
from listenwell.augment.reverb import MeasuredRoom
from listenwell.augment.spec_augment import Masks, apply_masks
from listenwell.config import Config
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_waveform, pcm_sha256
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import ConfigError, ManifestError
from listenwell.model.loading import load_processor, model_folder, quiet_transformers
from listenwell.model.mel import HOP_LENGTH, LogMel, first_sample, log_mel, pad
from listenwell.progress import OnProgress, ignore_progress
from listenwell.random_streams import stream
from listenwell.report.blocks import Block, Paragraph, Picture, Sound, Sounds, make_page
from listenwell.report.errors import draw_picture, make_player
from listenwell.report.write import write_page
from listenwell.splits.clips import prepare
from listenwell.splits.divide import TRAIN, Splits, divide

N_DRAWN = 2
"""Clips of each label that are shown where none is named."""
ABOUT = (
    "Every clip under the plan of its epoch, drawn from seed {}. The players hold 16 bit; the hash is that of the "
    "samples the model's spectrogram is made of."
)


@dataclass(frozen=True, slots=True)
class Hearing:
    """A clip as one epoch gets it. words: the plan, one sentence a stage; sha256: of the float32 samples it ends in."""

    clip: Clip
    epoch: int
    words: tuple[str, ...]
    sha256: str
    players: tuple[Sound, ...]
    pictures: tuple[Picture, ...]


def preview(
    config: Config, clip_ids: Sequence[str], epochs: Sequence[int], out: Path, on_progress: OnProgress = ignore_progress
) -> list[Hearing]:
    """Write the page of these training clips in these epochs to `out`, atomically, and return what it shows.

    clip_ids: none for N_DRAWN of each label, drawn from the config's seed. Raises ConfigError when no epoch is asked
    for or one below 1, ManifestError for a clip that is no training clip.
    """
    if not epochs or min(epochs) < 1:
        raise ConfigError(f"preview: epochs are {list(epochs)}; expected at least one, and all from 1 on.")
    splits = divide(*prepare(config, on_progress), config.data)
    clips = [_find_training_clip(clip_id, splits) for clip_id in clip_ids]
    clips = clips or list(_draw_clips(splits.clips[TRAIN], config.seed))
    quiet_transformers()
    processor = load_processor(model_folder(config.model.name))
    filters = np.asarray(processor.feature_extractor.mel_filters, dtype=np.float32)
    hearings: list[Hearing] = []
    for clip in clips:
        for epoch in epochs:
            hearings.append(_hear(config, clip, epoch, splits.banks[TRAIN], filters))
            on_progress("listening", len(hearings), len(clips) * len(epochs))
    parts = [(f"{h.clip.clip_id}, epoch {h.epoch}", f"clip-{i}", _describe(h)) for i, h in enumerate(hearings)]
    title, about = "What training gets", ABOUT.format(config.seed)
    write_page(out, make_page("listenwell augmentation preview", title, [about], parts))
    return hearings


def _describe(hearing: Hearing) -> list[Block]:
    clip = hearing.clip
    pictures = [
        Sound(picture.title, f"{picture.n_frames} frames of 10 ms, {picture.n_mels} mel bins", "", "", picture, "")
        for picture in hearing.pictures
    ]
    return [
        Paragraph(", ".join(filter(None, (clip.label, f"group {clip.group}", clip.category)))),
        Paragraph(" ".join(hearing.words) or "Nothing was changed."),
        Sounds("", "", [*hearing.players, *pictures]),
        Paragraph(f"sha256 of the samples: {hearing.sha256}", style="note"),
    ]


def _draw_clips(clips: Sequence[Clip], seed: int) -> Iterator[Clip]:
    """A few clips of each label."""
    for label in LABELS:
        of_label = [clip for clip in clips if clip.label == label]
        chosen = stream(seed, "preview", label).permutation(len(of_label))[:N_DRAWN]
        yield from (of_label[place] for place in chosen)


def _find_training_clip(clip_id: str, splits: Splits) -> Clip:
    named = {clip.clip_id: (split, clip) for split, clips in splits.clips.items() for clip in clips}
    split, clip = named[clip_id] if clip_id in named else ("", None)
    if clip is None or split != TRAIN:
        problem = f"is in the split '{split}', and only training clips are augmented" if split else "not in this study"
        example = splits.clips[TRAIN][0].clip_id
        raise ManifestError(f"clip '{clip_id}': {problem}; its training clips are named like {example}.")
    return clip


def _hear(config: Config, clip: Clip, epoch: int, bank: BackgroundBank, filters: NDArray[np.float32]) -> Hearing:
    samples = load_waveform(clip)
    plan = draw_plan(config.augment, clip, samples, bank.entries, filters.shape[1], config.seed, epoch)
    steps = apply_in_steps(samples, plan, bank.load)
    mel = log_mel(pad(steps.augmented, config.short_clips), filters)
    first_frame = first_sample(steps.augmented.size, config.short_clips) // HOP_LENGTH
    return Hearing(
        clip,
        epoch,
        tuple(describe_plan(plan, steps)),
        pcm_sha256(steps.augmented),
        tuple(make_player(title, sound) for title, sound in _list_sounds(samples, steps)),
        tuple(_draw_pictures(mel, plan.masks, first_frame)),
    )


def describe_plan(plan: Plan, steps: Steps) -> Iterator[str]:
    """Yield what happened to the clip, one sentence a stage, in order."""
    if plan.speed != 1:
        yield f"Speed: played {plan.speed:.3f} times as fast."
    if plan.semitones != 0:
        yield f"Pitch: {plan.semitones:+.2f} semitones."
    if plan.tempo != 1:
        yield f"Tempo: {plan.tempo:.3f} times as fast."
    if isinstance(plan.room, MeasuredRoom):
        yield f"Room: {plan.room.background_id}."
    elif plan.room is not None:
        yield f"Room: reverberation time {plan.room.t60_s:.2f} s."
    if plan.crop_length is not None:
        yield f"Crop: {_seconds(plan.crop_length)} from {_seconds(plan.crop_start)} on."
    for name, planned in (("Background", plan.background), ("Babble", plan.babble)):
        if planned is not None:
            yield f"{name}: {_describe_background(planned, steps)}"
    if steps.gain < 1:
        yield f"Mixture: lowered by {-20 * math.log10(steps.gain):.1f} dB to stay within full scale."
    if plan.gain_db != 0:
        yield f"Gain: {plan.gain_db:+.1f} dB."
    if plan.codes_mu_law:
        yield "Codec: 8 bit mu-law."
    if plan.band is not None:
        yield f"Band: {' to '.join(f'{edge:.0f}' for edge in plan.band.edges_hz)} Hz."
    if plan.masks is not None:
        yield _describe_masks(plan.masks)


def _describe_background(planned: PlannedBackground, steps: Steps) -> str:
    names = " and ".join(f"{each.background_id} from {each.offset_s:.2f} s on" for each in planned.stretches)
    mixed = next((mixed for mixed in steps.backgrounds if mixed.planned is planned), None)
    if mixed is None:
        return f"{names}: silent, so left out."
    passed = f", {mixed.n_redrawn} silent places passed over" if mixed.n_redrawn else ""
    where, background = find_part(steps.clip, planned.over), mixed.samples * np.float32(mixed.gain)
    achieved_db = 20 * math.log10(measure_level(steps.clip[where]) / measure_level(background[where]))
    return f"{names}{passed}, asked for {planned.snr_db:.2f} dB, achieved {achieved_db:.2f} dB."


def _describe_masks(masks: Masks) -> str:
    bins = ", ".join(f"{start} to {start + width - 1}" for start, width in masks.frequency if width)
    frames = ", ".join(f"{10 * start} to {10 * (start + width)} ms" for start, width in masks.time if width)
    return f"Masks: mel bins {bins or 'none'}; time {frames or 'none'}; filled with the clip's {masks.fill}."


def _seconds(n_samples: int) -> str:
    return f"{n_samples / SAMPLE_RATE_HZ:.3f} s"


def _list_sounds(samples: Waveform, steps: Steps) -> Iterator[tuple[str, Waveform]]:
    """The sounds on the way, without those that are the one before."""
    yield "Recording", samples
    yield "Clip alone, as cropped and changed", steps.clip
    if steps.backgrounds:
        alone = sum((bed.samples * np.float32(bed.gain * steps.gain) for bed in steps.backgrounds), np.float32(0))
        yield "Background alone, as loud as in the mixture", np.asarray(alone)
        yield "Mixture", steps.mixture
    if steps.augmented is not steps.mixture:
        yield "As recorded: after gain, codec and band", steps.augmented


def _draw_pictures(mel: LogMel, masks: Masks | None, first_frame: int) -> Iterator[Picture]:
    """The spectrogram before and after masks; the scale is the model's own, from the clip's silence to its loudest."""
    yield draw_picture("Log-mel spectrogram", mel)
    if masks is None:
        return
    fill = mel.floor if masks.fill == "floor" else float(mel.features[:, : mel.n_frames].mean())
    masked = apply_masks(mel.features, masks, first_frame, fill)
    nowhere = np.zeros(mel.features.shape, dtype=np.float32)
    is_hidden = apply_masks(nowhere, Masks(masks.frequency, masks.time), first_frame, 1.0) > 0
    yield draw_picture("What the model gets; blue is hidden by a mask", mel, masked, is_hidden)
