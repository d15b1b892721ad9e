"""Commands on the seal of a study's test sets: show."""

from pathlib import Path
from typing import Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors

app = typer.Typer(
    cls=OneSentenceErrors, no_args_is_help=True, help="The seal of a study's test sets: who committed, who looked."
)


@app.callback()
def _group() -> None:
    pass


@app.command("show")
def show(run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished study.")]) -> None:
    """Print the log of commits and looks and what it bears out; exit status 1 unless the test is sealed."""
    from listenwell.run_folder import RunFolder
    from listenwell.study.sealing import read_seal

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
