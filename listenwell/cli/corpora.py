"""Commands on corpora: list, download, prepare, check."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from listenwell.cli.shared import OneSentenceErrors, Overwrite
from listenwell.errors import ConfigError

if TYPE_CHECKING:
    from listenwell.data.clip import Clip
    from listenwell.data.corpora.records import Corpus, Prepared, PrepareSettings
    from listenwell.data.download import RemoteFile
    from listenwell.progress import OnProgress

app = typer.Typer(
    cls=OneSentenceErrors, no_args_is_help=True, help="Recordings to study: list, download, prepare, check."
)

STARTER = "starter"  # catalogue.STARTER, which is not imported before a command runs
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a corpus; 'corpus list' shows them.")]
Root = Annotated[Path | None, typer.Option("--root", help="Folder of the corpus, or one above it.")]


@app.command("list")
def list_corpora(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Show all about one corpus.", show_default=False)] = "",
) -> None:
    """List the corpora: hours, size of the download, licence, what they are good for; or all about one of them."""
    from listenwell.data.corpora.catalogue import CORPORA, find_corpus

    if name:
        typer.echo(_corpus_text(find_corpus(name)))
        return
    rows = [
        ("name", "hours", "download", "licence", "what for"),
        (STARTER, "-", "0.9 GB", "see docs", "speech and sounds from Debian packages; no account, no root"),
        *(
            (
                corpus.name,
                f"{corpus.hours:g}" if corpus.hours else "-",
                _size_text(corpus.archives),
                corpus.licence,
                corpus.purpose,
            )
            for corpus in CORPORA.values()
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("download")
def download_corpus(
    name: Name,
    root: Root = None,
    url: Annotated[
        str, typer.Option("--url", help="Mirror: URL of a folder that holds the archives under their own names.")
    ] = "",
) -> None:
    """Fetch a corpus and unpack it; an interrupted download goes on where it stopped. Prints the folders."""
    from listenwell.data.corpora.catalogue import fetch_corpus, find_corpus
    from listenwell.progress import shown_progress

    corpus = find_corpus(name)
    with shown_progress() as on_progress:
        folders = fetch_corpus(corpus, _required_folder("--root", root), url, on_progress)
    typer.echo(f"{corpus.title}: {corpus.licence}; cite {corpus.citation}")
    for folder in folders:
        typer.echo(folder)


@app.command("prepare")
def prepare_corpus(
    name: Name = STARTER,
    root: Root = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for clips.csv and backgrounds.csv.")] = None,
    clip_s: Annotated[float | None, typer.Option("--clip-s", help="Longest clip, in seconds.")] = None,
    clips_per_recording: Annotated[
        int | None, typer.Option("--clips-per-recording", help="Most clips of one recording.")
    ] = None,
    apart_s: Annotated[float | None, typer.Option("--apart-s", help="Least time between two clips.")] = None,
    margin_s: Annotated[float | None, typer.Option("--margin-s", help="Least distance from another speaker.")] = None,
    clips: Annotated[
        str | None, typer.Option("--clips", help="MUSAN: kinds that become clips, such as speech,noise; or none.")
    ] = None,
    backgrounds: Annotated[
        str | None, typer.Option("--backgrounds", help="Kinds that become backgrounds, such as music; or none.")
    ] = None,
    parts: Annotated[str | None, typer.Option("--parts", help="Official parts, such as dev-clean,test-clean.")] = None,
    quarantine_share: Annotated[
        float | None,
        typer.Option("--quarantine-share", help="Largest share of unreadable recordings.", min=0, max=1),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make clips.csv and backgrounds.csv of a corpus; starter is fetched and rendered in the cache first."""
    from listenwell.progress import shown_progress

    if name == STARTER:
        with shown_progress() as on_progress:
            _prepare_starter(on_progress)
        return
    from listenwell.data.corpora.catalogue import TABLES, find_corpus, write_prepared
    from listenwell.destination import destinations

    numbers = {
        "clip_s": clip_s, "clips_per_recording": clips_per_recording, "apart_s": apart_s, "margin_s": margin_s,
        "quarantine_share": quarantine_share,
    }  # fmt: skip
    names = {"clip_kinds": clips, "background_kinds": backgrounds, "parts": parts}
    settings = _settings(numbers, names)
    corpus, folder, source = find_corpus(name), _required_folder("--out", out), _required_folder("--root", root)
    with destinations([folder / table for table in TABLES], inputs=[source], overwrite=overwrite) as written:
        with shown_progress() as on_progress:
            prepared = corpus.prepare(source, settings, on_progress)
        tables = write_prepared(prepared, folder)
        written.remove_rest()
    _report_prepared(prepared)
    if corpus.draws_on:
        typer.echo(f"drawn from {', '.join(corpus.draws_on)}: other corpora drawn from there may hold the same sources")
    for table in tables:
        typer.echo(table)


@app.command("check")
def check_corpus(
    name: Annotated[str, typer.Argument(help="A corpus, or the path of a clips.csv, .jsonl or .parquet.")] = STARTER,
    root: Root = None,
) -> None:
    """Read every clip of a corpus and say which cannot be used."""
    from listenwell.data.audio import load_waveform
    from listenwell.errors import AudioError
    from listenwell.progress import shown_progress

    with shown_progress() as on_progress:
        clips, faults = _find_clips(name, root, on_progress), []
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


def _find_clips(name: str, root: Path | None, on_progress: "OnProgress") -> "Sequence[Clip]":
    """Return the clips of a corpus, or of a table where no corpus has this name."""
    from listenwell.cache import cache_root
    from listenwell.data.corpora.catalogue import CORPORA
    from listenwell.data.corpora.records import PrepareSettings
    from listenwell.data.corpora.starter import prepare_starter
    from listenwell.data.corpora.table import read_table

    if name == STARTER:
        return read_table(prepare_starter(cache_root(), report=on_progress).clips_csv)
    if name in CORPORA:
        return CORPORA[name].prepare(_required_folder("--root", root), PrepareSettings(), on_progress).clips
    return read_table(Path(name))


def _prepare_starter(on_progress: "OnProgress") -> None:
    from listenwell.cache import cache_root
    from listenwell.data.corpora.starter import prepare_starter

    corpus = prepare_starter(cache_root(), report=on_progress)
    typer.echo(corpus.text)
    typer.echo(corpus.clips_csv)


def _settings(numbers: Mapping[str, float | None], names: Mapping[str, str | None]) -> "PrepareSettings":
    """Return the default settings with what was given on the command line in their place."""
    from dataclasses import replace

    from listenwell.data.corpora.records import PrepareSettings

    given: dict[str, Any] = {key: value for key, value in numbers.items() if value is not None}
    for key, text in names.items():
        if text is not None:
            given[key] = tuple(name for name in text.split(",") if name != "none")
    return replace(PrepareSettings(), **given)


def _required_folder(option: str, folder: Path | None) -> Path:
    if folder is None:
        raise ConfigError(f"{option}: is missing; give a folder, such as {option} corpora/musan.")
    return folder


def _report_prepared(prepared: "Prepared") -> None:
    for label in ("SPEECH", "NONSPEECH"):
        chosen = [clip for clip in prepared.clips if clip.label == label]
        if chosen:
            typer.echo(f"{label:18} {len(chosen):6} clips  {len({clip.group for clip in chosen}):5} groups")
    for kind in sorted({bed.kind for bed in prepared.backgrounds}):
        beds = [bed for bed in prepared.backgrounds if bed.kind == kind]
        typer.echo(f"{kind:18} {len(beds):6} backgrounds  {len({bed.group for bed in beds}):5} groups")
    if prepared.quarantine:
        typer.echo(f"{len(prepared.quarantine)} recordings cannot be used, see quarantine.csv")
    for note in prepared.notes:
        typer.echo(note)


def _corpus_text(corpus: "Corpus") -> str:
    lines = [
        ("title", corpus.title),
        ("what for", corpus.purpose),
        ("hours", f"{corpus.hours:g}" if corpus.hours else "-"),
        ("licence", corpus.licence),
        ("citation", corpus.citation),
        ("home page", corpus.home_page),
        ("layout", corpus.layout),
        ("drawn from", ", ".join(corpus.draws_on)),
        *(("archive", f"{each.url}  {each.checksum or 'recorded on first use'}") for each in corpus.archives),
    ]
    return "\n".join(f"{title:10} {text}" for title, text in lines if text)


def _size_text(archives: Sequence["RemoteFile"]) -> str:
    """Return the size of the download, as far as it is published."""
    known = sum(archive.n_bytes for archive in archives)
    if not archives:
        return "none"
    return f"{known / 1e9:.1f} GB" if all(archive.n_bytes for archive in archives) else "not published"
