"""Where is speech in long recordings: the exported detector against Silero VAD, on recordings of foreign packages.

Recordings of about a minute are laid out from the out-of-corpus clips of the starter study over out-of-corpus
backgrounds (0 to 20 dB), so it is known where speech is. Both sides hear the same samples. Silero's segments are those
of its own get_speech_timestamps at its defaults: on at 0.5, off below 0.35, at least 250 ms of speech, pauses of at
least 100 ms, 30 ms of margin. Balanced accuracy counts frames of 10 ms, its interval draws whole recordings; segment F1
matches segments that share half of their union. Real-time factors are processor seconds of one core a second of audio.

    listenwell export runs/starter --out detector && python benchmarks/long_recordings.py detector
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from listenwell.baselines.vad import CHUNK, SILERO_VAD, SileroVad
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.data.corpora.starter import prepare_starter
from listenwell.data.fetch.packages import fetch_weight_file
from listenwell.data.manifest import read_backgrounds, read_manifest
from listenwell.detect.detector import Detector
from listenwell.evaluate.metrics import balanced_accuracy
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import write_json
from listenwell.storage.load_or_make import cache_root
from listenwell.storage.run_folder import provenance
from listenwell.tasks.export import LongRecording, lay_out_recording, mark_frames, segment_f1

PART, SEED, DRAWS = "out_of_corpus", 7, 2000
Stretches = list[tuple[float, float]]


def main() -> None:
    """Measure both sides and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "long_recordings.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    clips, bank = foreign_clips()
    names = [f"recording_{i}" for i in range(asked.recordings)]
    recordings = [lay_out_recording(clips, bank, asked.seconds, SEED, name) for name in names]
    detector = Detector.load(asked.detector, workers=1)
    silero = SileroVad(fetch_weight_file(SILERO_VAD, cache_root()))
    sides: dict[str, Callable[[Waveform], Stretches]] = {
        "listenwell": lambda samples: [(s.start_s, s.end_s) for s in detector.segments(samples, SAMPLE_RATE_HZ)],
        "silero": lambda samples: silero_segments(silero.chunk_probabilities([samples])[0]),
    }
    report = {
        "claim": "frame-level balanced accuracy, segment F1 and real-time factor on recordings of foreign packages",
        "recordings": len(recordings),
        "audio_s": sum(recording.samples.size for recording in recordings) / SAMPLE_RATE_HZ,
        "dtype": str(detector.model.dtype).removeprefix("torch."),
        "sides": {name: measure(recordings, find) for name, find in sides.items()},
        "rule": asdict(detector.bundle.rule),
        "provenance": provenance(),
    }
    write_json(asked.out, report)
    print(json.dumps(report["sides"], indent=1), asked.out)


def foreign_clips() -> tuple[list[Clip], BackgroundBank]:
    """The out-of-corpus clips of the starter corpus, and its backgrounds of that part."""
    corpus = prepare_starter(cache_root())
    clips = [clip for clip in read_manifest(corpus.clips_csv) if clip.split == PART]
    bank = BackgroundBank([bed for bed in read_backgrounds(corpus.backgrounds_csv) if bed.split == PART])
    return clips, bank


def measure(recordings: Sequence[LongRecording], find: Callable[[Waveform], Stretches]) -> dict[str, Any]:
    started = time.process_time()
    found = [find(recording.samples) for recording in recordings]
    cpu_s = time.process_time() - started
    durations = [recording.samples.size / SAMPLE_RATE_HZ for recording in recordings]
    says = [mark_frames(own, seconds) for own, seconds in zip(found, durations, strict=True)]
    truth = [mark_frames(each.speech, seconds) for each, seconds in zip(recordings, durations, strict=True)]
    matched = [segment_f1(own, each.speech) for own, each in zip(found, recordings, strict=True)]
    rng = stream(SEED, "draws")
    picks = rng.integers(len(recordings), size=(DRAWS, len(recordings)))
    drawn = [
        balanced_accuracy(np.concatenate([says[i] for i in p]), np.concatenate([truth[i] for i in p])) for p in picks
    ]
    return {
        "frame_balanced_accuracy": balanced_accuracy(np.concatenate(says), np.concatenate(truth)),
        "interval": [float(edge) for edge in np.quantile(drawn, [0.025, 0.975])],
        "segment_f1": float(np.mean(matched)),
        "segment_f1_interval": [float(e) for e in np.quantile(np.array(matched)[picks].mean(axis=1), [0.025, 0.975])],
        "real_time_factor_one_core": cpu_s / sum(durations),
    }


def silero_segments(probabilities: np.ndarray) -> Stretches:
    """What Silero's get_speech_timestamps makes of chunk probabilities (n,) at its defaults, in seconds."""
    chunk_s, on, off, least_s, pause_s, pad_s = CHUNK / SAMPLE_RATE_HZ, 0.5, 0.35, 0.25, 0.1, 0.03
    found: Stretches = []
    start: int | None = None
    quiet: int | None = None
    for i, probability in enumerate([*probabilities.tolist(), 0.0, 0.0, 0.0, 0.0]):
        if probability >= on:
            start, quiet = (i if start is None else start), None
        elif probability < off and start is not None:
            quiet = i if quiet is None else quiet
            if (i - quiet) * chunk_s >= pause_s or i >= len(probabilities):
                if (quiet - start) * chunk_s > least_s:
                    found.append((max(0.0, start * chunk_s - pad_s), quiet * chunk_s + pad_s))
                start = quiet = None
    return found


if __name__ == "__main__":
    main()
