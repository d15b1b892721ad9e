"""Commands on corpora: list, prepare, check."""

import json
from typing import Annotated

import typer

from listenwell.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Recordings to study: list, prepare, check.")


@app.command("list")
def list_corpora() -> None:
    """List the corpora that listenwell can prepare."""
    typer.echo("starter   speech and sounds from Debian packages, 16 kHz; needs no account and no root")


@app.command("prepare")
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


@app.command("check")
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


def _known_corpus(name: str) -> None:
    if name != "starter":
        raise ConfigError(f"corpus '{name}': unknown; expected starter ('listenwell corpus list' shows them all).")
