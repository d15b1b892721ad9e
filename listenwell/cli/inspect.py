"""Commands that look: check (the leak gate), preview, runs list, seal show."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from listenwell.cli.shared import ConfigFile, OneSentenceErrors, Overrides, Overwrite, Run, study_inputs, table_inputs
from listenwell.errors import ConfigError
from listenwell.progress import shown_progress
from listenwell.storage.atomic_files import write_json
from listenwell.storage.destination import destinations
from listenwell.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from listenwell.data.check.leaks import LeakReport

runs_app = typer.Typer(cls=OneSentenceErrors, no_args_is_help=True, help="List the runs in a folder.")


@runs_app.command("list", epilog="Example: listenwell runs list my")
def list_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run, or a folder of runs such as runs/.")],
) -> None:
    """Show every run: its state, when it last changed, fits done, dropped, failed and requested, its main figures.

    Intervals that overlap do not settle which run is better: 'listenwell compare RUN RUN' pairs two runs clip by clip.
    """
    from listenwell.tasks.runs import list_runs

    runs = list_runs(folder)
    typer.echo(
        f"{'run':30} {'state':10} {'changed (UTC)':16} {'done':>5} {'dropped':>7} {'failed':>6} {'requested':>9}"
    )
    for run in runs:
        typer.echo(
            f"{run.folder!s:30} {run.state:10} {run.changed:%Y-%m-%d %H:%M} {run.n_done:5} {run.n_dropped:7} "
            f"{run.n_failed:6} {run.n_wanted:9}  {run.holder}"
        )
    rows = [(row, run.folder) for run in runs for row in run.rows]
    for row, run_folder in sorted(rows, key=lambda r: (r[0].test_set, r[0].condition, -r[0].metrics[0].value)):
        metric = row.metrics[0]
        typer.echo(
            f"{row.test_set:14} {row.condition:9} {run_folder!s:30} balanced accuracy "
            f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]"
        )


seal_app = typer.Typer(
    cls=OneSentenceErrors, no_args_is_help=True, help="The seal of a study's test sets: who committed, who looked."
)


@seal_app.command("show", epilog="Example: listenwell seal show my/run")
def show(run: Run) -> None:
    """Print the log of commits and looks and what it bears out; exit status 1 unless the test is sealed."""
    from listenwell.splits.sealing import read_seal

    seal = read_seal(RunFolder(run))
    for entry in seal["entries"]:
        what = entry["test_set"] if entry["event"] == "look" else ", ".join(entry["thresholds"])
        typer.echo(f"{entry['number']:3}  {entry['time']}  {entry['who']:12} {entry['event']:7} {what}")
    for earlier in seal["earlier"]:
        typer.echo(f"     {earlier['time']}  {earlier['test_set']} was opened before by {earlier['run']}")
    typer.echo(f"head {seal['head'] or 'none'}")
    typer.echo(f"{seal['verdict']}: {seal['reason']}")
    if seal["verdict"] != "sealed":
        raise typer.Exit(1)


app = typer.Typer(cls=OneSentenceErrors)
SHOWN = 20


@app.command("check", epilog="Example: listenwell check my/study.yaml --json leaks.json")
def check(
    source: Annotated[Path, typer.Argument(metavar="CONFIG|CLIPS.CSV", help="Config (YAML), or a table with splits.")],
    backgrounds: Annotated[Path | None, typer.Option(help="backgrounds.csv, beside a table of clips.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the whole report here (JSON).")] = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Look for leaks between train, dev, test sets and backgrounds, by name and by sound; exit status 1 if any."""
    from listenwell.config import load_config
    from listenwell.data.check.leaks import CLEAN
    from listenwell.splits.clips import prepare
    from listenwell.splits.gate import check_study, check_table

    is_config = source.suffix.lower() in (".yaml", ".yml")
    if is_config and backgrounds is not None:
        raise ConfigError(f"{source}: a config names its own backgrounds; leave --backgrounds out.")
    if overrides and not is_config:
        raise ConfigError(
            f"{source}: is a table of clips, and '{overrides[0]}' would change a config; leave it out, or check the "
            "config of the study."
        )
    config = load_config(source, overrides or []) if is_config else None
    read = study_inputs(config, source) if config else table_inputs(source, backgrounds)
    with destinations([json_out], inputs=read, overwrite=overwrite):
        with shown_progress() as on_progress:
            report = check_study(config, on_progress) if config else check_table(source, backgrounds, on_progress)
        if json_out is not None:
            write_json(json_out, report.to_json())
    typer.echo(report_text(report))
    if config:
        from listenwell.tasks.init import describe_speakers

        few = describe_speakers(prepare(config)[0], has_folds=bool(config.leave_one_out.arms))
        print(f"listenwell: note: {few}\n" if few else "", end="", file=sys.stderr)
    if report.verdict != CLEAN:
        raise typer.Exit(1)


def report_text(report: "LeakReport") -> str:
    """The verdict, what was compared, and up to SHOWN findings of every kind."""
    lines = [
        f"{report.verdict}: {len(report.leaks)} leaks, {len(report.findings) - len(report.leaks)} warnings; compared "
        f"{sum(report.n_clips.values())} clips and {sum(report.n_backgrounds.values())} backgrounds of "
        f"{', '.join(report.n_clips)}, {report.n_pairs} pairs"
    ]
    for is_leak, kind in dict.fromkeys((finding.is_leak, finding.kind) for finding in report.findings):
        alike = [finding for finding in report.findings if (finding.is_leak, finding.kind) == (is_leak, kind)]
        lines.append(f"{'leak' if is_leak else 'warning'}: {kind}, {len(alike)} found")
        lines += [f"  {f.part_a} {f.id_a} | {f.part_b} {f.id_b} | {f.evidence}" for f in alike[:SHOWN]]
        lines += [f"  ... and {len(alike) - SHOWN} more; --json writes all"] if len(alike) > SHOWN else []
    lines += [f"not compared by sound: {reason}" for reason in report.unreadable]
    return "\n".join(lines)


augment_app = typer.Typer(cls=OneSentenceErrors, no_args_is_help=True, help="Augmentation: preview.")


@augment_app.command("preview")
@app.command("preview", epilog="Example: listenwell preview my/study.yaml --clips speech/anna/1 --out preview.html")
def preview_plans(
    config: ConfigFile,
    out: Annotated[Path, typer.Option("--out", help="The page to write.")],
    clips: Annotated[
        str, typer.Option("--clips", help="Training clips, as ID,ID; some are drawn if none is given.")
    ] = "",
    epochs: Annotated[str, typer.Option("--epochs", help="Epochs, as 1,2.")] = "1",
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Write a page that plays and shows chosen clips exactly as training gets them."""
    from listenwell.config import load_config
    from listenwell.tasks.preview import preview

    resolved = load_config(config, overrides or [])
    try:
        wanted = [int(epoch) for epoch in epochs.split(",")]
    except ValueError as error:
        raise ConfigError(f"--epochs '{epochs}': expected whole numbers, for instance 1,2.") from error
    with (
        destinations([out], inputs=study_inputs(resolved, config), overwrite=overwrite),
        shown_progress() as on_progress,
    ):
        versions = preview(resolved, list(filter(None, clips.split(","))), wanted, out, on_progress)
    for version in versions:
        typer.echo(
            f"{version.clip.clip_id}, epoch {version.epoch}: {' '.join(version.words) or 'nothing was changed.'}"
        )
    typer.echo(out)
