"""The trained detector: a score for a clip, segments of a long recording, decisions on a live stream.

    detector = Detector.load(Path("detector"))
    detector.decide(waveform, sample_rate_hz)      one short clip
    detector.segments(Path("meeting.wav"))         a recording of any length, in constant memory

A score is logit(SPEECH answer) - logit(NONSPEECH answer); a clip is SPEECH at or above the threshold, which was chosen
on dev. Waveforms: mono float32 (n_samples,), full scale +-1.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, is_silent
from listenwell.detect.bundle import ADAPTER, DEFAULT_CRITERION, Bundle, read_bundle
from listenwell.detect.recordings import cut_windows, read_blocks
from listenwell.detect.segmentation import Floats, Segment, find_segments, window_activity
from listenwell.errors import AudioError, ConfigError, ModelError
from listenwell.model.adapter_files import read_adapter
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.hearing import hear
from listenwell.model.listening import answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.lora import Adapter
from listenwell.model.parallel import cancelling_pool, default_workers, one_thread_each
from listenwell.model.settings import ModelConfig

BATCH = 32
BATCH_SECONDS = 32.0
SILENT_SCORE = -1e4
"""What digital silence scores: it holds no speech, and the model was never asked about it in training."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One clip: its score, the probability of speech (Platt's map of dev), and whether it is called SPEECH."""

    score: float
    probability: float
    is_speech: bool


class Detector:
    """A base model with a trained adapter, a threshold and a rule for long recordings."""

    def __init__(
        self,
        model: AudioLanguageModel,
        adapter: Adapter,
        bundle: Bundle,
        threshold: float,
        workers: int | None = None,
    ) -> None:
        """workers: batches of windows scored at the same time; None is one per core, one on a GPU."""
        self.model, self.adapter, self.bundle, self.threshold = model, adapter, bundle, threshold
        self.workers = default_workers() if workers is None else workers
        self._prompt = model.prompt(bundle.prompt)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        device: str = "auto",
        dtype: str = "auto",
        criterion: str = DEFAULT_CRITERION,
        threshold: float | None = None,
        workers: int | None = None,
    ) -> "Detector":
        """Load what `listenwell export` wrote, and the base it names.

        criterion: which of the thresholds chosen on dev decides, unless `threshold` gives one. workers: batches of
        windows scored at the same time; None is one per core, one on a GPU. Raises ModelError when the folder or the
        base is not what was exported, ConfigError for an unknown criterion, device or dtype.
        """
        bundle = read_bundle(Path(folder))
        if criterion not in bundle.thresholds:
            raise ConfigError(
                f"criterion '{criterion}': the detector has thresholds for {', '.join(sorted(bundle.thresholds))}; "
                "choose one of them, or give a threshold."
            )
        base = {"name": bundle.base, "quantization": bundle.quantization}
        model = load_model(ModelConfig.model_validate({**base, "device": device, "dtype": dtype}))
        if model.fingerprint != bundle.base_fingerprint:
            raise ModelError(
                f"{folder}: was made on the base {bundle.base_fingerprint[:12]}, but '{bundle.base}' here is "
                f"{model.fingerprint[:12]}; another base would answer differently, use the listenwell and base of the "
                "export, or train and export again."
            )
        adapter, _ = read_adapter(Path(folder) / ADAPTER, model)
        return cls(model, adapter, bundle, bundle.thresholds[criterion] if threshold is None else threshold, workers)

    def scores(self, waveforms: Sequence[Waveform]) -> NDArray[np.float64]:
        """Return the scores (B,) of B waveforms (n_samples,), 16 kHz. Raises AudioError for one that is unusable."""
        for samples in waveforms:
            _require_usable(samples)
        found = np.full(len(waveforms), SILENT_SCORE)
        sounding = [i for i, samples in enumerate(waveforms) if not is_silent(samples)]
        with one_thread_each():
            mels = [hear(self.model, waveforms[i], self.bundle.short_clips) for i in sounding]
            audio = embed_clips(self.model, mels, BATCH_SECONDS, self._tower_adapter())
            found[sounding] = answer_scores(self.model, audio, self._prompt, self.adapter)
        return found

    def _tower_adapter(self) -> Adapter | None:
        return self.adapter if self.model.changes_tower(self.adapter) else None

    def score(self, waveform: Waveform, sample_rate_hz: int = SAMPLE_RATE_HZ) -> float:
        """Return the score of one clip, (n_samples,) or (n_samples, n_channels). Raises AudioError."""
        return float(self.scores([as_heard(waveform, sample_rate_hz)])[0])

    def decide(self, waveform: Waveform, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Decision:
        """Return score, probability and decision of one clip. Raises AudioError."""
        return self.decision(self.score(waveform, sample_rate_hz))

    def decision(self, score: float) -> Decision:
        """What a score means to this detector."""
        probability = float(self.bundle.probability.probabilities(np.array([score]))[0])
        return Decision(score, probability, score >= self.threshold)

    def segments(self, recording: Path | Waveform, sample_rate_hz: int = SAMPLE_RATE_HZ) -> list[Segment]:
        """Return the stretches of speech in a recording: a file, or a waveform at sample_rate_hz. Raises AudioError."""
        counted = _Counted(
            read_blocks(recording) if isinstance(recording, Path) else iter([as_heard(recording, sample_rate_hz)])
        )
        scores = np.concatenate(list(self.window_scores(counted)))
        return self.find_segments(scores, counted.n_samples / SAMPLE_RATE_HZ)

    def window_scores(self, blocks: Iterator[Waveform], skip: int = 0) -> Iterator[Floats]:
        """Yield the scores of the windows of a recording, batch by batch, (n,) each; the first `skip` are left out.

        Batches follow from the windows' numbers alone, so scores do not depend on `skip` (a multiple of BATCH, but at
        the recording's end) or on the number of workers.
        """
        rule = self.bundle.rule
        windows = itertools.islice(cut_windows(blocks, rule.window_s, rule.hop_s), skip, None)
        batches = iter(lambda: list(itertools.islice(windows, BATCH)), [])
        with cancelling_pool(self.workers) as pool:
            while group := list(itertools.islice(batches, self.workers)):
                with one_thread_each():
                    found = list(pool.map(self.scores, group))
                yield from found

    def find_segments(self, scores: Floats, duration_s: float) -> list[Segment]:
        """Return the segments that the scores (n,) of all windows of a recording of duration_s say."""
        return find_segments(self.activity(scores), duration_s, self.bundle.rule)

    def activity(self, scores: Floats) -> Floats:
        """Return the activity of windows with these scores, (n,)."""
        return window_activity(scores, self.threshold, self.slope)

    @property
    def slope(self) -> float:
        """How steeply activity rises with the score: dev's Platt slope, 1 where dev saw no rise at all."""
        slope = self.bundle.probability.slope
        return slope if slope > 0 else 1.0

    def stream(self, on_frame: Callable[["Frame"], None]) -> "Stream":
        """Return a listener for a live signal: feed it blocks of any size, it tells of every frame of hop_s."""
        return Stream(self, on_frame)


@dataclass(frozen=True, slots=True)
class Frame:
    """One hop of a live signal, told window_s after its start: its activity, and whether speech is on (hysteresis)."""

    start_s: float
    end_s: float
    activity: float
    is_speech: bool


class Stream:
    """Live decisions: `feed` takes 16 kHz samples as they come; a frame is decided once its last window is heard.

    So the delay is window_s - hop_s after a frame's end, plus the time of one forward pass. Memory is one window.
    """

    def __init__(self, detector: Detector, on_frame: Callable[[Frame], None]) -> None:
        rule = detector.bundle.rule
        self._detector, self._on_frame = detector, on_frame
        self._n_window, self._n_hop = (round(s * SAMPLE_RATE_HZ) for s in (rule.window_s, rule.hop_s))
        self._per_window = max(1, round(rule.window_s / rule.hop_s))
        self._kept = np.empty(0, dtype=np.float32)
        self._recent: list[float] = []
        self._n_frames = 0
        self._is_speech = False

    def feed(self, samples: Waveform) -> None:
        """Take the next samples (n,), 16 kHz. Raises AudioError for samples that are not finite."""
        self._kept = np.concatenate([self._kept, np.asarray(samples, dtype=np.float32)])
        while self._kept.size >= self._n_window:
            score = float(self._detector.scores([self._kept[: self._n_window]])[0])
            self._kept = self._kept[self._n_hop :]
            self._recent = [*self._recent, float(self._detector.activity(np.array([score]))[0])][-self._per_window :]
            self._tell(sum(self._recent) / len(self._recent))

    def _tell(self, activity: float) -> None:
        rule = self._detector.bundle.rule
        self._is_speech = activity >= rule.on or (self._is_speech and activity >= rule.off)
        start_s = self._n_frames * rule.hop_s
        self._n_frames += 1
        self._on_frame(Frame(start_s, start_s + rule.hop_s, activity, self._is_speech))


class _Counted:
    """An iterator of blocks that counts the samples gone through it."""

    def __init__(self, blocks: Iterable[Waveform]) -> None:
        self._blocks = iter(blocks)
        self.n_samples = 0

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> Waveform:
        block = next(self._blocks)
        self.n_samples += block.size
        return block


def as_heard(waveform: Waveform, sample_rate_hz: int) -> Waveform:
    """Return a waveform (n_samples,) or (n_samples, n_channels) as mono float32 at 16 kHz. Raises AudioError."""
    samples = np.asarray(waveform)
    if samples.dtype.kind != "f":
        raise AudioError(f"the waveform holds {samples.dtype}; floating-point samples within +-1 were expected.")
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise AudioError(
            f"the waveform has shape {samples.shape}; (n_samples,) or (n_samples, n_channels) was expected."
        )
    if sample_rate_hz <= 0:
        raise AudioError(f"the sample rate is {sample_rate_hz} Hz; a positive number was expected.")
    mono = samples.astype(np.float32) if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
    if sample_rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ").astype(np.float32)
    return np.ascontiguousarray(mono)


def _require_usable(samples: Waveform) -> None:
    if samples.size == 0:
        raise AudioError("a clip has no samples; remove it.")
    if not np.isfinite(samples).all():
        raise AudioError("a clip holds NaN or infinite samples; export it again from its source.")
