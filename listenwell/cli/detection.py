"""The commands that make a detector out of a run and use it."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors, Overwrite, study_inputs
from listenwell.errors import ConfigError

if TYPE_CHECKING:
    from listenwell.detect.files import Heard

app = typer.Typer(cls=OneSentenceErrors)
JOURNAL = ".journal"
STDIN_SHOWN = Path("stdin")


@app.command("export")
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished study, such as runs/starter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the detector.")] = Path("detector"),
    merged: Annotated[
        Path | None, typer.Option("--merged", help="Also write base and adapter as one model into this folder.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a detector of a finished study: adapter, prompt, thresholds and the rule for long recordings, in one folder.

    Everything is chosen on dev; the rule for segments is tuned on long recordings laid out from dev clips.
    """
    from listenwell.destination import destinations
    from listenwell.progress import shown_progress

    with destinations(folders=[out, merged], inputs=_read_by_export(run), overwrite=overwrite):
        # seconds pass until it is imported
        from listenwell.study.export import export_detector, export_merged

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


def _read_by_export(run: Path) -> Iterator[Path]:
    """The run, the ledger of its fits, and what its study read."""
    from listenwell.study.opened_run import open_run

    yield run
    opened, config = open_run(run)
    yield opened.fits
    yield from study_inputs(config)


@app.command("detect")
def detect(
    recordings: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns such as 'calls/*.wav', or - for standard input.")
    ],
    detector: Annotated[Path, typer.Option("--detector", help="Folder that export wrote.")] = Path("detector"),
    form: Annotated[str, typer.Option("--format", help="table, json, csv, rttm, audacity or textgrid.")] = "table",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File for the answer (a folder for audacity and textgrid); a stopped run goes on."),
    ] = None,
    criterion: Annotated[
        str, typer.Option("--criterion", help="Which threshold of dev decides, such as target_recall=0.95.")
    ] = "balanced_accuracy",
    threshold: Annotated[float | None, typer.Option("--threshold", help="A score to decide at instead.")] = None,
    longest_clip: Annotated[
        float,
        typer.Option("--longest-clip", help="Recordings up to so many seconds are decided whole.", min=0),
    ] = 4.0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32 or bfloat16.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Batches of windows at the same time; one per core if not given.", min=1),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say of each short recording whether it is SPEECH, and of each long one where speech is.

    Recordings of any length and any format libsndfile reads; memory does not grow with their length. With --out, what
    was scored is kept in a journal beside the output until all is done: after a kill, the same command goes on.
    """
    from listenwell.atomic_files import companion, is_stream
    from listenwell.destination import destinations
    from listenwell.detect.detector import Detector
    from listenwell.detect.files import ScoreJournal, audio_seconds, detect_files, owner_of
    from listenwell.detect.formats import FORMATS, ONE_EACH
    from listenwell.detect.recordings import STDIN, find_recordings, save_stdin
    from listenwell.progress import shown_progress

    if form not in FORMATS:
        raise ConfigError(f"--format '{form}': expected one of {', '.join(FORMATS)}.")
    with tempfile.TemporaryDirectory() as folder:
        named = [str(save_stdin(Path(folder))) if name == STDIN else name for name in recordings]
        paths = find_recordings(named)
        shown = [STDIN_SHOWN if path.is_relative_to(folder) else path for path in paths]
        answers = _answer_files(form, out, shown)
        with destinations(answers, inputs=[*paths, detector], overwrite=overwrite):
            loaded = Detector.load(detector, device, dtype, criterion, threshold, workers)
            journal = None
            if out is not None and not is_stream(out):
                # one answer each: within the folder, which alone must be writable
                beside = out / JOURNAL if form in ONE_EACH else out
                journal = ScoreJournal(companion(Path(os.path.realpath(beside)), JOURNAL), owner_of(loaded), out)
            started = time.monotonic()
            with shown_progress() as on_progress:
                heard = [
                    _called_stdin(each) if each.path.is_relative_to(folder) else each
                    for each in detect_files(loaded, paths, longest_clip, journal, on_progress)
                ]
            seconds = time.monotonic() - started
            _write(heard, form, answers)
            if journal is not None:
                journal.journal.remove()
    audio_s = audio_seconds(heard)
    print(
        f"{len(heard)} recordings, {audio_s:.1f} s of audio in {seconds:.1f} s"
        + (f": real-time factor {seconds / audio_s:.3f}" if audio_s else ""),
        file=sys.stderr,
    )
    unread = sum(bool(each.problem) for each in heard)
    if unread:
        print(f"listenwell: {unread} recordings could not be read, see above.", file=sys.stderr)
        raise typer.Exit(1)


def _called_stdin(heard: "Heard") -> "Heard":
    """What came on standard input, without the name of the copy that was decoded."""
    return replace(heard, path=STDIN_SHOWN, problem=heard.problem.replace(str(heard.path), "standard input"))


def _answer_files(form: str, out: Path | None, recordings: Sequence[Path]) -> list[Path]:
    """The files that get the answer: one, or one per recording, in their order; none for standard output.

    Raises ConfigError where the format is one file per recording and there is no folder for several.
    """
    from listenwell.atomic_files import is_stream
    from listenwell.detect.files import Heard
    from listenwell.detect.formats import ONE_EACH, name_files

    if form in ONE_EACH and len(recordings) > 1 and (out is None or is_stream(out) or out.is_file()):
        raise ConfigError(
            f"--format {form} is one file per recording: give --out a folder for {len(recordings)} of them."
        )
    if out is None:
        return []
    if form not in ONE_EACH or is_stream(out):
        return [out]
    return [out / name for name in name_files([Heard(path, 0.0) for path in recordings], ONE_EACH[form])]


def _write(heard: "Sequence[Heard]", form: str, answers: Sequence[Path]) -> None:
    from listenwell.atomic_files import write_text
    from listenwell.detect.formats import FORMATS, ONE_EACH

    if not answers:
        typer.echo(FORMATS[form](heard), nl=False)
    elif form in ONE_EACH:
        for each, path in zip(heard, answers, strict=True):
            if each.problem:
                print(f"listenwell: {each.problem}", file=sys.stderr)
            else:
                write_text(path, FORMATS[form]([each]))
    else:
        write_text(answers[0], FORMATS[form](heard))
