"""Where is speech in long recordings, and what finding it costs: the exported detector against Silero VAD.

Recordings of about a minute are laid out from the out-of-corpus clips of the starter study over out-of-corpus
backgrounds (0 to 20 dB), so it is known where speech is; beside them stand recordings of one kind: speech without
pauses, sounds, music, noise, digital silence. All sides get the same samples, recording by recording in turns:

    listenwell    what `listenwell detect` does: the windows that decide, the adapter merged into the base
    all windows   every window, the adapter beside the base
    float32       as `all windows`, in float32, on --reference recordings: how much precision moves
    silero        the segments of its own get_speech_timestamps at its defaults: on at 0.5, off below 0.35, at least
                  250 ms of speech, pauses of at least 100 ms, 30 ms of margin

Claims: the segments of the windows that decide begin and end where those of all windows do, and cost two thirds.
Balanced accuracy counts frames of 10 ms, its interval draws whole recordings; segment F1 matches segments that share
half of their union. Costs are processor seconds of one core a second of audio, on one thread.

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

from listenwell.baselines import vad
from listenwell.baselines.vad import CHUNK, SILERO_VAD, SileroVad
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.data.corpora.starter import prepare_starter
from listenwell.data.fetch.packages import fetch_weight_file
from listenwell.data.manifest import read_backgrounds, read_manifest
from listenwell.detect.bundle import ADAPTER, DEFAULT_CRITERION, read_bundle
from listenwell.detect.detector import Detector
from listenwell.detect.segmentation import Segment
from listenwell.evaluate.metrics import balanced_accuracy
from listenwell.model.adapter_files import read_adapter
from listenwell.model.loading import load_model
from listenwell.model.settings import ModelConfig
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import write_json
from listenwell.storage.load_or_make import cache_root
from listenwell.storage.run_folder import provenance
from listenwell.tasks.export import LongRecording, lay_out_recording, mark_frames, segment_f1

PART, SEED, DRAWS, N_CLIPS = "out_of_corpus", 7, 2000, 64
Stretches = list[tuple[float, float]]
Find = Callable[[Waveform], Stretches]


def main() -> None:
    """Measure all sides and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--reference", type=int, default=10, help="recordings that float32 answers too")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "long_recordings.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    vad.BATCH = 1  # one recording at a time, as its own function has it: empty rows would be paid for
    clips, bank = foreign_clips()
    mixed = [lay_out_recording(clips, bank, asked.seconds, SEED, f"recording_{i}") for i in range(asked.recordings)]
    detector = Detector.load(asked.detector, workers=1)
    apart, exact = (load_apart(asked.detector, dtype) for dtype in (dtype_of(detector), "float32"))
    silero = SileroVad(fetch_weight_file(SILERO_VAD, cache_root()))
    sides: dict[str, Find] = {
        "listenwell": lambda samples: spans(detector.segments(samples, SAMPLE_RATE_HZ)),
        "all windows": lambda samples: find_with_all_windows(apart, samples),
        "silero": lambda samples: silero_segments(silero.chunk_probabilities([samples])[0]),
    }
    reference = mixed[: asked.reference]
    found, cost = in_turns([recording.samples for recording in mixed], sides)
    true, _ = in_turns(
        [recording.samples for recording in reference], {"float32": lambda s: find_with_all_windows(exact, s)}
    )
    report = {
        "claim": "segments begin and end where those of all windows do, at two thirds of the windows",
        "recordings": len(mixed),
        "audio_s": sum(recording.samples.size for recording in mixed) / SAMPLE_RATE_HZ,
        "dtype": dtype_of(detector),
        "sides": {side: judge(mixed, found[side]) | cost[side] for side in sides},
        "windows": compare_windows(detector, [recording.samples for recording in mixed]),
        "share_of_frames_unlike_float32": {
            side: share_unlike(reference, found[side], true["float32"]) for side in ("listenwell", "all windows")
        },
        "by_kind": {
            kind: in_turns([samples], sides)[1] | {"windows": compare_windows(detector, [samples])}
            for kind, samples in recordings_of_one_kind(clips, bank, asked.seconds).items()
        },
        "short_clips": compare_clips(detector, [load_waveform(clip) for clip in clips[:: len(clips) // N_CLIPS]]),
        "rule": asdict(detector.bundle.rule),
        "provenance": provenance(),
    }
    write_json(asked.out, report)
    print(json.dumps(report, indent=1), asked.out)


def dtype_of(detector: Detector) -> str:
    return str(detector.model.dtype).removeprefix("torch.")


def load_apart(folder: Path, dtype: str) -> Detector:
    """The detector with the adapter beside the base."""
    bundle = read_bundle(folder)
    model = load_model(ModelConfig(name=bundle.base, device="cpu", dtype=dtype))
    adapter, _ = read_adapter(folder / ADAPTER, model)
    return Detector(model, adapter, bundle, bundle.thresholds[DEFAULT_CRITERION], workers=1)


def spans(segments: Sequence[Segment]) -> Stretches:
    return [(segment.start_s, segment.end_s) for segment in segments]


def find_with_all_windows(detector: Detector, samples: Waveform) -> Stretches:
    scores = np.concatenate(list(detector.window_scores([samples])))
    return spans(detector.find_segments(scores, samples.size / SAMPLE_RATE_HZ))


def in_turns(
    recordings: Sequence[Waveform], sides: dict[str, Find]
) -> tuple[dict[str, list[Stretches]], dict[str, dict[str, float]]]:
    """What each side finds in each recording, and its processor seconds a second of audio."""
    found: dict[str, list[Stretches]] = {side: [] for side in sides}
    taken_s = dict.fromkeys(sides, 0.0)
    for samples in recordings:
        for side, find in sides.items():
            started = time.process_time()
            found[side].append(find(samples))
            taken_s[side] += time.process_time() - started
    audio_s = sum(samples.size for samples in recordings) / SAMPLE_RATE_HZ
    return found, {side: {"processor_s_per_audio_s": seconds / audio_s} for side, seconds in taken_s.items()}


def compare_windows(detector: Detector, recordings: Sequence[Waveform]) -> dict[str, Any]:
    """Which share of the windows decides, and that the segments, in scores of the same detector, are those of all."""
    n_scored = n_windows = 0
    are_same, furthest = True, 0.0
    for samples in recordings:
        every = np.concatenate(list(detector.window_scores([samples])))
        expected = detector.find_segments(every, samples.size / SAMPLE_RATE_HZ)
        with detector.deciding_scores([samples]) as deciding:
            n_scored += sum(len(batch.numbers) for batch in deciding)
        segments = detector.find_segments(deciding.scores, samples.size / SAMPLE_RATE_HZ)
        n_windows += every.size
        are_same = are_same and spans(segments) == spans(expected)
        furthest = max(furthest, *(abs(a.activity - b.activity) for a, b in zip(segments, expected, strict=True)), 0.0)
    return {
        "n_windows": n_windows,
        "share_scored": n_scored / n_windows,
        "same_begin_and_end": are_same,
        "largest_difference_of_a_segments_activity": furthest,
    }


def compare_clips(detector: Detector, clips: Sequence[Waveform]) -> dict[str, float]:
    """Processor seconds a clip, one after the other and as the files of a folder, in turns."""
    sides: dict[str, Callable[[], object]] = {
        "alone": lambda: [detector.scores([samples]) for samples in clips],
        "together": lambda: detector.clip_scores(clips),
    }
    taken_s: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(3):
        for side, run in sides.items():
            started = time.process_time()
            run()
            taken_s[side].append(time.process_time() - started)
    return {f"processor_s_per_clip_{side}": min(seconds) / len(clips) for side, seconds in taken_s.items()}


def share_unlike(recordings: Sequence[LongRecording], found: Sequence[Stretches], true: Sequence[Stretches]) -> float:
    """The share of frames of 10 ms that two sides mark differently."""
    pairs = [
        mark_frames(one, seconds) != mark_frames(other, seconds)
        for one, other, seconds in zip(found, true, map(duration_s, recordings), strict=False)
    ]
    return float(np.concatenate(pairs).mean())


def recordings_of_one_kind(clips: Sequence[Clip], bank: BackgroundBank, seconds: float) -> dict[str, Waveform]:
    """A minute each of speech and of sounds without pauses, of music, noise, and digital silence."""
    n = round(seconds * SAMPLE_RATE_HZ)
    kinds = {"silence": np.zeros(n, dtype=np.float32)}
    for kind, label in (("speech", "SPEECH"), ("sounds", "NONSPEECH")):
        chosen = [load_waveform(clip) for clip in clips if clip.label == label][::3]
        kinds[kind] = np.concatenate(chosen)[:n]
    for kind in ("music", "noise"):
        first = next(entry for entry in bank.entries if entry.kind == kind)
        kinds[kind] = bank.load(first.background_id, 0.0, seconds)[:n]
    return kinds


def foreign_clips() -> tuple[list[Clip], BackgroundBank]:
    """The out-of-corpus clips of the starter corpus, and its backgrounds of that part."""
    corpus = prepare_starter(cache_root())
    clips = [clip for clip in read_manifest(corpus.clips_csv) if clip.split == PART]
    bank = BackgroundBank([bed for bed in read_backgrounds(corpus.backgrounds_csv) if bed.split == PART])
    return clips, bank


def duration_s(recording: LongRecording) -> float:
    return recording.samples.size / SAMPLE_RATE_HZ


def judge(recordings: Sequence[LongRecording], found: Sequence[Stretches]) -> dict[str, Any]:
    """How good the segments found in the recordings are."""
    durations = list(map(duration_s, recordings))
    says = [mark_frames(own, seconds) for own, seconds in zip(found, durations, strict=True)]
    truth = [mark_frames(each.speech, seconds) for each, seconds in zip(recordings, durations, strict=True)]
    matched = [segment_f1(own, each.speech) for own, each in zip(found, recordings, strict=True)]
    picks = stream(SEED, "draws").integers(len(recordings), size=(DRAWS, len(recordings)))
    drawn = [
        balanced_accuracy(np.concatenate([says[i] for i in p]), np.concatenate([truth[i] for i in p])) for p in picks
    ]
    return {
        "frame_balanced_accuracy": balanced_accuracy(np.concatenate(says), np.concatenate(truth)),
        "interval": [float(edge) for edge in np.quantile(drawn, [0.025, 0.975])],
        "segment_f1": float(np.mean(matched)),
        "segment_f1_interval": [float(e) for e in np.quantile(np.array(matched)[picks].mean(axis=1), [0.025, 0.975])],
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
