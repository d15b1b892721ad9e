"""Classic detectors on the same clips: Silero VAD and WebRTC VAD, from the optional extra `baselines`.

Each can make the score of a clip from its frames in several ways, its forms; dev decides which one is used.

Silero VAD: the highest, the mean, or the mean of the three highest speech probabilities of a clip's 32 ms chunks, of
the clip as it is or after half a second of faint noise, in which the recurrent state settles. Version 6.2.3
(github.com/snakers4/silero-vad, MIT). Its ONNX file is taken out of the published wheel and run with onnxruntime; the
wheel itself is never imported, so torchaudio is not needed. As in the wheel's own OnnxWrapper, each chunk of 512
samples follows the 64 samples before it, a recurrent state passes from chunk to chunk, and a clip is padded to whole
chunks, with silence or with the noise. A batch always has the same number of rows: with one shape for every call a
clip's score is the same to the bit whatever its neighbours.

WebRTC VAD: the share of a clip's frames that it calls voiced, at each of its four degrees of strictness. The detector
of the WebRTC project (a Gaussian mixture on six sub-band energies) through py-webrtcvad. It takes 16-bit samples in
frames of 20 ms and adapts its noise model as it goes, so every clip gets a fresh one. Frames do not overlap; a last
part shorter than a frame is dropped, and a clip shorter than one frame is filled with silence.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.fetch.packages import WheelFile
from listenwell.errors import ListenwellError
from listenwell.random_streams import stream

MODULES: Mapping[str, str] = {"silero": "onnxruntime", "webrtc": "webrtcvad"}
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
BATCH = 16
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


class SileroVad:
    """Silero VAD from its ONNX file, which `fetch_weight_file(SILERO_VAD, cache)` fetches.

    Raises ListenwellError when onnxruntime is not installed.
    """

    name = "silero"
    forms = tuple(f"{aggregate}, {place}" for place in ("after noise", "as it is") for aggregate in AGGREGATES)
    default_threshold = 0.5
    """The default of the wheel's get_speech_timestamps."""

    def __init__(self, onnx_file: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise _missing_package("Silero VAD", "onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(onnx_file), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def scores(self, waveforms: Sequence[Waveform], forms: Sequence[str] = forms) -> dict[str, NDArray[np.float64]]:
        """Return by form each clip's score, a probability, shape (n,)."""
        scores = {form: np.empty(len(waveforms)) for form in forms}
        by_length = sorted(range(len(waveforms)), key=lambda i: waveforms[i].size)
        for n_lead, place in ((LEAD_CHUNKS, "after noise"), (0, "as it is")):
            aggregates = {form: AGGREGATES[form.partition(", ")[0]] for form in forms if form.endswith(place)}
            for first in range(0, len(by_length) if aggregates else 0, BATCH):
                rows = by_length[first : first + BATCH]
                probabilities = self.chunk_probabilities([waveforms[i] for i in rows], n_lead)
                for i, row in zip(rows, probabilities, strict=False):
                    chunks = row[n_lead : n_lead + count_chunks(waveforms[i].size)]
                    for form, aggregate in aggregates.items():
                        scores[form][i] = aggregate(chunks)
        return scores

    def chunk_probabilities(self, waveforms: Sequence[Waveform], n_lead: int = 0) -> Probabilities:
        """Return the probabilities of all chunks of up to BATCH clips, (BATCH, n_lead + chunks of the longest).

        n_lead: chunks of faint noise before each clip, which then fills its last chunk too; 0 is silence.
        """
        n_chunks = n_lead + max(count_chunks(samples.size) for samples in waveforms)
        padded = np.zeros((BATCH, CONTEXT + n_chunks * CHUNK), dtype=np.float32)
        if n_lead:
            padded[:] = NOISE_RMS * stream(0, "faint noise").standard_normal(padded.shape[1], dtype=np.float32)
        start = CONTEXT + n_lead * CHUNK
        for row, samples in zip(padded, waveforms, strict=False):
            row[start : start + samples.size] = samples
        state = np.zeros((2, BATCH, STATE_WIDTH), dtype=np.float32)
        rate = np.array(SAMPLE_RATE_HZ, dtype=np.int64)
        probabilities = np.empty((BATCH, n_chunks), dtype=np.float32)
        for chunk in range(n_chunks):
            stretch = padded[:, chunk * CHUNK : (chunk + 1) * CHUNK + CONTEXT]
            output, state = self._session.run(None, {"input": stretch, "state": state, "sr": rate})
            probabilities[:, chunk] = output[:, 0]
        return probabilities


def count_chunks(n_samples: int) -> int:
    """Return how many chunks hold n_samples, at least one."""
    return max(1, -(-n_samples // CHUNK))


class WebRtcVad:
    """WebRTC VAD; its forms are how strict it is, from 0, which calls most frames voiced, to 3.

    Raises ListenwellError when webrtcvad is not installed.
    """

    name = "webrtc"
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
        return {form: np.array([self._voiced_share(each, int(form[-1])) for each in waveforms]) for form in forms}

    def _voiced_share(self, samples: Waveform, mode: int) -> float:
        vad = self._new_vad(mode)
        frames = cut_frames(samples, SAMPLE_RATE_HZ * FRAME_MS // 1000)
        return float(np.mean([vad.is_speech(frame.tobytes(), SAMPLE_RATE_HZ) for frame in frames]))


def cut_frames(samples: Waveform, n_frame: int) -> NDArray[np.int16]:
    """Return the whole frames as 16-bit samples, (n_frames, n_frame), at least one; out-of-range samples clip."""
    pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2")
    n_frames = max(1, pcm.size // n_frame)
    frames = np.zeros(n_frames * n_frame, dtype="<i2")
    n_kept = min(pcm.size, frames.size)
    frames[:n_kept] = pcm[:n_kept]
    return frames.reshape(n_frames, n_frame)
