"""The leak gate of a study: nothing is trained on parts that know each other, unless the config says so.

The report is kept beside what it was made from, so the same parts are searched once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from listenwell.config import Config
from listenwell.data.clip import Background, Clip, clip_hashes
from listenwell.data.leakage import LEAKS
from listenwell.errors import LeakageError
from listenwell.load_or_make import Made, load_or_make
from listenwell.progress import OnProgress, ignore_progress
from listenwell.study.check import check_parts
from listenwell.study.parts import Parts
from listenwell.vouched_files import hash_content

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
