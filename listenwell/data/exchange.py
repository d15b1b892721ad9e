"""Write clips for other tools: lhotse's manifests, Hugging Face's AudioFolder. Neither library is needed.

Lhotse (github.com/lhotse-speech/lhotse), as JSON Lines:

    Recording     a sound file: id, sources, sampling_rate, num_samples, duration, channel_ids
    Supervision   a labelled stretch of it: id, recording_id, start, duration, channel, speaker, custom

A clip is a supervision. What lhotse has no field for (label, group, recording, corpus, ...) is written under `custom`.

AudioFolder (huggingface.co/docs/datasets/audio_dataset): sound files beside a metadata.csv, one folder per split.

    folder/train/metadata.csv        file_name,label,group,...
    folder/train/000001.wav

Each file is a clip. A folder's name is its split, "validation" our dev. Its metadata is a table of clips like others:
`read_manifest` reads it with the columns {path: file_name}.
"""

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import soundfile

from listenwell.data.audio import SAMPLE_RATE_HZ, load_waveform, measure_extent, pcm_sha256
from listenwell.data.clip import Clip
from listenwell.data.tables import write_json_lines, write_rows
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.storage.atomic_files import atomic_folder

RECORDINGS, SUPERVISIONS, METADATA = "recordings.jsonl.gz", "supervisions.jsonl.gz", "metadata.csv"
CUSTOM_COLUMNS = (
    "label", "group", "recording", "corpus", "licence", "category", "split", "pcm_sha256", "origin",
)  # fmt: skip
NOT_OF_FILES = ("path", "start_s", "duration_s", "channel")
OWN_COLUMNS = tuple(field.name for field in fields(Clip) if field.name not in NOT_OF_FILES)
DEV, VALIDATION = "dev", "validation"


def write_lhotse(folder: Path, clips: Sequence[Clip], on_progress: OnProgress = ignore_progress) -> None:
    """Write recordings.jsonl.gz and supervisions.jsonl.gz into `folder`; audio stays where it is, by absolute path.

    Raises AudioError when the header of a recording cannot be read.
    """
    recordings: dict[Path, dict[str, Any]] = {}
    supervisions = []
    for n_done, clip in enumerate(clips, start=1):
        if clip.path not in recordings:
            recordings[clip.path] = _recording_record(clip.path)
        channels = recordings[clip.path]["channel_ids"]
        speaker = {"speaker": clip.group} if clip.label == "SPEECH" else {}
        supervisions.append(
            {
                "id": clip.clip_id,
                "recording_id": clip.path.as_posix(),
                "start": clip.start_s,
                "duration": clip.duration_s,
                "channel": channels if len(channels) > 1 else 0,
                "custom": {column: getattr(clip, column) for column in CUSTOM_COLUMNS},
                **speaker,
            }
        )
        on_progress("reading headers", n_done, len(clips))
    write_json_lines(folder / RECORDINGS, recordings.values())
    write_json_lines(folder / SUPERVISIONS, supervisions)


def _recording_record(path: Path) -> dict[str, Any]:
    extent = measure_extent(path, must_be_whole=False)
    channels = list(range(extent.n_channels))
    return {
        "id": path.as_posix(),
        "sources": [{"type": "file", "channels": channels, "source": path.as_posix()}],
        "sampling_rate": extent.rate_hz,
        "num_samples": extent.n_frames,
        "duration": extent.seconds,
        "channel_ids": channels,
    }


def write_audio_folder(folder: Path, clips: Sequence[Clip], on_progress: OnProgress = ignore_progress) -> None:
    """Write every clip as a WAV file (16 kHz mono, 32-bit float: the samples to the bit) with its metadata.csv.

    A folder that is there is replaced: `storage.destination` asks before. Raises AudioError for a clip that cannot
    be read.
    """
    with atomic_folder(folder) as temporary:
        rows: dict[str, list[list[str]]] = {}
        for n, clip in enumerate(clips, start=1):
            if not re.fullmatch(r"[\w-]*", clip.split):
                raise ManifestError(
                    f"clip '{clip.clip_id}': its split '{clip.split}' cannot name a folder; use letters, digits, - and "
                    "_."
                )
            samples = load_waveform(clip)
            split = VALIDATION if clip.split == DEV else clip.split
            (temporary / split).mkdir(exist_ok=True)
            name = f"{n:06d}.wav"
            soundfile.write(temporary / split / name, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
            hashed = replace(clip, pcm_sha256=pcm_sha256(samples))
            rows.setdefault(split, []).append([name, *(getattr(hashed, column) for column in OWN_COLUMNS)])
            on_progress("writing", n, len(clips))
        for split, of_split in rows.items():
            write_rows(temporary / split / METADATA, ("file_name", *OWN_COLUMNS), of_split)
