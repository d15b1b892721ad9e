"""Cut and render the clips and backgrounds of the starter corpus from the files of its frozen list.

Every clip is cut from one recording; a recording too short for its clip is lengthened with others of its own group.
Conditions are drawn per part and class (data.recording_history), each from a stream keyed by names, so that the
rendered bits depend on the list and the seed alone and not on the number of workers. Backgrounds are levelled, at
most 40 s of each, and keep their band. Waveforms are mono, 16 kHz.

The frozen list of the starter corpus: which file of which Debian package plays which part.

`starter_members.csv`, one row per file, was chosen by hand (docs/starter-corpus.md says how). Columns:

    package, member, sha256   the package, the path in it, the hash of the file
    label                     SPEECH, NONSPEECH or BACKGROUND
    group                     the unit of independence: a speaker, or the source of a sound; in one part only
    category                  the language, the sound class in the field's words, or the kind of background
    kind                      music or noise; empty unless the row is a background
    part                      study_pool, which a study divides by group; train, which it only ever trains on;
                              sealed_test or out_of_corpus
    clips                     how many clips are cut from the file; 0 for backgrounds, and for speech that only
                              lengthens clips of its own speaker
    licence                   of the recordings, from the package's copyright file (SPDX)

Knows nothing of audio or of how packages are fetched.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_recording, pcm_sha256
from listenwell.data.clip import Background, Clip, Label
from listenwell.data.fetch.debian_packages import Member
from listenwell.data.recording_history import (
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
from listenwell.data.tables import read_rows
from listenwell.errors import AudioError, ManifestError
from listenwell.random_streams import stream

LIST_PATH = Path(__file__).with_name("starter_members.csv")
COLUMNS = ("package", "member", "sha256", "label", "group", "category", "kind", "part", "clips", "licence")

Part = Literal["study_pool", "train", "sealed_test", "out_of_corpus"]
PARTS: tuple[Part, ...] = ("study_pool", "train", "sealed_test", "out_of_corpus")
STUDIED = ("study_pool", "train")
_PART_OF: dict[str, Part] = {part: part for part in PARTS}
ROLES = ("SPEECH", "NONSPEECH", "BACKGROUND")


@dataclass(frozen=True, slots=True)
class StarterMember:
    """One row of the frozen list."""

    package: str
    path: str
    sha256: str
    label: str
    group: str
    category: str
    kind: str
    part: Part
    clips: int
    licence: str

    @property
    def file(self) -> Member:
        """What to fetch."""
        return Member(self.package, self.path, self.sha256)

    @property
    def recording(self) -> str:
        """The name by which clips refer to the file they come from."""
        return f"{self.package}/{self.path}"


@dataclass(frozen=True, slots=True)
class AllocationRow:
    """What one part holds of one role. new_categories: those that the study pool does not have under this role."""

    part: Part
    role: str
    groups: int
    categories: int
    recordings: int
    clips: int
    new_categories: tuple[str, ...]


def read_members(path: Path = LIST_PATH) -> list[StarterMember]:
    """Return the rows of the list. Raises ManifestError naming the line that cannot be used."""
    members = []
    for row in read_rows(path, COLUMNS, tuple(column for column in COLUMNS if column != "kind")):
        text = {column: row.text(column) for column in COLUMNS}
        if text["label"] not in ROLES or text["part"] not in _PART_OF or not text["clips"].isdigit():
            raise ManifestError(
                f"{path}: '{text['member']}' has label '{text['label']}', part '{text['part']}', clips "
                f"'{text['clips']}'; expected one of {', '.join(ROLES)}, one of {', '.join(PARTS)}, and a number."
            )
        members.append(
            StarterMember(
                package=text["package"],
                path=text["member"],
                sha256=text["sha256"],
                label=text["label"],
                group=text["group"],
                category=text["category"],
                kind=text["kind"],
                part=_PART_OF[text["part"]],
                clips=int(text["clips"]),
                licence=text["licence"],
            )
        )
    check_allocation(members, path)
    return members


def check_allocation(members: Iterable[StarterMember], path: Path = LIST_PATH) -> None:
    """Raise ManifestError when a group or a file is in two parts, or out-of-corpus packages give anything else."""
    parts: dict[tuple[str, str], Part] = {}
    for member in members:
        for kind, name in (("group", member.group), ("file", member.sha256)):
            first = parts.setdefault((kind, name), member.part)
            if first != member.part:
                raise ManifestError(f"{path}: {kind} '{name}' is in {first} and in {member.part}; keep it in one.")
        outside = member.part == "out_of_corpus"
        if parts.setdefault(("package", member.package), member.part) != member.part and (
            outside or parts["package", member.package] == "out_of_corpus"
        ):
            raise ManifestError(
                f"{path}: package '{member.package}' is in out_of_corpus and elsewhere; its recordings would not be "
                f"foreign to the study any more."
            )


def summarise_allocation(members: Sequence[StarterMember]) -> list[AllocationRow]:
    """Return the allocation table: parts x roles, and what is new in the later parts against the study pool."""
    rows = []
    for part in PARTS:
        for role in ROLES:
            chosen = [member for member in members if member.part == part and member.label == role]
            known = {member.category for member in members if member.part in STUDIED and member.label == role}
            here = {member.category for member in chosen if member.clips or role == "BACKGROUND"}
            rows.append(
                AllocationRow(
                    part=part,
                    role=role,
                    groups=len({member.group for member in chosen}),
                    categories=len(here),
                    recordings=len(chosen),
                    clips=sum(member.clips for member in chosen),
                    new_categories=tuple(sorted(here - known)),
                )
            )
    return rows


def format_allocation(rows: Sequence[AllocationRow]) -> str:
    """Return the allocation as a plain table for the terminal."""
    lines = [f"{'part':<14} {'role':<11} {'groups':>6} {'classes':>7} {'files':>6} {'clips':>6}  new against the pool"]
    for row in rows:
        new = "-" if row.part in STUDIED else ", ".join(row.new_categories) or "none"
        lines.append(
            f"{row.part:<14} {row.role:<11} {row.groups:>6} {row.categories:>7} {row.recordings:>6} {row.clips:>6}"
            f"  {new}"
        )
    return "\n".join(lines)


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
