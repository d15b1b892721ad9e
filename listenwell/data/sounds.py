"""One view of everything a study listens to: clips and backgrounds alike, with the part each belongs to.

The leak gate compares sounds; whether one is a clip or a background matters only for what it says about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from listenwell.data.audio import Waveform, load_recording
from listenwell.data.clip import ROOM, Background, Clip
from listenwell.data.csv_rows import MISSING_VALUES
from listenwell.errors import ManifestError


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip or a background of one part. label and recording are "" for a background, which is its own recording."""

    part: str
    sound_id: str
    is_background: bool
    path: Path
    start_s: float
    duration_s: float | None
    label: str
    group: str
    recording: str
    corpus: str
    origin: str
    channel: int | None = None

    @property
    def name(self) -> str:
        """How a sentence calls it."""
        return f"{'background' if self.is_background else 'clip'} '{self.sound_id}'"

    def load(self) -> Waveform:
        """Return the samples, shape (n_samples,), 16 kHz. Raises AudioError."""
        return load_recording(self.path, self.start_s, self.duration_s, self.channel)


def list_sounds(
    clips: Mapping[str, Sequence[Clip]], backgrounds: Mapping[str, Sequence[Background]]
) -> dict[str, list[Sound]]:
    """Return the sounds of every part, clips first; rooms are none. Raises ManifestError for one without a group."""
    parts = list(dict.fromkeys([*clips, *backgrounds]))
    sounds = {
        part: [_from_clip(part, clip) for clip in (clips[part] if part in clips else ())]
        + [
            _from_background(part, bed)
            for bed in (backgrounds[part] if part in backgrounds else ())
            if bed.kind != ROOM
        ]
        for part in parts
    }
    for part, listed in sounds.items():
        for sound in listed:
            if str(sound.group).strip().lower() in MISSING_VALUES:
                raise ManifestError(
                    f"part '{part}': {sound.name} has no group (found {sound.group!r}), so nobody can tell whether "
                    "another part knows its speaker or source; fill in the group column."
                )
    return sounds


def _from_clip(part: str, clip: Clip) -> Sound:
    return Sound(
        part=part,
        sound_id=clip.clip_id,
        is_background=False,
        path=clip.path,
        start_s=clip.start_s,
        duration_s=clip.duration_s,
        label=clip.label,
        group=clip.group,
        recording=clip.recording,
        corpus=clip.corpus,
        origin=clip.origin,
        channel=clip.channel,
    )


def _from_background(part: str, background: Background) -> Sound:
    return Sound(
        part=part,
        sound_id=background.background_id,
        is_background=True,
        path=background.path,
        start_s=0.0,
        duration_s=None,
        label="",
        group=background.group,
        recording="",
        corpus=background.corpus,
        origin=background.origin,
    )
