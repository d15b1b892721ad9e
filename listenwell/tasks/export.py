"""Make a detector out of a finished run: the delivered adapter, thresholds, probability map, rule for long recordings.

Everything that decides is chosen on dev: thresholds by several criteria and the map to probabilities from the run's own
dev scores, the rule for segments on long recordings laid out from dev clips over dev backgrounds. Test clips are not
touched.

In a laid-out recording clips of both labels follow each other with pauses between them. Every draw is keyed, so the
same clips make the same recordings. A clip's whole length counts as its label, silence inside it too.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from listenwell.augment.mixing import gain_for_snr
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_waveform, rms
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, Clip
from listenwell.detect.bundle import MODEL_CARD, Bundle, write_bundle
from listenwell.detect.detector import Detector
from listenwell.detect.segmentation import Floats, SegmentRule, find_segments
from listenwell.errors import ListenwellError
from listenwell.evaluate.calibration import choose_threshold, parse_criterion
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.evaluate.metrics import balanced_accuracy
from listenwell.evaluate.probabilities import choose_map
from listenwell.judge.score import CALIBRATION, read_kept_scores
from listenwell.model.adapter_files import read_adapter
from listenwell.model.loading import load_model
from listenwell.model.mel import ShortClipConfig
from listenwell.model.prompt import PromptConfig
from listenwell.progress import OnProgress, ignore_progress
from listenwell.random_streams import stream
from listenwell.splits.divide import DEV
from listenwell.storage.load_or_make import hash_file
from listenwell.storage.run_folder import provenance, read_kept_results
from listenwell.tasks.runs import delivered_adapter, open_run, scores_made_from, splits_of_run

PAUSE_S = (0.3, 3.0)
SNR_DB = (0.0, 20.0)
CLIP_LEVEL = 0.05
TRUTH_STEP_S = 0.01
LEAST_OVERLAP = 0.5
CRITERIA = ("balanced_accuracy", "accuracy", "eer", "target_recall=0.95", "target_false_alarm=0.01")
WINDOWS_S, HOP_S = (0.5, 1.0), 0.25
ACTIVITIES, SHORTEST_S = (0.3, 0.4, 0.5, 0.6, 0.7), (0.0, 0.25, 0.5)


@dataclass(frozen=True, slots=True)
class LongRecording:
    """samples (n_samples,), 16 kHz, and where it is speech: (start_s, end_s), in order."""

    name: str
    samples: Waveform
    speech: tuple[tuple[float, float], ...]


def export_detector(
    run_root: Path,
    out: Path,
    on_progress: OnProgress = ignore_progress,
    n_recordings: int = 6,
    recording_s: float = 40.0,
) -> Bundle:
    """Write the detector of the finished run at run_root into `out` and return its record.

    n_recordings, recording_s: how many long recordings tune the rule, and their length in seconds. Raises
    ListenwellError when the run is not finished or its adapter belongs to another base.
    """
    run, config = open_run(run_root)
    adapter_folder = delivered_adapter(run)
    results = read_kept_results(run)
    delivered = results["fits"][0]["identity"]
    if scores_made_from(run, f"{FINE_TUNED}-{DEV}")["fit"] != delivered:
        raise ListenwellError(
            f"{run_root}: a later study in this folder was not finished: its scores are no longer those of the fit "
            f"{delivered} that {run.results.name} delivers; run the study to its end."
        )
    model = load_model(config.model)
    adapter, listens = read_adapter(adapter_folder, model)
    chosen_on = CALIBRATION if config.calibration.source == "folds" else DEV
    dev = read_kept_scores(run.scores(f"{FINE_TUNED}-{chosen_on}"))
    thresholds = {criterion: choose_threshold(dev, parse_criterion(criterion)).value for criterion in CRITERIA}
    bundle = Bundle(
        base=config.model.name,
        base_fingerprint=model.fingerprint,
        quantization=config.model.quantization,
        adapter_sha256=hash_file(adapter_folder / "adapter_model.safetensors"),
        prompt=PromptConfig.model_validate(listens["prompt"]),
        short_clips=ShortClipConfig.model_validate(listens["short_clips"]),
        thresholds=thresholds,
        probability=choose_map(dev.score, dev.is_speech, dev.group, config.seed)[0],
        rule=SegmentRule(),
        evidence=[r for r in results["rows"] if (r["method"], r["threshold"]) == (FINE_TUNED, "calibrated")],
        provenance=provenance() | {"run": results["name"], "fit": delivered},
    )
    detector = Detector(model, adapter, bundle, thresholds[CRITERIA[0]])
    splits = splits_of_run(run, config, on_progress)
    recordings = [
        lay_out_recording(splits.clips[DEV], splits.banks[DEV], recording_s, config.seed, f"recording_{i}")
        for i in range(n_recordings)
    ]
    bundle = replace(bundle, rule=tune_rule(detector, recordings, on_progress))
    card = run_root / MODEL_CARD
    write_bundle(out, bundle, adapter_folder, card if card.is_file() else None)
    return bundle


def tune_rule(
    detector: Detector, recordings: Sequence[LongRecording], on_progress: OnProgress = ignore_progress
) -> SegmentRule:
    """Return the rule with the best mean of frame-level balanced accuracy and segment F1 on the recordings.

    Windows are scored once per window length; the rest of the grid is arithmetic.
    """
    best, least, n_done = SegmentRule(), -1.0, 0
    for window_s in WINDOWS_S:
        bundle = replace(detector.bundle, rule=SegmentRule(window_s=window_s, hop_s=HOP_S))
        tried = Detector(detector.model, detector.adapter, bundle, detector.threshold)
        activities = []
        for recording in recordings:
            scores = np.concatenate(list(tried.window_scores(iter([recording.samples]))))
            activities.append(detector.activity(scores))
            n_done += 1
            on_progress("tuning on dev recordings", n_done, len(WINDOWS_S) * len(recordings))
        for on, off, speech_s, pause_s in itertools.product(ACTIVITIES, ACTIVITIES, SHORTEST_S, SHORTEST_S):
            rule = SegmentRule(window_s, HOP_S, on, off, speech_s, pause_s)
            if off <= on and (value := _judge_rule(rule, recordings, activities)) > least + 1e-9:
                best, least = rule, value
    return best


def _judge_rule(rule: SegmentRule, recordings: Sequence[LongRecording], activities: Sequence[Floats]) -> float:
    """Mean of frame-level balanced accuracy and segment F1 of a rule. activities: of each recording's windows."""
    decided, truth, matched = [], [], []
    for recording, activity in zip(recordings, activities, strict=True):
        duration_s = recording.samples.size / SAMPLE_RATE_HZ
        segments = [(s.start_s, s.end_s) for s in find_segments(activity, duration_s, rule)]
        decided.append(mark_frames(segments, duration_s))
        truth.append(mark_frames(recording.speech, duration_s))
        matched.append(segment_f1(segments, recording.speech))
    return (balanced_accuracy(np.concatenate(decided), np.concatenate(truth)) + float(np.mean(matched))) / 2


def lay_out_recording(
    clips: Sequence[Clip], bank: BackgroundBank, length_s: float, seed: int, name: str
) -> LongRecording:
    """Return a recording of about length_s seconds over one background, half of its clips speech.

    The ratio of speech to background is uniform in dB over SNR_DB; clips are brought to one level; seed and name
    decide every draw.
    """
    rng = stream(seed, "long recording", name)
    by_label = {label: [clip for clip in clips if clip.label == label] for label in LABELS}
    laid: list[tuple[int, Waveform, bool]] = []
    at = 0
    while at < length_s * SAMPLE_RATE_HZ:
        at += round(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ)
        is_speech = bool(rng.random() < 0.5)
        of_label = by_label["SPEECH" if is_speech else "NONSPEECH"]
        samples = load_waveform(of_label[int(rng.integers(len(of_label)))])
        laid.append((at, samples * np.float32(CLIP_LEVEL / rms(samples)), is_speech))
        at += samples.size
    signal = np.zeros(at + round(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ), dtype=np.float32)
    for start, samples, _ in laid:
        signal[start : start + samples.size] += samples
    if bank.entries:
        background = bank.entries[int(rng.integers(len(bank.entries)))].background_id
        noise = bank.load(background, 0.0, signal.size / SAMPLE_RATE_HZ)[: signal.size]
        active = np.concatenate([samples for _, samples, _ in laid])
        under = np.resize(noise, active.size)
        if rms(under) > 0:
            signal += noise * np.float32(gain_for_snr(active, under, float(rng.uniform(*SNR_DB))))
    signal /= np.float32(max(1.0, float(np.abs(signal).max())))
    speech = [(start, start + samples.size) for start, samples, is_speech in laid if is_speech]
    return LongRecording(name, signal, tuple((start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ) for start, end in speech))


def mark_frames(stretches: Sequence[tuple[float, float]], duration_s: float) -> NDArray[np.bool_]:
    """Return for every 10 ms whether its middle lies in one of the stretches (start_s, end_s)."""
    middles = (np.arange(int(duration_s / TRUTH_STEP_S)) + 0.5) * TRUTH_STEP_S
    marked = np.zeros(middles.size, dtype=bool)
    for start_s, end_s in stretches:
        first, last = np.searchsorted(middles, [start_s, end_s])
        marked[first:last] = True
    return marked


def segment_f1(segments: Sequence[tuple[float, float]], truth: Sequence[tuple[float, float]]) -> float:
    """Return F1 of segments: one segment and one true one match when their overlap is at least LEAST_OVERLAP of
    their union, each matched once, the best first."""
    pairs = []
    for (i, one), (j, other) in itertools.product(enumerate(segments), enumerate(truth)):
        shared_s = min(one[1], other[1]) - max(one[0], other[0])
        pairs.append((shared_s / (max(one[1], other[1]) - min(one[0], other[0])), i, j))
    matched: list[tuple[int, int]] = []
    for overlap, i, j in sorted(pairs, reverse=True):
        if overlap >= LEAST_OVERLAP and all(i != one and j != other for one, other in matched):
            matched.append((i, j))
    total = len(segments) + len(truth)
    return 2 * len(matched) / total if total else 1.0
