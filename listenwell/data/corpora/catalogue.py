"""The public corpora that listenwell knows, and the two things done with any of them: fetch, and write what it gives.

    fetch_corpus     ROOT/<archive>          each archive, checked, and unpacked into
                     ROOT/<archive's stem>/  a folder of its own, whole or not at all
    write_prepared   OUT/clips.csv, backgrounds.csv, quarantine.csv: those that have rows

The starter corpus (listenwell.data.corpora.starter) is rendered, not prepared from a folder, and so not one of them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from listenwell.data.corpora import esc50, folders, musan, rirs, voxconverse
from listenwell.data.corpora.corpus import Corpus, Prepared
from listenwell.data.fetch.download import download, unpack
from listenwell.data.manifest import write_backgrounds, write_manifest
from listenwell.data.tables import write_rows
from listenwell.errors import ConfigError
from listenwell.progress import OnProgress, ignore_progress

CORPORA: Mapping[str, Corpus] = {
    module.CORPUS.name: module.CORPUS for module in (musan, esc50, voxconverse, rirs, folders)
}
ARCHIVE_SUFFIXES = (".tar.gz", ".zip")
STARTER = "starter"
TABLES = ("clips.csv", "backgrounds.csv", "quarantine.csv")


def find_corpus(name: str) -> Corpus:
    """Return the corpus called `name`. Raises ConfigError naming those there are."""
    if name == STARTER:
        raise ConfigError(
            f"corpus '{STARTER}': is fetched and rendered in the cache, not kept in a folder of yours; run "
            f"'listenwell data corpus prepare {STARTER}'."
        )
    if name not in CORPORA:
        raise ConfigError(f"corpus '{name}': unknown; expected one of {STARTER}, {', '.join(CORPORA)}.")
    return CORPORA[name]


def fetch_corpus(corpus: Corpus, root: Path, mirror: str = "", on_progress: OnProgress = ignore_progress) -> list[Path]:
    """Return the folders below `root` that hold the unpacked archives, fetching what is not there yet.

    mirror: URL of a folder that holds the archives under their names; "" takes each from its own place. Raises
    ConfigError when the corpus has nothing to download, and DownloadError.
    """
    if not corpus.archives:
        raise ConfigError(f"corpus '{corpus.name}': has nothing to download; prepare it from {corpus.purpose}.")
    unpacked = []
    for archive in corpus.archives:
        file = replace(archive, url=f"{mirror.rstrip('/')}/{archive.name}") if mirror else archive
        fetched = download(file, root, on_progress)
        stem = next(archive.name.removesuffix(suffix) for suffix in ARCHIVE_SUFFIXES if archive.name.endswith(suffix))
        unpacked.append(unpack(fetched, root / stem, on_progress))
    return unpacked


def write_prepared(prepared: Prepared, folder: Path) -> list[Path]:
    """Write the tables that have rows into `folder`; return their paths.

    Tables that are there are replaced: `storage.destination` asks before, and removes those without rows, since
    tables of two runs beside each other would not fit together.
    """
    clips, backgrounds, quarantine = paths = [folder / name for name in TABLES]
    if prepared.clips:
        write_manifest(clips, prepared.clips)
    if prepared.backgrounds:
        write_backgrounds(backgrounds, prepared.backgrounds)
    if prepared.quarantine:
        rows = [(str(left_out.path), left_out.reason) for left_out in prepared.quarantine]
        write_rows(quarantine, ("path", "reason"), rows)
    tables = (prepared.clips, prepared.backgrounds, prepared.quarantine)
    return [path for path, records in zip(paths, tables, strict=True) if records]
