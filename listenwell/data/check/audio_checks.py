"""Look at the recordings of a table before a model does: faults by class, and whether the label leaks from them.

`check_audio` finds faults (clipping, DC, silence, ...) and makes the shortcut test: can the label be read from how
clips were recorded, without hearing what is in them? Logistic regression and gradient boosting predict it from the
recording conditions of each clip, cross-validated over groups. An area under the ROC curve (AUC) near 1/2 says that the
conditions do not give the class away: the target is AUC <= .60 with an upper bound <= .65 (cluster bootstrap over
groups, percentile, 95 %). Values somewhat below 1/2 are expected: what one fold has too much of, another lacks.

Spectral slope, crest factor, pauses and the like belong to the content, since speech *is* different from a drum, and
are no conditions; nor is the peak: given the level it is the crest factor. A finding is a warning, not a repair.
Clipping is seen only at full scale: a file that was made quieter after it was clipped passes. Waveforms are mono,
16 kHz, shape (n_samples,); levels in dB re full scale, shares from 0 to 1.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from listenwell.data.audio import SAMPLE_RATE_HZ, load_waveform
from listenwell.data.clip import LABELS, Clip, Label
from listenwell.data.recording_history import active_span, frame_levels_db
from listenwell.errors import AudioError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.random_streams import stream

TARGET_AUC, TARGET_UPPER = 0.60, 0.65
CONDITION_NAMES = (
    "cut_off_hz", "level_db", "duration_s", "leading_s", "trailing_s", "dc_offset", "quantisation_step", "floor_db",
)  # fmt: skip
N_FOLDS = 5
N_RESAMPLES = 1000
FULL_SCALE = 0.99
SILENCE_BELOW_DB = -70.0
WIDE_FROM_HZ = 4000.0
"""What an 8 kHz file cannot hold lies above."""
FEWEST_SAMPLES = 160
"""10 ms: what is shorter has no spectrum to speak of."""
SHOWN_MEASURES = (
    "duration_s", "level_db", "floor_db", "cut_off_hz", "wide_db", "silent_share", "clipped_share", "dc_offset",
)  # fmt: skip
FAULTS = (
    ("clipped_share", ">", 0.001, "are clipped (more than 0.1 % of their samples at full scale)"),
    ("dc_offset", ">", 0.01, "have a DC offset of more than 1 % of full scale"),
    ("silent_share", ">", 0.5, f"are silent (below {SILENCE_BELOW_DB:g} dB) for more than half of their length"),
    ("duration_s", "<", 0.1, "are shorter than 0.1 s"),
    ("level_db", "<", -50.0, "are quieter than -50 dB"),
    ("wide_db", "<", -60.0, "hold nothing above 4 kHz (-60 dB re the clip), as a telephone line leaves them"),
)
"""A clip has a fault where this measure lies above or below this limit; what the faulty clips are or have."""

Features = NDArray[np.float64]
_Measured = tuple[Clip, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Discrimination:
    """How well one classifier predicts the label."""

    classifier: str
    auc: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class ShortcutReport:
    """single_aucs: AUC of each feature alone, .5 = says nothing (0 and 1 both say all)."""

    n_clips: int
    n_groups: int
    from_conditions: tuple[Discrimination, ...]
    single_aucs: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """True when neither classifier reads the label from the recording conditions."""
        return all(outcome.auc <= TARGET_AUC and outcome.upper <= TARGET_UPPER for outcome in self.from_conditions)


@dataclass(frozen=True, slots=True)
class MeasuredClips:
    """What the shortcut test takes. conditions: (n_clips, n_conditions), as CONDITION_NAMES; is_speech: (n_clips,)."""

    conditions: Features
    is_speech: NDArray[np.bool_]
    groups: Sequence[str]


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """One class: for each of SHOWN_MEASURES the 5 %, 50 % and 95 % quantile over its clips."""

    label: Label
    n_clips: int
    n_groups: int
    quantiles: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class AudioReport:
    """unreadable: why clips cannot be used; findings: warnings, each a sentence; shortcuts: None where not testable."""

    classes: tuple[ClassSummary, ...]
    unreadable: tuple[str, ...]
    findings: tuple[str, ...]
    shortcuts: ShortcutReport | None


def check_audio(clips: Sequence[Clip], seed: int, on_progress: OnProgress = ignore_progress) -> AudioReport:
    """Return what the clips' audio is like by class. `seed` keys the folds and the bootstrap of the shortcut test."""
    measured: list[_Measured] = []
    unreadable = []
    for n_read, clip in enumerate(clips, start=1):
        try:
            measured.append((clip, measure_audio(load_waveform(clip))))
        except AudioError as error:
            unreadable.append(f"clip '{clip.clip_id}': {error}")
        on_progress("measuring", n_read, len(clips))
    measured.sort(key=lambda pair: LABELS.index(pair[0].label))
    classes: list[ClassSummary] = []
    findings: list[str] = []
    for label in LABELS:
        if of_label := [pair for pair in measured if pair[0].label == label]:
            quantiles = {
                name: np.quantile([values[name] for _, values in of_label], [0.05, 0.5, 0.95]).tolist()
                for name in SHOWN_MEASURES
            }
            n_groups = len({clip.group for clip, _ in of_label})
            classes.append(ClassSummary(label, len(of_label), n_groups, quantiles))
            findings += _find_faults(label, of_label)
    shortcuts, warnings = _test_shortcuts(measured, seed)
    return AudioReport(tuple(classes), tuple(unreadable), (*findings, *warnings), shortcuts)


def _find_faults(label: Label, measured: Sequence[_Measured]) -> Iterator[str]:
    """Say of every fault how many clips of one class have it, and which has it most."""
    for measure, side, limit, words in FAULTS:
        excess = [(values[measure] - limit) * (1 if side == ">" else -1) for _, values in measured]
        if n_faulty := sum(value > 0 for value in excess):
            worst = measured[int(np.argmax(excess))][0].clip_id
            yield f"{n_faulty} of {len(measured)} {label} clips {words}; the worst is '{worst}'."


def _test_shortcuts(measured: Sequence[_Measured], seed: int) -> tuple[ShortcutReport | None, list[str]]:
    """Return the shortcut test over all clips and what it warns of, or None and why it cannot be made."""
    clips = MeasuredClips(
        np.array([[values[name] for name in CONDITION_NAMES] for _, values in measured]),
        np.array([clip.label == "SPEECH" for clip, _ in measured], dtype=np.bool_),
        [clip.group for clip, _ in measured],
    )
    try:
        report = find_shortcuts(clips, stream(seed, "audio_check", "shortcuts"))
    except ValueError as error:
        return None, [f"the shortcut test was not made: {error}."]
    return report, warn_of_shortcuts(report, clips)


def warn_of_shortcuts(report: ShortcutReport, clips: MeasuredClips) -> list[str]:
    """Return a warning that names the strongest cue; none when the conditions do not give the class away."""
    if report.passed:
        return []
    worst = max(report.from_conditions, key=lambda outcome: outcome.lower)
    tell = "tell the class" if worst.lower > 0.5 else "may tell the class"
    telling = {name: max(auc, 1 - auc) for name, auc in report.single_aucs.items()}
    cue = max(telling, key=telling.__getitem__)
    values = clips.conditions[:, CONDITION_NAMES.index(cue)]
    speech, other = np.median(values[clips.is_speech]), np.median(values[~clips.is_speech])
    return [
        f"the recording conditions {tell}: AUC {worst.auc:.2f} [{worst.lower:.2f}, {worst.upper:.2f}] without hearing "
        f"what is in the clips, at most {TARGET_AUC:.2f} with an upper bound of {TARGET_UPPER:.2f} was expected; most "
        f"of all {cue} (AUC {telling[cue]:.2f} alone; {speech:.4g} in SPEECH and {other:.4g} in NONSPEECH clips at the "
        "median). A model can learn them instead of the sound: draw both classes from recordings made alike, impose "
        "the same conditions on both, or add groups where the interval is wide."
    ]


def format_audio_report(report: AudioReport) -> str:
    """Return the report as plain text for the terminal; quantiles are 5 %, 50 % and 95 %."""
    lines = []
    for summary in report.classes:
        lines.append(f"{summary.label}: {summary.n_clips} clips, {summary.n_groups} groups (5 %, median, 95 %)")
        for name, (low, median, high) in summary.quantiles.items():
            lines.append(f"  {name:16} {low:10.4g} {median:10.4g} {high:10.4g}")
    if shortcuts := report.shortcuts:
        figures = [
            f"{one.classifier} {one.auc:.2f} [{one.lower:.2f}, {one.upper:.2f}]" for one in shortcuts.from_conditions
        ]
        lines.append("shortcut test: AUC of the label from recording conditions alone (95 % interval over groups)")
        lines.append(f"{', '.join(figures)}; {shortcuts.n_clips} clips, {shortcuts.n_groups} groups")
    lines += [f"cannot be used: {reason}" for reason in report.unreadable]
    lines += [f"warning: {finding}" for finding in report.findings]
    return "\n".join(lines)


# Measuring


def measure_audio(samples: NDArray[np.floating]) -> dict[str, float]:
    """Return the recording conditions of a clip, with clipped_share, silent_share and wide_db.

    wide_db: level of what lies above WIDE_FROM_HZ, re the whole clip. Raises AudioError when the clip is shorter than
    FEWEST_SAMPLES.
    """
    if samples.size < FEWEST_SAMPLES:
        raise AudioError(
            f"the clip has {samples.size} samples at 16 kHz, too few to measure; {FEWEST_SAMPLES} (10 ms) were "
            "expected, correct duration_s or remove the clip."
        )
    power = np.square(np.abs(np.fft.rfft(samples * np.hanning(samples.size))))
    is_wide = np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE_HZ) > WIDE_FROM_HZ
    return {
        **measure_conditions(samples),
        "clipped_share": float(np.mean(np.abs(samples) >= FULL_SCALE)),
        "silent_share": float(np.mean(frame_levels_db(samples.astype(np.float64)) < SILENCE_BELOW_DB)),
        "wide_db": float(10 * np.log10(power[is_wide].sum() / power.sum() + 1e-12)),
    }


def measure_conditions(samples: NDArray[np.floating]) -> dict[str, float]:
    """Return every named condition of one clip, which is not silent."""
    waveform = np.asarray(samples, dtype=np.float64)
    frequencies_hz, density = signal.welch(waveform, SAMPLE_RATE_HZ, nperseg=min(512, len(waveform)))
    density_db = 10 * np.log10(density + 1e-20)
    level_db = 10 * np.log10(np.mean(np.square(waveform)))
    first, end = active_span(waveform)
    frames_db = np.maximum(frame_levels_db(waveform), -120)
    # the highest frequency that stands 4 dB above what lies beyond the band (the 16-bit noise)
    standing = np.flatnonzero(density_db > np.quantile(density_db[1:-1], 0.03) + 4)
    # between neighbouring sample values, in 16-bit steps
    steps = np.diff(np.unique(np.rint(waveform * 32768)))
    return {
        "cut_off_hz": float(frequencies_hz[standing[-1]]) if len(standing) else 0.0,
        "level_db": float(level_db),
        "duration_s": len(waveform) / SAMPLE_RATE_HZ,
        "leading_s": first / SAMPLE_RATE_HZ,
        "trailing_s": (len(waveform) - end) / SAMPLE_RATE_HZ,
        "dc_offset": float(abs(np.mean(waveform))),
        "quantisation_step": float(steps.min()) if len(steps) else 0.0,
        "floor_db": float(frames_db.min()),
    }


# The shortcut test


def find_shortcuts(clips: MeasuredClips, generator: np.random.Generator) -> ShortcutReport:
    """Return what the conditions tell about the label, cross-validated in folds that keep groups together.

    Raises ValueError when there are too few groups, or a fold would lack a class since they are of unequal size.
    """
    groups = np.asarray(clips.groups)
    n_groups = {
        "SPEECH": len(np.unique(groups[clips.is_speech])),
        "NONSPEECH": len(np.unique(groups[~clips.is_speech])),
    }
    if min(n_groups.values()) < N_FOLDS:
        counts = " and ".join(f"{n} of {label}" for label, n in n_groups.items())
        raise ValueError(f"it needs {N_FOLDS} groups of each class, one for every fold, and there are {counts}")
    split = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=int(generator.integers(2**31)))
    folds = list(split.split(clips.groups, clips.is_speech, clips.groups))
    for fold, (_, held_out) in enumerate(folds):
        if len(np.unique(clips.is_speech[held_out])) < 2:
            raise ValueError(f"fold {fold} of the shortcut test lacks a class; it needs {N_FOLDS} groups of each")
    classifiers = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced")),
        "boosting": HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.05, class_weight="balanced", random_state=0
        ),
    }
    from_conditions = tuple(
        _discriminate(name, _predict(classifier, clips, folds), clips, generator)
        for name, classifier in classifiers.items()
    )
    singles = {
        name: float(roc_auc_score(clips.is_speech, of_name))
        for name, of_name in zip(CONDITION_NAMES, clips.conditions.T, strict=True)
    }
    return ShortcutReport(len(clips.groups), len(set(clips.groups)), from_conditions, singles)


def _predict(classifier: Any, clips: MeasuredClips, folds: Sequence[Any]) -> Features:
    """Return the probability of SPEECH of every clip, by what the other folds taught."""
    # One thread: with more, the histograms of the boosting wait for each other on a busy machine, and are no faster.
    with threadpool_limits(1), warnings.catch_warnings():
        # containers without /sys; no core is counted on here
        warnings.filterwarnings("ignore", "Could not find the number of physical cores", UserWarning)
        predicted = cross_val_predict(classifier, clips.conditions, clips.is_speech, cv=folds, method="predict_proba")
        return np.asarray(predicted[:, 1])


def _discriminate(name: str, scores: Features, clips: MeasuredClips, generator: np.random.Generator) -> Discrimination:
    """Return the AUC of the scores and its percentile interval over resampled groups, the classes resampled apart."""
    is_speech = clips.is_speech
    names, group_of = np.unique(np.asarray(clips.groups), return_inverse=True)
    speaks = np.array([is_speech[group_of == index].mean() > 0.5 for index in range(len(names))])
    aucs = np.empty(N_RESAMPLES)
    for resample in range(N_RESAMPLES):
        counts = np.zeros(len(names))
        for members in (np.flatnonzero(speaks), np.flatnonzero(~speaks)):
            counts += np.bincount(generator.choice(members, len(members)), minlength=len(names))
        aucs[resample] = roc_auc_score(is_speech, scores, sample_weight=counts[group_of])
    lower, upper = np.quantile(aucs, [0.025, 0.975])
    return Discrimination(name, float(roc_auc_score(is_speech, scores)), float(lower), float(upper))
