"""Classic detectors on the same clips: Silero VAD and WebRTC VAD, from the optional extra `baselines`.

Each can make the score of a clip from its frames in several ways, its forms; dev decides which one is used.

Silero VAD: the highest, the mean, or the mean of the three highest speech probabilities of a clip's 32 ms chunks, of
the clip as it is or after half a second of faint noise, in which the recurrent state settles, once for all clips.
Version 6.2.3 (github.com/snakers4/silero-vad, MIT). Its ONNX file is taken out of the published wheel and run with
onnxruntime; the wheel itself is never imported, so torchaudio is not needed. As in the wheel's own OnnxWrapper, each
chunk of 512 samples follows the 64 samples before it, a recurrent state passes from chunk to chunk, and a clip is
padded to whole chunks, with silence or with the noise. A batch always has the same number of rows: with one shape for
every call a clip's score is the same to the bit whatever its neighbours.

WebRTC VAD: the share of a clip's frames that it calls voiced, at each of its four degrees of strictness. The detector
of the WebRTC project (a Gaussian mixture on six sub-band energies) through py-webrtcvad. It takes 16-bit samples in
frames of 20 ms and adapts its noise model as it goes, so every clip gets a fresh one. Frames do not overlap; a last
part shorter than a frame is dropped, and a clip shorter than one frame is filled with silence.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.fetch.packages import WheelFile
from listenwell.errors import ListenwellError
from listenwell.random_streams import stream

MODULES: Mapping[str, str] = {
    "silero": "onnxruntime",
    "fsmn": "onnxruntime",
    "marblenet": "onnxruntime",
    "webrtc": "webrtcvad",
}
"""The module that each baseline of evaluation.baselines needs."""
SILERO_VAD = WheelFile(
    project="silero-vad",
    version="6.2.3",
    wheel="silero_vad-6.2.3-py3-none-any.whl",
    wheel_sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    member="silero_vad/data/silero_vad.onnx",
    member_sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    n_bytes=2_327_524,
    licence="MIT (Silero VAD, Silero Team)",
)
CHUNK, CONTEXT = 512, 64
"""Samples of one chunk, and of the stretch before it that the network gets again."""
STATE_WIDTH = 128
BATCH = 8
"""Larger ones cost little less a row, and leave more rows empty."""
AFTER_NOISE = "after noise"
PLACES = (AFTER_NOISE, "as it is")
LEAD_CHUNKS = 16
"""0.5 s."""
NOISE_RMS = 1e-3
"""60 dB below full scale: quieter than any recording's own floor that matters, louder than digital silence."""
FRAME_MS = 20
Probabilities = NDArray[np.float32]
AGGREGATES: Mapping[str, Callable[[Probabilities], float]] = {
    "highest": lambda chunks: float(chunks.max()),
    "mean": lambda chunks: float(chunks.mean(dtype=np.float64)),
    "mean of three": lambda chunks: float(np.sort(chunks)[-3:].mean(dtype=np.float64)),
}


FORMS = tuple(f"{aggregate}, {place}" for place in PLACES for aggregate in AGGREGATES)


def score_forms(chunks: Probabilities, place: str, forms: Sequence[str]) -> dict[str, float]:
    """A clip's score in those of `forms` that are of `place`, from the probabilities (n,) of its chunks there."""
    return {form: AGGREGATES[form.partition(", ")[0]](chunks) for form in forms if form.endswith(place)}


def installed_baselines() -> list[str]:
    """The baselines that can be made here."""
    return [name for name, module in MODULES.items() if importlib.util.find_spec(module) is not None]


def require_baselines(names: Sequence[str]) -> None:
    """Raise ListenwellError when one of these baselines cannot be made: before a study trains, not after it."""
    there = installed_baselines()
    for name in names:
        if name not in there:
            raise _missing_package(f"evaluation.baselines: {name}", MODULES[name])


def _missing_package(baseline: str, package: str) -> ListenwellError:
    """Return the error that says how to install what `baseline` needs."""
    return ListenwellError(
        f"{baseline}: the Python package {package} is not installed; in the folder of listenwell's sources run "
        "pip install '.[baselines]', or go without: evaluation.baselines=[]."
    )


def open_network(onnx_file: Path) -> Any:
    """Return an onnxruntime session of one thread. Raises ListenwellError when onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing_package(onnx_file.name, "onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(onnx_file), sess_options=options, providers=["CPUExecutionProvider"])


class SileroVad:
    """Silero VAD from its ONNX file, which `fetch_weight_file(SILERO_VAD, cache)` fetches.

    Raises ListenwellError when onnxruntime is not installed.
    """

    name = "silero"
    parts = (SILERO_VAD,)
    forms = FORMS
    default_threshold = 0.5
    """The default of the wheel's get_speech_timestamps."""

    def __init__(self, onnx_file: Path) -> None:
        self._session = open_network(onnx_file)
        lead = np.tile(faint_noise(CONTEXT + LEAD_CHUNKS * CHUNK), (BATCH, 1))
        self._settled = self._run(lead, np.zeros((2, BATCH, STATE_WIDTH), dtype=np.float32))[1][:, 0]

    def scores(self, waveforms: Sequence[Waveform], forms: Sequence[str] = forms) -> dict[str, NDArray[np.float64]]:
        """Return by form each clip's score, a probability, shape (n,)."""
        scores = {form: np.empty(len(waveforms)) for form in forms}
        places = [place for place in PLACES if any(form.endswith(place) for form in forms)]
        rows = [(i, place) for i in range(len(waveforms)) for place in places]
        rows.sort(key=lambda row: waveforms[row[0]].size)
        for first in range(0, len(rows), BATCH):
            batch = rows[first : first + BATCH]
            probabilities = self.chunk_probabilities(
                [waveforms[i] for i, _ in batch], [place == AFTER_NOISE for _, place in batch]
            )
            for (i, place), row in zip(batch, probabilities, strict=False):
                for form, score in score_forms(row[: count_chunks(waveforms[i].size)], place, forms).items():
                    scores[form][i] = score
        return scores

    def chunk_probabilities(
        self, waveforms: Sequence[Waveform], after_noise: Sequence[bool] | None = None
    ) -> Probabilities:
        """Return the probabilities of all chunks of up to BATCH clips, (BATCH, chunks of the longest).

        after_noise: which clips follow LEAD_CHUNKS of faint noise, which then fills their last chunk too; by default
        none does, and silence fills it.
        """
        n_chunks = max(count_chunks(samples.size) for samples in waveforms)
        padded = np.zeros((BATCH, CONTEXT + n_chunks * CHUNK), dtype=np.float32)
        state = np.zeros((2, BATCH, STATE_WIDTH), dtype=np.float32)
        noise = faint_noise(CONTEXT + (LEAD_CHUNKS + n_chunks) * CHUNK)[LEAD_CHUNKS * CHUNK :]
        for row, samples in enumerate(waveforms):
            if after_noise is not None and after_noise[row]:
                padded[row], state[:, row] = noise, self._settled
            padded[row, CONTEXT : CONTEXT + samples.size] = samples
        return self._run(padded, state)[0]

    def _run(self, padded: Waveform, state: Probabilities) -> tuple[Probabilities, Probabilities]:
        """Probabilities (BATCH, n_chunks) of padded (BATCH, CONTEXT + n_chunks CHUNK), and the state after them."""
        rate = np.array(SAMPLE_RATE_HZ, dtype=np.int64)
        probabilities = []
        for first in range(0, padded.shape[1] - CONTEXT, CHUNK):
            stretch = padded[:, first : first + CHUNK + CONTEXT]
            output, state = self._session.run(None, {"input": stretch, "state": state, "sr": rate})
            probabilities.append(output[:, 0])
        return np.stack(probabilities, axis=1), state


def faint_noise(n_samples: int) -> Waveform:
    """The first n_samples of one fixed stretch of white Gaussian noise."""
    return NOISE_RMS * stream(0, "faint noise").standard_normal(n_samples, dtype=np.float32)


def count_chunks(n_samples: int) -> int:
    """Return how many chunks hold n_samples, at least one."""
    return max(1, -(-n_samples // CHUNK))


class WebRtcVad:
    """WebRTC VAD; its forms are how strict it is, from 0, which calls most frames voiced, to 3.

    Raises ListenwellError when webrtcvad is not installed.
    """

    name = "webrtc"
    parts: tuple[WheelFile, ...] = ()
    forms = ("mode 2", "mode 0", "mode 1", "mode 3")
    default_threshold = 0.5
    """Half of the frames: it decides on frames only, a majority is the plain reading for a whole clip."""

    def __init__(self) -> None:
        try:
            import webrtcvad
        except ImportError as error:
            raise _missing_package("WebRTC VAD", "webrtcvad-wheels") from error
        self._new_vad = webrtcvad.Vad

    def scores(self, waveforms: Sequence[Waveform], forms: Sequence[str] = forms) -> dict[str, NDArray[np.float64]]:
        """Return by form the share of voiced frames of each clip, shape (n,)."""
        clips = [[frame.tobytes() for frame in cut_frames(each)] for each in waveforms]
        return {form: np.array([self._voiced_share(each, int(form[-1])) for each in clips]) for form in forms}

    def _voiced_share(self, frames: Sequence[bytes], mode: int) -> float:
        vad = self._new_vad(mode)
        return float(np.mean([vad.is_speech(frame, SAMPLE_RATE_HZ) for frame in frames]))


def cut_frames(samples: Waveform) -> NDArray[np.int16]:
    """Return the whole frames as 16-bit samples, (n_frames, n_frame), at least one; out-of-range samples clip."""
    n_frame = SAMPLE_RATE_HZ * FRAME_MS // 1000
    pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2")
    n_frames = max(1, pcm.size // n_frame)
    frames = np.zeros(n_frames * n_frame, dtype="<i2")
    n_kept = min(pcm.size, frames.size)
    frames[:n_kept] = pcm[:n_kept]
    return frames.reshape(n_frames, n_frame)
