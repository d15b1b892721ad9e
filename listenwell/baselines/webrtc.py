"""WebRTC VAD as a baseline: the share of a clip's frames that it calls voiced.

The detector of the WebRTC project (a Gaussian mixture on six sub-band energies) through py-webrtcvad. It hears 16-bit
samples in frames of 20 ms and adapts its noise model as it goes, so every clip gets a fresh one. Frames do
not overlap; a last part shorter than a frame is dropped, and a clip shorter than one frame is filled with silence.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from listenwell.baselines.extra import missing_package
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform

AGGRESSIVENESS, FRAME_MS = 2, 20
"""How strict it is, from 0, which calls most frames voiced, to 3; and the length of one frame."""
DEFAULT_THRESHOLD = 0.5
"""Half of the frames. WebRTC VAD decides on frames only; a majority is the plain reading for a whole clip."""


class WebRtcVad:
    """WebRTC VAD at AGGRESSIVENESS. Raises ListenwellError when webrtcvad is not installed."""

    name = "webrtc"
    default_threshold = DEFAULT_THRESHOLD

    def __init__(self) -> None:
        try:
            import webrtcvad
        except ImportError as error:
            raise missing_package("WebRTC VAD", "webrtcvad-wheels") from error
        self._new_vad = webrtcvad.Vad

    def scores(self, waveforms: Sequence[Waveform]) -> NDArray[np.float64]:
        """Return the share of voiced frames of each clip, shape (n,)."""
        return np.array([self._voiced_share(samples) for samples in waveforms], dtype=np.float64)

    def _voiced_share(self, samples: Waveform) -> float:
        vad = self._new_vad(AGGRESSIVENESS)
        frames = cut_frames(samples, SAMPLE_RATE_HZ * FRAME_MS // 1000)
        return float(np.mean([vad.is_speech(frame.tobytes(), SAMPLE_RATE_HZ) for frame in frames]))


def cut_frames(samples: Waveform, n_frame: int) -> NDArray[np.int16]:
    """Return the whole frames as 16-bit samples, (n_frames, n_frame), at least one; out-of-range samples clip."""
    pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype("<i2")
    n_frames = max(1, pcm.size // n_frame)
    frames = np.zeros(n_frames * n_frame, dtype="<i2")
    n_heard = min(pcm.size, frames.size)
    frames[:n_heard] = pcm[:n_heard]
    return frames.reshape(n_frames, n_frame)
