"""The command that makes scores; those that judge them are in `listenwell.cli.evidence`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from listenwell.cli.shared import MetricLines, OneSentenceErrors, Overrides, peak_memory_gib
from listenwell.errors import ConfigError

if TYPE_CHECKING:
    from listenwell.config import Config
    from listenwell.study.score_manifest import ScoredManifest

app = typer.Typer(cls=OneSentenceErrors)


@app.command("score")
def score(
    out: Annotated[Path, typer.Option("--out", help="Folder for the scores and what they show.")],
    clips: Annotated[str, typer.Option("--clips", help="clips.csv, or starter.")] = "",
    model: Annotated[str, typer.Option("--model", help="small, a model folder or a hub id.")] = "",
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="Folder of a trained adapter, or of a study that delivers one.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Score this split of the clips only.")] = "",
    conditions: Annotated[
        str, typer.Option("--conditions", help="Versions to score, such as clean,snr_0,200ms.")
    ] = "clean",
    prompt_file: Annotated[Path | None, typer.Option("--prompt-file", help="Text file with the question.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Config file (YAML).")] = None,
    overrides: Overrides = None,
) -> None:
    """Score clips with a base model as it is, or with a trained adapter: one CSV row per clip and condition."""
    from listenwell.config import load_config
    from listenwell.progress import shown_progress
    from listenwell.run_folder import RunFolder
    from listenwell.study.prepare import find_manifest, read_split
    from listenwell.study.run_lock import hold_run, require_own
    from listenwell.study.score_manifest import score_manifest

    chosen = [("data.manifest", clips), ("model.name", model), ("prompt.question", _question(prompt_file))]
    changes = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in chosen if value]
    wanted = conditions.split(",")
    changes += [f"output={json.dumps(str(out), ensure_ascii=False)}", f"evaluation.conditions={json.dumps(wanted)}"]
    resolved = load_config(config, [*changes, *(overrides or [])])
    run = RunFolder(resolved.output)
    require_own(run)
    if run.leaks.exists():
        raise ConfigError(
            f"{run.root}: is the folder of a study, whose results would be lost; give another with --out."
        )
    with shown_progress() as on_progress:
        # a table that cannot be read leaves no folder
        read_split(find_manifest(resolved, on_progress), split, resolved.data.columns)
        with hold_run(run):
            result = score_manifest(resolved, split, resolved.evaluation.conditions, adapter, on_progress)
    typer.echo(_scored_text(resolved, split, result))


def _scored_text(config: "Config", split: str, result: "ScoredManifest") -> str:
    rows = f"{len(result.table)} rows" + (f" of {split}" if split else "")
    lines = [f"{config.model.name}, {result.method}, {rows}, threshold 0"]
    measures = MetricLines()
    for condition, metrics in result.metrics.items():
        lines.append(condition)
        lines += [measures.line(metric) for metric in metrics]
    lines += measures.notes()
    if result.n_unreadable:
        lines.append(f"{result.n_unreadable} clips could not be read, see {config.output}/quarantine")
    rate = "read back from an earlier run" if result.clips_per_s is None else f"{result.clips_per_s:.1f} clips/s"
    lines.append(f"{rate}; peak memory {peak_memory_gib():.1f} GiB; results in {config.output}")
    return "\n".join(lines)


def _question(prompt_file: Path | None) -> str:
    if prompt_file is None:
        return ""
    try:
        question = prompt_file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{prompt_file}: cannot be read as UTF-8 text; give a text file with the question."
        ) from error
    if not question:
        raise ConfigError(f"{prompt_file}: is empty; the question put to the model was expected.")
    return question
