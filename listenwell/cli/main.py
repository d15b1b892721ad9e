"""The command line: one command, one function; it parses, calls, prints and sets the exit status.

Everything heavy is imported inside the functions, so `listenwell --help` answers at once and without torch. An
error made for the user is one sentence on standard error: exit status 1 when the work failed, 2 when the command or
its config was wrong, 130 after Ctrl-C. Progress goes to standard error, results to standard output.
"""

import io
import os
import sys
import warnings
from typing import Annotated, Any, ClassVar

import typer

from listenwell import __version__
from listenwell.cli import data, evidence, inspect, start, use
from listenwell.cli.shared import OneSentenceErrors
from listenwell.errors import AudioWarning


class Panels(OneSentenceErrors):
    """The commands in the order in which one comes to need them."""

    panels: ClassVar = {
        "Start": ("init", "check", "plan", "study", "report"),
        "Use": ("detect", "export"),
        "Inspect": ("trace", "preview", "compare", "runs", "seal"),
    }
    other_commands = "Advanced"


app = typer.Typer(
    cls=Panels, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take '[a-z]' and '[section.key=value]' in a help or a file name for a colour
    help="Fine-tune audio language models to decide SPEECH or NONSPEECH, and prove whether it generalises.",
)  # fmt: skip
for commands in (start, use, evidence, inspect):
    app.add_typer(commands.app)
data.app.add_typer(data.corpus_app, name="corpus")
for group, name in ((data.app, "data"), (inspect.runs_app, "runs"), (inspect.seal_app, "seal")):
    app.add_typer(group, name=name)
# names of earlier versions
for group, name in ((data.corpus_app, "corpus"), (inspect.augment_app, "augment")):
    app.add_typer(group, name=name, hidden=True)
app.command("test-set", hidden=True)(data.draw_test_set)
app.command("audio-check", hidden=True)(data.check_audio)


def main() -> None:
    """Run the command line; the entry point of the package.

    What the terminal cannot show, such as the bytes of a name that is no UTF-8, is printed escaped; what is said to
    a closed standard error is lost, and nothing else.
    """
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning  # type: ignore[assignment] # warnings passes the place by position
    app(prog_name="listenwell")


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """A warning about a recording as one sentence; others as Python shows them."""
    if issubclass(category, AudioWarning):
        print(f"listenwell: {message}", file=sys.stderr)
    else:
        _python_shows(message, category, *place)


_python_shows = warnings.showwarning


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
