"""Read every recording of a study once: clips that cannot be used are set aside, the others learn their identity."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from listenwell.config import Config
from listenwell.data.clip import Clip
from listenwell.data.csv_rows import write_rows
from listenwell.data.sample_hashes import fill_backgrounds, sample_hashes
from listenwell.errors import AudioError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.study.parts import Parts, divide
from listenwell.study.prepare import prepare


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A clip left out, and why."""

    clip_id: str
    path: Path
    reason: str


def read_parts(config: Config, on_progress: OnProgress = ignore_progress) -> tuple[Parts, list[Unreadable]]:
    """Return the parts of the readable clips of a study, and the clips that are not.

    Raises AudioError when more than data.quarantine_share of the clips, or any background, cannot be read.
    """
    clips, backgrounds = prepare(config, on_progress)
    readable, unreadable = set_aside_unreadable(clips, config.data.quarantine_share, on_progress)
    return divide(readable, fill_backgrounds(backgrounds, on_progress), config.data), unreadable


def set_aside_unreadable(
    clips: Sequence[Clip], quarantine_share: float, on_progress: OnProgress = ignore_progress
) -> tuple[list[Clip], list[Unreadable]]:
    """Return the clips that can be used, with the hashes of their samples, and the others with their reasons.

    Every recording is decoded, unless an earlier run did so and it has not changed since. Raises AudioError when more
    than quarantine_share of the clips cannot be read.
    """
    readable, unreadable = [], []
    with sample_hashes(clips) as hashes:
        for n_read, clip in enumerate(clips, start=1):
            try:
                readable.append(hashes.fill_clip(clip))
            except AudioError as error:
                unreadable.append(Unreadable(clip.clip_id, clip.path, str(error)))
                _stop_above_share(unreadable, len(clips), quarantine_share)
            on_progress("reading", n_read, len(clips))
    return readable, unreadable


def write_quarantine(path: Path, unreadable: Sequence[Unreadable]) -> None:
    """Write the clips left out and why, as CSV; also when there is none, so that an older list does not stay."""
    write_rows(path, ("clip_id", "path", "reason"), [(u.clip_id, str(u.path), u.reason) for u in unreadable])


def _stop_above_share(unreadable: Sequence[Unreadable], n_clips: int, share: float) -> None:
    if len(unreadable) > share * n_clips:
        raise AudioError(
            f"data: already {len(unreadable)} of {n_clips} clips cannot be read, at most {share:.1%} may "
            f"(data.quarantine_share); the last: {unreadable[-1].reason}"
        )
