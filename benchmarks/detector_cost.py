"""What detectors cost: processor seconds of one core per second of audio, all detectors of a study on the same clips.

Dev clips of the starter corpus (half speech, groups in turn) as they are, in the batches of a study, in turns on one
thread; of every classic detector the form that the starter study's dev chose, of the language model the
base as it is and with the adapter of the shipped detector beside it. What surrounds a clip (faint noise, padding) is
work that counts, and no audio. Reading the clips does not count.

    python benchmarks/detector_cost.py              writes benchmarks/results/detector_cost.json, about two minutes
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from listenwell.config import load_config
from listenwell.data.audio import SAMPLE_RATE_HZ, load_waveform
from listenwell.detect.bundle import ADAPTER, ready_detector
from listenwell.evaluate.methods import FINE_TUNED, ZERO_SHOT
from listenwell.judge.detectors import BaselineMethod, Detector, detectors_of, language_model_detectors
from listenwell.judge.score import Version, plan_batches
from listenwell.model.adapter_files import read_adapter
from listenwell.model.loading import load_model
from listenwell.model.parallel import one_thread_each
from listenwell.progress import shown_progress
from listenwell.report.results import read_results
from listenwell.splits.clips import prepare
from listenwell.splits.divide import DEV, divide
from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import RunFolder, provenance
from listenwell.train.loader import draw_some

ROOT = Path(__file__).parents[1]
N_CLIPS, TURNS = 120, 5


def main() -> None:
    """Measure every detector and write the JSON."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    config = load_config(ROOT / "configs" / "starter.yaml")
    with shown_progress() as on_progress:
        splits = divide(*prepare(config, on_progress), config.data)
    clips = draw_some(splits.clips[DEV], N_CLIPS, config.seed)
    versions = [Version(clip, "clean") for clip in clips]
    batches = [
        [load_waveform(version.clip) for version in batch]
        for batch in plan_batches(versions, config.scoring.batch_seconds, config.short_clips.minimum_s)
    ]
    model = load_model(config.model)
    adapter, _ = read_adapter(ready_detector() / ADAPTER, model)
    forms = {
        name: method.form for name, method in read_results(RunFolder(ROOT / "docs" / "starter-study")).methods.items()
    }
    sides: dict[str, Detector] = {}
    for name, of in ((ZERO_SHOT, None), (FINE_TUNED, adapter)):
        (sides[name],) = language_model_detectors(model, [(name, config, of)])
    for name in config.evaluation.baselines:
        (sides[name],) = detectors_of(model, [BaselineMethod(name, (forms[name],))])
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with one_thread_each():
        for turn in range(TURNS + 1):
            for name, detector in sides.items():
                started = time.thread_time()
                for batch in batches:
                    detector.scores(batch)
                if turn:  # the first one warms up
                    seconds[name].append(time.thread_time() - started)
    audio_s = sum(samples.size for batch in batches for samples in batch) / SAMPLE_RATE_HZ
    report = {
        "n_clips": len(clips),
        "audio_s": audio_s,
        "dtype": str(model.dtype).removeprefix("torch."),
        "forms": {name: forms[name] for name in config.evaluation.baselines},
        "processor_seconds_per_second_of_audio": {n: statistics.median(of) / audio_s for n, of in seconds.items()},
        "processor_seconds_per_clip": {n: statistics.median(of) / len(clips) for n, of in seconds.items()},
        "provenance": provenance(),
    }
    write_json(Path(__file__).parent / "results" / "detector_cost.json", report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
