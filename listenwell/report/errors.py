"""The errors to listen to: what results.json says of each, with sound and spectrogram where the run folder holds them.

A run folder that came without its sounds still has its report: what is not there is said, never left out in silence.

Sounds and spectrograms as a page carries them: 16 bit WAV and PNG, as files or as data URIs.

Waveforms: mono float32 (n_samples,), 16 kHz. F mel bins, T frames of 10 ms.
"""

import base64
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from matplotlib import colormaps
from matplotlib.image import imsave
from numpy.typing import NDArray

from listenwell.augment.mixing import measure_level
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, peak
from listenwell.errors import ListenwellError
from listenwell.model.mel import LogMel
from listenwell.report.evidence import plain_table
from listenwell.report.results import StudyResults, evidence_of
from listenwell.report.tables import Table, numbers, texts
from listenwell.report.wording import NOTHING, condition_title, format_score
from listenwell.storage.run_folder import RunFolder

HIDDEN_RGB = (70, 130, 180)
"""What a mask hides, in a colour the scale of loudness does not have."""
WAV, PNG = "audio/wav", "image/png"


@dataclass(frozen=True, slots=True)
class Player:
    """One sound of a page: its WAV as a data URI, its length, level and peak."""

    title: str
    uri: str
    duration_s: float
    level_db: float
    peak: float


@dataclass(frozen=True, slots=True)
class Picture:
    """One spectrogram of a page as a data URI: n_frames wide, n_mels high."""

    title: str
    uri: str
    n_frames: int
    n_mels: int


def make_player(title: str, samples: Waveform) -> Player:
    """Return the player of a sound."""
    level_db = 20 * math.log10(max(measure_level(samples), 1e-6))
    uri = data_uri(WAV, encode_wav(samples))
    return Player(title, uri, samples.size / SAMPLE_RATE_HZ, level_db, peak(samples))


def draw_picture(
    title: str,
    mel: LogMel,
    features: NDArray[np.float32] | None = None,
    is_hidden: NDArray[np.bool_] | None = None,
) -> Picture:
    """Return the spectrogram in the scale of `mel`, from the clip's silence to its loudest.

    features: shown in its place, of the same shape; is_hidden: where a mask lies.
    """
    uri = data_uri(PNG, encode_spectrogram(mel, features, is_hidden))
    return Picture(title, uri, mel.n_frames, mel.features.shape[0])


def encode_wav(samples: Waveform) -> bytes:
    """Return the sound as a WAV file, rounded to 16 bit."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def encode_spectrogram(
    mel: LogMel, features: NDArray[np.float32] | None = None, is_hidden: NDArray[np.bool_] | None = None
) -> bytes:
    """Return the spectrogram as a PNG file, a pixel for each bin and frame, low frequencies at the bottom."""
    shown = mel.features if features is None else features
    shares = np.clip((shown - mel.floor) / max(float(mel.features.max()) - mel.floor, 1e-6), 0, 1)
    pixels = colormaps["magma"](shares, bytes=True)
    if is_hidden is not None:
        pixels[is_hidden, :3] = HIDDEN_RGB
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(pixels[::-1, : mel.n_frames]), format="png")
    return buffer.getvalue()


def data_uri(kind: str, content: bytes) -> str:
    """Return `content` of a MIME type as a URI that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


MOST_BYTES = 3_000_000
"""Of sounds and pictures on a page: about 90 s of sound, 4 MB as data URIs."""
NOT_THERE = (
    "Sounds that are missing here are not in the folder errors/ of this run; copy it from the machine that ran the "
    "study, or run the study again there."
)


@dataclass(frozen=True, slots=True)
class HeardError:
    """One wrongly decided clip. sound: a data URI; "" and None where the run folder or the page has no room for it."""

    clip_id: str
    group: str
    label: str
    condition: str
    score: str
    beyond: str
    file: str
    duration_s: float
    sound: str
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class HeardErrors:
    """The errors of one test set, and what must be said about sounds that are not on the page."""

    title: str
    errors: tuple[HeardError, ...]
    note: str


@dataclass(frozen=True, slots=True)
class _Stored:
    """A sound of the folder errors/ and its picture."""

    number: int
    n_samples: int
    n_frames: int
    n_mels: int


def read_heard_errors(results: StudyResults, root: Path) -> list[HeardErrors]:
    """Return the errors to listen to of every test set that has some, as much as fits on a page.

    Raises ListenwellError when the folder errors/ holds an index that no study wrote.
    """
    run = RunFolder(root)
    stored = _read_index(run.error_index)
    n_free = MOST_BYTES
    found = []
    for test_set, own in evidence_of(results, "errors", {}).items():
        errors = []
        for error in own["heard"] if "heard" in own else []:
            key = _key_of({"test_set": test_set, **error})
            heard, n_used = _hear(error, stored[key] if key in stored else None, run, n_free)
            n_free -= n_used
            errors.append(heard)
        if errors:
            found.append(HeardErrors(results.title_of(test_set), tuple(errors), _say_missing(errors)))
    return found


def _read_index(path: Path) -> dict[tuple[Any, ...], _Stored]:
    """What is stored for each error; nothing where there is no index."""
    if not path.is_file():
        return {}
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        numbers = [[int(record[each.name]) for each in fields(_Stored)] for record in records]
        return {_key_of(record): _Stored(*own) for record, own in zip(records, numbers, strict=True)}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ListenwellError(
            f"{path}: not the list of sounds that a study writes ({error!r}); delete its folder, run the study again."
        ) from error


def _key_of(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a sound that of an error: another threshold or another model leaves other scores behind."""
    return tuple(record[name] for name in ("test_set", "clip_id", "condition", "score", "beyond"))


def _hear(error: Mapping[str, Any], stored: _Stored | None, run: RunFolder, n_free: int) -> tuple[HeardError, int]:
    """The error with its sound, if the sound is there and not above n_free bytes; and the bytes it takes."""
    words = (
        error["clip_id"], error["group"], error["label"], condition_title(error["condition"]),
        format_score(error["score"]), format_score(error["beyond"]),
    )  # fmt: skip
    paths = [run.error_sound(stored.number), run.error_picture(stored.number)] if stored is not None else []
    if stored is None or not all(path.is_file() for path in paths):
        return HeardError(*words, "", 0.0, "", None), 0
    file, duration_s = f"{run.errors.name}/{paths[0].name}", stored.n_samples / SAMPLE_RATE_HZ
    if sum(path.stat().st_size for path in paths) > n_free:
        return HeardError(*words, file, duration_s, "", None), 0
    sound, pixels = (path.read_bytes() for path in paths)
    title = f"Log-mel spectrogram of {error['clip_id']}, {words[3]}"
    picture = Picture(title, data_uri(PNG, pixels), stored.n_frames, stored.n_mels)
    return HeardError(*words, file, duration_s, data_uri(WAV, sound), picture), len(sound) + len(pixels)


def _say_missing(errors: list[HeardError]) -> str:
    said = [NOT_THERE] if any(not each.file for each in errors) else []
    if left_out := [each.file for each in errors if each.file and not each.sound]:
        said.append(f"Too long for the page, but in the run folder: {', '.join(left_out)}.")
    return " ".join(said)


def heard_table(heard: HeardErrors) -> Table | None:
    """The errors of one test set as a table, where nothing can be played."""
    rows = [
        (each.clip_id, each.group, each.label, each.condition, each.score, each.beyond, each.file or NOTHING)
        for each in heard.errors
    ]
    heads = texts("Clip", "Group", "Label", "Condition") + numbers("Score", "Beyond the threshold") + texts("Sound")
    return plain_table(f"{heard.title}: errors to listen to", heads, rows)
