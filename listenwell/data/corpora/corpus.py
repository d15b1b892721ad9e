"""What describes a public corpus, how it is to be prepared, what comes out, and what the preparing of all needs.

Every corpus is one module beside this one that holds one `Corpus`; `listenwell.data.corpora.catalogue` lists them.
Times are seconds from the start of a recording. Headers and the last moment of each recording are read here, not the
whole of it: enough to find files that are missing, empty, no sound, or cut off.
"""

import fnmatch
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from listenwell.data.audio import measure_extent
from listenwell.data.clip import BACKGROUND_KINDS, Background, Clip
from listenwell.data.fetch.download import RemoteFile
from listenwell.data.sound_files import walk
from listenwell.errors import AudioError, ConfigError, ManifestError
from listenwell.progress import OnProgress

DEEPEST_LEVEL = 2
SHORTEST_S = 0.5
"""Recordings and stretches below it are left out."""
APART_S = 2.0
"""The least time between two clips of one recording."""
QUARANTINE_SHARE = 0.02
"""The largest share of recordings that may be unreadable; they are listed, more stop the work."""


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """How recordings become clips and backgrounds.

    clip_s: the longest clip, at least SHORTEST_S; a longer recording is cut into stretches of this length.
    clips_per_recording: at most so many stretches of one recording (of one speaker in it), spread evenly.
    clip_kinds: of MUSAN, what becomes clips: speech is SPEECH; noise, music and vocal_music are NONSPEECH.
    background_kinds: what becomes backgrounds, where a corpus has some; vocal_music and speech only when asked for,
        since they would put voices under NONSPEECH clips.
    parts: official parts of VoxConverse to take, dev or test; all of them when empty.
    """

    clip_s: float = 5.0
    clips_per_recording: int = 3
    clip_kinds: tuple[str, ...] = ("speech",)
    background_kinds: tuple[str, ...] = ("music", "noise", "room")
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for kinds that are unknown, or named twice."""
        for kind in (*self.clip_kinds, *self.background_kinds):
            if kind not in BACKGROUND_KINDS:
                raise ConfigError(f"unknown kind '{kind}'; expected some of {', '.join(BACKGROUND_KINDS)}.")
        for kind in self.clip_kinds:
            if kind in self.background_kinds:
                raise ConfigError(
                    f"kind '{kind}' is to be clips and backgrounds; a recording that is judged may not lie under "
                    "others, name the kind once."
                )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A recording that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a corpus gives.

    notes: sentences about what was left out or taken with care. columns: one about what was read as what, where there
    was a choice.
    """

    clips: list[Clip] = field(default_factory=list)
    backgrounds: list[Background] = field(default_factory=list)
    quarantine: list[Unreadable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    columns: str = ""


@dataclass(frozen=True, slots=True)
class Corpus:
    """One public corpus.

    licence: of the recordings, "see ..." where they differ; hours: of audio, 0 where it depends on the folder.
    archives: what to download, none where the recordings are the user's own.
    layout: what lies where, in one line.
    draws_on: collections that it took recordings from ("freesound", "librivox", "musan"). Two corpora that share one
        may hold the same source; `Clip.origin` says which where the corpora's own files do.
    prepare: from the corpus' folder, or one above it, to its records. Raises ManifestError when the layout is not
        there, AudioError when more than the allowed share of the recordings cannot be read.
    """

    name: str
    title: str
    purpose: str
    citation: str
    licence: str
    home_page: str
    hours: float
    archives: tuple[RemoteFile, ...]
    layout: str
    draws_on: tuple[str, ...]
    prepare: Callable[[Path, PrepareSettings, OnProgress], Prepared]


def find_folder(root: Path, landmark: str, title: str) -> Path:
    """Return the one folder that holds `landmark`: `root`, or else one that lies one level below it, or two.

    Raises ManifestError when there is none, or more than one.
    """
    for level in range(DEEPEST_LEVEL + 1):
        folders = [path.parents[landmark.count("/")] for path in sorted(root.glob("*/" * level + landmark))]
        visible = [folder for folder in folders if not _is_hidden(folder, root)]
        if len(visible) > 1:
            raise ManifestError(
                f"{root}: {landmark} is in {visible[0].name} and in {visible[1].name}; one copy of {title} was "
                "expected, give the folder of one of them."
            )
        if visible:
            return visible[0]
    raise ManifestError(
        f"{root}: looked for {landmark} there and up to {DEEPEST_LEVEL} folders below, where {title} has it, and did "
        "not find it; give the folder that holds it, or fetch it with 'listenwell data corpus download'."
    )


def find_files(root: Path, pattern: str) -> list[Path]:
    """Return the files below `root` whose names match, sorted, through links; hidden ones are left alone."""
    files = (path for path in walk(root) if fnmatch.fnmatch(path.name, pattern) and path.is_file())
    return [path for path in files if not _is_hidden(path, root)]


def _is_hidden(path: Path, root: Path) -> bool:
    """Tell whether `path` lies in a hidden folder below `root`; what is being unpacked does."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def read_lengths(
    paths: Sequence[Path], on_progress: OnProgress, largest_share: float = QUARANTINE_SHARE
) -> tuple[dict[Path, float], list[Unreadable]]:
    """Return the length of every readable recording, in the given order, and the others with their reasons.

    Raises AudioError when more than `largest_share` of them cannot be read.
    """
    lengths_s: dict[Path, float] = {}
    unreadable: list[Unreadable] = []
    for done, path in enumerate(paths, start=1):
        try:
            lengths_s[path] = measure_extent(path).seconds
        except AudioError as error:
            unreadable.append(Unreadable(path, str(error)))
        on_progress("reading headers", done, len(paths))
    check_share(unreadable, len(paths), largest_share)
    return lengths_s, unreadable


def check_share(unreadable: Sequence[Unreadable], n_recordings: int, largest_share: float = QUARANTINE_SHARE) -> None:
    """Raise AudioError when more than `largest_share` of `n_recordings` are unreadable."""
    if len(unreadable) > largest_share * n_recordings:
        raise AudioError(
            f"{len(unreadable)} of {n_recordings} recordings cannot be used, more than the share of "
            f"{largest_share:g} that may be left out; the archive may be half unpacked, unpack it again. The first: "
            f"{unreadable[0].reason}"
        )


def cut_stretches(start_s: float, end_s: float, settings: PrepareSettings) -> list[tuple[float, float]]:
    """Return (start, length) of the clips of one stretch: one in its middle, or several spread from end to end.

    None is longer than clip_s or shorter than SHORTEST_S, and APART_S lies between two of them.
    """
    clip_s = min(settings.clip_s, end_s - start_s)
    if clip_s < SHORTEST_S:
        return []
    slack_s = end_s - start_s - clip_s
    n_clips = min(settings.clips_per_recording, 1 + math.floor(slack_s / (clip_s + APART_S)))
    if n_clips == 1:
        return [(start_s + slack_s / 2, clip_s)]
    return [(start_s + slack_s * nth / (n_clips - 1), clip_s) for nth in range(n_clips)]


def cut_clips(whole: Clip, settings: PrepareSettings) -> list[Clip]:
    """Return the clips of one recording, given as a clip of its whole length that is called by its file's name."""
    return [
        replace(whole, clip_id=name_clip(whole.corpus, whole.clip_id, start_s), start_s=start_s, duration_s=duration_s)
        for start_s, duration_s in cut_stretches(0.0, whole.duration_s, settings)
    ]


def name_clip(corpus: str, recording: str, start_s: float) -> str:
    """Return a clip_id that says where the clip comes from and stays the same when other clips come or go."""
    return f"{corpus}/{recording}@{round(1000 * start_s)}ms"
