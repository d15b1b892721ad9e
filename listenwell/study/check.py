"""Run the leak gate on what a study would use: the parts of its config, or the splits of a table of clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from listenwell.config import Config
from listenwell.data.clip import Background, Clip
from listenwell.data.corpora.table import read_table
from listenwell.data.leakage import LeakReport, check_leaks
from listenwell.data.manifest import read_backgrounds
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.study.parts import Parts
from listenwell.study.reading import read_parts

UNNAMED = "no split"
Sounding = TypeVar("Sounding", Clip, Background)


def check_study(config: Config, on_progress: OnProgress = ignore_progress) -> LeakReport:
    """Return the leak report of the parts that the config's study would train, choose and test on.

    Clips that cannot be read are set aside first, as the study does. Raises AudioError when they are too many.
    """
    return check_parts(read_parts(config, on_progress)[0], on_progress)


def check_parts(parts: Parts, on_progress: OnProgress = ignore_progress) -> LeakReport:
    """Return the leak report of parts that are divided already."""
    return check_leaks(parts.clips, {part: bank.entries for part, bank in parts.banks.items()}, on_progress)


def check_table(
    clips_table: Path, backgrounds_table: Path | None = None, on_progress: OnProgress = ignore_progress
) -> LeakReport:
    """Return the leak report of the splits that the tables name. Raises ManifestError when there is only one."""
    clips = _by_split(read_table(clips_table))
    backgrounds = _by_split(read_backgrounds(backgrounds_table) if backgrounds_table else [])
    if len(clips.keys() | backgrounds.keys()) < 2:
        raise ManifestError(
            f"{clips_table}: every clip is in one split ('{next(iter(clips))}'), and a leak joins two; name the splits "
            "in the split column, or check the config of the study that divides the clips."
        )
    return check_leaks(clips, backgrounds, on_progress)


def _by_split(sounds: Sequence[Sounding]) -> dict[str, list[Sounding]]:
    found: dict[str, list[Sounding]] = {}
    for sound in sounds:
        found.setdefault(sound.split or UNNAMED, []).append(sound)
    return found
