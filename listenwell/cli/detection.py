"""The commands that make a detector out of a run and use it."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors
from listenwell.errors import ConfigError

if TYPE_CHECKING:
    from listenwell.detect.files import Heard

app = typer.Typer(cls=OneSentenceErrors)


@app.command("export")
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished study, such as runs/starter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the detector.")] = Path("detector"),
    merged: Annotated[
        Path | None, typer.Option("--merged", help="Also write base and adapter as one model into this folder.")
    ] = None,
) -> None:
    """Make a detector of a finished study: adapter, prompt, thresholds and the rule for long recordings, in one folder.

    Everything is chosen on dev; the rule for segments is tuned on long recordings laid out from dev clips.
    """
    from listenwell.progress import shown_progress
    from listenwell.study.export import export_detector, export_merged

    with shown_progress() as on_progress:
        bundle = export_detector(run, out, on_progress)
    rule = bundle.rule
    typer.echo(
        f"{out}: threshold {bundle.thresholds['balanced_accuracy']:+.3f}; windows of {rule.window_s:g} s every "
        f"{rule.hop_s:g} s, speech on at {rule.on:g}, off below {rule.off:g}, at least {rule.shortest_speech_s:g} s, "
        f"pauses of at least {rule.shortest_pause_s:g} s"
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
) -> None:
    """Say of each short recording whether it is SPEECH, and of each long one where speech is.

    Recordings of any length and any format libsndfile reads; memory does not grow with their length. With --out, what
    was scored is kept in a journal beside the output until all is done: after a kill, the same command goes on.
    """
    from listenwell.detect.detector import Detector
    from listenwell.detect.files import ScoreJournal, audio_seconds, detect_files, owner_of
    from listenwell.detect.formats import FORMATS
    from listenwell.detect.recordings import STDIN, find_recordings, save_stdin
    from listenwell.progress import shown_progress

    if form not in FORMATS:
        raise ConfigError(f"--format '{form}': expected one of {', '.join(FORMATS)}.")
    with tempfile.TemporaryDirectory() as folder:
        named = [str(save_stdin(Path(folder))) if name == STDIN else name for name in recordings]
        paths = find_recordings(named)
        _require_destination(form, out, len(paths))
        loaded = Detector.load(detector, device, dtype, criterion, threshold, workers)
        journal = ScoreJournal(_journal_of(out), owner_of(loaded)) if out is not None else None
        started = time.monotonic()
        with shown_progress() as on_progress:
            heard = [
                _called_stdin(each) if each.path.is_relative_to(folder) else each
                for each in detect_files(loaded, paths, longest_clip, journal, on_progress)
            ]
    seconds = time.monotonic() - started
    _write(heard, form, out)
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
    return replace(heard, path=Path("stdin"), problem=heard.problem.replace(str(heard.path), "standard input"))


def _require_destination(form: str, out: Path | None, n_recordings: int) -> None:
    """Say at once, not after an hour, that an answer has nowhere to go."""
    from listenwell.detect.formats import ONE_EACH

    if form in ONE_EACH and n_recordings > 1 and (out is None or out.is_file()):
        raise ConfigError(f"--format {form} is one file per recording: give --out a folder for {n_recordings} of them.")
    if form not in ONE_EACH and out is not None and out.is_dir():
        raise ConfigError(f"--out {out} is a folder; --format {form} is one file, name it.")


def _journal_of(out: Path) -> Path:
    return out.parent / f".{out.name}.journal"


def _write(heard: "Sequence[Heard]", form: str, out: Path | None) -> None:
    from listenwell.atomic_files import write_text
    from listenwell.detect.formats import FORMATS, ONE_EACH, name_files

    if out is None:
        typer.echo(FORMATS[form](heard), nl=False)
    elif form in ONE_EACH:
        read = [each for each in heard if not each.problem]
        for each, name in zip(read, name_files(read, ONE_EACH[form]), strict=True):
            write_text(out / name, FORMATS[form]([each]))
        for each in heard:
            if each.problem:
                print(f"listenwell: {each.problem}", file=sys.stderr)
    else:
        write_text(out, FORMATS[form](heard))
