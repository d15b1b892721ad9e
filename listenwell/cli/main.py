"""The command line: one command, one function; it parses, calls, prints and sets the exit status.

Everything heavy is imported inside the functions, so `listenwell --help` answers at once and without torch. An
error made for the user is one sentence on standard error: exit status 1 when the work failed, 2 when the command or
its config was wrong, 130 after Ctrl-C. Progress goes to standard error, results to standard output.
"""

from typing import Annotated

import typer

from listenwell import __version__
from listenwell.cli import (
    asking,
    augment,
    corpora,
    detection,
    evidence,
    exchange,
    leaks,
    models,
    runs,
    scoring,
    seals,
    studies,
    test_sets,
)
from listenwell.cli.shared import OneSentenceErrors

app = typer.Typer(
    cls=OneSentenceErrors, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Fine-tune audio language models to decide SPEECH or NONSPEECH, and prove whether it generalises.",
)  # fmt: skip
for commands in (studies, scoring, evidence, leaks, test_sets, detection, asking):
    app.add_typer(commands.app)
app.add_typer(augment.app, name="augment")
corpora.app.add_typer(exchange.app)
app.add_typer(corpora.app, name="corpus")
app.add_typer(models.app, name="model")
app.add_typer(runs.app, name="runs")
app.add_typer(seals.app, name="seal")


def main() -> None:
    """Run the command line; the entry point of the package."""
    app(prog_name="listenwell")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"listenwell {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass
