"""The starter corpus: real speech and real sounds from Debian packages, prepared in minutes on any machine.

    list -> fetch (data.fetch.packages) -> render -> clips.csv, backgrounds.csv

The frozen list, `starter_members.csv`, was chosen by hand (docs/starter-corpus.md says how), one row per file:

    package, member, sha256   the package, the path in it, the hash of the file
    label                     SPEECH, NONSPEECH or BACKGROUND
    group                     the unit of independence: a speaker, or the source of a sound; in one part only
    category                  the language, the sound class in the field's words, or the kind of background
    kind                      of a background music or noise; of another sound one of SOUND_KINDS, which its category
                              belongs to; empty for speech
    part                      study_pool, which a study divides by group; train, which it only ever trains on;
                              sealed_test (10 speakers x 5 clips, 20 sound classes x 3) or out_of_corpus, whose packages
                              give nothing to the others
    clips                     how many clips are cut from the file; 0 for backgrounds, and for speech that only
                              lengthens clips of its own speaker
    edition                   of the list, that the row's group came with, from 1
    licence                   of the recordings, from the package's copyright file (SPDX)

Every clip is cut from one recording; a recording too short for its clip is lengthened with others of its own group.
Recording histories are drawn per part, edition and class (data.recording_history), each from a stream keyed by names,
so that the rendered bits depend on the list and the seed alone, not on the number of workers, and a new edition leaves
the clips of those before it as they are. Backgrounds are levelled, at most 40 s of each, and keep their band. Waveforms
are mono, 16 kHz. The corpus lies below the cache in a folder named after its fingerprint (list, rendering code, seed),
complete when starter.json is there.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from listenwell.data import recording_history
from listenwell.data.audio import SAMPLE_RATE_HZ, load_recording, pcm_sha256
from listenwell.data.clip import LABELS, Background, Clip
from listenwell.data.fetch.packages import Member, PackageSource, choose_source, fetch_members
from listenwell.data.manifest import write_backgrounds, write_manifest
from listenwell.data.recording_history import RecordingHistory, Samples
from listenwell.errors import AudioError, ManifestError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import atomic_folder
from listenwell.storage.load_or_make import Made, is_kept, load_or_make, one_maker

SEED = 1
FIRST_EDITION = 1
CORPUS = "starter"
LIST_PATH = Path(__file__).with_name("starter_members.csv")
CLIPS, BACKGROUNDS, SUMMARY = "clips.csv", "backgrounds.csv", "starter.json"
CLIP_FOLDER, BACKGROUND_FOLDER = "clips", "backgrounds"
PARTS = ("study_pool", "train", "sealed_test", "out_of_corpus")
ROLES = (*LABELS, "BACKGROUND")
SOUND_KINDS = (
    "mammals", "birds", "insects_frogs_snakes", "human_nonspeech", "alarms_and_bells", "vehicles", "machines_and_tools",
    "explosions_and_shots", "water_fire_and_weather", "impacts_and_footsteps", "objects", "instruments", "drums",
    "electronic",
)  # fmt: skip
"""A partition of the sound classes, coarse enough that each kind has many sources in the study pool."""
BACKGROUND_S = 40.0
BACKGROUND_LEVEL_DB = -23.0


@dataclass(frozen=True, slots=True)
class StarterCorpus:
    """A prepared corpus. summary: what starter.json holds (allocation as text, fingerprint, seed)."""

    folder: Path
    summary: dict[str, Any]

    @property
    def clips_csv(self) -> Path:
        """The manifest of all parts; the split column says which."""
        return self.folder / CLIPS

    @property
    def backgrounds_csv(self) -> Path:
        """The table of backgrounds of all parts; the split column says which."""
        return self.folder / BACKGROUNDS


def prepare_starter(
    cache: Path, source: PackageSource | None = None, workers: int = 2, on_progress: OnProgress = ignore_progress
) -> StarterCorpus:
    """Return the starter corpus below `cache`, making it when it is not there.

    `source` says where packages come from (choose_source); it is not touched when every file is in the cache. The
    same list and code give the same bits with any number of workers. Raises DownloadError or AudioError, and
    ManifestError when a table of it was changed.
    """
    made_from = {"fingerprint": _fingerprint()}
    folder = cache / "starter" / made_from["fingerprint"][:16]

    def make() -> Made:
        return _make(folder, cache, source or choose_source(cache), workers, on_progress)

    summary_path = folder / SUMMARY
    with nullcontext() if is_kept(summary_path, made_from, ManifestError) else one_maker(folder):
        return StarterCorpus(folder, load_or_make(summary_path, made_from, make, ManifestError))


def _fingerprint() -> str:
    """The hash of everything that decides the rendered bits: the list, the code that renders, the seed."""
    digest = hashlib.sha256(str(SEED).encode())
    for path in (LIST_PATH, Path(recording_history.__file__), Path(__file__)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _make(folder: Path, cache: Path, source: PackageSource, workers: int, on_progress: OnProgress) -> Made:
    members = read_members()
    stored = fetch_members(list({member.sha256: member for member in members}.values()), cache, source, on_progress)
    with atomic_folder(folder) as temporary:
        clips, backgrounds = _render_corpus(members, stored, temporary, workers, on_progress)
        write_manifest(temporary / CLIPS, clips)
        write_backgrounds(temporary / BACKGROUNDS, backgrounds)
    summary = {"fingerprint": _fingerprint(), "seed": SEED, "text": format_allocation(members)}
    return Made(summary, lambda: [folder / CLIPS, folder / BACKGROUNDS])


# The list


@dataclass(frozen=True, slots=True)
class StarterMember(Member):
    """One row of the frozen list: a file, and what it serves for."""

    label: str
    group: str
    category: str
    kind: str
    part: str
    clips: int
    licence: str
    edition: int

    @property
    def corpus(self) -> str:
        """The project that recorded it: packages of one project, such as all of Asterisk's prompts, are one corpus."""
        return self.package.partition("-")[0]


def read_members() -> list[StarterMember]:
    """Return the rows of the list."""
    with LIST_PATH.open(encoding="utf-8", newline="") as file:
        return [
            StarterMember(
                row["package"], row["member"], row["sha256"], row["label"], row["group"], row["category"], row["kind"],
                row["part"], int(row["clips"]), row["licence"], int(row["edition"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def format_allocation(members: Sequence[StarterMember]) -> str:
    """Return what each part holds of each role as a plain table for the terminal."""
    lines = [f"{'part':<14} {'role':<11} {'groups':>6} {'classes':>7} {'files':>6} {'clips':>6}"]
    for part in PARTS:
        for role in ROLES:
            chosen = [member for member in members if (member.part, member.label) == (part, role)]
            n_groups, n_classes = len({member.group for member in chosen}), len({member.category for member in chosen})
            n_clips = sum(member.clips for member in chosen)
            lines.append(f"{part:<14} {role:<11} {n_groups:>6} {n_classes:>7} {len(chosen):>6} {n_clips:>6}")
    return "\n".join(lines) + "\n"


# Rendering


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """One clip to render. position in [0, 1]: where in the recording to cut."""

    clip_id: str
    member: StarterMember
    position: float
    history: RecordingHistory


def _render_corpus(
    members: Sequence[StarterMember], stored: Mapping[str, Path], folder: Path, workers: int, on_progress: OnProgress
) -> tuple[list[Clip], list[Background]]:
    """Write every clip and background below `folder`; return their records, in the order of the list."""
    plans: dict[str, list[ClipPlan]] = {}
    for plan in _plan_clips(members, stored):
        plans.setdefault(plan.member.group, []).append(plan)
    by_group: dict[str, list[StarterMember]] = {}
    for member in members:
        by_group.setdefault(member.group, []).append(member)
    backgrounds = [member for member in members if member.label == "BACKGROUND"]
    for part in PARTS:
        for kind in (CLIP_FOLDER, BACKGROUND_FOLDER):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
    clips: list[Clip] = []
    rendered: list[Background] = []
    with ThreadPoolExecutor(workers) as pool:
        groups = pool.map(lambda group: _render_group(plans[group], by_group[group], stored, folder), plans)
        others = pool.map(lambda member: _render_background(member, stored, folder), backgrounds)
        for n_done, of_group in enumerate(groups, start=1):
            clips += of_group
            on_progress("rendering clips", n_done, len(plans))
        for n_done, background in enumerate(others, start=1):
            rendered.append(background)
            on_progress("rendering backgrounds", n_done, len(backgrounds))
    return clips, rendered


def _plan_clips(members: Sequence[StarterMember], stored: Mapping[str, Path]) -> list[ClipPlan]:
    """Return the plan of every clip: its recording, where to cut, and its history. Reads headers only."""
    plans: list[ClipPlan] = []
    for part in PARTS:
        shares: tuple[float, ...] = ()
        for edition in sorted({member.edition for member in members if member.part == part}):
            takes: dict[str, list[tuple[StarterMember, int]]] = {
                label: _list_takes([m for m in members if (m.part, m.edition, m.label) == (part, edition, label)])
                for label in LABELS
            }
            ceilings_hz = {label: [ceiling_hz(stored[m.sha256]) for m, _ in chosen] for label, chosen in takes.items()}
            # those of the first edition: were they others, the cut-off would tell the class that has more new clips
            shares = shares or recording_history.share_cut_off_bands(ceilings_hz)
            for label, chosen in takes.items():
                rng = stream(SEED, CORPUS, "conditions", part, label, *([edition] if edition > FIRST_EDITION else []))
                histories = recording_history.draw_histories(ceilings_hz[label], shares, rng)
                plans += _number_clips(part, chosen, histories)
    return plans


def _list_takes(members: Sequence[StarterMember]) -> list[tuple[StarterMember, int]]:
    """Every member as often as clips are cut from it, with the number of the cut."""
    return [(member, nth) for member in members for nth in range(member.clips)]


def _number_clips(
    part: str, takes: Sequence[tuple[StarterMember, int]], histories: Sequence[RecordingHistory]
) -> Iterator[ClipPlan]:
    numbers: dict[str, int] = {}
    for (member, nth), history in zip(takes, histories, strict=True):
        number = numbers[member.group] = numbers.get(member.group, 0) + 1
        clip_id = f"{part}-{member.group}-{number:03d}"
        offset = float(stream(SEED, CORPUS, "position", clip_id).random())
        yield ClipPlan(clip_id, member, (nth + offset) / member.clips, history)


def ceiling_hz(path: Path) -> float:
    """The highest cut-off of a clip of this recording."""
    try:
        return recording_history.source_ceiling_hz(int(soundfile.info(path).samplerate))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: cannot be decoded ({error}); delete it and run the command again.") from error


def _render_group(
    plans: Sequence[ClipPlan], members: Sequence[StarterMember], stored: Mapping[str, Path], folder: Path
) -> list[Clip]:
    """Write the clips of one group and return their records."""
    takes = [load_take(stored[member.sha256]) for member in members]
    order = [member.sha256 for member in members]
    clips = []
    for plan in plans:
        member, first = plan.member, order.index(plan.member.sha256)
        cut, noise = (stream(SEED, CORPUS, name, plan.clip_id) for name in ("cut", "noise"))
        rotated = takes[first:] + takes[:first]
        content = recording_history.cut_content(rotated, plan.history.n_content, plan.position, cut)
        samples = recording_history.impose_history(content, plan.history, noise)
        path = folder / CLIP_FOLDER / member.part / f"{plan.clip_id}.wav"
        clips.append(
            Clip(
                clip_id=plan.clip_id,
                path=path,
                start_s=0.0,
                duration_s=len(samples) / SAMPLE_RATE_HZ,
                label="SPEECH" if member.label == "SPEECH" else "NONSPEECH",
                group=member.group,
                recording=f"{member.package}/{member.path}",
                corpus=member.corpus,
                licence=member.licence,
                category=f"{member.kind}/{member.category}" if member.kind else member.category,
                split=member.part,
                pcm_sha256=_write_wav(path, samples),
            )
        )
    return clips


def load_take(path: Path) -> Samples:
    """Return a recording without the silence at its edges, at unit level. Raises AudioError when it is silent."""
    # as long as its header says: four recordings of the list have a second of nothing chained to them
    samples = load_recording(path, 0.0, soundfile.info(path).duration).astype(np.float64)
    samples -= samples.mean()
    sounding = recording_history.trim_recording(samples)
    if not len(sounding):
        raise AudioError(f"{path}: is silent; remove it from the list of the starter corpus.")
    return np.asarray(sounding / np.sqrt(np.mean(np.square(sounding))))


def _render_background(member: StarterMember, stored: Mapping[str, Path], folder: Path) -> Background:
    """Write one background, at most 40 s from a place drawn in it, and return its record."""
    recording = stored[member.sha256]
    name = f"{member.part}-{member.group}-{member.sha256[:8]}"
    rng = stream(SEED, CORPUS, "background", name)
    length_s = soundfile.info(recording).duration
    # The last moments are left out: the length that a header declares is off by some samples in real files.
    start_s = float(rng.random()) * max(0.0, length_s - BACKGROUND_S - 0.1)
    samples = load_recording(recording, start_s, min(BACKGROUND_S, length_s - 0.05)).astype(np.float64)
    levelled = recording_history.scale_to_level(samples - samples.mean(), BACKGROUND_LEVEL_DB)
    quantised = recording_history.quantise(levelled, rng)
    path = folder / BACKGROUND_FOLDER / member.part / f"{name}.wav"
    return Background(
        background_id=name,
        path=path,
        duration_s=len(quantised) / SAMPLE_RATE_HZ,
        kind=member.kind,
        group=member.group,
        corpus=member.corpus,
        licence=member.licence,
        split=member.part,
        pcm_sha256=_write_wav(path, quantised),
    )


def _write_wav(path: Path, samples: NDArray[np.int16]) -> str:
    """Write 16-bit samples; return the hash of what a decoder gives of them: float32, full scale +-1."""
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    return pcm_sha256(samples.astype(np.float32) / np.float32(32768))
