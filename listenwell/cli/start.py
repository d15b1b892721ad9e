"""Commands around a study: init, plan, study, report; and its parts, from train to prompts."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from listenwell.cli.shared import (
    AdapterFolder,
    ConfigFile,
    OneSentenceErrors,
    Overrides,
    Overwrite,
    Run,
    count_groups,
    peak_memory_gib,
    read_text,
    study_config,
    study_inputs,
)
from listenwell.progress import shown_progress
from listenwell.storage.atomic_files import write_text
from listenwell.storage.destination import destinations

if TYPE_CHECKING:
    from listenwell.report.trained import Search
    from listenwell.tasks.plan import StudyPlan


app = typer.Typer(cls=OneSentenceErrors)


@app.command("study", epilog="Example: listenwell study my/study.yaml train.epochs=5")
def study(config: ConfigFile, overrides: Overrides = None) -> None:
    """Run a whole study: divide, fine-tune, score, calibrate, judge, report. What is done already is reused."""
    resolved = study_config(config, overrides or [])
    from listenwell.report.tables import format_table
    from listenwell.study.run import run_study

    with shown_progress() as on_progress:
        results = run_study(resolved, on_progress)
    typer.echo(format_table(results))
    spent = sorted(results.provenance["seconds"].items(), key=lambda stage: -stage[1])
    typer.echo(f"time: {', '.join(f'{stage} {seconds:.0f} s' for stage, seconds in spent if seconds >= 1)}")
    typer.echo(f"peak memory {peak_memory_gib():.1f} GiB; report: {resolved.output / 'report.html'}")


@app.command("init", epilog="Example: listenwell init my")
def init(
    source: Annotated[
        Path,
        typer.Argument(metavar="FOLDER|TABLE|hf:OWNER/NAME", help="Your recordings, a table, or data of another tool."),
    ],
    group: Annotated[
        str,
        typer.Option(
            "--group",
            help="Who stands behind a file: folder, file, or a pattern such as '^([a-z]+)_'; of a table, its column.",
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a study on data of another tool.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Look at a folder of recordings (speech/<speaker>/..., nonspeech/<source>/...), write clips.csv and study.yaml.

    Labels may also lie beside the recordings: Audacity's label tracks, Praat's TextGrids, RTTM. Or look at a table of
    clips (CSV, JSON Lines, Parquet): study.yaml says which of its columns are read as what; Common Voice's is known.
    Data of other tools: Hugging Face datasets, saved or on the hub, lhotse's cuts, Kaldi's data folders.
    """
    from listenwell.tasks import init as task

    started = task.start(source, group, out, overwrite=overwrite)
    for column, name in started.taken.items():
        typer.echo(f"{column:12} is column {name}")
    if started.taken and "clip_id" not in started.taken:
        typer.echo(f"{'clip_id':12} is made of path and start")
    if started.left:
        typer.echo(f"{'left alone:':12} {', '.join(started.left)}")
    if started.columns:
        typer.echo(f"columns: {started.columns}")
    for label, n_clips, n_groups in count_groups(started.clips):
        typer.echo(f"{label:10} {n_clips:5} clips  {n_groups:4} groups")
    if started.backgrounds:
        typer.echo(f"{'background':10} {len(started.backgrounds):5} recordings")
    for warning in started.warnings:
        print(f"listenwell: warning: {warning}", file=sys.stderr)
    config = shlex.quote(str(started.config))
    typer.echo(f"next: listenwell check {config}, then listenwell study {config}")


@app.command("fit", hidden=True)
@app.command("train", epilog="Example: listenwell train my/study.yaml seed=123")
def train(config: ConfigFile, overrides: Overrides = None) -> None:
    """Train one adapter; a fit with the same settings and recordings is not trained again. Prints its folder."""
    resolved = study_config(config, overrides or [])
    from listenwell.study.run import fit_alone

    with shown_progress() as on_progress:
        finished = fit_alone(resolved, on_progress)
    typer.echo("epoch  train loss  dev loss  dev AUC")
    for epoch in finished.record["history"]:
        best = "  best" if epoch["epoch"] == finished.record["best_epoch"] else ""
        typer.echo(
            f"{epoch['epoch']:5}  {epoch['train_loss']:10.4f}  {epoch['dev_loss']:8.4f}  {epoch['dev_auc']:7.4f}{best}"
        )
    typer.echo(finished.folder / "adapter")


@app.command("search", epilog="Example: listenwell search my/study.yaml 'search.grid=[{lora.rank: 4}, {lora.rank: 8}]'")
def search(config: ConfigFile, overrides: Overrides = None) -> None:
    """Train the points of search.grid, or those that search.sampled draws, and rank them on dev.

    No test clip is opened. A stopped search goes on where it was, and a later study reuses its fits.
    """
    resolved = study_config(config, overrides or [])
    from listenwell.report.tables import align, search_table
    from listenwell.study.run import search_alone

    with shown_progress() as on_progress:
        result = search_alone(resolved, on_progress)
    typer.echo(align(search_table(result)))
    typer.echo("\n".join(_search_lines(result)))


@app.command("plan", epilog="Example: listenwell plan my/study.yaml --probe")
def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    probe: Annotated[bool, typer.Option("--probe", help="Load the model; time ten steps and some scores.")] = False,
) -> None:
    """Say what a study will take before anything is trained: fits, steps, memory, time.

    Without --probe no weights are read and no time is estimated.
    """
    resolved = study_config(config, overrides or [])
    from listenwell.tasks.plan import plan_study

    with shown_progress() as on_progress:
        planned = plan_study(resolved, probe=probe, on_progress=on_progress)
    typer.echo("\n".join(_plan_lines(planned)))


def _plan_lines(plan: "StudyPlan") -> Iterator[str]:
    """The plan, one fact a line."""
    yield f"{'fits':24} {'number':>7} {'steps':>9} {'clips':>9}"
    in_all = [fit for of_kind in plan.fits.values() for fit in of_kind]
    for kind, fits in [*plan.fits.items(), ("in all", in_all)]:
        n_steps, n_clips = sum(fit.n_steps for fit in fits), sum(fit.n_clips_trained for fit in fits)
        yield f"{kind:24} {len(fits):7} {n_steps:9} {n_clips:9}"
    yield f"scores: {plan.n_scorings}"
    yield from (f"memory, {name}: {_gib(n_bytes)}" for name, n_bytes in plan.memory.items())
    in_all_bytes, free_bytes = sum(plan.memory.values()), plan.free_memory_bytes
    free = "" if free_bytes is None else f"; free now: {_gib(free_bytes)}"
    if free_bytes is not None and in_all_bytes > free_bytes:
        free += "; that is more than is free: lower train.stack or train.batch, or set train.gradient_checkpointing"
    yield f"memory in all, an upper bound: {_gib(in_all_bytes)}{free}"
    time = "unknown; --probe measures ten steps and some scores"
    if plan.training_s is not None and plan.scoring_s is not None:
        time = f"training {_duration(plan.training_s)}, scoring {_duration(plan.scoring_s)}, as eight steps "
        time += "and some scores ran"
    yield f"time on this machine: {time}"


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _search_lines(result: "Search") -> Iterator[str]:
    """The trials that ended at a rung; the best point."""
    for trial in sorted(result.dropped, key=lambda trial: (-trial["rung"], trial["dev_loss"])):
        yield f"ended after epoch {trial['rung']}, dev loss {trial['dev_loss']:.3f}: {_changes_text(trial['changes'])}"
    yield f"best: {_changes_text(result.best)}"


def _changes_text(changes: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in changes.items()) or "the config as it is"


@app.command("loso", hidden=True)
@app.command("cross-validate", epilog="Example: listenwell cross-validate my/study.yaml leave_one_out.over=pool")
def cross_validate(config: ConfigFile, overrides: Overrides = None) -> None:
    """Leave every speaker of the study pool out once; arms by leave_one_out.arms, else the config itself."""
    resolved = study_config(config, overrides or [])
    from listenwell.report.tables import align, speaker_table
    from listenwell.study.run import leave_one_out_alone

    with shown_progress() as on_progress:
        records = leave_one_out_alone(resolved, on_progress)
    typer.echo("\n\n".join(align(speaker_table(record)) for record in records))


@app.command("report", epilog="Example: listenwell report my/run")
def report(run: Run) -> None:
    """Write report.html and report.md again from a study's results.json."""
    from listenwell.study.results import Results

    typer.echo(Results.read(run).report(run))


@app.command("trace", epilog="Example: listenwell trace speech/anna/1 --run my/run")
def trace(
    clip_id: Annotated[str, typer.Argument(metavar="CLIP_ID", help="A clip of the study.")],
    run: Annotated[Path, typer.Option("--run", help="Folder of a finished study.")],
) -> None:
    """Walk one clip through a study: manifest line, plans, shapes, scores, thresholds, decisions (as YAML)."""
    import yaml

    from listenwell.tasks.trace import trace

    typer.echo(yaml.safe_dump(trace(clip_id, run), sort_keys=False, allow_unicode=True), nl=False)


@app.command("config", epilog="Example: listenwell config my/study.yaml train.epochs=5")
def show_config(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [section.key=value]...", help="A YAML file, then changes.", show_default=False
        ),
    ] = None,
) -> None:
    """Print the resolved config as YAML, every field with its help."""
    from listenwell.config import dump, load_config

    changes = arguments or []
    path = Path(changes.pop(0)) if changes and "=" not in changes[0] else None
    typer.echo(dump(load_config(path, changes), with_help=True), nl=False)


@app.command("prompts", epilog="Example: listenwell prompts my/study.yaml --file questions.txt")
def prompts(
    config: ConfigFile,
    ask: Annotated[list[str] | None, typer.Option("--ask", help="A question; may be given again.")] = None,
    files: Annotated[list[Path] | None, typer.Option("--file", help="Questions, one a line; repeatable.")] = None,
    adapter: AdapterFolder = None,
    out: Annotated[Path, typer.Option("--out", help="File that receives the best question.")] = Path("best_prompt.txt"),
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Rank questions to the model on the dev clips of a study, and write the best one to a file.

    All share one pass of the audio encoder. Balanced accuracy is that of decisions whose threshold other dev groups
    chose; where intervals overlap, the ranking is chance. No test clip is opened.
    """
    from listenwell.config import load_config
    from listenwell.tasks.score_table import judge_prompts

    lines = [line.strip() for path in files or [] for line in read_text(path).splitlines()]
    questions = [*(ask or []), *filter(None, lines)]
    resolved = load_config(config, overrides or [])
    read = study_inputs(resolved, config, adapter, *(files or []))
    with destinations([out], inputs=read, overwrite=overwrite):
        with shown_progress() as on_progress:
            judged = judge_prompts(resolved, questions, adapter, on_progress)
        write_text(out, judged[0].question + "\n")
    for place, prompt in enumerate(judged, start=1):
        metric = prompt.balanced_accuracy
        typer.echo(
            f"{place:3}  {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]  AUC {prompt.auc:.3f}  threshold "
            f"{prompt.threshold:+.2f}  {prompt.question}"
        )
    best = judged[0].balanced_accuracy
    alike = sum(prompt.balanced_accuracy.high >= best.low for prompt in judged[1:])
    typer.echo(f"{best.n} dev scores of {best.n_groups} groups; {alike} of the others may be as good as the first")
    typer.echo(out)
