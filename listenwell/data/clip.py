"""Clip: a labelled stretch of a recording. Background: a noise recording to mix under clips.

Both are frozen records and name sounds without holding them; `listenwell.data.audio` loads the samples.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Label = Literal["SPEECH", "NONSPEECH"]
LABELS: tuple[Label, ...] = ("SPEECH", "NONSPEECH")


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled stretch of one recording.

    group: the unit of independence, a speaker or a sound source; never empty.
    recording: the file the clip was cut from, before any processing.
    category: what is heard, finer than the label ("dog", "rain", a speaker's language); may be empty.
    split: the part of the corpus the group belongs to ("train", "study_pool", ...); may be empty.
    pcm_sha256: sha256 of the clip's 16 kHz float32 samples; may be empty before `prepare` has run.
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


@dataclass(frozen=True, slots=True)
class Background:
    """One noise recording. kind: "music" or "noise"; group: its source, never shared between splits."""

    background_id: str
    path: Path
    duration_s: float
    kind: str
    group: str
    corpus: str
    licence: str
    split: str = ""
    pcm_sha256: str = ""
