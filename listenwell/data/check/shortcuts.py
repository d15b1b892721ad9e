"""The shortcut test: can the label be read from how clips were recorded, without hearing what is in them?

`measure_conditions` measures the recording conditions of a finished clip: where its band ends, its level, duration,
edge silence, DC offset, quantisation, noise floor. A logistic regression and gradient boosting then predict the label
from them: within the study pool cross-validated over groups, for the other parts trained on the study pool. An area
under the ROC curve near 1/2 says that the conditions do not give the class away: the target is AUC <= .60 with an
upper bound <= .65. Intervals are cluster bootstraps over groups (percentile, 95 %), because clips of one speaker or
source are not independent. Values somewhat below 1/2 are expected in the cross-validation: where both classes have
exactly the same distribution, what is over-represented in one fold is under-represented in the others.

Spectral slope, crest factor, pauses and the like belong to the content, since speech *is* different from a drum; they
are measured and reported beside, for information. The peak is not a condition of its own: given the level it is the
crest factor. Waveforms are mono, 16 kHz, shape (n_samples,). Knows nothing of files.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.data.recording_history import active_span, frame_levels_db

TARGET_AUC, TARGET_UPPER = 0.60, 0.65
CONDITION_NAMES = (
    "cut_off_hz",
    "level_db",
    "duration_s",
    "leading_s",
    "trailing_s",
    "dc_offset",
    "quantisation_step",
    "floor_db",
)
CONTENT_NAMES = ("crest_db", "slope_db_per_octave", "pause_share", "centroid_hz")
N_FOLDS = 5
N_RESAMPLES = 1000

Features = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Discrimination:
    """How well one classifier predicts the label."""

    classifier: str
    auc: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class ShortcutReport:
    """The outcome on one part. single_aucs: AUC of each feature alone, .5 = says nothing (0 and 1 both say all)."""

    part: str
    n_clips: int
    n_groups: int
    from_conditions: tuple[Discrimination, ...]
    from_content: tuple[Discrimination, ...]
    single_aucs: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """True when neither classifier reads the label from the recording conditions."""
        return all(found.auc <= TARGET_AUC and found.upper <= TARGET_UPPER for found in self.from_conditions)


def measure_conditions(samples: NDArray[np.floating]) -> dict[str, float]:
    """Return every named condition and content cue of one clip. Raises ValueError when it is empty or silent."""
    if samples.size == 0 or not np.any(samples):
        raise ValueError("an empty or silent clip has no recording conditions")
    waveform = np.asarray(samples, dtype=np.float64)
    frequencies_hz, density_db = _spectrum(waveform)
    level_db = 10 * np.log10(np.mean(np.square(waveform)))
    first, end = active_span(waveform)
    frames_db = np.maximum(frame_levels_db(waveform), -120)
    return {
        "cut_off_hz": _cut_off_hz(frequencies_hz, density_db),
        "level_db": float(level_db),
        "duration_s": len(waveform) / SAMPLE_RATE_HZ,
        "leading_s": first / SAMPLE_RATE_HZ,
        "trailing_s": (len(waveform) - end) / SAMPLE_RATE_HZ,
        "dc_offset": float(abs(np.mean(waveform))),
        "quantisation_step": _quantisation_step(waveform),
        "floor_db": float(frames_db.min()),
        "crest_db": float(20 * np.log10(np.max(np.abs(waveform))) - level_db),
        "slope_db_per_octave": _slope(frequencies_hz, density_db),
        "pause_share": float(np.mean(frames_db < frames_db.max() - 30)),
        "centroid_hz": _centroid_hz(frequencies_hz, density_db),
    }


def _spectrum(waveform: Features) -> tuple[Features, Features]:
    length = min(512, len(waveform))
    frequencies_hz, density = signal.welch(waveform, SAMPLE_RATE_HZ, nperseg=length)
    return frequencies_hz, 10 * np.log10(density + 1e-20)


def _cut_off_hz(frequencies_hz: Features, density_db: Features) -> float:
    """The highest frequency that stands 4 dB above what lies beyond the band (the 16-bit noise)."""
    beyond_db = np.quantile(density_db[1:-1], 0.03)
    standing = np.flatnonzero(density_db > beyond_db + 4)
    return float(frequencies_hz[standing[-1]]) if len(standing) else 0.0


def _quantisation_step(waveform: Features) -> float:
    """The smallest difference between neighbouring sample values, in 16-bit steps."""
    steps = np.diff(np.unique(np.rint(waveform * 32768)))
    return float(steps.min()) if len(steps) else 0.0


def _slope(frequencies_hz: Features, density_db: Features) -> float:
    speech_band = (frequencies_hz >= 200) & (frequencies_hz <= 3000)
    return float(np.polyfit(np.log2(frequencies_hz[speech_band]), density_db[speech_band], 1)[0])


def _centroid_hz(frequencies_hz: Features, density_db: Features) -> float:
    power = 10 ** (density_db / 10)
    return float(np.sum(frequencies_hz * power) / np.sum(power))


@dataclass(frozen=True, slots=True)
class MeasuredClips:
    """The measured clips of one part: what measure_conditions gave, the label and the group of each."""

    measured: Sequence[Mapping[str, float]]
    labels: Sequence[str]
    groups: Sequence[str]

    @property
    def is_speech(self) -> NDArray[np.bool_]:
        """True for the clips labelled SPEECH, shape (n_clips,)."""
        return np.asarray([label == "SPEECH" for label in self.labels], dtype=np.bool_)

    def select(self, names: Sequence[str]) -> Features:
        """Return the named measurements, shape (n_clips, n_names)."""
        return np.array([[row[name] for name in names] for row in self.measured])


def find_shortcuts(
    part: str, clips: MeasuredClips, generator: np.random.Generator, training: MeasuredClips | None = None
) -> ShortcutReport:
    """Return what the conditions, and beside them the content cues, of the clips of one part tell about the label.

    The classifiers are trained on `training`, or, where there is none, on the same part in a cross-validation that
    keeps groups together. Raises ValueError when a fold would lack a class.
    """
    fold_of = _assign_folds(clips, generator) if training is None else None
    outcomes = []
    for names in (CONDITION_NAMES, CONTENT_NAMES):
        scores = {
            name: _transfer(name, training, clips, names) if training else _cross_validate(name, clips, names, fold_of)
            for name in ("logistic", "boosting")
        }
        outcomes.append(tuple(_discriminate(name, scores[name], clips, generator) for name in scores))
    singles = clips.select(CONDITION_NAMES + CONTENT_NAMES)
    return ShortcutReport(
        part=part,
        n_clips=len(clips.labels),
        n_groups=len(set(clips.groups)),
        from_conditions=outcomes[0],
        from_content=outcomes[1],
        single_aucs={
            name: float(roc_auc_score(clips.is_speech, singles[:, column]))
            for column, name in enumerate(CONDITION_NAMES + CONTENT_NAMES)
        },
    )


def _assign_folds(clips: MeasuredClips, generator: np.random.Generator) -> Features:
    folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=int(generator.integers(2**31)))
    fold_of = np.zeros(len(clips.groups))
    for fold, (_, held_out) in enumerate(folds.split(fold_of, clips.is_speech, clips.groups)):
        fold_of[held_out] = fold
        if len(np.unique(clips.is_speech[held_out])) < 2:
            raise ValueError(f"fold {fold} of the shortcut test lacks a class; it needs {N_FOLDS} groups of each")
    return fold_of


def _cross_validate(name: str, clips: MeasuredClips, names: Sequence[str], fold_of: Features | None) -> Features:
    features, is_speech = clips.select(names), clips.is_speech
    scores = np.empty(len(is_speech))
    for fold in range(N_FOLDS):
        held_out = fold_of == fold
        scores[held_out] = _fit_and_score(name, features[~held_out], is_speech[~held_out], features[held_out])
    return scores


def _transfer(name: str, training: MeasuredClips, clips: MeasuredClips, names: Sequence[str]) -> Features:
    return _fit_and_score(name, training.select(names), training.is_speech, clips.select(names))


def _fit_and_score(name: str, features: Features, is_speech: NDArray[np.bool_], unseen: Features) -> Features:
    # One thread: with more, the histograms of the boosting wait for each other on a busy machine, and are no faster.
    with threadpool_limits(1), warnings.catch_warnings():
        # containers without /sys; no core is counted on here
        warnings.filterwarnings("ignore", "Could not find the number of physical cores", UserWarning)
        classifier = _build_classifier(name).fit(features, is_speech)
        return np.asarray(classifier.predict_proba(unseen)[:, 1])


def _build_classifier(name: str) -> Any:
    if name == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    return HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, class_weight="balanced", random_state=0)


def _discriminate(name: str, scores: Features, clips: MeasuredClips, generator: np.random.Generator) -> Discrimination:
    """Return the AUC of the scores and its percentile interval over resampled groups, the classes resampled apart."""
    is_speech = clips.is_speech
    names, group_of = np.unique(np.asarray(clips.groups), return_inverse=True)
    speaks = np.array([is_speech[group_of == index].mean() > 0.5 for index in range(len(names))])
    values, rank = np.unique(scores, return_inverse=True)
    aucs = np.empty(N_RESAMPLES)
    for resample in range(N_RESAMPLES):
        counts = np.zeros(len(names))
        for members in (np.flatnonzero(speaks), np.flatnonzero(~speaks)):
            counts += np.bincount(generator.choice(members, len(members)), minlength=len(names))
        weights = counts[group_of]
        speech = np.bincount(rank, weights * is_speech, len(values))
        other = np.bincount(rank, weights * ~is_speech, len(values))
        aucs[resample] = _weighted_auc(speech.astype(np.float64), other.astype(np.float64))
    lower, upper = np.quantile(aucs, [0.025, 0.975])
    return Discrimination(name, float(roc_auc_score(is_speech, scores)), float(lower), float(upper))


def _weighted_auc(speech: Features, other: Features) -> float:
    """Probability that a speech clip scores above another one, ties counted half, from the weight at each score."""
    below = np.cumsum(other) - other
    return float(np.sum(speech * (below + other / 2)) / (speech.sum() * other.sum()))


def format_shortcuts(reports: Sequence[ShortcutReport]) -> str:
    """Return the figures as a plain table for the terminal."""
    lines = ["shortcut test: AUC of the label from recording conditions alone (95 % interval over groups)"]
    for report in reports:
        figures = [
            f"{found.classifier} {found.auc:.2f} [{found.lower:.2f}, {found.upper:.2f}]"
            for found in report.from_conditions
        ]
        content = ", ".join(f"{found.classifier} {found.auc:.2f}" for found in report.from_content)
        lines.append(
            f"{report.part:<14} {', '.join(figures)}; {report.n_clips} clips, {report.n_groups} groups "
            f"(content cues, for information: {content})"
        )
    return "\n".join(lines)
