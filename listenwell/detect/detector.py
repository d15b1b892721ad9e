"""The trained detector: a score for a clip, segments of a long recording, decisions on a live stream.

    detector = Detector.load(Path("detector"))
    detector.decide(waveform, 16_000)              one short clip, an array or tensor
    detector.segments("meeting.m4a")               a recording of any length, in constant memory

A score is logit(SPEECH answer) - logit(NONSPEECH answer); a clip is SPEECH at or above the threshold, which was chosen
on dev. What may be given as audio: listenwell.data.audio; the folder that is loaded: listenwell.detect.bundle.
"""

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from listenwell.data.audio import (
    SAMPLE_RATE_HZ,
    Audio,
    Waveform,
    as_frames,
    as_source,
    as_waveform,
    check_rate,
    is_file,
    is_silent,
)
from listenwell.detect.bundle import ADAPTER, DEFAULT_CRITERION, Bundle, read_bundle, ready_detector
from listenwell.detect.deciding import DecidingScores
from listenwell.detect.recordings import Blocks, MonoResampler, WindowCutter, cut_windows, join_blocks, open_blocks
from listenwell.detect.segmentation import (
    Floats,
    Segment,
    count_frames,
    find_segments,
    undecided,
    window_activity,
)
from listenwell.errors import AudioError, AudioWarning, ConfigError, ModelError
from listenwell.model.adapter_files import read_adapter
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.lora import Adapter, merge_adapter
from listenwell.model.mel import extract_features
from listenwell.model.parallel import cancelling_pool, default_workers, one_thread_each
from listenwell.model.settings import ModelConfig, on_device

BATCH = 32
BATCH_SECONDS = 32.0
RULE_LENGTHS = ("pad_s", "shortest_speech_s", "longest_speech_s", "shortest_pause_s")
SILENT_SCORE = -1e4
"""What digital silence scores: it holds no speech, and the model was never asked about it in training."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One clip: its score, the probability of speech (by the map that dev chose), and whether it is called SPEECH."""

    score: float
    probability: float
    is_speech: bool

    @property
    def label(self) -> str:
        """SPEECH or NONSPEECH."""
        return "SPEECH" if self.is_speech else "NONSPEECH"


class Detector:
    """A base model with a trained adapter, a threshold and a rule for long recordings."""

    def __init__(
        self,
        model: AudioLanguageModel,
        adapter: Adapter | None,
        bundle: Bundle,
        threshold: float,
        workers: int | None = None,
        channel: int | None = None,
        batch: int = BATCH,
    ) -> None:
        """As in `load`: workers, channel. adapter: None where it is merged into the model's weights. batch: windows
        scored together. Raises ConfigError for a threshold that is no number."""
        if not math.isfinite(threshold):
            raise ConfigError(f"the threshold is {threshold}; a finite score was expected.")
        self.model, self.adapter, self.bundle, self.threshold = model, adapter, bundle, threshold
        self.channel, self.batch = channel, batch
        self.workers = default_workers() if workers is None else workers
        self._prompt = model.prompt(bundle.prompt)

    @classmethod
    def load(
        cls,
        folder: Path | str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        criterion: str = DEFAULT_CRITERION,
        threshold: float | None = None,
        workers: int | None = None,
        channel: int | None = None,
    ) -> "Detector":
        """Load what `listenwell export` wrote, and the base it names.

        folder: None is the detector that the package ships. criterion: which of the thresholds chosen on dev decides,
        unless `threshold` gives one. workers: batches of windows scored at the same time; None is one per core, one on
        a GPU. channel: the one of several to decide by, from 0; None is their mean. Raises ModelError when the folder
        or the base is not what was exported, ConfigError for an unknown criterion, device or dtype.
        """
        config = on_device(device, dtype)
        folder = ready_detector() if folder is None else Path(folder)
        bundle = read_bundle(folder)
        if criterion not in bundle.thresholds:
            raise ConfigError(
                f"criterion '{criterion}': the detector has thresholds for {', '.join(sorted(bundle.thresholds))}; "
                "choose one of them, or give a threshold."
            )
        base = {"name": bundle.base, "quantization": bundle.quantization}
        model = load_model(ModelConfig.model_validate(config.model_dump() | base))
        if model.fingerprint != bundle.base_fingerprint:
            raise ModelError(
                f"{folder}: was made on the base {bundle.base_fingerprint[:12]}, but '{bundle.base}' here is "
                f"{model.fingerprint[:12]}; another base would answer differently, use the listenwell and base of the "
                "export, or train and export again."
            )
        adapter: Adapter | None
        adapter, _ = read_adapter(folder / ADAPTER, model)
        if bundle.quantization == "none":
            merge_adapter(model.network, adapter)  # an eighth of the time less; in bfloat16 as near to float32
            adapter = None
        chosen = bundle.thresholds[criterion] if threshold is None else threshold
        return cls(model, adapter, bundle, chosen, workers, channel)

    def change_rule(self, **lengths_s: float | None) -> None:
        """Change pad_s, shortest_speech_s, longest_speech_s or shortest_pause_s of segments; None leaves one as it is.

        Raises ConfigError for what is none of these, or no length in seconds.
        """
        given = {name: seconds for name, seconds in lengths_s.items() if seconds is not None}
        if not given.keys() <= set(RULE_LENGTHS) or not all(0 <= seconds < math.inf for seconds in given.values()):
            raise ConfigError(f"the rule for segments: {given} was given; seconds for {', '.join(RULE_LENGTHS)}.")
        rule = replace(self.bundle.rule, **given)
        least_s = 2 * rule.pad_s + rule.hop_s
        if rule.longest_speech_s is not None and rule.longest_speech_s < least_s:
            raise ConfigError(
                f"the longest speech is {rule.longest_speech_s:g} s; a hop and two pads are {least_s:g} s."
            )
        self.bundle = replace(self.bundle, rule=rule)

    def scores(self, waveforms: Sequence[Waveform]) -> NDArray[np.float64]:
        """Return the scores (B,) of B waveforms (n_samples,), 16 kHz.

        Raises AudioError for one that is unusable, ModelError where the model's answer is no number.
        """
        for samples in waveforms:
            _require_usable(samples)
        scores = np.full(len(waveforms), SILENT_SCORE)
        sounding = [i for i, samples in enumerate(waveforms) if not is_silent(samples)]
        encoder_adapter = self.adapter if self.adapter and self.model.changes_encoder(self.adapter) else None
        with one_thread_each():
            mels = [extract_features(self.model.mel_filters, waveforms[i], self.bundle.short_clips) for i in sounding]
            audio = embed_clips(self.model, mels, BATCH_SECONDS, encoder_adapter)
            scores[sounding] = answer_scores(self.model, audio, self._prompt, self.adapter)
        if not np.isfinite(scores).all():
            raise ModelError(
                f"the model's scores in {self.model.dtype} hold NaN or infinity; load the detector with dtype float32."
            )
        return scores

    def clip_scores(self, waveforms: Sequence[Waveform]) -> Floats:
        """Return the scores of clips as `scores` does, in batches, `workers` of them at the same time."""
        batches = (waveforms[i : i + self.batch] for i in range(0, len(waveforms), self.batch))
        with cancelling_pool(self.workers) as pool:
            return np.concatenate(list(self._score_batches(pool, batches)))

    def score(self, audio: Audio, sample_rate_hz: float | None = None) -> float:
        """Return the score of one clip: an array or tensor at sample_rate_hz, a file, or {"array", "sampling_rate"}.

        What may be given is listenwell.data.audio'. Raises AudioError.
        """
        if is_file(audio):
            with open_blocks(as_source(audio, sample_rate_hz), self.channel) as blocks:
                samples = join_blocks(blocks.recording.name, _warned(blocks))
        else:
            samples = as_waveform(audio, sample_rate_hz, self.channel)
        return float(self.scores([samples])[0])

    def decide(self, audio: Audio, sample_rate_hz: float | None = None) -> Decision:
        """Return score, probability and decision of one clip, given as to `score`. Raises AudioError."""
        return self.decision(self.score(audio, sample_rate_hz))

    def decision(self, score: float) -> Decision:
        """What a score means to this detector."""
        probability = float(self.bundle.probability.probabilities(np.array([score]))[0])
        return Decision(score, probability, score >= self.threshold)

    def segments(self, audio: Audio, sample_rate_hz: float | None = None) -> list[Segment]:
        """Return the stretches of speech in a recording, given as to `score`; a file's memory is constant.

        Raises AudioError.
        """
        if is_file(audio):
            with open_blocks(as_source(audio, sample_rate_hz), self.channel) as blocks:
                scores = self._needed_scores(_warned(blocks))
                return self.find_segments(scores, blocks.duration_s)
        samples = as_waveform(audio, sample_rate_hz, self.channel)
        return self.find_segments(self._needed_scores([samples]), samples.size / SAMPLE_RATE_HZ)

    def _needed_scores(self, blocks: Iterable[Waveform]) -> Floats:
        with self.deciding_scores(blocks) as deciding:
            for _ in deciding:
                pass
        return deciding.scores

    @contextmanager
    def deciding_scores(
        self, blocks: Iterable[Waveform], known: Mapping[int, float] | None = None
    ) -> Iterator[DecidingScores]:
        """Score, while iterated, those windows of a recording that decide where speech is.

        known: scores by number of window, from a run that was cut off.
        """
        rule = self.bundle.rule
        with cancelling_pool(self.workers) as pool:
            yield DecidingScores(
                cut_windows(blocks, rule.window_s, rule.hop_s),
                lambda batches: self._score_batches(pool, batches),
                self.activity,
                rule,
                self.batch,
                known,
            )

    def window_scores(self, blocks: Iterable[Waveform]) -> Iterator[Floats]:
        """Yield the scores of all windows of a recording, batch by batch, (n,) each.

        Batches follow from the windows' numbers alone, so scores do not depend on the number of workers.
        """
        rule = self.bundle.rule
        windows = cut_windows(blocks, rule.window_s, rule.hop_s)
        with cancelling_pool(self.workers) as pool:
            yield from self._score_batches(pool, iter(lambda: list(itertools.islice(windows, self.batch)), []))

    def _score_batches(self, pool: Executor, batches: Iterable[Sequence[Waveform]]) -> Iterator[Floats]:
        """The scores (n,) of each batch, in order, `workers` batches at the same time."""
        batches = iter(batches)
        while group := list(itertools.islice(batches, self.workers)):
            with one_thread_each():
                scores = list(pool.map(self.scores, group))
            yield from scores

    def find_segments(self, scores: Floats, duration_s: float) -> list[Segment]:
        """Return the segments that the scores (n,) of the windows of a recording of duration_s say.

        Windows that decide nothing may be missing (NaN).
        """
        return find_segments(self.activity(scores), duration_s, self.bundle.rule)

    def is_decided(self, scores: Floats, duration_s: float) -> bool:
        """Whether windows that are missing (NaN) decide nothing in a recording of duration_s."""
        rule = self.bundle.rule
        return not undecided(self.activity(scores), count_frames(duration_s, rule), rule).any()

    def activity(self, scores: Floats) -> Floats:
        """Return the activity of windows with these scores, (n,)."""
        return window_activity(scores, self.threshold, self.slope)

    @property
    def slope(self) -> float:
        """How steeply activity rises with the score: the slope of the map to probabilities, 1 where dev saw no rise."""
        slope = self.bundle.probability.slope
        return slope if slope > 0 else 1.0

    def stream(self, on_frame: Callable[["Frame"], None], sample_rate_hz: float) -> "Stream":
        """Return a listener for a live signal: feed it blocks of any size, on_frame gets every hop."""
        return Stream(self, on_frame, sample_rate_hz)


@dataclass(frozen=True, slots=True)
class Frame:
    """One hop of a live signal, decided window_s after its start; is_speech: by hysteresis."""

    start_s: float
    end_s: float
    activity: float
    is_speech: bool


class Stream:
    """Live decisions: `feed` takes samples as they come; a frame is decided once its last window has come.

    So the delay is window_s - hop_s after a frame's end, plus the time of one forward pass. `close` decides what is
    left: all frames together are those of the recording. Memory is one window. A context manager that closes itself.
    """

    def __init__(self, detector: Detector, on_frame: Callable[[Frame], None], sample_rate_hz: float) -> None:
        """Raises AudioError for a rate that is none."""
        self._detector, self._on_frame, self._rule = detector, on_frame, detector.bundle.rule
        self._mono = MonoResampler("the stream", check_rate(sample_rate_hz), detector.channel)
        self._cutter = WindowCutter(self._rule.window_s, self._rule.hop_s)
        self._per_window = max(1, round(self._rule.window_s / self._rule.hop_s))
        self._n_channels: int | None = None
        self._recent: list[float] = []
        self._n_frames = self._n_windows = 0
        self._is_speech = self._is_closed = False

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def feed(self, samples: Audio) -> None:
        """Take the next samples: (n,), (n, 1) or several channels, floats or integers. Raises AudioError."""
        if self._is_closed:
            raise AudioError("the stream is closed; begin another with Detector.stream.")
        frames = as_frames(samples, self._n_channels)
        if len(frames):
            self._n_channels = frames.shape[1]
            self._decide(self._cutter.feed(self._mono.feed(frames)))

    def close(self) -> None:
        """Decide the frames up to the end of the signal. Twice does nothing more."""
        if self._is_closed:
            return
        self._is_closed = True
        self._decide(self._cutter.feed(self._mono.finish()))
        self._decide(self._cutter.finish())
        if self._mono.note:
            warnings.warn(f"the stream: {self._mono.note}.", AudioWarning, stacklevel=2)
        while self._n_frames < count_frames(self._cutter.n_samples / SAMPLE_RATE_HZ, self._rule):
            # windows that began later than the last one would lie behind the end
            self._recent = self._recent[-max(1, self._n_windows + self._per_window - 1 - self._n_frames) :]
            self._give_frame()

    def _decide(self, windows: Iterable[Waveform]) -> None:
        """A window that comes decides the frame in which it begins."""
        for window in windows:
            activity = float(self._detector.activity(self._detector.scores([window]))[0])
            self._recent = [*self._recent, activity][-self._per_window :]
            self._n_windows += 1
            self._give_frame()

    def _give_frame(self) -> None:
        activity, start_s = sum(self._recent) / len(self._recent), self._n_frames * self._rule.hop_s
        self._is_speech = activity >= self._rule.on or (self._is_speech and activity >= self._rule.off)
        self._n_frames += 1
        self._on_frame(Frame(start_s, start_s + self._rule.hop_s, activity, self._is_speech))


def _warned(blocks: Blocks) -> Iterator[Waveform]:
    """The blocks; at their end an AudioWarning with their note."""
    yield from blocks
    if blocks.note:
        warnings.warn(f"{blocks.recording.name}: {blocks.note}.", AudioWarning, stacklevel=3)


def _require_usable(samples: Waveform) -> None:
    if samples.ndim != 1 or samples.dtype.kind != "f" or samples.size == 0:
        raise AudioError(
            f"a clip has shape {samples.shape} and holds {samples.dtype}; floats (n_samples,) at 16 kHz were expected."
        )
    if not np.isfinite(samples).all():
        raise AudioError("a clip holds NaN or infinite samples; export it again from its source.")
