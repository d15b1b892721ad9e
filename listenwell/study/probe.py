"""Time some training steps of a stack on this machine, writing nothing."""

import time
from math import ceil

from listenwell.config import Config
from listenwell.data.clip import LABELS
from listenwell.model.loading import load_model
from listenwell.study.dev_sets import hear_dev_set
from listenwell.study.parts import DEV, TRAIN, Parts
from listenwell.train.fit import Watch, train
from listenwell.train.fit_underway import FitSpec

N_STEPS = 10
N_WARM_STEPS = 2
"""Steps that are not timed: first calls fill caches."""
N_DEV_CLIPS_EACH = 2


def time_steps(config: Config, parts: Parts, n_fits: int) -> float:
    """Seconds a step of n_fits of the config's own fit, batch and policy takes, on its device, the mean of eight."""
    model = load_model(config.model)
    n_clips = min(len(parts.clips[TRAIN]), N_STEPS * config.train.batch)
    changes = {"clips_per_epoch": n_clips, "epochs": ceil(N_STEPS * config.train.batch / n_clips), "accumulation": 1}
    settings = config.train.model_copy(update={**changes, "warmup_steps": None, "warmup_share": 0.0, "patience": None})
    specs = [
        FitSpec(f"probe-{i}", config.lora, settings, config.augment, i, parts.clips[TRAIN], parts.banks[TRAIN])
        for i in range(n_fits)
    ]
    own = {label: [clip for clip in parts.clips[DEV] if clip.label == label] for label in LABELS}
    few = [clip for clips in own.values() for clip in clips[:N_DEV_CLIPS_EACH]]
    dev = hear_dev_set(config, model, few, parts.banks[DEV])
    told: list[float] = []
    watch = Watch(lambda progress: told.append(time.perf_counter()))
    train(model, model.prompt(config.prompt), config.short_clips, specs, [dev] * n_fits, watch)
    ends = told[n_fits - 1 :: n_fits]
    return (ends[N_STEPS - 1] - ends[N_WARM_STEPS - 1]) / (N_STEPS - N_WARM_STEPS)
