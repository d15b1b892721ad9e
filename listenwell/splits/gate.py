"""The first stage of a study: its recordings are read and divided, and the leak gate is passed.

Nothing is trained on splits that know each other, unless the config says so. The gate's report is kept beside what it
was made from, so the same splits are searched once. The gate alone runs on what a study would use or on a table
of clips that names its splits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.config import Config, config_beside, dump
from listenwell.data.check.leaks import LEAKS, LeakReport, check_leaks
from listenwell.data.clip import Background, Clip, clip_hashes
from listenwell.data.manifest import read_backgrounds, read_manifest
from listenwell.errors import LeakageError, ManifestError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import Unreadable, read_splits, write_quarantine
from listenwell.splits.divide import Splits, allocation, group_by_split, with_speakers
from listenwell.storage.atomic_files import write_json, write_text
from listenwell.storage.load_or_make import Made, hash_content, load_or_make
from listenwell.storage.run_folder import RunFolder

GATE_VERSION = 2
"""Raised when a change of the search could find something else in the same splits."""
UNNAMED = "no split"


@dataclass(frozen=True, slots=True)
class Divided:
    """Who trains, chooses and tests; the clips left out; the leak gate's report (JSON values)."""

    splits: Splits
    quarantine: Sequence[Unreadable]
    leaks: Mapping[str, Any]


def divide_study(config: Config, run: RunFolder, on_progress: OnProgress = ignore_progress) -> Divided:
    """Divide the readable clips of the config, pass the gate, and write the run's config and allocation.

    Clips that cannot be read go to the quarantine list. Raises LeakageError as the gate does.
    """
    splits, unreadable = read_splits(config, on_progress)
    write_quarantine(run.quarantine("study"), unreadable)
    babble = "augment.babble.probability"
    in_arms = any(babble in changes for changes in config.arms.values())
    if config.augment.babble.probability > 0 or in_arms or config.search.may_change(babble):
        splits = with_speakers(splits)
    leaks = pass_gate(config, splits, run.leaks, on_progress)
    write_text(run.config, dump(config_beside(config, run.root)))
    write_json(run.allocation, allocation(splits))
    return Divided(splits, unreadable, leaks)


def check_study(config: Config, on_progress: OnProgress = ignore_progress) -> LeakReport:
    """Return the leak report of the splits that the config's study would train, choose and test on.

    Clips that cannot be read are set aside first, as the study does. Raises AudioError when they are too many.
    """
    return check_splits(read_splits(config, on_progress)[0], on_progress)


def check_splits(splits: Splits, on_progress: OnProgress = ignore_progress) -> LeakReport:
    """Return the leak report of splits that are divided already."""
    return _check(splits.clips, {split: bank.entries for split, bank in splits.banks.items()}, on_progress)


def check_table(
    clips_table: Path, backgrounds_table: Path | None = None, on_progress: OnProgress = ignore_progress
) -> LeakReport:
    """Return the leak report of the splits that the tables name. Raises ManifestError when there is only one."""
    clips = group_by_split(read_manifest(clips_table), UNNAMED)
    backgrounds = group_by_split(read_backgrounds(backgrounds_table) if backgrounds_table else [], UNNAMED)
    if len(clips.keys() | backgrounds.keys()) < 2:
        raise ManifestError(
            f"{clips_table}: every clip is in one split ('{next(iter(clips))}'), and a leak joins two; name the splits "
            "in the split column, or check the config of the study that divides the clips."
        )
    return _check(clips, backgrounds, on_progress)


def _check(
    clips: Mapping[str, Sequence[Clip]], backgrounds: Mapping[str, Sequence[Background]], on_progress: OnProgress
) -> LeakReport:
    """The leak report; its many searches are one stage of progress, which ends with what they found."""
    report = check_leaks(
        clips, backgrounds, lambda what, done, n: on_progress(f"leak check: {what}", min(done, n - 1), n)
    )
    n_sounds = sum(report.n_clips.values()) + sum(report.n_backgrounds.values())
    n_warnings = len(report.findings) - len(report.leaks)
    on_progress(f"leak check: {len(report.leaks)} leaks, {n_warnings} warnings", n_sounds, n_sounds)
    return report


def pass_gate(config: Config, splits: Splits, kept: Path, on_progress: OnProgress = ignore_progress) -> dict[str, Any]:
    """Return the leak report of the splits, as JSON values, kept in the file of that name.

    Raises LeakageError when there are leaks, unless data.on_leak is "report".
    """
    paths = [clip.path for clips in splits.clips.values() for clip in clips]
    paths += [entry.path for bank in splits.banks.values() for entry in bank.entries]
    files = {path: number for number, path in enumerate(dict.fromkeys(paths))}
    made_from = {
        "version": GATE_VERSION,
        "clips": {split: clip_hashes(clips) | _sources(clips, files) for split, clips in splits.clips.items()},
        "backgrounds": {split: bank.hashes | _sources(bank.entries, files) for split, bank in splits.banks.items()},
    }
    report: dict[str, Any] = load_or_make(
        kept, made_from, lambda: Made({"report": check_splits(splits, on_progress).to_json()})
    )["report"]
    if report["verdict"] == LEAKS and config.data.on_leak == "stop":
        first = next(finding for finding in report["findings"] if finding["is_leak"])
        raise LeakageError(
            f"{kept}: {report['n_leaks']} leaks between the splits, the first: {first['part_a']} {first['id_a']} "
            f"and {first['part_b']} {first['id_b']} ({first['kind']}: {first['evidence']}). Remove or regroup these "
            "clips; 'listenwell check' lists all; data.on_leak=report goes on and says so on the page."
        )
    return report


def _sources(sounds: Sequence[Clip] | Sequence[Background], files: Mapping[Path, int]) -> dict[str, str]:
    """Where sounds come from, by field: sounds of one recording, origin, corpus or file are related.

    files: a number for each, which a folder that is moved keeps.
    """
    return {
        "recordings": hash_content([sound.recording for sound in sounds if isinstance(sound, Clip)]),
        "origins": hash_content([sound.origin for sound in sounds]),
        "corpora": hash_content([sound.corpus for sound in sounds]),
        "files": hash_content([files[sound.path] for sound in sounds]),
    }
