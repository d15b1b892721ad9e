"""Silero VAD as a baseline: the highest speech probability of a clip's 32 ms chunks.

Version 6.2.3 (github.com/snakers4/silero-vad, MIT). Its ONNX file is taken out of the published wheel and run with
onnxruntime; the wheel itself is never imported, so torchaudio is not needed. As in the wheel's own OnnxWrapper, each
chunk of 512 samples follows the 64 samples before it, a recurrent state passes from chunk to chunk, and a clip is
filled with silence to whole chunks.

Letters in the shapes: B clips in a batch, always BATCH. Rows that have no clip hold silence: with one shape for every
call a clip's score is the same to the bit whatever stands beside it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from listenwell.baselines.extra import missing_package
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.fetch.wheel_files import WheelFile

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
"""Samples of one chunk, and of the stretch before it that the network hears again."""
STATE_WIDTH = 128
BATCH = 16
DEFAULT_THRESHOLD = 0.5
"""The default of the wheel's get_speech_timestamps."""


class SileroVad:
    """Silero VAD from its ONNX file, which `fetch_weight_file(SILERO_VAD, cache)` fetches.

    Raises ListenwellError when onnxruntime is not installed.
    """

    name = "silero"
    default_threshold = DEFAULT_THRESHOLD

    def __init__(self, onnx_file: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_package("Silero VAD", "onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(onnx_file), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def scores(self, waveforms: Sequence[Waveform]) -> NDArray[np.float64]:
        """Return each clip's highest chunk probability, shape (n,)."""
        highest = np.empty(len(waveforms), dtype=np.float64)
        by_length = sorted(range(len(waveforms)), key=lambda i: waveforms[i].size)
        for first in range(0, len(by_length), BATCH):
            rows = by_length[first : first + BATCH]
            probabilities = self._chunk_probabilities([waveforms[i] for i in rows])
            for i, row in zip(rows, probabilities, strict=False):
                highest[i] = row[: count_chunks(waveforms[i].size)].max()
        return highest

    def chunk_probabilities(self, samples: Waveform) -> NDArray[np.float32]:
        """Return the probability of speech in each chunk of one recording, (n_chunks,), states kept throughout."""
        probabilities: NDArray[np.float32] = self._chunk_probabilities([samples])[0]
        return probabilities

    def _chunk_probabilities(self, waveforms: Sequence[Waveform]) -> NDArray[np.float32]:
        """Return the probabilities of all chunks of up to BATCH clips, (B, chunks of the longest)."""
        n_chunks = max(count_chunks(samples.size) for samples in waveforms)
        heard = np.zeros((BATCH, CONTEXT + n_chunks * CHUNK), dtype=np.float32)
        for row, samples in zip(heard, waveforms, strict=False):
            row[CONTEXT : CONTEXT + samples.size] = samples
        state = np.zeros((2, BATCH, STATE_WIDTH), dtype=np.float32)
        rate = np.array(SAMPLE_RATE_HZ, dtype=np.int64)
        probabilities = np.empty((BATCH, n_chunks), dtype=np.float32)
        for chunk in range(n_chunks):
            stretch = heard[:, chunk * CHUNK : (chunk + 1) * CHUNK + CONTEXT]
            output, state = self._session.run(None, {"input": stretch, "state": state, "sr": rate})
            probabilities[:, chunk] = output[:, 0]
        return probabilities


def count_chunks(n_samples: int) -> int:
    """Return how many chunks hold n_samples, at least one."""
    return max(1, -(-n_samples // CHUNK))
