"""Commands on augmentation: preview."""

from pathlib import Path
from typing import Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors, Overrides, Overwrite, study_inputs
from listenwell.errors import ConfigError

app = typer.Typer(cls=OneSentenceErrors, no_args_is_help=True, help="Augmentation: preview.")


@app.callback()
def _group() -> None:
    """Keep `preview` a command of its own while it is the only one."""


@app.command("preview")
def preview_plans(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config file (YAML).")],
    clips: Annotated[str, typer.Option("--clips", help="Training clips, as ID,ID.")],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")],
    epochs: Annotated[str, typer.Option("--epochs", help="Epochs, as 1,2.")] = "1",
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Write a page to hear and see chosen clips exactly as training hears them."""
    from listenwell.config import load_config
    from listenwell.destination import destinations
    from listenwell.progress import shown_progress
    from listenwell.study.preview import preview

    resolved = load_config(config, overrides or [])
    wanted = _read_epochs(epochs)
    with (
        destinations([out], inputs=study_inputs(resolved, config), overwrite=overwrite),
        shown_progress() as on_progress,
    ):
        hearings = preview(resolved, clips.split(","), wanted, out, on_progress)
    for hearing in hearings:
        typer.echo(
            f"{hearing.clip.clip_id}, epoch {hearing.epoch}: {' '.join(hearing.words) or 'nothing was changed.'}"
        )
    typer.echo(out)


def _read_epochs(text: str) -> list[int]:
    try:
        return [int(epoch) for epoch in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--epochs '{text}': expected whole numbers, for instance 1,2.") from error
