"""Score a set of clips with the base model as it is and measure how well its answers tell speech from non-speech.

What was scored before with the same settings, model and recordings is read back, not computed again.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from listenwell.atomic_files import write_json, write_text
from listenwell.augment.conditions import CLEAN
from listenwell.config import Config, dump
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
from listenwell.evaluate.summary import summarise
from listenwell.model.loading import load_model
from listenwell.model.weights import file_sha256
from listenwell.progress import OnProgress, ignore_progress
from listenwell.run_folder import RunFolder, identity, provenance
from listenwell.study.detectors import LanguageModelDetector
from listenwell.study.prepare import find_manifest, read_split
from listenwell.study.score import score_clips, write_quarantine

METHOD = "zero-shot"
DEFAULT_THRESHOLD = 0.0
"""Both answers equally likely."""


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """Scores of one set of clips and what they show. clips_per_s is None when the scores were read back."""

    table: ScoreTable
    metrics: list[Metric]
    n_unreadable: int
    clips_per_s: float | None


def run_zero_shot(config: Config, split: str, on_progress: OnProgress = ignore_progress) -> ZeroShot:
    """Score `split` of the config's clips ("" = all) and write scores, quarantine and results below config.output."""
    manifest = find_manifest(config, on_progress)
    clips = read_split(manifest, split)
    model = load_model(config.model)
    run, name = RunFolder(config.output), split or "all"
    made_from = {
        "settings": config.model_dump(mode="json", include={"model", "prompt", "short_clips", "scoring"}),
        "model": model.fingerprint,
        "clips": identity(clips=[[clip.clip_id, clip.label, clip.group, _content(clip)] for clip in clips]),
        "manifest": file_sha256(manifest),
    }
    previous = _read_identity(run.score_identity(name))
    if previous["made_from"] == made_from and run.scores(name).exists():
        table, n_unreadable, clips_per_s = read_scores(run.scores(name)), previous["n_unreadable"], None
    else:
        started = time.monotonic()
        adapters = {METHOD: None}
        detector = LanguageModelDetector(
            model, config.prompt, config.short_clips, adapters, config.scoring.batch_seconds
        )
        scored = score_clips([detector], clips, BackgroundBank([]), [CLEAN], config, on_progress)
        table, unreadable = scored.tables[METHOD], scored.unreadable
        n_unreadable, clips_per_s = len(unreadable), len(table) / (time.monotonic() - started)
        write_scores(run.scores(name), table)
        write_quarantine(run.quarantine(name), unreadable)
        write_json(run.score_identity(name), {"made_from": made_from, "n_unreadable": n_unreadable})
    metrics = summarise(table, DEFAULT_THRESHOLD, config.seed)
    write_text(run.config, dump(config))
    write_json(run.provenance, provenance())
    write_json(run.results, {"zero_shot": {name: [asdict(metric) for metric in metrics]}, "made_from": made_from})
    return ZeroShot(table, metrics, n_unreadable, clips_per_s)


def _content(clip: Clip) -> str:
    """Return what stands for the clip's sound: its hash where the table has it, else size and time of the file."""
    if clip.pcm_sha256:
        return clip.pcm_sha256
    try:
        found = clip.path.stat()
    except OSError:
        return "missing"
    return f"{found.st_size} bytes {found.st_mtime_ns} ns"


def _read_identity(path: Path) -> dict[str, Any]:
    """Return what an earlier run noted, or a note that matches nothing."""
    nothing: dict[str, Any] = {"made_from": None, "n_unreadable": 0}
    try:
        noted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return nothing | noted
    except (OSError, ValueError, TypeError):
        return nothing
