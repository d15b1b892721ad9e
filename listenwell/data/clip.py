"""Clip: a labelled stretch of a recording. Background: a recording to mix under clips, or a room to hear them in.

Both are frozen records and name sounds without holding them; `listenwell.data.audio` loads the samples.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Label = Literal["SPEECH", "NONSPEECH"]
LABELS: tuple[Label, ...] = ("SPEECH", "NONSPEECH")

ROOM = "room"
BACKGROUND_KINDS = ("music", "vocal_music", "noise", "speech", ROOM)
"""vocal_music and speech (babble) hold voices: under a NONSPEECH clip they would contradict its label. A room is an
impulse response: clips are convolved with it, nothing is mixed, and it is not heard itself."""

# What people utter or do without words, and crowds: the hard subset of NONSPEECH, reported apart. In the words of the
# starter corpus and of ESC-50.
HUMAN_SOUNDS = frozenset(
    "laughing coughing moaning groaning screaming grunting burping breathing crowd cheering clapping eating "
    "crying_baby sneezing snoring drinking_sipping".split()
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled stretch of one recording.

    group: the unit of independence, a speaker or a sound source; never empty.
    recording: the file the clip was cut from, before any processing.
    category: what is heard, finer than the label ("dog", "rain", a speaker's language); may be empty.
    split: the part of the corpus the group belongs to ("train", "study_pool", ...); may be empty.
    pcm_sha256: sha256 of the clip's 16 kHz float32 samples; may be empty before `prepare` has run.
    origin: the identity of the source outside this corpus, in a namespace that corpora share ("freesound:12345",
        "librivox:84"): clips of one origin are related, whatever their corpora call them. Empty where unknown.
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
