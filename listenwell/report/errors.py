"""Sounds and spectrograms as a page carries them, and the errors of a study to listen to.

results.json names the errors; the folder errors/ of the run holds their sounds. A run folder that came without its
sounds still has its report: what is not there is said, never left out in silence. Files: 16 bit WAV and PNG.
Waveforms: mono float32 (n_samples,), 16 kHz. Spectrograms: (n_mels, n_frames), frames of 10 ms.
"""

import base64
import io
import math
from pathlib import Path

import numpy as np
import soundfile
from matplotlib import colormaps
from matplotlib.image import imsave
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from listenwell.augment.mixing import measure_level
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, peak
from listenwell.errors import ListenwellError
from listenwell.model.mel import LogMel
from listenwell.report.blocks import Picture, Sound, Sounds, make_table
from listenwell.report.found import WrongClip
from listenwell.report.results import Results
from listenwell.report.wording import DASH, SCORE, condition_title, format_number
from listenwell.storage.run_folder import RunFolder

HIDDEN_RGB = (70, 130, 180)
"""What a mask hides, in a colour the scale of loudness does not have."""
FRAME_S, HIGHEST_KHZ = 0.01, 8.0
TICKS_KHZ, STEPS_S, MOST_TICKS = (0.5, 1.0, 2.0, 4.0), (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0), 6
WAV, PNG = "audio/wav", "image/png"
MOST_BYTES = 3_000_000
"""Of sounds and pictures on a page: about 90 s of sound, 4 MB as data URIs."""
ABOUT = (
    "The samples that were scored, under the condition in which they were decided wrongly, and the spectrogram the "
    "model got; clean clips first, each clip once."
)
NOT_THERE = (
    "Sounds that are missing here are not in the folder errors/ of this run; copy it from the machine that ran the "
    "study, or run the study again there."
)


class StoredSound(WrongClip):
    """A sound of the folder errors/, as its index names it; sha256: of the float32 samples."""

    test_set: str
    number: int
    n_samples: int
    sha256: str
    n_frames: int
    n_mels: int


def make_player(title: str, samples: Waveform) -> Sound:
    """Return the player of a sound, with its length, level and peak."""
    level_db = 20 * math.log10(max(measure_level(samples), 1e-6))
    details = f"{samples.size / SAMPLE_RATE_HZ:.3f} s, level {level_db:.1f} dB, peak {peak(samples):.3f}"
    return Sound(title, details, title, data_uri(WAV, encode_wav(samples)), None, "")


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
    return make_picture(title, uri, mel.n_frames, mel.features.shape[0])


def make_picture(title: str, uri: str, n_frames: int, n_mels: int) -> Picture:
    """Return a spectrogram's picture with the ticks of its axes."""
    step_s = next(step for step in STEPS_S if n_frames * FRAME_S / step <= MOST_TICKS or step == STEPS_S[-1])
    times = [step_s * i for i in range(int(n_frames * FRAME_S / step_s) + 1)]
    # bins are triangles whose edges and peaks lie evenly on the mel scale from 0 to its highest frequency
    heights = [(slaney_mel(khz) / slaney_mel(HIGHEST_KHZ) * (n_mels + 1) - 0.5) / n_mels for khz in TICKS_KHZ]
    return Picture(
        title, uri, n_frames, n_mels,
        [(f"{time:g} s", time / (n_frames * FRAME_S)) for time in times],
        [(f"{khz:g} kHz", height) for khz, height in zip(TICKS_KHZ, heights, strict=True)],
    )  # fmt: skip


def slaney_mel(khz: float) -> float:
    """Return a frequency on Slaney's mel scale: linear up to 1 kHz, then logarithmic (Auditory Toolbox, 1998)."""
    return 15 * khz if khz < 1 else 15 + 27 * math.log(khz) / math.log(6.4)


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


def data_uri(mime_type: str, content: bytes) -> str:
    """Return `content` as a URI that needs no file."""
    return f"data:{mime_type};base64,{base64.b64encode(content).decode('ascii')}"


def read_error_sounds(results: Results, root: Path, most_bytes: int = MOST_BYTES) -> list[Sounds]:
    """Return the errors to listen to of every test set that has some, as much as fits into most_bytes.

    Raises ListenwellError when the folder errors/ holds an index that no study wrote.
    """
    run = RunFolder(root)
    stored = {_key(sound.test_set, sound): sound for sound in _read_index(run.error_index)}
    n_free = most_bytes
    by_test_set = []
    for test_set, errors in results.evidence.errors.items():
        sounds = []
        for clip in errors.heard:
            sound, n_used = _load_sound(clip, run, stored.get(_key(test_set, clip)), n_free)
            n_free -= n_used
            sounds.append(sound)
        if sounds:
            by_test_set.append(_describe(results.title_of(test_set), errors.heard, sounds))
    return by_test_set


def _key(test_set: str, clip: WrongClip) -> tuple[object, ...]:
    """What makes a sound that of an error: another threshold or another model leaves other scores behind."""
    return test_set, clip.clip_id, clip.condition, clip.score, clip.beyond


def _read_index(path: Path) -> list[StoredSound]:
    try:
        return TypeAdapter(list[StoredSound]).validate_json(path.read_bytes()) if path.is_file() else []
    except ValidationError as error:
        raise ListenwellError(
            f"{path}: not the list of sounds that a study writes ({error.errors()[0]['msg'].lower()}); delete its "
            "folder, run the study again."
        ) from error


def _load_sound(clip: WrongClip, run: RunFolder, stored: StoredSound | None, n_free: int) -> tuple[Sound, int]:
    """The error with its sound, if the sound is there and not above n_free bytes; and the bytes it takes."""
    condition = condition_title(clip.condition)
    details = (
        f"{clip.label}, decided {'NONSPEECH' if clip.label == 'SPEECH' else 'SPEECH'} ({condition}), group "
        f"{clip.group}: score {format_number(clip.score, SCORE)}, {format_number(clip.beyond, SCORE)} beyond the "
        "threshold"
    )
    label = f"{clip.clip_id}, {condition}"
    paths = [run.error_sound(stored.number), run.error_picture(stored.number)] if stored else []
    if stored is None or not all(path.is_file() for path in paths):
        return Sound(clip.clip_id, details, label, "", None, ""), 0
    details += f"; {stored.n_samples / SAMPLE_RATE_HZ:.2f} s"
    file = f"{run.errors.name}/{paths[0].name}"
    if sum(path.stat().st_size for path in paths) > n_free:
        return Sound(clip.clip_id, details, label, "", None, file), 0
    wav, png = (path.read_bytes() for path in paths)
    picture = make_picture(f"Log-mel spectrogram of {label}", data_uri(PNG, png), stored.n_frames, stored.n_mels)
    key = f"{stored.test_set}/{clip.condition}/{clip.clip_id}"
    return Sound(clip.clip_id, details, label, data_uri(WAV, wav), picture, file, key), len(wav) + len(png)


def _describe(title: str, clips: list[WrongClip], sounds: list[Sound]) -> Sounds:
    """The players of one test set, what to say about sounds that are not on the page, and all of it as a table."""
    note = [ABOUT]
    if any(not sound.file for sound in sounds):
        note.append(NOT_THERE)
    if left_out := [sound.file for sound in sounds if sound.file and not sound.uri]:
        note.append(f"Too long for the page, but in the run folder: {', '.join(left_out)}.")
    heads = ("Clip", "Group", "Label", "Condition", "#Score", "#Beyond the threshold", "Sound")
    rows = [
        (clip.clip_id, clip.group, clip.label, condition_title(clip.condition), format_number(clip.score, SCORE),
         format_number(clip.beyond, SCORE), sound.file or DASH)
        for clip, sound in zip(clips, sounds, strict=True)
    ]  # fmt: skip
    caption = f"{title}: errors to listen to"
    return Sounds(caption, " ".join(note), sounds, make_table(caption, heads, rows))
