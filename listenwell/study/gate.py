"""The leak gate of a study: nothing is trained on parts that know each other, unless the config says so.

The report is kept beside what it was made from, so the same parts are searched once.
"""

from pathlib import Path
from typing import Any

from listenwell.config import Config
from listenwell.data.clip import Background, Clip
from listenwell.data.leakage import LEAKS
from listenwell.errors import LeakageError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.run_folder import identity
from listenwell.study.check import check_parts
from listenwell.study.parts import Parts
from listenwell.vouched_files import read_vouched, write_vouched

GATE_VERSION = 1
"""Raised when a change of the search could find something else in the same parts."""


def pass_gate(config: Config, parts: Parts, kept: Path, on_progress: OnProgress = ignore_progress) -> dict[str, Any]:
    """Return the leak report of the parts, as JSON values, kept in the file of that name.

    Raises LeakageError when there are leaks, unless data.on_leak is "report".
    """
    made_from = identity(
        version=GATE_VERSION,
        clips={part: [_content(clip) for clip in clips] for part, clips in parts.clips.items()},
        backgrounds={part: [_content(bed) for bed in bank.entries] for part, bank in parts.banks.items()},
    )
    if not kept.is_file() or read_vouched(kept)["made_from"] != made_from:
        write_vouched(kept, {"made_from": made_from, "report": check_parts(parts, on_progress).to_json()})
    report: dict[str, Any] = read_vouched(kept)["report"]
    if report["verdict"] == LEAKS and config.data.on_leak == "stop":
        first = next(finding for finding in report["findings"] if finding["is_leak"])
        raise LeakageError(
            f"{kept}: {report['n_leaks']} leaks between the parts, the first: {first['part_a']} {first['id_a']} "
            f"and {first['part_b']} {first['id_b']} ({first['kind']}: {first['evidence']}). Remove or regroup these "
            "clips; 'listenwell check' lists all; data.on_leak=report goes on and says so on the page."
        )
    return report


def _content(sound: Clip | Background) -> list[str]:
    name = sound.clip_id if isinstance(sound, Clip) else sound.background_id
    recording = sound.recording if isinstance(sound, Clip) else ""
    label = sound.label if isinstance(sound, Clip) else ""
    return [name, label, sound.group, recording, sound.origin, sound.corpus, sound.pcm_sha256 or str(sound.path)]
