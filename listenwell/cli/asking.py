"""Commands that ask: which prompt is best (prompts), and what this machine has (doctor)."""

from pathlib import Path
from typing import Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors, Overrides, Overwrite, study_inputs
from listenwell.errors import ConfigError

app = typer.Typer(cls=OneSentenceErrors)


@app.command("prompts")
def prompts(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config file (YAML) of the study.")],
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
    from listenwell.atomic_files import write_text
    from listenwell.config import load_config
    from listenwell.destination import destinations
    from listenwell.progress import shown_progress
    from listenwell.study.prompts import judge_prompts

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


@app.command("doctor")
def doctor() -> None:
    """Show what this machine has: versions, devices, memory, disk, caches, hubs within reach; and what misses what.

    Exit status 1 when something that every command needs is missing.
    """
    from listenwell.study.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(f"{'ok     ' if finding.is_well else 'missing'}  {finding.what:22} {finding.found}")
    if any(finding.is_needed and not finding.is_well for finding in findings):
        raise typer.Exit(1)
