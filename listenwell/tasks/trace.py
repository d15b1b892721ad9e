"""Walk one clip through a finished run: manifest line, split, plans, shapes, scores, thresholds, decisions.

Everything is read from the run folder or computed again from its config by the same functions; nothing is stored for
the trace's sake.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from listenwell.augment.conditions import plan_condition
from listenwell.augment.plan import Plan, apply_in_steps
from listenwell.config import Config
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, load_waveform, peak, rms
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.errors import ListenwellError, ManifestError
from listenwell.evaluate.calibration import read_threshold
from listenwell.fits.ledger import require_log
from listenwell.judge.detectors import AT_DEFAULT, default_thresholds
from listenwell.judge.score import read_kept_scores
from listenwell.model.mel import HOP_LENGTH, n_audio_tokens, pad
from listenwell.splits.divide import DEV, TRAIN
from listenwell.storage.run_folder import RunFolder
from listenwell.tasks.runs import open_run, scores_made_from, splits_of_run
from listenwell.train.fit_log import PLANS


def trace(clip_id: str, root: Path) -> dict[str, Any]:
    """Return every value of the clip in the run at `root`, as JSON values, in the order they come about.

    Raises ListenwellError when the run or the clip is not known.
    """
    run, config = open_run(root)
    splits = splits_of_run(run, config)
    known = {clip.clip_id: (split, clip) for split, clips in splits.clips.items() for clip in clips}
    if clip_id not in known:
        examples = ", ".join(clips[0].clip_id for clips in splits.clips.values())
        raise ManifestError(f"clip '{clip_id}': not in this run; its clips are named like {examples}.")
    split, clip = known[clip_id]
    bank, samples = splits.banks[split], load_waveform(clip)
    walked: dict[str, Any] = {
        "manifest": {name: str(getattr(clip, name)) for name in Clip.__dataclass_fields__},
        "part": split,
    }
    if split == TRAIN:
        walked["plans"] = [
            {"plan": plan.to_json(), **_follow(samples, plan, bank, config)} for plan in _plans_of(clip_id, run)
        ]
        return walked
    walked["conditions"] = {}
    for condition in config.evaluation.conditions:
        plan = plan_condition(condition, clip, samples, bank, config.seed)
        followed = {"plan": plan.to_json(), **_follow(samples, plan, bank, config)}
        walked["conditions"][condition] = {**followed, "methods": {}}
    defaults = default_thresholds(config)
    for method in scores_made_from(run, split)["methods"]:
        if method.endswith(AT_DEFAULT):
            threshold = defaults[method.removesuffix(AT_DEFAULT)]
        else:
            threshold = read_threshold(run.threshold(method)).value
        table = read_kept_scores(run.scores(f"{method}-{split}"))
        for row in (table.clip_id == clip_id).nonzero()[0]:
            score = float(table.score[row])
            decision = "SPEECH" if score >= threshold else "NONSPEECH"
            of_condition = walked["conditions"][str(table.condition[row])]["methods"]
            of_condition[method] = {"score": score, "threshold": threshold, "decision": decision}
    return walked


def _plans_of(clip_id: str, run: RunFolder) -> list[Plan]:
    """The plans of the clip as the study's fits wrote them."""
    plans = []
    methods = scores_made_from(run, DEV)["methods"].values()
    for path in sorted({run.fit(method["fit"]) / PLANS for method in methods if "fit" in method}):
        require_log(path.parent, PLANS)
        try:
            with path.open(encoding="utf-8") as file:
                plans += [Plan.from_json(record) for record in map(json.loads, file) if record["clip_id"] == clip_id]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ListenwellError(f"{path}: is no log of plans ({error!r}); delete its fit, run the study.") from error
    return plans


def _follow(samples: Waveform, plan: Plan, bank: BackgroundBank, config: Config) -> dict[str, Any]:
    """What the plan made of the clip: lengths, level, achieved SNR, and the shapes on the way to the model."""
    steps = apply_in_steps(samples, plan, bank.load)
    augmented, padded = steps.augmented, pad(steps.augmented, config.short_clips)
    n_frames = -(-padded.size // HOP_LENGTH)
    values: dict[str, Any] = {
        "n_samples": augmented.size,
        "duration_ms": 1000 * augmented.size / SAMPLE_RATE_HZ,
        "rms_db": 20 * math.log10(max(rms(augmented), 1e-12)),
        "peak": peak(augmented),
        "n_samples_padded": padded.size,
        "n_frames": n_frames,
        "n_audio_tokens": n_audio_tokens(n_frames),
    }
    if steps.backgrounds:
        mixed_in = np.sum([mixed.samples * mixed.gain for mixed in steps.backgrounds], axis=0)
        values["achieved_snr_db"] = 20 * math.log10(max(rms(steps.clip) / rms(mixed_in), 1e-12))
    return values
