"""The plan of a study before anything is trained: fits and steps, memory, and its time.

Reads the tables of clips and the model's config file, never its weights; only the probe loads the model, trains a few
steps of a stack, scores a few clips, and writes nothing. What the ledger holds already is counted like the rest.

Memory is arithmetic: the frozen base; per fit its adapter, gradient, AdamW's two moments and the best epoch's copy;
what the backward pass keeps, which `benchmarks/memory_plan.py` holds against the measured one.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from listenwell.config import Config, change_config
from listenwell.data.clip import LABELS
from listenwell.errors import ModelError
from listenwell.evaluate.methods import ZERO_SHOT
from listenwell.fits.request import FitRequest, expand_arms, spec_record
from listenwell.fits.stacks import encode_dev
from listenwell.judge.detectors import language_model_detectors
from listenwell.judge.score import score_clips, scored_clips
from listenwell.model.base_files import BYTES_PER_WEIGHT
from listenwell.model.loading import empty_network, family_of, load_model, model_folder, resolve_device, resolve_dtype
from listenwell.model.settings import HALVES, kind_of, match_targets
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import prepare, read_splits
from listenwell.splits.divide import DEV, TRAIN, Splits, divide
from listenwell.storage.run_folder import identity
from listenwell.study import leave_one_out as loo
from listenwell.train.fit import Watch, train
from listenwell.train.fit_underway import FitSpec
from listenwell.train.settings import count_steps

POSITIONS_PER_S = 50
"""Positions of the audio encoder per second: 100 spectrogram frames, halved by its second convolution."""
TOKENS_PER_S = 25
PROMPT_TOKENS = 30
"""Tokens of question and answer around a clip, about what the default question takes."""
KEPT_VALUES = 30
"""Values kept per position, layer and unit of width for the backward pass: inputs of norms and attention, dropped
inputs and masks of LoRA, the feed-forward's inner values (2.7 widths in the language model, 4 in the audio encoder), 26
in all; and what passes through the backward pass. The language model's last layer, computed where answers are read,
keeps next to nothing."""
FIT_STATE_COPIES = 5
"""Float32 values per adapter parameter: itself, its gradient, AdamW's two moments, the best epoch's copy."""
N_STEPS, N_WARM_STEPS = 10, 2
"""Steps of the probe, and how many of them are not timed: first calls fill caches."""
N_PROBED_CLIPS = 16
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "out_proj")
TARGETS = {"attention": ATTENTION, "attention+mlp": (*ATTENTION, "gate_proj", "up_proj", "down_proj", "fc1", "fc2")}


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's size: bytes of the frozen base, and what the backward pass goes through."""

    base_bytes: float
    width: int
    layers: int
    bytes_per_weight: int
    encoder_width: int = 0
    encoder_layers: int = 0


@dataclass(frozen=True, slots=True)
class FitCost:
    """One fit as it enters the sums. clip_s: mean seconds of a padded clip."""

    n_steps: int
    n_clips_trained: int
    clip_s: float
    adapter_parameters: int
    trains_encoder: bool
    recomputes: bool


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """Everything a plan says, in bytes and seconds.

    fits: by kind, each identity where it first comes: it is trained once. n_scorings: clips under a condition by a
    method. training_s, scoring_s: on this machine as the probe timed it, None without.
    """

    fits: Mapping[str, Sequence[FitCost]]
    n_scorings: int
    memory: dict[str, float]
    free_memory_bytes: float | None
    training_s: float | None
    scoring_s: float | None


def plan_study(config: Config, *, probe: bool = False, on_progress: OnProgress = ignore_progress) -> StudyPlan:
    """Plan the study of `config`; with `probe`, load the model and time some steps of a stack and some scores."""
    splits = read_splits(config, on_progress)[0] if probe else _unread_splits(config, on_progress)
    network = _skeleton(config)
    by_kind = _requests(config, splits)
    costs: dict[str, list[FitCost]] = {kind: [] for kind in by_kind}
    seen: set[str] = set()
    for kind, request in ((kind, request) for kind, requests in by_kind.items() for request in requests):
        if (key := identity(**spec_record(request, "the base"))) not in seen:
            seen.add(key)
            costs[kind].append(_cost(request, network))
    fits = [cost for of_kind in costs.values() for cost in of_kind]
    batch, together = config.train.batch, sorted(fits, key=lambda cost: -cost.adapter_parameters)[: config.train.stack]
    n_clips, n_scorings = sum(fit.n_clips_trained for fit in fits), _count_scorings(config, splits, by_kind)
    clip_s, score_s = _time_both(config, splits, len(together)) if probe else (None, None)
    shape = _shape(network, config)
    return StudyPlan(
        fits=costs,
        n_scorings=n_scorings,
        memory={
            "frozen base": shape.base_bytes,
            f"adapters and optimiser of {len(together)} fits": adapters_bytes(together),
            f"activations of {len(together)} x {batch} clips": activations_bytes(shape, together, batch),
        },
        free_memory_bytes=_free_memory(config),
        training_s=None if clip_s is None else clip_s * n_clips,
        scoring_s=None if score_s is None else score_s * n_scorings,
    )


def adapters_bytes(fits: Sequence[FitCost]) -> float:
    """Adapters, gradients, optimiser and best copies of fits that train together."""
    return float(sum(4 * FIT_STATE_COPIES * fit.adapter_parameters for fit in fits))


def activations_bytes(shape: Shape, fits: Sequence[FitCost], batch: int) -> float:
    """What the backward pass keeps while these fits, `batch` clips each, train together."""
    tokens = sum(batch * (TOKENS_PER_S * fit.clip_s + PROMPT_TOKENS) for fit in fits)
    positions = sum(batch * POSITIONS_PER_S * fit.clip_s for fit in fits if fit.trains_encoder)
    encoder = positions * shape.encoder_width * shape.encoder_layers * KEPT_VALUES
    # checkpointing keeps each layer's input and one layer whole
    recomputes = any(fit.recomputes for fit in fits)
    in_layers = shape.layers + KEPT_VALUES if recomputes else KEPT_VALUES * max(1, shape.layers - 1)
    return (tokens * shape.width * in_layers + encoder) * shape.bytes_per_weight


def _unread_splits(config: Config, on_progress: OnProgress) -> Splits:
    """The splits before any recording is read. Their fits are counted, not found, so that names serve as hashes."""
    clips, backgrounds = prepare(config, on_progress)
    named = [replace(clip, pcm_sha256=clip.pcm_sha256 or clip.clip_id) for clip in clips]
    entries = [replace(entry, pcm_sha256=entry.pcm_sha256 or entry.background_id) for entry in backgrounds]
    return divide(named, entries, config.data)


def _skeleton(config: Config) -> Any:
    """The network without weights: shapes only."""
    try:
        described = AutoConfig.from_pretrained(model_folder(config.model.name))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{config.model.name}: its config cannot be read ({str(error).splitlines()[0]}); give a model folder, or a "
            "hub id with the hub within reach."
        ) from error
    return empty_network(config.model.name, described)


def _shape(network: Any, config: Config) -> Shape:
    text, audio, quantization = network.config.text_config, network.config.audio_config, config.model.quantization
    per_weight = 2 if resolve_dtype(config.model) == "bfloat16" else 4
    base_bytes = float(_count(network) * per_weight)
    if quantization != "none":
        linears = [m for m in network.model.language_model.modules() if isinstance(m, torch.nn.Linear)]
        base_bytes -= sum(m.weight.numel() for m in linears) * (per_weight - BYTES_PER_WEIGHT[quantization])
    return Shape(base_bytes, text.hidden_size, text.num_hidden_layers, per_weight, audio.d_model, audio.encoder_layers)


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _requests(config: Config, splits: Splits) -> dict[str, list[FitRequest]]:
    """Every fit of the study by kind.

    Trials of a sampled search are counted with the config's own size, and whole, as if none ended at a rung. An arm
    that searches in every fold takes a fit of that search.
    """
    by = config.leave_one_out.by if config.leave_one_out.arms else ()
    folds = [fold for each in by for fold in loo.folds_of(config, splits, each)]
    nested, inner = loo.nested_arms(config), loo.fold_search_config(config)
    shared = {name: arm for name, arm in loo.fold_arms(config, {}).items() if name not in nested}
    return {
        "search": _trials(config, splits),
        "arms and final": [
            FitRequest(arm.fit_name, arm.config, splits, config)
            for arm in expand_arms(config, {} if config.search.is_wanted else None)
        ],
        "search in every fold": [
            trial for fold in (folds if nested else []) for trial in _trials(inner, loo.fold_splits(fold, splits))
        ],
        "leave one speaker out": [
            loo.request_fold(config, name, arm, fold, splits) for name, arm in shared.items() for fold in folds
        ],
    }


def _trials(config: Config, splits: Splits) -> list[FitRequest]:
    search = config.search
    points = [dict(point) for point in search.grid] or [{"seed": number} for number in range(search.sampled.trials)]
    return [FitRequest("search", change_config(config, point, "search"), splits, config) for point in points]


def _cost(request: FitRequest, network: Any) -> FitCost:
    config, clips = request.config, request.splits.clips[TRAIN]
    per_epoch = config.train.clips_per_epoch or len(clips)
    n_parameters = count_adapter(network, config)
    if config.train.projector == "trained":
        n_parameters += _count(network.get_submodule(family_of(config.model.name, network.config).projector_name))
    return FitCost(
        n_steps=count_steps(config.train, per_epoch),
        n_clips_trained=per_epoch * config.train.epochs,
        clip_s=sum(max(clip.duration_s, config.short_clips.minimum_s) for clip in clips) / len(clips),
        adapter_parameters=n_parameters,
        trains_encoder=config.lora.scope != "language_model",
        recomputes=config.train.gradient_checkpointing,
    )


def count_adapter(network: Any, config: Config) -> int:
    """Parameters of the config's LoRA on a network that may have no weights."""
    named = {
        f"model.{half}.{name}": module
        for half in (HALVES if config.lora.scope == "both" else [config.lora.scope])
        for name, module in getattr(network.model, half).named_modules()
        if isinstance(module, torch.nn.Linear) and name.rsplit(".", 1)[-1] in TARGETS[kind_of(config.lora)]
    }
    changed = [named[name] for name in match_targets(list(named), config.lora)]
    return sum(config.lora.rank * (module.in_features + module.out_features) for module in changed)


def _count_scorings(config: Config, splits: Splits, by_kind: dict[str, list[FitRequest]]) -> int:
    """Dev and tests under every condition by every language-model method, dev by the search too; folds' clips once."""
    n_methods, n_dev = len(by_kind["arms and final"]) + 1, len(splits.clips[DEV])
    n_clips = sum(len(scored_clips(config, splits, name)) for name in (DEV, *splits.test_sets))
    in_folds = [*by_kind["search in every fold"], *by_kind["leave one speaker out"]]
    return (n_methods * n_clips + len(by_kind["search"]) * n_dev) * len(config.evaluation.conditions) + sum(
        len(clips) for request in in_folds for name, clips in request.splits.clips.items() if name != TRAIN
    )


def _free_memory(config: Config) -> float | None:
    """Free memory of the device the config names, None where the system does not tell."""
    device = resolve_device(config.model.device)
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    return None


def _time_both(config: Config, splits: Splits, n_fits: int) -> tuple[float, float]:
    """Seconds that training takes per clip of a fit, in a stack of n_fits as the config says, and scoring per clip."""
    model = load_model(config.model)
    of_label = [[clip for clip in splits.clips[DEV] if clip.label == label] for label in LABELS]
    few = [clip for clips in of_label for clip in clips[: N_PROBED_CLIPS // 2]]
    clips, bank, batch = splits.clips[TRAIN], splits.banks[TRAIN], config.train.batch
    n_clips = min(len(clips), N_STEPS * batch)
    changes = {"clips_per_epoch": n_clips, "epochs": ceil(N_STEPS * batch / n_clips), "accumulation": 1}
    settings = config.train.model_copy(update={**changes, "warmup_steps": None, "warmup_share": 0.0, "patience": None})
    specs = [FitSpec(f"probe-{i}", config.lora, settings, config.augment, i, clips, bank) for i in range(n_fits)]
    dev = encode_dev(config, model, few, splits.banks[DEV])
    moments: list[float] = []
    watch = Watch(lambda progress: moments.append(time.perf_counter()))
    train(model, model.prompt(config.prompt), config.short_clips, specs, [dev] * n_fits, watch)
    ends = moments[n_fits - 1 :: n_fits]
    step_s = (ends[N_STEPS - 1] - ends[N_WARM_STEPS - 1]) / (N_STEPS - N_WARM_STEPS)
    detectors, conditions = language_model_detectors(model, [(ZERO_SHOT, config, None)]), config.evaluation.conditions
    started = time.perf_counter()
    score_clips(detectors, few, splits.banks[DEV], conditions, config)
    score_s = (time.perf_counter() - started) / (len(few) * len(conditions))
    return step_s / (n_fits * batch), score_s
