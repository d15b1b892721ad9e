"""Let errors be heard: each clip's samples exactly as they were scored, and the spectrogram the model got of them.

The folder errors/ of a run holds 01.wav (16 bit), 01.png and so on, and errors.json: what each is, with the hash of its
float32 samples. results.json names the errors and holds no sound; the report embeds what lies here.
"""

from collections.abc import Mapping
from typing import Any

from listenwell.atomic_files import atomic_folder, write_bytes, write_json
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
    """Write the sounds of the errors to listen to; errors: test set -> what list_errors found. The folder is replaced.

    Raises AudioError when a recording is gone.
    """
    records: list[dict[str, Any]] = []
    with atomic_folder(run.errors) as folder:
        for test_set, found in errors.items():
            clips = {clip.clip_id: clip for clip in parts.clips[test_set]}
            for error in found["heard"]:
                samples = _hear_version(clips[error["clip_id"]], error["condition"], parts.banks[test_set], seed)
                mel = hear(model, samples, short_clips)
                number = len(records) + 1
                write_bytes(folder / run.error_sound(number).name, encode_wav(samples))
                write_bytes(folder / run.error_picture(number).name, encode_spectrogram(mel))
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
        write_json(folder / run.error_index.name, records)


def _hear_version(clip: Clip, condition: str, bank: BackgroundBank, seed: int) -> Waveform:
    """The clip under the condition, as scoring hears it."""
    samples = load_waveform(clip)
    return apply_plan(samples, plan_condition(condition, clip, samples, bank, seed), bank.load)
