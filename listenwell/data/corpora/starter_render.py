"""Cut and render the clips and backgrounds of the starter corpus from the files of its frozen list.

Every clip is cut from one recording; a recording too short for its clip is lengthened with others of its own group.
Conditions are drawn per part and class (listenwell.data.conditions), each from a stream keyed by names, so that the
rendered bits depend on the list and the seed alone and not on the number of workers. Backgrounds are levelled, at
most 40 s of each, and keep their band. Waveforms are mono, 16 kHz.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_recording, pcm_sha256
from listenwell.data.clip import Background, Clip, Label
from listenwell.data.conditions import (
    Conditions,
    Samples,
    apply_conditions,
    cut_content,
    draw_conditions,
    quantise,
    scale_to_level,
    share_cut_off_bands,
    source_ceiling_hz,
    trim_recording,
)
from listenwell.data.corpora.starter_list import PARTS, StarterMember
from listenwell.errors import AudioError
from listenwell.random_streams import stream

CORPUS = "starter"
BACKGROUND_S = 40.0
BACKGROUND_LEVEL_DB = -23.0
CLIP_FOLDER, BACKGROUND_FOLDER = "clips", "backgrounds"


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """One clip to render. position in [0, 1]: where in the recording to cut."""

    clip_id: str
    member: StarterMember
    position: float
    conditions: Conditions


def plan_clips(members: Sequence[StarterMember], stored: Mapping[str, Path], seed: int) -> list[ClipPlan]:
    """Return the plan of every clip: its recording, where to cut, and its conditions. Reads headers only."""
    plans = []
    for part in PARTS:
        by_label = {
            label: [member for member in members if member.part == part and member.label == label]
            for label in ("SPEECH", "NONSPEECH")
        }
        ceilings = {
            label: [
                source_ceiling_hz(_sample_rate_hz(stored[member.sha256]))
                for member in chosen
                for _ in range(member.clips)
            ]
            for label, chosen in by_label.items()
        }
        shares = share_cut_off_bands(ceilings)
        for label, chosen in by_label.items():
            conditions = iter(draw_conditions(ceilings[label], shares, stream(seed, CORPUS, "conditions", part, label)))
            plans += _plan_label(chosen, conditions.__next__, seed)
    return plans


def _plan_label(
    members: Sequence[StarterMember], next_conditions: Callable[[], Conditions], seed: int
) -> list[ClipPlan]:
    numbers: dict[str, int] = {}
    plans = []
    for member in members:
        for nth in range(member.clips):
            number = numbers[member.group] = numbers.get(member.group, 0) + 1
            clip_id = f"{member.part}-{member.group}-{number:03d}"
            offset = float(stream(seed, CORPUS, "position", clip_id).random())
            plans.append(ClipPlan(clip_id, member, (nth + offset) / member.clips, next_conditions()))
    return plans


def _sample_rate_hz(path: Path) -> int:
    try:
        return int(soundfile.info(path).samplerate)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: cannot be decoded ({error}); delete it and run the command again.") from error


def render_corpus(
    members: Sequence[StarterMember],
    stored: Mapping[str, Path],
    folder: Path,
    seed: int,
    workers: int,
    report: Callable[[str, int, int], None],
) -> tuple[list[Clip], list[Background]]:
    """Write every clip and background below `folder`; return their records, in the order of the list."""
    plans: dict[str, list[ClipPlan]] = {}
    for plan in plan_clips(members, stored, seed):
        plans.setdefault(plan.member.group, []).append(plan)
    by_group: dict[str, list[StarterMember]] = {}
    for member in members:
        by_group.setdefault(member.group, []).append(member)
    beds = [member for member in members if member.label == "BACKGROUND"]
    for part in PARTS:
        for kind in (CLIP_FOLDER, BACKGROUND_FOLDER):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
    total = len(plans) + len(beds)
    with ThreadPoolExecutor(workers) as pool:
        clip_jobs = [pool.submit(render_group, plans[group], by_group[group], stored, folder, seed) for group in plans]
        bed_jobs = [pool.submit(render_background, member, stored[member.sha256], folder, seed) for member in beds]
        clips: list[Clip] = []
        for done, job in enumerate(clip_jobs):
            clips += job.result()
            report("rendering clips", done + 1, total)
        backgrounds = []
        for done, bed_job in enumerate(bed_jobs):
            backgrounds.append(bed_job.result())
            report("rendering backgrounds", len(plans) + done + 1, total)
    return clips, backgrounds


def render_group(
    plans: Sequence[ClipPlan], members: Sequence[StarterMember], stored: Mapping[str, Path], folder: Path, seed: int
) -> list[Clip]:
    """Write the clips of one group and return their records."""
    takes = {member.sha256: load_take(stored[member.sha256]) for member in members}
    order = [member.sha256 for member in members]
    clips = []
    for plan in plans:
        own = order.index(plan.member.sha256)
        rotated = [takes[sha256] for sha256 in order[own:] + order[:own]]
        content = cut_content(
            rotated, plan.conditions.n_content, plan.position, stream(seed, CORPUS, "cut", plan.clip_id)
        )
        samples = apply_conditions(content, plan.conditions, stream(seed, CORPUS, "noise", plan.clip_id))
        path = folder / CLIP_FOLDER / plan.member.part / f"{plan.clip_id}.wav"
        soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
        clips.append(_describe_clip(plan, path, samples))
    return clips


def _describe_clip(plan: ClipPlan, path: Path, samples: NDArray[np.int16]) -> Clip:
    label: Label = "SPEECH" if plan.member.label == "SPEECH" else "NONSPEECH"
    return Clip(
        clip_id=plan.clip_id,
        path=path,
        start_s=0.0,
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        label=label,
        group=plan.member.group,
        recording=plan.member.recording,
        corpus=CORPUS,
        licence=plan.member.licence,
        category=plan.member.category,
        split=plan.member.part,
        pcm_sha256=pcm_sha256(as_decoded(samples)),
    )


def load_take(path: Path) -> Samples:
    """Return a recording without the silence at its edges, at unit level. Raises AudioError when it is silent."""
    # as long as its header says: four recordings of the list have a second of nothing chained to them
    samples = load_recording(path, 0.0, soundfile.info(path).duration).astype(np.float64)
    samples -= samples.mean()
    sounding = trim_recording(samples)
    if not len(sounding):
        raise AudioError(f"{path}: is silent; remove it from the list of the starter corpus.")
    return np.asarray(sounding / np.sqrt(np.mean(np.square(sounding))))


def render_background(member: StarterMember, path: Path, folder: Path, seed: int) -> Background:
    """Write one background, at most 40 s from a place drawn in it, and return its record."""
    name = f"{member.part}-{member.group}-{member.sha256[:8]}"
    generator = stream(seed, CORPUS, "background", name)
    length_s = soundfile.info(path).duration
    # The last moments are left out: the length that a header declares is off by some samples in real files.
    start_s = float(generator.random()) * max(0.0, length_s - BACKGROUND_S - 0.1)
    samples = load_recording(path, start_s, min(BACKGROUND_S, length_s - 0.05)).astype(np.float64)
    quantised = quantise(scale_to_level(samples - samples.mean(), BACKGROUND_LEVEL_DB), generator)
    written = folder / BACKGROUND_FOLDER / member.part / f"{name}.wav"
    soundfile.write(written, quantised, SAMPLE_RATE_HZ, subtype="PCM_16")
    return Background(
        background_id=name,
        path=written,
        duration_s=len(quantised) / SAMPLE_RATE_HZ,
        kind=member.kind,
        group=member.group,
        corpus=CORPUS,
        licence=member.licence,
        split=member.part,
        pcm_sha256=pcm_sha256(as_decoded(quantised)),
    )


def as_decoded(samples: NDArray[np.int16]) -> Waveform:
    """Return 16-bit samples as a decoder gives them: float32, full scale +-1."""
    return samples.astype(np.float32) / np.float32(32768)
