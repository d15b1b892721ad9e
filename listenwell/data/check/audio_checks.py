"""Look at the recordings of a table before a model does: faults by class, and whether the label leaks from them.

    measure_audio   one clip -> clipping, DC, silence, duration, level, bandwidth, ...   (shortcuts.measure_conditions)
    check_audio     all clips -> what each class is like, findings in words, the shortcut test with its cues named

A finding is a warning, not a repair: nothing is changed. Clipping is seen only at full scale: a file that was made
quieter after it was clipped passes. Levels are in dB re full scale, shares from 0 to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from listenwell.data.audio import SAMPLE_RATE_HZ, load_waveform
from listenwell.data.check.shortcuts import (
    CONDITION_NAMES,
    N_FOLDS,
    TARGET_AUC,
    TARGET_UPPER,
    MeasuredClips,
    ShortcutReport,
    find_shortcuts,
    format_shortcuts,
    measure_conditions,
)
from listenwell.data.clip import LABELS, Clip, Label
from listenwell.data.recording_history import frame_levels_db
from listenwell.errors import AudioError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.random_streams import stream

FULL_SCALE = 0.99
SILENCE_BELOW_DB = -70.0
WIDE_FROM_HZ = 4000.0
"""What an 8 kHz file cannot hold lies above."""
FEWEST_SAMPLES = 160
"""10 ms: what is shorter has no spectrum to speak of."""
SHOWN_MEASURES = (
    "duration_s", "level_db", "floor_db", "cut_off_hz", "wide_db", "silent_share", "clipped_share", "dc_offset",
)  # fmt: skip
TELLING_AUC = 0.60
"""From here on a single cue is named when the conditions tell the class."""
MOST_CUES_NAMED = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a clip: its measure lies above (or below) the limit. words: what the faulty clips are or have."""

    measure: str
    limit: float
    is_above: bool
    words: str

    def excess(self, value: float) -> float:
        """How far `value` lies beyond the limit; above 0 it is a fault."""
        return value - self.limit if self.is_above else self.limit - value


FAULTS = (
    Fault("clipped_share", 0.001, True, "are clipped (more than 0.1 % of their samples at full scale)"),
    Fault("dc_offset", 0.01, True, "have a DC offset of more than 1 % of full scale"),
    Fault("silent_share", 0.5, True, f"are silent (below {SILENCE_BELOW_DB:g} dB) for more than half of their length"),
    Fault("duration_s", 0.1, False, "are shorter than 0.1 s"),
    Fault("level_db", -50.0, False, "are quieter than -50 dB"),
    Fault("wide_db", -60.0, False, "hold nothing above 4 kHz (-60 dB re the clip), as a telephone line leaves them"),
)


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """One class: for each of SHOWN_MEASURES the 5 %, 50 % and 95 % quantile over its clips."""

    label: Label
    n_clips: int
    n_groups: int
    quantiles: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, slots=True)
class AudioReport:
    """unreadable: why clips cannot be used; findings: warnings, each a sentence; shortcuts: None where not testable."""

    classes: tuple[ClassSummary, ...]
    unreadable: tuple[str, ...]
    findings: tuple[str, ...]
    shortcuts: ShortcutReport | None


@dataclass(frozen=True, slots=True)
class _Measured:
    clip: Clip
    values: Mapping[str, float]


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
    return {
        **measure_conditions(samples),
        "clipped_share": float(np.mean(np.abs(samples) >= FULL_SCALE)),
        "silent_share": float(np.mean(frame_levels_db(samples.astype(np.float64)) < SILENCE_BELOW_DB)),
        "wide_db": _wide_db(samples),
    }


def _wide_db(samples: NDArray[np.floating]) -> float:
    power = np.square(np.abs(np.fft.rfft(samples * np.hanning(samples.size))))
    is_wide = np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE_HZ) > WIDE_FROM_HZ
    return float(10 * np.log10(power[is_wide].sum() / power.sum() + 1e-12))


def check_audio(clips: Sequence[Clip], seed: int, on_progress: OnProgress = ignore_progress) -> AudioReport:
    """Return what the clips' audio is like by class. `seed` keys the folds and the bootstrap of the shortcut test."""
    measured, unreadable = [], []
    for n_read, clip in enumerate(clips, start=1):
        try:
            measured.append(_Measured(clip, measure_audio(load_waveform(clip))))
        except AudioError as error:
            unreadable.append(f"clip '{clip.clip_id}': {error}")
        on_progress("measuring", n_read, len(clips))
    by_class = {label: [each for each in measured if each.clip.label == label] for label in LABELS}
    sentences = [_describe(fault, label, those) for label, those in by_class.items() for fault in FAULTS]
    shortcuts, warnings = _test_shortcuts(by_class, seed)
    summaries = tuple(_summarise(label, those) for label, those in by_class.items() if those)
    return AudioReport(summaries, tuple(unreadable), (*filter(None, sentences), *warnings), shortcuts)


def _describe(fault: Fault, label: Label, measured: Sequence[_Measured]) -> str:
    """Say how many clips of one class have a fault, "" when none has."""
    excess = {each.clip.clip_id: fault.excess(each.values[fault.measure]) for each in measured}
    faulty = [clip_id for clip_id, value in excess.items() if value > 0]
    if not faulty:
        return ""
    worst = max(faulty, key=lambda clip_id: excess[clip_id])
    return f"{len(faulty)} of {len(measured)} {label} clips {fault.words}; the worst is '{worst}'."


def _summarise(label: Label, measured: Sequence[_Measured]) -> ClassSummary:
    quantiles = {}
    for name in SHOWN_MEASURES:
        low, median, high = np.quantile([each.values[name] for each in measured], [0.05, 0.5, 0.95]).tolist()
        quantiles[name] = (low, median, high)
    return ClassSummary(label, len(measured), len({each.clip.group for each in measured}), quantiles)


def _test_shortcuts(
    by_class: Mapping[Label, Sequence[_Measured]], seed: int
) -> tuple[ShortcutReport | None, list[str]]:
    """Return the shortcut test over all clips and what it warns of, or None and why it cannot be made."""
    n_groups = {label: len({each.clip.group for each in those}) for label, those in by_class.items()}
    if min(n_groups.values()) < N_FOLDS:
        counts = " and ".join(f"{n} of {label}" for label, n in n_groups.items())
        return None, [
            f"the shortcut test was not made: it needs {N_FOLDS} groups of each class, one for every fold, and there "
            f"are {counts}."
        ]
    measured = [each for those in by_class.values() for each in those]
    clips = MeasuredClips(
        [each.values for each in measured],
        [each.clip.label for each in measured],
        [each.clip.group for each in measured],
    )
    try:
        report = find_shortcuts("all clips", clips, stream(seed, "audio_check", "shortcuts"))
    except ValueError as error:  # groups of very unequal size
        return None, [f"the shortcut test was not made: {error}."]
    return report, warn_of_shortcuts(report, clips)


def warn_of_shortcuts(report: ShortcutReport, clips: MeasuredClips) -> list[str]:
    """Return warnings that name the cues from which the label can be read; none when the conditions say nothing."""
    if report.passed:
        return []
    found = max(report.from_conditions, key=lambda each: each.lower)
    figures = f"AUC {found.auc:.2f} [{found.lower:.2f}, {found.upper:.2f}]"
    if found.lower <= 0.5:
        return [
            f"that the recording conditions tell the class cannot be excluded: {figures}, expected an AUC of at most "
            f"{TARGET_AUC:.2f} with an upper bound of at most {TARGET_UPPER:.2f}; more groups would narrow it."
        ]
    cues = sorted(CONDITION_NAMES, key=lambda name: -_telling(report.single_aucs[name]))
    named = [cue for cue in cues[:MOST_CUES_NAMED] if _telling(report.single_aucs[cue]) >= TELLING_AUC]
    warnings = [_describe_cue(cue, report, clips) for cue in named]
    because = "" if named else ", though no single one does"
    return [
        f"the recording conditions tell the class{because} ({figures} without hearing what is in the clips), so a "
        "model can learn them instead of the sound; draw both classes from recordings made alike, or impose the same "
        "conditions on both.",
        *warnings,
    ]


def _telling(auc: float) -> float:
    """How much a cue tells, in either direction: 0.5 nothing, 1 everything."""
    return max(auc, 1 - auc)


def _describe_cue(cue: str, report: ShortcutReport, clips: MeasuredClips) -> str:
    values = clips.select([cue])[:, 0]
    speech, other = np.median(values[clips.is_speech]), np.median(values[~clips.is_speech])
    return (
        f"{cue} tells the class (AUC {_telling(report.single_aucs[cue]):.2f} alone): {speech:.4g} in SPEECH and "
        f"{other:.4g} in NONSPEECH clips, at the median."
    )


def format_audio_report(report: AudioReport) -> str:
    """Return the report as plain text for the terminal; quantiles are 5 %, 50 % and 95 %."""
    lines = []
    for summary in report.classes:
        lines.append(f"{summary.label}: {summary.n_clips} clips, {summary.n_groups} groups (5 %, median, 95 %)")
        for name, (low, median, high) in summary.quantiles.items():
            lines.append(f"  {name:16} {low:10.4g} {median:10.4g} {high:10.4g}")
    lines += [format_shortcuts([report.shortcuts])] if report.shortcuts else []
    lines += [f"cannot be used: {reason}" for reason in report.unreadable]
    lines += [f"warning: {finding}" for finding in report.findings]
    return "\n".join(lines)
