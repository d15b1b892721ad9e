"""Which clips the fine-tuned model decides wrongly: by group, and those to listen to.

Arithmetic on score tables; every error knows how far its score lies beyond the threshold, on the wrong side. The audio
of the worst ones is exported: the samples exactly as they were scored, and the spectrogram the model got of them.

The folder errors/ of a run holds 01.wav (16 bit), 01.png and so on, and errors.json: what each is, with the hash of its
float32 samples. results.json names the errors and holds no sound; the report embeds what lies here.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from listenwell.augment.conditions import CLEAN
from listenwell.data.audio import pcm_sha256
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.methods import PartMetric, summarise_parts, versions
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.scores import ScoreTable
from listenwell.judge.score import Version, augment
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.report.errors import encode_spectrogram, encode_wav
from listenwell.report.found import Errors, GroupErrors, WrongClip
from listenwell.splits.divide import Splits
from listenwell.storage.atomic_files import disk_faults_named, write_bytes, write_json
from listenwell.storage.run_folder import RunFolder

N_PLAYED, N_PLAYED_CLEAN = 10, 5
"""Errors of a test set to listen to; so many of them clean before any other condition comes a second time."""


def list_errors(scores: ScoreTable, threshold: Threshold) -> Errors:
    """Return the errors of one test set by the fine-tuned model: clean ones by group, and under any condition those to
    listen to."""
    ours = scores.select(scores.condition == CLEAN)
    is_wrong = decide(ours.score, threshold.value) != ours.is_speech
    return Errors(
        n=len(ours),
        n_wrong=int(is_wrong.sum()),
        groups=[
            GroupErrors(
                group=part.part,
                label=part.label,
                n=part.metric.n,
                right=part.metric.value,
                low=part.metric.low,
                high=part.metric.high,
                n_wrong=round(part.metric.n * (1.0 - part.metric.value)),
            )
            for part in summarise_parts(ours, threshold.value, "group")
        ],
        heard=_choose_played(_rank_errors(scores, threshold.value)),
        worst={condition: _worst_groups(table, threshold.value) for condition, table in versions(scores).items()},
    )


def _worst_groups(table: ScoreTable, threshold: float) -> list[PartMetric]:
    """The hardest group of each label."""
    hardest: dict[str, PartMetric] = {}
    for part in summarise_parts(table, threshold, "group"):
        hardest.setdefault(part.label, part)
    return list(hardest.values())


def _rank_errors(table: ScoreTable, threshold: float) -> list[WrongClip]:
    """Every wrongly decided row, the one furthest beyond the threshold first."""
    is_wrong = decide(table.score, threshold) != table.is_speech
    beyond = np.abs(table.score - threshold)
    return [
        WrongClip(
            clip_id=str(table.clip_id[i]),
            group=str(table.group[i]),
            label=str(table.label[i]),
            condition=str(table.condition[i]),
            score=float(table.score[i]),
            beyond=float(beyond[i]),
        )
        for i in np.argsort(-beyond, kind="stable")
        if is_wrong[i]
    ]


def _choose_played(errors: Sequence[WrongClip]) -> list[WrongClip]:
    """The errors to listen to: N_PLAYED_CLEAN clean ones and one of each other condition a round; a clip once."""
    n_before: Counter[str] = Counter()
    queue = []
    for place, error in enumerate(errors):
        is_clean = error.condition == CLEAN
        turn = n_before[error.condition] // (N_PLAYED_CLEAN if is_clean else 1)
        n_before[error.condition] += 1
        queue.append((turn, not is_clean, place))
    chosen: dict[str, WrongClip] = {}
    for _, _, place in sorted(queue):
        chosen.setdefault(errors[place].clip_id, errors[place])
    return list(chosen.values())[:N_PLAYED]


def write_error_sounds(
    errors: Mapping[str, Errors],
    splits: Splits,
    model: AudioLanguageModel,
    short_clips: ShortClipConfig,
    seed: int,
    run: RunFolder,
) -> None:
    """Write the sounds of the errors to listen to; errors: test set -> what list_errors found. Those of an earlier
    study go, what somebody else put into the folder stays.

    Raises AudioError when a recording is gone.
    """
    records: list[dict[str, Any]] = []
    files: dict[Path, bytes] = {}
    numbers = _free_numbers(run)
    for test_set, found in errors.items():
        clips = {clip.clip_id: clip for clip in splits.clips[test_set]}
        for error in found.heard:
            samples = augment(Version(clips[error.clip_id], error.condition), splits.banks[test_set], seed)
            mel = extract_features(model.mel_filters, samples, short_clips)
            number = next(numbers)
            files[run.error_sound(number)] = encode_wav(samples)
            files[run.error_picture(number)] = encode_spectrogram(mel)
            records.append(
                {
                    "test_set": test_set,
                    **error.model_dump(),
                    "number": number,
                    "n_samples": samples.size,
                    "sha256": pcm_sha256(samples),
                    "n_frames": mel.n_frames,
                    "n_mels": mel.features.shape[0],
                }
            )
    with disk_faults_named(run.errors):
        for number in _numbers(run):
            run.error_sound(number).unlink(missing_ok=True)
            run.error_picture(number).unlink(missing_ok=True)
        run.error_index.unlink(missing_ok=True)
    for path, content in files.items():
        write_bytes(path, content)
    # last: it never names the sounds of another study
    write_json(run.error_index, records)


def _numbers(run: RunFolder) -> list[int]:
    """The numbers in the index; none where it is missing or broken."""
    try:
        return [int(record["number"]) for record in json.loads(run.error_index.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return []


def _free_numbers(run: RunFolder) -> Iterator[int]:
    """Numbers from 1 on, without those of files that the index does not name."""
    own = set(_numbers(run))
    for number in itertools.count(1):
        if number in own or not (run.error_sound(number).exists() or run.error_picture(number).exists()):
            yield number
