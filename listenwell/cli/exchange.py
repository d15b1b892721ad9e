"""Clips in the formats of other tools: corpus export, corpus import."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from listenwell.cli.shared import OneSentenceErrors
from listenwell.errors import ConfigError

app = typer.Typer(cls=OneSentenceErrors)


@app.command("export")
def export_clips(
    clips: Annotated[str, typer.Argument(metavar="CLIPS", help="clips.csv, or starter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    to: Annotated[Literal["lhotse", "audiofolder"], typer.Option("--to", help="What to write.")],
    split: Annotated[str, typer.Option("--split", help="This split of the clips only.")] = "",
) -> None:
    """Write clips as lhotse manifests (audio stays where it is) or as a Hugging Face AudioFolder (audio is copied)."""
    from listenwell.config import load_config
    from listenwell.data.exchange.audio_folder import write_audio_folder
    from listenwell.data.exchange.lhotse import write_lhotse
    from listenwell.progress import shown_progress
    from listenwell.study.prepare import find_manifest, read_split

    config = load_config(None, [f"data.manifest={json.dumps(clips)}"])
    with shown_progress() as on_progress:
        chosen = read_split(find_manifest(config, on_progress), split)
        (write_lhotse if to == "lhotse" else write_audio_folder)(out, chosen, on_progress)
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
) -> None:
    """Make a clips.csv of lhotse manifests (supervisions or cuts) or of a Hugging Face AudioFolder."""
    from listenwell.data.exchange.audio_folder import read_audio_folder
    from listenwell.data.exchange.lhotse import Unsaid, read_lhotse, read_lhotse_cuts
    from listenwell.data.manifest import write_manifest

    unsaid = Unsaid(label, group_by, corpus, licence, audio_root)
    if kind == "audiofolder":
        clips = read_audio_folder(source, dict(_column_names(columns or [])))
    elif kind == "cuts":
        clips = read_lhotse_cuts(source, unsaid)
    elif recordings is None:
        raise ConfigError("--from supervisions: the sound files are unknown; name their manifest with --recordings.")
    else:
        clips = read_lhotse(recordings, source, unsaid)
    write_manifest(out, clips)
    typer.echo(f"{len(clips)} clips, {len({clip.group for clip in clips})} groups: {out}")


def _column_names(columns: list[str]) -> Iterator[tuple[str, str]]:
    for column in columns:
        ours, equals, theirs = column.partition("=")
        if not (ours and equals and theirs):
            raise ConfigError(f"--column '{column}': expected ours=theirs, for instance group=speaker_id.")
        yield ours, theirs
