"""Clips in the formats of other tools: corpus export, corpus import."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from listenwell.cli.shared import OneSentenceErrors, Overwrite, study_inputs
from listenwell.errors import ConfigError

if TYPE_CHECKING:
    from listenwell.data.clip import Clip

app = typer.Typer(cls=OneSentenceErrors)


@app.command("export")
def export_clips(
    clips: Annotated[str, typer.Argument(metavar="CLIPS", help="clips.csv, or starter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    to: Annotated[Literal["lhotse", "audiofolder"], typer.Option("--to", help="What to write.")],
    split: Annotated[str, typer.Option("--split", help="This split of the clips only.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Write clips as lhotse manifests (audio stays where it is) or as a Hugging Face AudioFolder (audio is copied)."""
    from listenwell.config import load_config
    from listenwell.data.exchange.audio_folder import write_audio_folder
    from listenwell.data.exchange.lhotse import RECORDINGS, SUPERVISIONS, write_lhotse
    from listenwell.destination import destinations
    from listenwell.progress import shown_progress
    from listenwell.study.prepare import find_manifest, read_split

    config = load_config(None, [f"data.manifest={json.dumps(clips)}"])
    is_lhotse = to == "lhotse"
    files, folders = ([out / RECORDINGS, out / SUPERVISIONS], []) if is_lhotse else ([], [out])
    with (
        destinations(files, folders, inputs=study_inputs(config), overwrite=overwrite),
        shown_progress() as on_progress,
    ):
        chosen = read_split(find_manifest(config, on_progress), split)
        (write_lhotse if is_lhotse else write_audio_folder)(out, chosen, on_progress)
    typer.echo(out)


@app.command("import")
def import_clips(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Supervisions, cuts, or the AudioFolder.")],
    out: Annotated[Path, typer.Option("--out", help="The clips.csv to write.")],
    kind: Annotated[Literal["supervisions", "cuts", "audiofolder"], typer.Option("--from", help="What SOURCE is.")],
    recordings: Annotated[Path | None, typer.Option("--recordings", help="The recordings of supervisions.")] = None,
    label: Annotated[
        Literal["SPEECH", "NONSPEECH"] | None, typer.Option("--label", help="Label where lhotse's manifest says none.")
    ] = None,
    group_by: Annotated[
        Literal["speaker", "recording"], typer.Option("--group-by", help="Group where lhotse's manifest says none.")
    ] = "speaker",
    corpus: Annotated[str, typer.Option("--corpus", help="Corpus where lhotse's manifest says none.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence where lhotse's manifest says none.")] = "",
    audio_root: Annotated[
        Path, typer.Option("--audio-root", help="Where relative paths in lhotse's manifest begin.")
    ] = Path(),
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="A column's other name in the metadata: group=speaker_id.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a clips.csv of lhotse manifests (supervisions or cuts) or of a Hugging Face AudioFolder."""
    from listenwell.data.exchange.audio_folder import read_audio_folder
    from listenwell.data.exchange.lhotse import Unsaid, read_lhotse, read_lhotse_cuts
    from listenwell.data.manifest import write_manifest
    from listenwell.destination import destinations

    unsaid, names = Unsaid(label, group_by, corpus, licence, audio_root), dict(_column_names(columns or []))

    def read() -> "Sequence[Clip]":
        if kind == "audiofolder":
            return read_audio_folder(source, names)
        if kind == "cuts":
            return read_lhotse_cuts(source, unsaid)
        if recordings is None:
            raise ConfigError(
                "--from supervisions: the sound files are unknown; name their manifest with --recordings."
            )
        return read_lhotse(recordings, source, unsaid)

    with destinations([out], inputs=_inputs([source, recordings], read), overwrite=overwrite):
        clips = read()
        write_manifest(out, clips)
    typer.echo(f"{len(clips)} clips, {len({clip.group for clip in clips})} groups: {out}")


def _inputs(files: Sequence[Path | None], read: "Callable[[], Sequence[Clip]]") -> Iterator[Path]:
    """The files, and the recordings that are read from them."""
    yield from (file for file in files if file is not None)
    yield from (clip.path for clip in read())


def _column_names(columns: list[str]) -> Iterator[tuple[str, str]]:
    for column in columns:
        ours, equals, theirs = column.partition("=")
        if not (ours and equals and theirs):
            raise ConfigError(f"--column '{column}': expected ours=theirs, for instance group=speaker_id.")
        yield ours, theirs
