"""The background bank: stretches of noise, music and voices, read when they are asked for.

Stretches come straight from the recordings (a part of a 16 kHz PCM file is one seek and one read), or, where many are
read, from one memory-mapped file of all backgrounds of a study, 16 kHz, 16 bit: one copy out of the page cache. The
bank of the training part may hold its SPEECH clips as well, for babble.

    FOLDER/samples.i16    the samples one background after another, little-endian
    FOLDER/index.json     where each lies, which recording it was, and the fingerprint of samples.i16 (checksummed)

The file is built recording by recording, so that MUSAN's 109 h (12.6 GB) never lie in memory, and whole or not at all.
The fingerprint is a sha256 over the file's size and N_CHECKED blocks spread over it (all of it up to 16 MiB): opening
reads no more than that, finds a file that was cut, replaced or built again, and can miss a change between the blocks.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, is_silent, load_recording
from listenwell.data.clip import Background, Clip, background_hashes
from listenwell.errors import AudioError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import atomic_folder
from listenwell.storage.load_or_make import read_checksummed, write_checksummed

SHORTEST_S = 0.01
STORED = "stored"
FADE_S = 0.02
"""A repeated background fades into itself over this long, or a quarter of it where it is shorter."""
SAMPLES, INDEX = "samples.i16", "index.json"
FORMAT = 2
FULL_SCALE = 32768.0
"""16 kHz recordings of 16 bit are stored to the bit."""
BLOCK_BYTES, N_CHECKED = 65_536, 256


class BackgroundBank:
    """Backgrounds of one split; `load` returns any stretch of one of them.

    speakers: SPEECH clips of the same split, which become backgrounds of kind "speech" of their own groups. stored:
    where samples of `entries` are read from instead of the recordings. Raises AudioError for a background below 10 ms.
    """

    def __init__(
        self, entries: Sequence[Background], speakers: Sequence[Clip] = (), stored: "BackgroundFile | None" = None
    ) -> None:
        spoken = [_as_background(clip) for clip in speakers if clip.label == "SPEECH"]
        self.entries = tuple(sorted([*entries, *spoken], key=lambda background: background.background_id))
        self._entries = {background.background_id: background for background in self.entries}
        self._starts_s = {clip_background_id(clip): clip.start_s for clip in speakers}
        self.stored = stored
        for background in self.entries:
            _require_long_enough(background)

    def load(self, background_id: str, offset_s: float, duration_s: float) -> Waveform:
        """Return duration_s seconds from offset_s, shape (n_samples,); a shorter background is repeated.

        Raises AudioError when the bank has no such background or its recording cannot be read.
        """
        if background_id not in self._entries:
            raise AudioError(f"background '{background_id}' is not in the bank; the plan was drawn for another one.")
        background = self._entries[background_id]
        n_samples = round(duration_s * SAMPLE_RATE_HZ)
        if offset_s + duration_s <= background.duration_s:
            return _fit(self._read(background, offset_s, duration_s), n_samples)
        first = round(offset_s * SAMPLE_RATE_HZ)
        return repeat_to(self._read(background, 0.0, background.duration_s), first + n_samples)[first:]

    def _read(self, background: Background, offset_s: float, duration_s: float) -> Waveform:
        if background.background_id in self._starts_s:
            return load_recording(background.path, self._starts_s[background.background_id] + offset_s, duration_s)
        if self.stored is not None:
            first = round(offset_s * SAMPLE_RATE_HZ)
            return self.stored.read(background.background_id, first, round(duration_s * SAMPLE_RATE_HZ))
        return load_recording(background.path, offset_s, duration_s)

    @property
    def hashes(self) -> dict[str, str]:
        """What identifies the bank's sound, by field: storing at 16 bit rounds recordings of another format."""
        stored = {STORED: "16 kHz, 16 bit"} if self.stored is not None else {}
        return background_hashes(self.entries) | stored


def _fit(samples: Waveform, n_samples: int) -> Waveform:
    """Exactly n_samples: resampling gives one less or more at times, which the last sample fills."""
    missing = n_samples - samples.size
    return np.pad(samples, (0, missing), mode="edge") if missing > 0 else samples[:n_samples]


def _require_long_enough(background: Background) -> None:
    if background.duration_s < SHORTEST_S:
        raise AudioError(
            f"{background.path}: background '{background.background_id}' lasts {background.duration_s:g} s; at least "
            f"{SHORTEST_S:g} s were expected, remove it from the table."
        )


def clip_background_id(clip: Clip) -> str:
    """The name of a clip among backgrounds."""
    return f"clip/{clip.clip_id}"


def _as_background(clip: Clip) -> Background:
    return Background(
        clip_background_id(clip), clip.path, clip.duration_s, "speech", clip.group, clip.corpus, clip.licence,
        clip.split, clip.pcm_sha256, clip.origin,
    )  # fmt: skip


def repeat_to(samples: Waveform, n_samples: int) -> Waveform:
    """Cut or repeat `samples` to n_samples. Each repetition is cross-faded into the next at equal power."""
    if samples.size >= n_samples:
        return samples[:n_samples]
    n_fade = min(round(FADE_S * SAMPLE_RATE_HZ), samples.size // 4)
    angle = (np.arange(n_fade, dtype=np.float32) + np.float32(0.5)) / np.float32(max(n_fade, 1)) * np.float32(np.pi / 2)
    seam = samples[samples.size - n_fade :] * np.cos(angle) + samples[:n_fade] * np.sin(angle)
    cycle = np.concatenate([seam, samples[n_fade : samples.size - n_fade]])
    n_more = n_samples - (samples.size - n_fade)
    return np.concatenate([samples[: samples.size - n_fade], np.resize(cycle, n_more)])


class BackgroundFile:
    """The samples of a folder that `build_background_file` wrote; the operating system loads what is read."""

    def __init__(self, folder: Path, entries: Sequence[Background]) -> None:
        """Open it for `entries`. Raises AudioError when it is missing, damaged, or lacks one of them as it is now."""
        index = read_checksummed(folder / INDEX, AudioError)
        fingerprint = _fingerprint(folder / SAMPLES) if (folder / SAMPLES).is_file() else "no file"
        if index.get("fingerprint") != fingerprint:
            raise AudioError(
                f"{folder / SAMPLES}: changed since it was built (fingerprint {fingerprint[:12]}, expected "
                f"{str(index.get('fingerprint'))[:12]}); delete the folder and build it again."
            )
        self._places: dict[str, tuple[int, int]] = {}
        for entry in entries:
            try:
                record = index["backgrounds"][entry.background_id]
                is_same = record["source"] == list(entry.identity)
                self._places[entry.background_id] = int(record["first"]), int(record["n_samples"])
            except (LookupError, TypeError, ValueError, OverflowError):
                is_same = False
            if not is_same:
                raise AudioError(
                    f"{folder}: background '{entry.background_id}' is not in it, or was another recording when it was "
                    "built; delete the folder and build it again."
                )
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
        samples = self._samples[start + first : start + min(first + n_samples, n_stored)].astype(np.float32)
        samples *= np.float32(1 / FULL_SCALE)
        return samples


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
                _require_long_enough(entry)
                loaded = load_recording(entry.path)
                if is_silent(loaded):
                    raise AudioError(
                        f"{entry.path}: background '{entry.background_id}' is silent; remove it from the table."
                    )
                rounded = np.clip(np.rint(loaded * np.float32(FULL_SCALE)), -32768, 32767)
                samples = np.asarray(rounded, dtype="<i2")
                file.write(samples.tobytes())
                records[entry.background_id] = {
                    "first": n_written,
                    "n_samples": samples.size,
                    "source": list(entry.identity),
                }
                n_written += samples.size
                on_progress("storing backgrounds", done, len(entries))
        index = {"fingerprint": _fingerprint(temporary / SAMPLES), "backgrounds": records}
        write_checksummed(temporary / INDEX, index)


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
