"""The group `data`: test-set, audio-check, and corpus (list, download, prepare)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from listenwell.cli.shared import OneSentenceErrors, Overwrite, count_groups, study_inputs
from listenwell.errors import ConfigError
from listenwell.progress import shown_progress
from listenwell.storage.atomic_files import write_json
from listenwell.storage.destination import destinations
from listenwell.storage.load_or_make import cache_root

if TYPE_CHECKING:
    from listenwell.data.corpora.corpus import Corpus, Prepared
    from listenwell.data.fetch.download import RemoteFile

app = typer.Typer(cls=OneSentenceErrors, no_args_is_help=True, help="Recordings and test sets before a study.")
corpus_app = typer.Typer(
    cls=OneSentenceErrors, no_args_is_help=True, help="Recordings to study: list, download, prepare."
)

STARTER = "starter"  # catalogue.STARTER, which is not imported before a command runs
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a corpus; 'data corpus list' shows them.")]
Root = Annotated[Path | None, typer.Option("--root", help="Folder of the corpus, or one above it.")]


@corpus_app.command("list", epilog="Example: listenwell data corpus list musan")
def list_corpora(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Show all about one corpus.", show_default=False)] = "",
) -> None:
    """List the corpora: hours, size of the download, licence, what they are good for; or all about one of them."""
    from listenwell.data.corpora.catalogue import CORPORA, find_corpus

    if name:
        typer.echo(_corpus_text(find_corpus(name)))
        return
    rows = [("name", "hours", "download", "licence", "what for")]
    rows += [(STARTER, "-", "1.3 GB", "see docs", "speech and sounds from Debian packages; no account, no root")]
    for each in CORPORA.values():
        hours = f"{each.hours:g}" if each.hours else "-"
        rows += [(each.name, hours, _size_text(each.archives), each.licence, each.purpose)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@corpus_app.command("download", epilog="Example: listenwell data corpus download musan --root corpora/musan")
def download_corpus(
    name: Name,
    root: Root = None,
    url: Annotated[str, typer.Option(help="Mirror: a folder of the archives under their own names.")] = "",
) -> None:
    """Fetch a corpus and unpack it; where a hash is published, an interrupted download goes on. Prints the folders."""
    from listenwell.data.corpora.catalogue import fetch_corpus, find_corpus

    corpus = find_corpus(name)
    with shown_progress() as on_progress:
        folders = fetch_corpus(corpus, _required_folder("--root", root), url, on_progress)
    typer.echo(f"{corpus.title}: {corpus.licence}; cite {corpus.citation}")
    typer.echo("\n".join(map(str, folders)))


@corpus_app.command("prepare", epilog="Example: listenwell data corpus prepare musan --root musan --out prepared")
def prepare_corpus(
    name: Name = STARTER,
    root: Root = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for clips.csv and backgrounds.csv.")] = None,
    clip_s: Annotated[float | None, typer.Option("--clip-s", min=0.5, help="Longest clip, in seconds.")] = None,
    clips_per_recording: Annotated[int | None, typer.Option(min=1, help="Most clips of one recording.")] = None,
    clips: Annotated[str | None, typer.Option(help="MUSAN: kinds that become clips (speech,noise), or none.")] = None,
    backgrounds: Annotated[str | None, typer.Option(help="Kinds of backgrounds (music,noise), or none.")] = None,
    parts: Annotated[str | None, typer.Option("--parts", help="Official parts of VoxConverse: dev, test.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make clips.csv and backgrounds.csv of a corpus; starter is fetched and rendered in the cache first."""
    if name == STARTER:
        from listenwell.data.corpora.starter import prepare_starter

        with shown_progress() as on_progress:
            starter = prepare_starter(cache_root(), on_progress=on_progress)
        typer.echo(f"{starter.summary['text']}\n{starter.clips_csv}")
        return
    from dataclasses import replace

    from listenwell.data.corpora.catalogue import TABLES, find_corpus, write_prepared
    from listenwell.data.corpora.corpus import PrepareSettings

    given: dict[str, Any] = {"clip_s": clip_s, "clips_per_recording": clips_per_recording}
    for key, text in (("clip_kinds", clips), ("background_kinds", backgrounds), ("parts", parts)):
        given[key] = text if text is None else tuple(kind for kind in text.split(",") if kind != "none")
    settings = replace(PrepareSettings(), **{key: value for key, value in given.items() if value is not None})
    corpus, folder, source = find_corpus(name), _required_folder("--out", out), _required_folder("--root", root)
    with destinations([folder / table for table in TABLES], inputs=[source], overwrite=overwrite) as remove_rest:
        with shown_progress() as on_progress:
            prepared = corpus.prepare(source, settings, on_progress)
        tables = write_prepared(prepared, folder)
        remove_rest()
    _report_prepared(prepared)
    if corpus.draws_on:
        typer.echo(f"drawn from {', '.join(corpus.draws_on)}: other corpora drawn from there may hold the same sources")
    for table in tables:
        typer.echo(table)


def _required_folder(option: str, folder: Path | None) -> Path:
    if folder is None:
        raise ConfigError(f"{option}: is missing; give a folder, such as {option} corpora/musan.")
    return folder


def _report_prepared(prepared: "Prepared") -> None:
    for label, n_clips, n_groups in count_groups(prepared.clips):
        typer.echo(f"{label:18} {n_clips:6} clips  {n_groups:5} groups")
    for kind in sorted({bed.kind for bed in prepared.backgrounds}):
        beds = [bed for bed in prepared.backgrounds if bed.kind == kind]
        typer.echo(f"{kind:18} {len(beds):6} backgrounds  {len({bed.group for bed in beds}):5} groups")
    if prepared.quarantine:
        typer.echo(f"{len(prepared.quarantine)} recordings cannot be used, see quarantine.csv")
    for note in prepared.notes:
        typer.echo(note)


def _corpus_text(corpus: "Corpus") -> str:
    names = ("title", "purpose", "hours", "licence", "citation", "home_page", "layout", "draws_on")
    lines = [f"{name:10} {getattr(corpus, name)}" for name in names if getattr(corpus, name)]
    archives = [f"archive    {each.url}  {each.checksum or 'no hash is published'}" for each in corpus.archives]
    return "\n".join([*lines, *archives])


def _size_text(archives: Sequence["RemoteFile"]) -> str:
    """Return the size of the download, as far as it is published."""
    known = sum(archive.n_bytes for archive in archives)
    if not archives:
        return "none"
    return f"{known / 1e9:.1f} GB" if all(archive.n_bytes for archive in archives) else "not published"


@app.command(
    "test-set", epilog="Example: listenwell data test-set --clips my/clips.csv --speakers 4 --sounds 4 --out test"
)
def draw_test_set(
    clips: Annotated[str, typer.Option("--clips", help="clips.csv, or starter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for test_set.csv and its data sheet.")],
    speakers: Annotated[int, typer.Option("--speakers", min=1, help="Speakers.")] = 10,
    speech_clips: Annotated[int, typer.Option("--speech-clips", min=1, help="Clips of each speaker.")] = 5,
    sounds: Annotated[int, typer.Option("--sounds", min=1, help="Sources of other sounds.")] = 20,
    sound_clips: Annotated[int, typer.Option("--sound-clips", min=1, help="Clips of each source.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of every draw.")] = 0,
    from_split: Annotated[str, typer.Option("--from-split", help="Draw from this split of the clips only.")] = "",
    exclude: Annotated[list[Path] | None, typer.Option(help="Table of clips used elsewhere; repeatable.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw a test set by group and write it with its data sheet; no audio is copied."""
    from listenwell.config import load_config
    from listenwell.data.test_set import SetSize
    from listenwell.tasks.test_set import FILES, Draw, make_test_set

    config = load_config(None, [f"data.manifest={json.dumps(clips)}", "data.backgrounds=none", f"seed={seed}"])
    draw = Draw(SetSize(speakers, speech_clips, sounds, sound_clips), from_split, tuple(exclude or ()))
    read = study_inputs(config, *(exclude or []))
    files = [out / name for name in FILES]
    with destinations(files, inputs=read, overwrite=overwrite) as remove_rest:
        with shown_progress() as on_progress:
            sheet = make_test_set(config, draw, out, on_progress)
        remove_rest()
    for each in sheet.precision:
        widths = ", ".join(f"±{100 * half_width:.1f} at {share:.0%}" for share, half_width in each.half_widths)
        typer.echo(
            f"{each.measure:18} {each.n_clips:4} clips, {each.n_groups:3} groups, effective n "
            f"{each.effective_n:.0f}; 95 % interval {widths}"
        )
    typer.echo(out / "test_set.csv")


@app.command("audio-check", epilog="Example: listenwell data audio-check my/clips.csv")
def check_audio(
    clips: Annotated[str, typer.Argument(metavar="CLIPS", help="clips.csv, or starter.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the shortcut test.")] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the findings here (JSON).")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure clipping, DC, silence, level and bandwidth by class, and warn where they tell the label."""
    from dataclasses import asdict

    from listenwell.config import load_config
    from listenwell.data.check.audio_checks import check_audio, format_audio_report
    from listenwell.splits.clips import find_manifest, read_split

    config = load_config(None, [f"data.manifest={json.dumps(clips)}"])
    with destinations([out], inputs=study_inputs(config), overwrite=overwrite):
        with shown_progress() as on_progress:
            report = check_audio(read_split(find_manifest(config, on_progress), ""), seed, on_progress)
        if out is not None:
            write_json(out, asdict(report))
    typer.echo(format_audio_report(report))
    if report.unreadable:
        raise typer.Exit(1)
