"""The leak gate of a study: nothing is trained on parts that know each other, unless the config says so.

The report is kept beside what it was made from, so the same parts are searched once.

Run the leak gate on what a study would use: the parts of its config, or the splits of a table of clips.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from listenwell.config import Config
from listenwell.data.check.leaks import LEAKS, LeakReport, check_leaks
from listenwell.data.clip import Background, Clip, clip_hashes
from listenwell.data.manifest import read_backgrounds, read_manifest
from listenwell.errors import LeakageError, ManifestError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import read_parts
from listenwell.splits.divide import Parts
from listenwell.storage.load_or_make import Made, hash_content, load_or_make

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
    clips = _by_split(read_manifest(clips_table))
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


GATE_VERSION = 1
"""Raised when a change of the search could find something else in the same parts."""


def pass_gate(config: Config, parts: Parts, kept: Path, on_progress: OnProgress = ignore_progress) -> dict[str, Any]:
    """Return the leak report of the parts, as JSON values, kept in the file of that name.

    Raises LeakageError when there are leaks, unless data.on_leak is "report".
    """
    paths = [clip.path for clips in parts.clips.values() for clip in clips]
    paths += [entry.path for bank in parts.banks.values() for entry in bank.entries]
    files = {path: number for number, path in enumerate(dict.fromkeys(paths))}
    made_from = {
        "version": GATE_VERSION,
        "clips": {part: clip_hashes(clips) | _sources(clips, files) for part, clips in parts.clips.items()},
        "backgrounds": {part: bank.hashes | _sources(bank.entries, files) for part, bank in parts.banks.items()},
    }
    report: dict[str, Any] = load_or_make(
        kept, made_from, lambda: Made({"report": check_parts(parts, on_progress).to_json()})
    )["report"]
    if report["verdict"] == LEAKS and config.data.on_leak == "stop":
        first = next(finding for finding in report["findings"] if finding["is_leak"])
        raise LeakageError(
            f"{kept}: {report['n_leaks']} leaks between the parts, the first: {first['part_a']} {first['id_a']} "
            f"and {first['part_b']} {first['id_b']} ({first['kind']}: {first['evidence']}). Remove or regroup these "
            "clips; 'listenwell check' lists all; data.on_leak=report goes on and says so on the page."
        )
    return report


def _sources(sounds: Sequence[Clip] | Sequence[Background], files: Mapping[Path, int]) -> dict[str, str]:
    """Where sounds come from, by field: sounds of one recording, origin, corpus or file are related.

    files: a number for each, which a folder that is moved keeps.
    """
    recordings = [sound.recording for sound in sounds if isinstance(sound, Clip)]
    return {
        "recordings": hash_content(recordings),
        "origins": hash_content([sound.origin for sound in sounds]),
        "corpora": hash_content([sound.corpus for sound in sounds]),
        "files": hash_content([files[sound.path] for sound in sounds]),
    }
