"""Fill in the hash of the decoded samples of clips and backgrounds, decoding a recording once.

A hash is remembered in the cache, one file per set of recordings (their common folder), under the stretch it is of and
the size and times of the recording: a file whose size, modification or change time differs is decoded again, and so
are all of them by another version of the decoders. A hash tells of the samples, so a copied or touched recording keeps
it, and one exported again under the same name does not.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import soundfile

from listenwell.data.audio import (
    DECODING_VERSION,
    SAMPLE_RATE_HZ,
    load_recording,
    load_waveform,
    pcm_sha256,
    require_unchanged,
)
from listenwell.data.clip import Background, Clip
from listenwell.errors import ListenwellError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.load_or_make import cache_root, read_checksummed, write_checksummed

DECODER = ", ".join(
    [f"{DECODING_VERSION}, libsndfile {soundfile.__libsndfile_version__}"]
    + [f"{name} {version(name)}" for name in ("av", "soxr")]
)
PIECE_S = 1800.0
"""Backgrounds of hours are decoded and hashed in pieces of this length."""


class SampleHashes:
    """Hashes of the recordings at `paths`, those of earlier runs among them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        absolute = [os.path.abspath(path) for path in paths]
        self.folder = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else os.sep
        name = hashlib.sha256(self.folder.encode(errors="surrogateescape")).hexdigest()[:16]
        self.path = cache_root() / "samples" / f"{name}.json"
        self.known = _read(self.path)
        self.has_new = False

    def fill_clip(self, clip: Clip) -> Clip:
        """The clip with the hash of its samples.

        Raises AudioError where they cannot be used, as `load_waveform` does, or are not those its table tells of.
        """
        key = self._key(clip.path, clip.start_s, clip.duration_s, clip.channel)
        sha256 = self._find(key, clip.path, lambda: pcm_sha256(load_waveform(clip)))
        require_unchanged(f"{clip.path}: clip '{clip.clip_id}'", sha256, clip.pcm_sha256 or sha256)
        return replace(clip, pcm_sha256=sha256)

    def fill_background(self, background: Background) -> Background:
        """The background with the hash of all samples of its recording. Raises AudioError likewise."""
        key = self._key(background.path, 0.0, None)
        sha256 = self._find(key, background.path, lambda: _hash_recording(background))
        what = f"{background.path}: background '{background.background_id}'"
        require_unchanged(what, sha256, background.pcm_sha256 or sha256)
        return replace(background, pcm_sha256=sha256)

    def save(self) -> None:
        """Put what is new on the disk; where that cannot be written, the next run decodes again."""
        if not self.has_new:
            return
        try:
            # another process may have added some meanwhile
            write_checksummed(self.path, {"decoder": DECODER, "hashes": _read(self.path) | self.known})
        except (OSError, ListenwellError) as error:
            print(f"listenwell: what was read is not remembered ({error})", file=sys.stderr)

    def _key(self, path: Path, start_s: float, duration_s: float | None, channel: int | None = None) -> str:
        inside = os.path.relpath(os.path.abspath(path), self.folder)
        which = "" if channel is None else f"channel {channel} "
        key = f"{start_s!r} {duration_s!r} {which}{inside}"
        return key.encode(errors="surrogateescape").decode(errors="backslashreplace")

    def _find(self, key: str, path: Path, decode: Callable[[], str]) -> str:
        state = _state_of(path)
        if key in self.known and self.known[key][0] == state:
            return str(self.known[key][1])
        sha256 = decode()
        self.known[key], self.has_new = [state, sha256], True
        return sha256


@contextmanager
def sample_hashes(sounds: Sequence[Clip] | Sequence[Background]) -> Iterator[SampleHashes]:
    """Within the block, the hashes of these sounds; afterwards, also after Ctrl-C, what is new is kept."""
    hashes = SampleHashes([sound.path for sound in sounds])
    try:
        yield hashes
    finally:
        hashes.save()


def fill_backgrounds(backgrounds: Sequence[Background], on_progress: OnProgress = ignore_progress) -> list[Background]:
    """The backgrounds with the hashes of their samples. Raises AudioError for the first that cannot be read."""
    filled = []
    with sample_hashes(backgrounds) as hashes:
        for background in backgrounds:
            filled.append(hashes.fill_background(background))
            on_progress("reading backgrounds", len(filled), len(backgrounds))
    return filled


def _hash_recording(background: Background) -> str:
    """As `pcm_sha256` of the whole recording; above PIECE_S of the pieces, each resampled alone."""
    if background.duration_s <= PIECE_S:
        return pcm_sha256(load_recording(background.path))
    digest, start_s = hashlib.sha256(), 0.0
    while start_s < background.duration_s - 1 / SAMPLE_RATE_HZ:
        piece_s = min(PIECE_S, background.duration_s - start_s)
        digest.update(load_recording(background.path, start_s, piece_s).astype("<f4").tobytes())
        start_s += piece_s
    return digest.hexdigest()


def _state_of(path: Path) -> list[int]:
    """Size, times of the last change of content and of name or mode in ns, inode; nothing where it cannot be asked."""
    try:
        state = path.stat()
    except OSError:
        return []
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _read(path: Path) -> dict[str, Any]:
    """What earlier runs remembered; nothing where the file was damaged, since all of it can be found again."""
    try:
        kept = read_checksummed(path) if path.is_file() else {}
    except ListenwellError:
        return {}
    return dict(kept["hashes"]) if kept.keys() == {"decoder", "hashes"} and kept["decoder"] == DECODER else {}
