"""What describes a public corpus, how it is to be prepared, and what comes out.

Every corpus is one module beside this one that holds one `Corpus`; `listenwell.data.corpora.catalogue` lists them.
Times are seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from listenwell.data.clip import BACKGROUND_KINDS, Background, Clip
from listenwell.data.download import RemoteFile
from listenwell.errors import ConfigError
from listenwell.progress import OnProgress


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """How recordings become clips and backgrounds.

    clip_s: the longest clip; a longer recording is cut into stretches of this length.
    shortest_s: recordings and stretches below it are left out.
    clips_per_recording: at most so many stretches of one recording (of one speaker in it), spread evenly.
    apart_s: the least time between two clips of one recording.
    margin_s: the least distance of a clip from another speaker's turn, where a corpus marks turns.
    clip_kinds: of MUSAN, what becomes clips: speech is SPEECH; noise, music and vocal_music are NONSPEECH.
    background_kinds: what becomes backgrounds, where a corpus has some; vocal_music and speech only when asked for,
        since they would put voices under NONSPEECH clips.
    parts: official parts to take (of LibriSpeech and VoxConverse, such as dev-clean or test); all of them when empty.
    quarantine_share: the largest share of recordings that may be unreadable; they are listed, more stop the work.
    """

    clip_s: float = 5.0
    shortest_s: float = 0.5
    clips_per_recording: int = 3
    apart_s: float = 2.0
    margin_s: float = 0.25
    clip_kinds: tuple[str, ...] = ("speech",)
    background_kinds: tuple[str, ...] = ("music", "noise", "room")
    parts: tuple[str, ...] = ()
    quarantine_share: float = 0.02

    def __post_init__(self) -> None:
        """Raise ConfigError for values that contradict themselves or each other."""
        if (
            not 0 < self.shortest_s <= self.clip_s
            or self.clips_per_recording < 1
            or min(self.apart_s, self.margin_s) < 0
        ):
            raise ConfigError(
                f"clip_s {self.clip_s:g}, shortest_s {self.shortest_s:g}, clips_per_recording "
                f"{self.clips_per_recording}, apart_s {self.apart_s:g}, margin_s {self.margin_s:g}: expected "
                "0 < shortest_s <= clip_s, at least one clip, and distances of 0 or more; correct them."
            )
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
    """What a corpus gives. notes: sentences about what was left out or taken with care."""

    clips: list[Clip] = field(default_factory=list)
    backgrounds: list[Background] = field(default_factory=list)
    quarantine: list[Unreadable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
