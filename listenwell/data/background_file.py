"""One memory-mapped file of all backgrounds of a study, 16 kHz, 16 bit: a stretch is one copy out of the page cache.

    FOLDER/samples.i16    the samples one background after another, little-endian
    FOLDER/index.json     where each lies, which recording it was, and the fingerprint of samples.i16

Built recording by recording, so that MUSAN's 109 h (12.6 GB) never lie in memory, and whole or not at all. The
fingerprint is a sha256 over the file's size and N_CHECKED blocks spread over it (all of it up to 16 MiB): opening reads
no more than that, finds a file that was cut, replaced or built again, and can miss a change between the blocks.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listenwell.atomic_files import atomic_folder, write_json
from listenwell.data.audio import Waveform, is_silent, load_recording
from listenwell.data.backgrounds import SHORTEST_S
from listenwell.data.clip import Background
from listenwell.errors import AudioError
from listenwell.progress import OnProgress, ignore_progress

SAMPLES, INDEX = "samples.i16", "index.json"
FORMAT = 1
FULL_SCALE = 32768.0
"""16 kHz recordings of 16 bit are stored to the bit."""
BLOCK_BYTES, N_CHECKED = 65_536, 256


class BackgroundFile:
    """The samples of a folder that `build_background_file` wrote; the operating system loads what is read."""

    def __init__(self, folder: Path, entries: Sequence[Background]) -> None:
        """Open it for `entries`. Raises AudioError when it is missing, damaged, or lacks one of them as it is now."""
        index = _read_index(folder)
        found = _fingerprint(folder / SAMPLES)
        if found != index["fingerprint"]:
            raise AudioError(
                f"{folder / SAMPLES}: changed since it was built (fingerprint {found[:12]}, expected "
                f"{str(index['fingerprint'])[:12]}); delete the folder and build it again."
            )
        self._places: dict[str, tuple[int, int]] = {}
        for entry in entries:
            record = _record_of(folder, index, entry)
            if record is None or record["source"] != _describe_source(entry):
                state = "is not in it" if record is None else "was another recording when it was built"
                raise AudioError(
                    f"{folder}: background '{entry.background_id}' {state}; delete the folder and build it again."
                )
            self._places[entry.background_id] = (record["first"], record["n_samples"])
        self._folder = folder
        self._samples = _map(folder)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to read the same file: no samples."""
        return {"_folder": self._folder, "_places": self._places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._samples = _map(self._folder)

    def read(self, background_id: str, first: int, n_samples: int) -> Waveform:
        """Return n_samples float32 samples from sample `first` on, fewer where the background ends."""
        start, n_stored = self._places[background_id]
        stored = self._samples[start + first : start + min(first + n_samples, n_stored)]
        samples = stored.astype(np.float32)
        samples *= np.float32(1 / FULL_SCALE)
        return samples


def _record_of(folder: Path, index: dict[str, Any], entry: Background) -> dict[str, Any] | None:
    """What the index says of one background, None where it does not know it. Raises AudioError for a broken index."""
    records = index["backgrounds"]
    if not isinstance(records, dict):
        raise AudioError(f"{folder / INDEX}: its 'backgrounds' is no object; delete the folder and build it again.")
    if entry.background_id not in records:
        return None
    record = records[entry.background_id]
    whole = isinstance(record, dict) and record.keys() >= {"first", "n_samples", "source"}
    if not (whole and all(type(record[name]) is int and record[name] >= 0 for name in ("first", "n_samples"))):
        raise AudioError(
            f"{folder / INDEX}: what it says of background '{entry.background_id}' is broken; delete the folder and "
            "build it again."
        )
    return dict(record)


def _map(folder: Path) -> NDArray[np.int16]:
    return np.asarray(np.memmap(folder / SAMPLES, dtype="<i2", mode="r"))


def build_background_file(
    folder: Path, entries: Sequence[Background], on_progress: OnProgress = ignore_progress
) -> None:
    """Write all `entries` into `folder`, atomically; one recording is in memory at a time.

    Raises AudioError for no entries, a recording that is silent, below 10 ms, not finite or not readable.
    """
    if not entries:
        raise AudioError(f"{folder}: there are no backgrounds to store; give a table with at least one.")
    with atomic_folder(folder) as temporary:
        records, n_written = {}, 0
        with (temporary / SAMPLES).open("wb") as file:
            for done, entry in enumerate(sorted(entries, key=lambda entry: entry.background_id), start=1):
                samples = _quantise(_load(entry))
                file.write(samples.tobytes())
                records[entry.background_id] = {
                    "first": n_written, "n_samples": samples.size, "source": _describe_source(entry),
                }  # fmt: skip
                n_written += samples.size
                on_progress("storing backgrounds", done, len(entries))
        index = {"format": FORMAT, "fingerprint": _fingerprint(temporary / SAMPLES), "backgrounds": records}
        write_json(temporary / INDEX, index)


def _load(entry: Background) -> Waveform:
    samples = load_recording(entry.path)
    if is_silent(samples):
        raise AudioError(f"{entry.path}: background '{entry.background_id}' is silent; remove it from the table.")
    if entry.duration_s < SHORTEST_S:
        raise AudioError(
            f"{entry.path}: background '{entry.background_id}' lasts {entry.duration_s:g} s; at least {SHORTEST_S:g} s "
            "were expected, remove it from the table."
        )
    return samples


def _quantise(samples: Waveform) -> NDArray[np.int16]:
    """Return the samples as 16 bit, little-endian, rounded; beyond full scale is held there."""
    return np.asarray(np.clip(np.rint(samples * np.float32(FULL_SCALE)), -32768, 32767), dtype="<i2")


def _describe_source(entry: Background) -> list[str | float]:
    """What tells a recording from another one."""
    return list(entry.identity)


def _fingerprint(path: Path) -> str:
    """sha256 over a file's size and N_CHECKED blocks of it, evenly spread, first and last among them."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    starts = np.unique(np.linspace(0, max(0, size - BLOCK_BYTES), N_CHECKED).astype(np.int64))
    with path.open("rb") as file:
        for start in starts:
            file.seek(int(start))
            digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        missing = {"format", "fingerprint", "backgrounds"} - index.keys()
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise AudioError(
            f"{folder / INDEX}: cannot be read ({error}); delete the folder and build the backgrounds again."
        ) from error
    if missing or index["format"] != FORMAT or not (folder / SAMPLES).is_file():
        raise AudioError(
            f"{folder}: holds no stored backgrounds of format {FORMAT}; delete the folder and build them again."
        )
    return index
