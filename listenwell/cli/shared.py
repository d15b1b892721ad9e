"""What several commands share: errors as one sentence, the overrides argument, figures as text."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from listenwell.errors import ListenwellError

if TYPE_CHECKING:
    from listenwell.evaluate.intervals import Metric

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[section.key=value]...", help="Changes to the config.", show_default=False),
]


class OneSentenceErrors(TyperGroup):
    """Prints a ListenwellError or Ctrl-C as one sentence and turns it into the exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except ListenwellError as error:
            print(f"listenwell: error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_status) from error
        except KeyboardInterrupt as interrupt:
            print(
                "listenwell: interrupted; finished files stay, none is half-written; run the same command to go on.",
                file=sys.stderr,
            )
            raise typer.Exit(130) from interrupt


def metric_text(metric: "Metric") -> str:
    """One measure as a line: value, interval, clips, groups."""
    return (
        f"  {metric.name:18} {metric.value:.3f}  [{metric.low:.3f}, {metric.high:.3f}]  "
        f"{metric.n} clips, {metric.n_groups} groups" + (f"; {metric.note}" if metric.note else "")
    )


def peak_memory_gib() -> float:
    """The most memory this process has held so far."""
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**30 if sys.platform == "darwin" else 2**20)
