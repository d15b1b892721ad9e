"""What all corpora need: find the folder by a file it must hold, read lengths, cut stretches, name clips.

Times are seconds from the start of a recording. Headers and the last moment of each recording are read here, not the
whole of it: enough to find files that are missing, empty, no sound, or cut off.
"""

import fnmatch
import math
from collections.abc import Sequence
from pathlib import Path

from listenwell.data.audio import recording_s
from listenwell.data.corpora.records import PrepareSettings, Unreadable
from listenwell.data.sound_files import walk
from listenwell.errors import AudioError, ManifestError
from listenwell.progress import OnProgress

DEEPEST_LEVEL = 2


def find_folders(root: Path, landmark: str, title: str) -> list[Path]:
    """Return the folders that hold `landmark`: `root`, or else those one level below it, or else two levels.

    Raises ManifestError naming the file that was looked for.
    """
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; give the folder that holds {title}.")
    for level in range(DEEPEST_LEVEL + 1):
        found = [path.parents[landmark.count("/")] for path in sorted(root.glob("*/" * level + landmark))]
        visible = [folder for folder in found if not _is_hidden(folder, root)]
        if visible:
            return visible
    raise ManifestError(
        f"{root}: looked for {landmark} there and up to {DEEPEST_LEVEL} folders below, where {title} has it, and did "
        "not find it; give the folder that holds it, or fetch it with 'listenwell corpus download'."
    )


def find_folder(root: Path, landmark: str, title: str) -> Path:
    """Return the one folder that holds `landmark`. Raises ManifestError when there is none, or more than one."""
    found = find_folders(root, landmark, title)
    if len(found) > 1:
        raise ManifestError(
            f"{root}: {landmark} is in {found[0].name} and in {found[1].name}; one copy of {title} was expected, give "
            "the folder of one of them."
        )
    return found[0]


def find_files(root: Path, pattern: str) -> list[Path]:
    """Return the files below `root` whose names match, sorted, through links; hidden ones are left alone."""
    found = (path for path in walk(root) if fnmatch.fnmatch(path.name, pattern) and path.is_file())
    return [path for path in found if not _is_hidden(path, root)]


def _is_hidden(path: Path, root: Path) -> bool:
    """Tell whether `path` lies in a hidden folder below `root`; what is being unpacked does."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def read_lengths(
    paths: Sequence[Path], largest_share: float, on_progress: OnProgress
) -> tuple[dict[Path, float], list[Unreadable]]:
    """Return the length of every readable recording, in the given order, and the others with their reasons.

    Raises AudioError when more than `largest_share` of them cannot be read.
    """
    lengths_s: dict[Path, float] = {}
    unreadable: list[Unreadable] = []
    for done, path in enumerate(paths, start=1):
        try:
            lengths_s[path] = recording_s(path)
        except AudioError as error:
            unreadable.append(Unreadable(path, str(error)))
        on_progress("reading headers", done, len(paths))
    check_share(unreadable, len(paths), largest_share)
    return lengths_s, unreadable


def check_share(unreadable: Sequence[Unreadable], n_recordings: int, largest_share: float) -> None:
    """Raise AudioError when more than `largest_share` of `n_recordings` are unreadable."""
    if len(unreadable) > largest_share * n_recordings:
        raise AudioError(
            f"{len(unreadable)} of {n_recordings} recordings cannot be used, more than the share of "
            f"{largest_share:g} that may be left out; the archive may be half unpacked, unpack it again. The first: "
            f"{unreadable[0].reason}"
        )


def cut_stretches(start_s: float, end_s: float, settings: PrepareSettings) -> list[tuple[float, float]]:
    """Return (start, length) of the clips of one stretch: one in its middle, or several spread from end to end.

    None is longer than clip_s or shorter than shortest_s, and apart_s lies between two of them.
    """
    clip_s = min(settings.clip_s, end_s - start_s)
    if clip_s < settings.shortest_s:
        return []
    slack_s = end_s - start_s - clip_s
    n_clips = min(settings.clips_per_recording, 1 + math.floor(slack_s / (clip_s + settings.apart_s)))
    if n_clips == 1:
        return [(start_s + slack_s / 2, clip_s)]
    return [(start_s + slack_s * nth / (n_clips - 1), clip_s) for nth in range(n_clips)]


def name_clip(corpus: str, recording: str, start_s: float) -> str:
    """Return a clip_id that says where the clip comes from and stays the same when other clips come or go."""
    return f"{corpus}/{recording}@{round(1000 * start_s)}ms"
