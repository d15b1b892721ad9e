"""Commands that use a model: export and detect, and score; those that judge scores are in `listenwell.cli.evidence`."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from listenwell.cli.shared import (
    AdapterFolder,
    MetricLines,
    OneSentenceErrors,
    Overrides,
    Overwrite,
    Run,
    peak_memory_gib,
    read_text,
    study_inputs,
)
from listenwell.errors import ConfigError
from listenwell.progress import shown_progress
from listenwell.storage.atomic_files import companion, is_stream, write_bytes
from listenwell.storage.destination import destinations
from listenwell.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from listenwell.detect.bundle import Bundle
    from listenwell.detect.files import Detection

app = typer.Typer(cls=OneSentenceErrors)
JOURNAL = ".journal"
STDIN_SHOWN = Path("stdin")
MEAN, EACH = "mean", "each"


@app.command("export")
def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Folder for the detector.")] = Path("detector"),
    merged: Annotated[
        Path | None, typer.Option("--merged", help="Also write base and adapter as one model into this folder.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a detector of a finished study: adapter, prompt, thresholds and the rule for long recordings, in one folder.

    Everything is chosen on dev; the rule for segments is tuned on long recordings laid out from dev clips.
    """
    from listenwell.tasks.runs import open_run

    def read() -> Iterator[Path]:
        opened, config = open_run(run)
        yield from (run, opened.fits, *study_inputs(config))

    with destinations(folders=[out, merged], inputs=read(), overwrite=overwrite):
        # seconds pass until it is imported
        from listenwell.tasks.export import export_detector, export_merged

        with shown_progress() as on_progress:
            bundle = export_detector(run, out, on_progress)
        rule = bundle.rule
        typer.echo(
            f"{out}: threshold {bundle.thresholds['balanced_accuracy']:+.3f}; windows of {rule.window_s:g} s every "
            f"{rule.hop_s:g} s, speech on at {rule.on:g}, off below {rule.off:g}, at least {rule.shortest_speech_s:g} "
            f"s, pauses of at least {rule.shortest_pause_s:g} s"
        )
        if merged is not None:
            export_merged(run, merged)
            typer.echo(f"{merged}: base and adapter as one model, for transformers")


@app.command("detect")
def detect(
    recordings: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns such as 'calls/*.wav', or - for standard input.")
    ],
    detector: Annotated[Path, typer.Option("--detector", help="Folder that export wrote.")] = Path("detector"),
    form: Annotated[
        Literal["table", "json", "csv", "rttm", "audacity", "textgrid"],
        typer.Option("--format", help="What is written; audacity and textgrid are one file per recording."),
    ] = "table",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File for the answer (a folder for audacity and textgrid); a stopped run goes on."),
    ] = None,
    criterion: Annotated[
        str, typer.Option("--criterion", help="Which threshold of dev decides, such as target_recall=0.95.")
    ] = "balanced_accuracy",
    threshold: Annotated[float | None, typer.Option("--threshold", help="A score to decide at instead.")] = None,
    longest_clip: Annotated[
        float, typer.Option("--longest-clip", help="Recordings up to so many seconds are decided whole.", min=0)
    ] = 4.0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option("--dtype", help="Precision of the model.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Batches of windows at the same time; one per core if not given.", min=1),
    ] = None,
    channel: Annotated[
        str,
        typer.Option(
            "--channel", help="Of several channels: mean, each (an answer for each), or one's number, from 0."
        ),
    ] = MEAN,
    overwrite: Overwrite = False,
) -> None:
    """Say of each short recording whether it is SPEECH, and of each long one where speech is.

    Recordings of any length and any format FFmpeg reads, pipes too; memory does not grow with their length. With --out,
    what was scored is kept in a journal beside the output until all is done: after a kill, the same command goes on.
    """
    from listenwell.detect.detector import Detector
    from listenwell.detect.files import ScoreJournal, detect_files, owner_of
    from listenwell.detect.formats import ONE_EACH
    from listenwell.detect.recordings import STDIN, find_recordings

    if channel not in (MEAN, EACH) and not channel.isdecimal():
        raise ConfigError(f"--channel '{channel}': expected {MEAN}, {EACH}, or the number of a channel, from 0.")
    if channel == EACH and form in ONE_EACH:
        raise ConfigError(f"--channel {EACH}: a file of --format {form} holds one answer; give json, csv or rttm.")
    chosen = find_recordings(recordings)
    for sentence in chosen.left_out:
        print(f"listenwell: {sentence}", file=sys.stderr)
    answers = _answer_files(form, out, [STDIN_SHOWN if path == STDIN else path for path in chosen.paths])
    files = [path for path in chosen.paths if path.is_file()]
    with destinations(answers, inputs=[*files, detector], overwrite=overwrite) as remove_rest:
        one_channel = int(channel) if channel.isdecimal() else None
        loaded = Detector.load(detector, device, dtype, criterion, threshold, workers, one_channel)
        if threshold is None:
            _say_criterion(criterion, loaded.bundle)
        journal = ScoreJournal()
        if out is not None and not is_stream(out):
            # one answer each: within the folder, which alone must be writable
            beside = out / JOURNAL if form in ONE_EACH else out
            journal = ScoreJournal(companion(Path(os.path.realpath(beside)), JOURNAL), owner_of(loaded))
        started = time.monotonic()
        with shown_progress() as on_progress:
            detections = [
                replace(detection, path=STDIN_SHOWN) if detection.path == STDIN else detection
                for detection in detect_files(loaded, chosen.paths, longest_clip, journal, on_progress, channel == EACH)
            ]
        seconds = time.monotonic() - started
        _write(detections, form, answers)
        remove_rest()
        journal.remove()
    audio_s = sum(detection.duration_s for detection in detections)
    factor = f": real-time factor {seconds / audio_s:.3f}" if audio_s else ""
    print(f"{len(detections)} recordings, {audio_s:.1f} s of audio in {seconds:.1f} s{factor}", file=sys.stderr)
    unread = sum(bool(detection.problem) for detection in detections)
    if unread:
        print(f"listenwell: {unread} recordings could not be read, see above.", file=sys.stderr)
        raise typer.Exit(1)


def _say_criterion(criterion: str, bundle: "Bundle") -> None:
    """Say what a threshold other than the default rests on, and where it finds less speech than that one."""
    from listenwell.detect.bundle import DEFAULT_CRITERION

    if criterion == DEFAULT_CRITERION:
        return
    value, default = bundle.thresholds[criterion], bundle.thresholds[DEFAULT_CRITERION]
    says = f"--criterion {criterion} decides at {value:+.3f}, {DEFAULT_CRITERION} at {default:+.3f}"
    if bundle.dev is not None:
        recall, usual = bundle.dev.recalls[criterion], bundle.dev.recalls[DEFAULT_CRITERION]
        says += f" (recall on the {bundle.dev.n_speech} dev scores of speech: {recall:.3f} and {usual:.3f})"
    if value > default:
        says += "; it finds less speech than the other"
        if criterion.startswith("target_recall"):
            says += ", for dev reaches this recall without a lower threshold"
    print(f"listenwell: {says}.", file=sys.stderr)


def _answer_files(form: str, out: Path | None, recordings: Sequence[Path]) -> list[Path]:
    """The files that get the answer: one, or one per recording, in their order; none for standard output.

    Raises ConfigError where the format is one file per recording and there is no folder for several.
    """
    from listenwell.detect.formats import ONE_EACH, name_recordings

    is_folder = form in ONE_EACH and out is not None and not is_stream(out)
    if form in ONE_EACH and len(recordings) > 1 and (out is None or not is_folder or out.is_file()):
        raise ConfigError(
            f"--format {form} is one file per recording: give --out a folder for {len(recordings)} of them."
        )
    if out is None or not is_folder:
        return [] if out is None else [out]
    names = name_recordings(recordings)
    return [out / f"{names[path]}{ONE_EACH[form]}" for path in recordings]


def _write(detections: "Sequence[Detection]", form: str, answers: Sequence[Path]) -> None:
    """Write the answer; say on standard error what is called otherwise in it, what to know of it, what is missing."""
    from listenwell.detect.formats import FORMATS, ONE_EACH, name_tokens, problem_line, shown

    places: Sequence[Path | None] = answers or [None] * len(detections)
    names: dict[Path, str] = {}
    if form in ONE_EACH:
        for detection, place in zip(detections, places, strict=True):
            if place is not None:
                names[detection.path] = place.stem
            if not detection.problem:
                _put(place, FORMATS[form]([detection]))
    else:
        _put(answers[0] if answers else None, FORMATS[form](detections))
        names = dict(name_tokens([detection.path for detection in detections])) if form == "rttm" else {}
    for detection in detections:
        path = detection.path
        if detection.problem:
            print(f"listenwell: {problem_line(detection)}", file=sys.stderr)
        elif path in names and shown(names[path]) != shown(path.stem):
            print(f"listenwell: {shown(path)}: is called {shown(names[path])} in the answer", file=sys.stderr)
        if detection.note:
            print(f"listenwell: {shown(path)}: {shown(detection.note)}", file=sys.stderr)


def _put(path: Path | None, text: str) -> None:
    """Write to the file, or to standard output; bytes of a name that is no UTF-8 are written escaped."""
    if path is None:
        typer.echo(text, nl=False)
    else:
        write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


@app.command("score")
def score(
    out: Annotated[Path, typer.Option("--out", help="Folder for the scores and what they show.")],
    clips: Annotated[str, typer.Option("--clips", help="clips.csv, or starter.")] = "",
    model: Annotated[str, typer.Option("--model", help="small, a model folder or a hub id.")] = "",
    adapter: AdapterFolder = None,
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
    from listenwell.splits.clips import find_manifest, read_split
    from listenwell.storage.run_folder import hold_run, require_own
    from listenwell.tasks.score_table import score_manifest

    question = read_text(prompt_file) if prompt_file is not None else ""
    chosen = [("data.manifest", clips), ("model.name", model), ("prompt.question", question)]
    changes = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in chosen if value]
    wanted = conditions.split(",")
    changes += [f"output={json.dumps(str(out), ensure_ascii=False)}", f"evaluation.conditions={json.dumps(wanted)}"]
    resolved = load_config(config, [*changes, *(overrides or [])])
    run = RunFolder(resolved.output)
    require_own(run)
    if run.leaks.exists():
        raise ConfigError(
            f"{run.root}: is the folder of a study, whose results would be lost; give another with --out."
        )
    with shown_progress() as on_progress:
        # a table that cannot be read leaves no folder
        read_split(find_manifest(resolved, on_progress), split, resolved.data.columns)
        with hold_run(run):
            result = score_manifest(resolved, split, resolved.evaluation.conditions, adapter, on_progress)
    rows = f"{len(result.table)} rows" + (f" of {split}" if split else "")
    typer.echo(f"{resolved.model.name}, {result.method}, {rows}, threshold 0")
    measures = MetricLines()
    for condition, metrics in result.metrics.items():
        typer.echo("\n".join([condition, *map(measures.line, metrics)]))
    typer.echo("".join(f"{note}\n" for note in measures.notes()), nl=False)
    if result.n_unreadable:
        typer.echo(f"{result.n_unreadable} clips could not be read, see {resolved.output}/quarantine")
    rate = "read back from an earlier run" if result.clips_per_s is None else f"{result.clips_per_s:.1f} clips/s"
    typer.echo(f"{rate}; peak memory {peak_memory_gib():.1f} GiB; results in {resolved.output}")
