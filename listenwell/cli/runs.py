"""Commands around runs that exist: list, compare, clean, tensorboard."""

from pathlib import Path
from typing import Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors, Overwrite

app = typer.Typer(cls=OneSentenceErrors, no_args_is_help=True, help="List, compare and clean the runs in a folder.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A run, or a folder of runs such as runs/.")]


@app.command("list")
def list_(folder: Folder) -> None:
    """Show every run: its state, when it last changed, fits done, dropped, failed and asked for, its main figure."""
    from listenwell.study.runs import list_runs

    typer.echo(
        f"{'run':30} {'state':10} {'changed (UTC)':16} {'done':>5} {'dropped':>7} {'failed':>6} {'asked':>5}  "
        "main figure"
    )
    for run in list_runs(folder):
        main = run.figures[0] if run.figures else None
        shown = "" if main is None else f"{main.value:.3f} [{main.low:.3f}, {main.high:.3f}] {main.test_set}"
        typer.echo(
            f"{run.folder!s:30} {run.state:10} {run.changed:%Y-%m-%d %H:%M} {run.n_done:5} {run.n_dropped:7} "
            f"{run.n_failed:6} {run.n_wanted:5}  {shown or run.holder}"
        )


@app.command("compare")
def compare(folder: Folder) -> None:
    """Set the finished runs side by side: balanced accuracy of the delivered detector, calibrated, with its interval.

    Intervals that overlap do not settle which run is better: 'listenwell compare RUN RUN' pairs two runs clip by clip.
    """
    from listenwell.study.runs import list_runs

    typer.echo(f"{'test set':14} {'condition':9} {'run':30} balanced accuracy")
    rows = [(figure, run.folder) for run in list_runs(folder) for figure in run.figures]
    for figure, run in sorted(rows, key=lambda row: (row[0].test_set, row[0].condition, -row[0].value)):
        typer.echo(
            f"{figure.test_set:14} {figure.condition:9} {run!s:30} "
            f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
        )


@app.command("clean")
def clean(
    folder: Folder,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove what finished runs no longer need: fits their configs do not ask for, begun stacks, leftovers of a kill.

    Nothing a finished study's report or a run in FOLDER refers to is touched, nor a run that somebody works in. A run
    outside FOLDER that uses these fits as its ledger is not seen: give the folder that holds both.
    """
    from listenwell.study.runs import find_waste, remove_waste

    waste = find_waste(folder)
    for each in waste:
        typer.echo(f"{each.n_bytes / 2**20:9.1f} MiB  {each.path}  ({each.reason})")
    total = f"{sum(each.n_bytes for each in waste) / 2**20:.1f} MiB in {len(waste)} places"
    if dry_run or not waste:
        typer.echo(f"{total}; nothing was removed.")
        return
    if not yes:
        typer.confirm(f"Remove {total}?", abort=True)
    remove_waste(folder, waste)
    typer.echo(f"removed {total}.")


@app.command("tensorboard")
def tensorboard(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that trains or trained.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the event files, one folder per fit.")],
    overwrite: Overwrite = False,
) -> None:
    """Copy the metrics of a run's fits into TensorBoard event files: tensorboard --logdir OUT. Prints the folders.

    Needs listenwell[tracking].
    """
    from listenwell.study.tensorboard_export import export_tensorboard

    for folder in export_tensorboard(run, out, overwrite=overwrite):
        typer.echo(folder)
