"""Score the clips of a manifest with a base model or a trained adapter, and measure what the scores show.

An adapter brings its own prompt and short-clip policy: it is scored as it was trained. What was scored before with
the same settings, model and recordings is read back, not computed again.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from listenwell.atomic_files import write_json, write_text
from listenwell.augment.conditions import CLEAN, parse_condition
from listenwell.config import Config, dump
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.errors import CheckpointError
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.scores import ScoreTable, write_scores
from listenwell.evaluate.summary import summarise
from listenwell.journal import Journal
from listenwell.model.adapter_files import read_adapter
from listenwell.model.loading import load_model
from listenwell.model.prompt import PromptConfig
from listenwell.model.short_clips import ShortClipConfig
from listenwell.progress import OnProgress, ignore_progress
from listenwell.run_folder import RunFolder, identity, provenance
from listenwell.study.detectors import FINE_TUNED, ZERO_SHOT, LanguageModelDetector
from listenwell.study.kept_scores import read_kept_scores
from listenwell.study.opened_run import find_adapter
from listenwell.study.prepare import find_manifest, read_noise, read_split
from listenwell.study.score import score_clips, write_quarantine
from listenwell.study.sealing import content_sha256, is_test_split, note_opening
from listenwell.vouched_files import hash_file, read_vouched, write_vouched

DEFAULT_THRESHOLD = 0.0
"""Both answers equally likely."""


@dataclass(frozen=True, slots=True)
class ScoredManifest:
    """Scores of one set of clips and what they show at DEFAULT_THRESHOLD, by condition.

    clips_per_s is None when the scores were read back.
    """

    method: str
    table: ScoreTable
    metrics: dict[str, list[Metric]]
    n_unreadable: int
    clips_per_s: float | None


def score_manifest(
    config: Config,
    split: str = "",
    conditions: Sequence[str] = (CLEAN,),
    adapter_folder: Path | None = None,
    on_progress: OnProgress = ignore_progress,
) -> ScoredManifest:
    """Score `split` of the config's clips ("" = all) and write scores, quarantine and results below config.output."""
    manifest = find_manifest(config, on_progress)
    clips = read_split(manifest, split, config.data.columns)
    is_noisy = any(parse_condition(condition).snr_db is not None for condition in conditions)
    bank = BackgroundBank(read_noise(config, split, on_progress) if is_noisy else [])
    model = load_model(config.model)
    method, adapter = ZERO_SHOT, None
    if adapter_folder is not None:
        adapter_folder = find_adapter(adapter_folder)
        method = FINE_TUNED
        adapter, listens = read_adapter(adapter_folder, model)
        config = _as_trained(config, listens)
    run, name = RunFolder(config.output), split or "all"
    if is_test_split(split):
        note_opening(split, content_sha256(clips), run.root)
    made_from = {
        "settings": config.model_dump(mode="json", include={"model", "prompt", "short_clips"}),
        "batch_seconds": config.scoring.batch_seconds,
        "model": model.fingerprint,
        "adapter": hash_file(adapter_folder / "adapter_model.safetensors") if adapter_folder else "",
        "conditions": list(conditions),
        "noise_seed": config.seed if bank.entries else None,
        "clips": identity(clips=[[clip.clip_id, clip.label, clip.group, _content(clip)] for clip in clips]),
        "backgrounds": identity(beds=bank.content),
        "manifest": hash_file(manifest),
    }
    previous = _read_identity(run.score_identity(name))
    if previous["made_from"] == made_from and run.scores(name).exists():
        table = read_kept_scores(run.scores(name), run.score_identity(name))
        n_unreadable, clips_per_s = previous["n_unreadable"], None
    else:
        started = time.monotonic()
        detector = LanguageModelDetector(
            model, config.prompt, config.short_clips, {method: adapter}, config.scoring.batch_seconds
        )
        journal = Journal(run.score_journal(name), identity(**made_from))
        scored = score_clips([detector], clips, bank, conditions, config, on_progress, journal=journal)
        table, n_unreadable = scored.tables[method], len(scored.unreadable)
        clips_per_s = len(table) / (time.monotonic() - started)
        write_scores(run.scores(name), table)
        write_quarantine(run.quarantine(name), scored.unreadable)
        note = {"made_from": made_from, "n_unreadable": n_unreadable}
        write_vouched(run.score_identity(name), note, [run.scores(name)])
        journal.remove()
    metrics = {
        condition: summarise(table.select(table.condition == condition), DEFAULT_THRESHOLD, config.seed)
        for condition in conditions
    }
    write_text(run.config, dump(config))
    write_json(run.provenance, provenance())
    shown = {condition: [asdict(metric) for metric in found] for condition, found in metrics.items()}
    write_vouched(run.results, {method: {name: shown}, "made_from": made_from})
    return ScoredManifest(method, table, metrics, n_unreadable, clips_per_s)


def _as_trained(config: Config, listens: dict[str, Any]) -> Config:
    """The config with the prompt and policy the adapter was trained with; an adapter of PEFT's own brings none."""
    if not listens:
        return config
    return config.model_copy(
        update={
            "prompt": PromptConfig(**listens["prompt"]),
            "short_clips": ShortClipConfig(**listens["short_clips"]),
        }
    )


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
    """Return what an earlier run noted, or a note that matches nothing where there is none or it is damaged."""
    nothing: dict[str, Any] = {"made_from": None, "n_unreadable": 0}
    if not path.is_file():
        return nothing
    try:
        return nothing | read_vouched(path)
    except CheckpointError:
        return nothing
