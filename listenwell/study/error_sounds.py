"""Let errors be heard: each clip's samples exactly as they were scored, and the spectrogram the model got of them.

The folder errors/ of a run holds 01.wav (16 bit), 01.png and so on, and errors.json: what each is, with the hash of its
float32 samples. results.json names the errors and holds no sound; the report embeds what lies here.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from listenwell.atomic_files import disk_faults_named, write_bytes, write_json
from listenwell.augment.conditions import plan_condition
from listenwell.augment.plan import apply_plan
from listenwell.data.audio import Waveform, load_waveform, pcm_sha256
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.hearing import hear
from listenwell.model.short_clips import ShortClipConfig
from listenwell.report.listening import encode_spectrogram, encode_wav
from listenwell.run_folder import RunFolder
from listenwell.study.parts import Parts


def write_error_sounds(
    errors: Mapping[str, Any],
    parts: Parts,
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
        clips = {clip.clip_id: clip for clip in parts.clips[test_set]}
        for error in found["heard"]:
            samples = _hear_version(clips[error["clip_id"]], error["condition"], parts.banks[test_set], seed)
            mel = hear(model, samples, short_clips)
            number = next(numbers)
            files[run.error_sound(number)] = encode_wav(samples)
            files[run.error_picture(number)] = encode_spectrogram(mel)
            records.append(
                {
                    "test_set": test_set,
                    **error,
                    "number": number,
                    "n_samples": samples.size,
                    "sha256": pcm_sha256(samples),
                    "n_frames": mel.n_frames,
                    "n_mels": mel.features.shape[0],
                }
            )
    _remove_earlier(run)
    for path, content in files.items():
        write_bytes(path, content)
    # last: it never names the sounds of another study
    write_json(run.error_index, records)


def _remove_earlier(run: RunFolder) -> None:
    """Remove the sounds and pictures that the index names, then the index."""
    with disk_faults_named(run.errors):
        for number in _numbers(run):
            run.error_sound(number).unlink(missing_ok=True)
            run.error_picture(number).unlink(missing_ok=True)
        run.error_index.unlink(missing_ok=True)


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


def _hear_version(clip: Clip, condition: str, bank: BackgroundBank, seed: int) -> Waveform:
    """The clip under the condition, as scoring hears it."""
    samples = load_waveform(clip)
    return apply_plan(samples, plan_condition(condition, clip, samples, bank, seed), bank.load)
