"""Commands that use a model: export and detect, and score; those that judge scores are in `listenwell.cli.evidence`."""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

import typer

from listenwell.cli.shared import (
    AdapterFolder,
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
from listenwell.storage.atomic_files import companion
from listenwell.storage.destination import destinations
from listenwell.storage.run_folder import RunFolder

app = typer.Typer(cls=OneSentenceErrors)
JOURNAL = ".journal"
STDIN_SHOWN = Path("stdin")
MEAN, EACH = "mean", "each"
Seconds = float | None
Form = Literal["table", "json", "csv", "rttm", "audacity", "textgrid", "srt", "vtt"]


@app.command("export", epilog="Example: listenwell export my/run --out detector")
def export(
    run: Run,
    out: Annotated[Path, typer.Option("--out", help="Folder for the detector.")] = Path("detector"),
    push: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Also put it there on the Hugging Face hub.")] = "",
    private: Annotated[bool, typer.Option("--private", help="With --push: for its owners' eyes only.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a detector of a finished study: adapter, prompt, thresholds and the rule for long recordings, in one folder.

    Everything is chosen on dev; the rule for segments is tuned on long recordings laid out from dev clips.
    """
    from listenwell.tasks.runs import open_run

    if private and not push:
        raise ConfigError("--private: says who sees what --push puts on the hub; give --push OWNER/NAME too.")
    if push:
        from listenwell.tasks.push import push_detector, require_access

        require_access(push)

    def read() -> Iterator[Path]:
        opened, config = open_run(run)
        yield from (run, opened.fits, *study_inputs(config))

    with destinations(folders=[out], inputs=read(), overwrite=overwrite):
        # seconds pass until it is imported
        from listenwell.tasks.export import export_detector

        with shown_progress() as on_progress:
            bundle = export_detector(run, out, on_progress)
        rule = bundle.rule
        typer.echo(
            f"{out}: threshold {bundle.thresholds['balanced_accuracy']:+.3f}; windows of {rule.window_s:g} s every "
            f"{rule.hop_s:g} s, speech on at {rule.on:g}, off below {rule.off:g}, at least {rule.shortest_speech_s:g} "
            f"s, pauses of at least {rule.shortest_pause_s:g} s"
        )
    if push:
        typer.echo(push_detector(out, push, private=private, overwrite=overwrite))


@app.command("detect", epilog="Example: listenwell detect meeting.wav --detector detector --format srt")
def detect(
    recordings: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns such as 'calls/*.wav', or - for standard input.")
    ],
    detector: Annotated[Path | None, typer.Option(help="Folder that export wrote, else the one shipped.")] = None,
    form: Annotated[Form, typer.Option("--format", help="From audacity on, one file per recording.")] = "table",
    out: Annotated[Path | None, typer.Option(help="File for the answer, or folder; a stopped run goes on.")] = None,
    cut: Annotated[Path | None, typer.Option(help="Folder that receives the stretches of speech as WAV files.")] = None,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out what has its answer.")] = False,
    speech_pad: Annotated[Seconds, typer.Option("--speech-pad", help="Added before and after speech.")] = None,
    shortest_speech: Annotated[Seconds, typer.Option("--shortest-speech", help="Shorter speech is dropped.")] = None,
    longest_speech: Annotated[Seconds, typer.Option(help="Longer speech is cut where least active.")] = None,
    shortest_pause: Annotated[Seconds, typer.Option("--shortest-pause", help="Shorter pauses are filled.")] = None,
    criterion: Annotated[str, typer.Option(help="Threshold of dev, such as target_recall=0.95.")] = "balanced_accuracy",
    threshold: Annotated[float | None, typer.Option("--threshold", help="A score to decide at instead.")] = None,
    longest_clip: Annotated[float, typer.Option(help="Seconds up to which one is decided whole.", min=0)] = 4.0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Precision of the model.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Batches at a time; one a core if not given.", min=1)] = None,
    channel: Annotated[str, typer.Option(help="Of several: mean, each (an answer each), or a number, from 0.")] = MEAN,
    overwrite: Overwrite = False,
) -> None:
    """Say of each short recording whether it is SPEECH, and of each long one where speech is.

    Recordings of any length and any format FFmpeg reads, pipes too; memory does not grow with their length. With --out,
    what was scored is kept in a journal beside the output until all is done: after a kill, the same command goes on.
    """
    from listenwell.detect.answers import Answers
    from listenwell.detect.bundle import DEFAULT_CRITERION
    from listenwell.detect.detector import Detector
    from listenwell.detect.files import ScoreJournal, detect_files, owner_of
    from listenwell.detect.formats import ONE_EACH, name_recordings
    from listenwell.detect.recordings import STDIN, find_recordings

    if channel not in (MEAN, EACH) and not channel.isdecimal():
        raise ConfigError(f"--channel '{channel}': expected {MEAN}, {EACH}, or the number of a channel, from 0.")
    if channel == EACH and form in ONE_EACH:
        raise ConfigError(f"--channel {EACH}: a file of --format {form} holds one answer; give json, csv or rttm.")
    alone = out is not None if form in ONE_EACH else cut is not None and out is None
    if skip_existing and not alone:
        raise ConfigError(
            f"--skip-existing: needs --cut alone, or a file for each answer (--out, --format {', '.join(ONE_EACH)})."
        )
    chosen = find_recordings(recordings)
    for sentence in chosen.left_out:
        print(f"listenwell: {sentence}", file=sys.stderr)
    shown = [STDIN_SHOWN if path == STDIN else path for path in chosen.paths]
    answers = Answers(form, name_recordings(shown), partial(typer.echo, nl=False), out, cut)
    is_done = [skip_existing and answers.are_there(path) for path in shown]
    todo = [path for path, is_there in zip(chosen.paths, is_done, strict=True) if not is_there]
    kept = None
    if out is not None:
        # one answer each: within the folder, which alone must be writable
        beside = out / JOURNAL if answers.in_folder else out
        kept = companion(Path(os.path.realpath(beside)), JOURNAL)
    if len(todo) < len(shown):
        print(
            f"listenwell: {len(shown) - len(todo)} of {len(shown)} recordings have their answers already.",
            file=sys.stderr,
        )
        if not todo:
            if kept is not None:  # of a run that was killed when all was written
                kept.unlink(missing_ok=True)
            return
    places = [STDIN_SHOWN if path == STDIN else path for path in todo]
    with destinations(
        dict.fromkeys(map(answers.file_of, places)),
        map(answers.folder_of, places),
        inputs=[*filter(Path.is_file, todo), *([detector] if detector else [])],
        overwrite=overwrite,
    ) as remove_rest:
        one_channel = int(channel) if channel.isdecimal() else None
        if detector is None:
            print("listenwell: the detector that the package ships decides; --detector names another.", file=sys.stderr)
        loaded = Detector.load(detector, device, dtype, criterion, threshold, workers, one_channel)
        loaded.change_rule(
            pad_s=speech_pad, shortest_speech_s=shortest_speech, longest_speech_s=longest_speech,
            shortest_pause_s=shortest_pause,
        )  # fmt: skip
        if threshold is None and criterion != DEFAULT_CRITERION:
            usual = loaded.bundle.thresholds[DEFAULT_CRITERION]
            less = "; it finds less speech than the other" if loaded.threshold > usual else ""
            print(
                f"listenwell: --criterion {criterion} decides at {loaded.threshold:+.3f}, {DEFAULT_CRITERION} at "
                f"{usual:+.3f}{less}.",
                file=sys.stderr,
            )
        journal = ScoreJournal(kept, owner_of(loaded))
        started, by_recording = time.monotonic(), []
        with shown_progress() as on_progress:
            found = detect_files(loaded, todo, longest_clip, journal, on_progress, channel == EACH)
            for path, of_one in groupby(found, key=lambda one: one.path):
                by_recording.append([replace(one, path=STDIN_SHOWN) if path == STDIN else one for one in of_one])
                if skip_existing:
                    answers.write(by_recording[-1], one_channel)
        seconds = time.monotonic() - started
        for named in () if skip_existing else by_recording:
            answers.write(named, one_channel)
        detections = [one for named in by_recording for one in named]
        answers.write_together(detections)
        remove_rest()
        journal.remove()
    audio_s = sum(detection.duration_s for detection in detections)
    factor = f": real-time factor {seconds / audio_s:.3f}" if audio_s else ""
    counted = "1 recording" if len(detections) == 1 else f"{len(detections)} recordings"
    print(f"{counted}, {audio_s:.1f} s of audio in {seconds:.1f} s{factor}", file=sys.stderr)
    unread = sum(bool(detection.problem) for detection in detections)
    if unread:
        print(f"listenwell: {unread} recordings could not be read, see above.", file=sys.stderr)
        raise typer.Exit(1)


@app.command("score", epilog="Example: listenwell score --config my/study.yaml --adapter my/run --out scored")
def score(
    out: Annotated[Path, typer.Option("--out", help="Folder for the scores and what they show.")],
    clips: Annotated[str, typer.Option("--clips", help="clips.csv, or starter.")] = "",
    model: Annotated[str, typer.Option("--model", help="small, a model folder or a hub id.")] = "",
    adapter: AdapterFolder = None,
    split: Annotated[str, typer.Option("--split", help="Score this split of the clips only.")] = "",
    conditions: Annotated[str, typer.Option(help="Versions, such as clean,snr_0,200ms.")] = "clean",
    prompt_file: Annotated[Path | None, typer.Option("--prompt-file", help="Text file with the question.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Config file (YAML).")] = None,
    overrides: Overrides = None,
) -> None:
    """Score clips with a base model as it is, or with a trained adapter: one CSV row per clip and condition."""
    from listenwell.config import load_config
    from listenwell.report.score_tables import metrics_table
    from listenwell.report.tables import align
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
    caption = f"{resolved.model.name}, {result.method}, {rows}, threshold 0"
    typer.echo(align(metrics_table(result.metrics, caption)))
    if result.n_unreadable:
        typer.echo(f"{result.n_unreadable} clips could not be read, see {resolved.output}/quarantine")
    rate = "read back from an earlier run" if result.clips_per_s is None else f"{result.clips_per_s:.1f} clips/s"
    typer.echo(f"{rate}; peak memory {peak_memory_gib():.1f} GiB; results in {resolved.output}")
