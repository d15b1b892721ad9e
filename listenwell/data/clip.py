"""Clip: a labelled stretch of a recording. Background: a recording to mix under clips, or a room to hear them in.

Both are frozen records and name sounds without holding them; `listenwell.data.audio` loads the samples. Whether what
was made of them may be used again is decided by their identity: what they are and their samples, not where files lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from listenwell.storage.load_or_make import hash_content

Label = Literal["SPEECH", "NONSPEECH"]
LABELS: tuple[Label, ...] = ("SPEECH", "NONSPEECH")

ROOM = "room"
BACKGROUND_KINDS = ("music", "vocal_music", "noise", "speech", ROOM)
"""vocal_music and speech (babble) hold voices: under a NONSPEECH clip they would contradict its label. A room is an
impulse response: clips are convolved with it, nothing is mixed, and it is not heard itself."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled stretch of one recording.

    group: the unit of independence, a speaker or a sound source; never empty.
    recording: the file the clip was cut from, before any processing.
    category: what is heard, finer than the label ("dog", "rain", a speaker's language); may be empty.
    split: the part of the corpus the group belongs to ("train", "study_pool", ...); may be empty.
    pcm_sha256: sha256 of the clip's 16 kHz float32 samples; empty until the recording is read the first time
        (listenwell.data.sample_hashes), where its table holds none.
    origin: the identity of the source outside this corpus, in a namespace that corpora share ("freesound:12345",
        "librivox:84"): clips of one origin are related, whatever their corpora call them. Empty where unknown.
    channel: the one of the recording's that the clip is, from 0; None is the mean of all.
    """

    clip_id: str
    path: Path
    start_s: float
    duration_s: float
    label: Label
    group: str
    recording: str
    corpus: str
    licence: str
    category: str = ""
    split: str = ""
    pcm_sha256: str = ""
    origin: str = ""
    channel: int | None = None

    @property
    def identity(self) -> tuple[str, str, str, float, float, str]:
        """Id, label, group, start, duration and the hash of the samples. Raises ValueError before these were read."""
        sha256 = _known(self.pcm_sha256, self.clip_id)
        return (self.clip_id, self.label, self.group, self.start_s, self.duration_s, sha256)


@dataclass(frozen=True, slots=True)
class Background:
    """One recording to mix under clips, or the impulse response of a room.

    kind: one of BACKGROUND_KINDS; group: its source or room, never shared between splits; origin: as in Clip.
    """

    background_id: str
    path: Path
    duration_s: float
    kind: str
    group: str
    corpus: str
    licence: str
    split: str = ""
    pcm_sha256: str = ""
    origin: str = ""

    @property
    def identity(self) -> tuple[str, str, str, float, str]:
        """Id, kind, group, duration and the hash of the samples. Raises ValueError before these were read."""
        sha256 = _known(self.pcm_sha256, self.background_id)
        return (self.background_id, self.kind, self.group, self.duration_s, sha256)


def _known(pcm_sha256: str, name: str) -> str:
    if not pcm_sha256:
        raise ValueError(f"'{name}' has no identity before its recording was read (listenwell.data.sample_hashes)")
    return pcm_sha256


def clip_hashes(clips: Sequence[Clip]) -> dict[str, str]:
    """The hash of each field of the clips' identities, so that what changed can be named."""
    names = ("clip ids", "labels", "groups", "starts", "durations", "audio")
    return _hash_fields(names, [clip.identity for clip in clips])


def background_hashes(backgrounds: Sequence[Background]) -> dict[str, str]:
    """The same of backgrounds."""
    names = ("background ids", "kinds", "groups", "durations", "audio")
    return _hash_fields(names, [background.identity for background in backgrounds])


def _hash_fields(names: Sequence[str], identities: Sequence[Sequence[str | float]]) -> dict[str, str]:
    return {name: hash_content([identity[i] for identity in identities]) for i, name in enumerate(names)}
