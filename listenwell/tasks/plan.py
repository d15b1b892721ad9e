"""The plan of a study before anything is trained: how many fits, what they cost, what the design can show.

Reads the tables of clips and the model's config file, never its weights; only the probe loads the model. What the
ledger holds already is counted like the rest.

How long stacks take on several workers, on paper: the next stack goes to whoever is free first.

Stacks are taken in their order, as Ray takes the tasks of a study (list scheduling: Graham 1966, Bell Syst. Tech. J.
45:1563, who shows that the end is never later than 2 - 1/W times the best order's). Every worker has a machine of its
own. Arithmetic only.

What a study costs, on paper: operations, bytes and seconds. Arithmetic only; reads and loads nothing.

Multiplying T tokens by P weights takes 2 P T operations (Kaplan et al. 2020, arXiv:2001.08361, section 2.1). The base
is frozen, so a training step takes 2 P T forward and 2 P T backward, for the gradients that pass through, and never the
third 2 P T of the weights' own gradients; gradient checkpointing adds one more forward. LoRA's own factors, far
smaller, take all three. Attention's part that grows with the square of the length is left out: a clip of some seconds
is shorter than the width, and the part below a tenth. A clip counts once per fit: what a stack saves by sharing clips
under equal plans is not known before the draw, so operations are an upper bound there.

Time some training steps of a stack on this machine, writing nothing.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from listenwell.config import Config, change_config
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import ModelError
from listenwell.evaluate.power import detectable_difference
from listenwell.fits.arms import expand_arms
from listenwell.fits.request import FitRequest, spec_record
from listenwell.fits.stacks import hear_dev_set
from listenwell.model.base_files import BYTES_PER_WEIGHT, Quantization
from listenwell.model.loading import empty_network, family_of, load_model, model_folder, resolve_device, resolve_dtype
from listenwell.model.settings import kind_of, match_targets
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import prepare, read_parts
from listenwell.splits.divide import DEV, TRAIN, Parts, divide
from listenwell.storage.run_folder import identity
from listenwell.study.leave_one_out import (
    fold_parts,
    fold_requests,
    fold_search_config,
    folds_of,
    loso_arms,
    nested_arms,
)
from listenwell.train.fit import Watch, train
from listenwell.train.fit_underway import FitSpec
from listenwell.train.settings import count_steps

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Timeline:
    """When everything is done, and the worker-seconds spent without a stack."""

    end_s: float
    idle_s: float


def simulate(stacks_s: Sequence[float], n_workers: int) -> Timeline:
    """Return the timeline of stacks of these durations on n_workers (at least one)."""
    waiting = list(stacks_s)
    left = [waiting.pop(0) for _ in range(min(n_workers, len(waiting)))]
    now = busy_s = 0.0
    while left:
        step = min(left)
        now += step
        busy_s += step * len(left)
        left = [remaining for work in left if (remaining := work - step) > _ROUNDING]
        n_free = n_workers - len(left)
        left += [waiting.pop(0) for _ in range(min(n_free, len(waiting)))]
    return Timeline(now, n_workers * now - busy_s)


POSITIONS_PER_S = 50
"""Positions of the tower per second of audio: 100 spectrogram frames, halved by its second convolution."""
TOKENS_PER_S = 25
PROMPT_TOKENS = 30
"""Tokens of question and answer around a clip, about what the default question takes."""
KEPT_VALUES = 30
"""Values kept per position, layer and unit of width for the backward pass: inputs of norms and attention, dropped
inputs and masks of LoRA, the feed-forward's inner values (2.7 widths in the language model, 4 in the tower), 26 in all;
and what passes through the backward pass. The language model's last layer, computed where answers are read, keeps next
to nothing."""
FIT_STATE_COPIES = 5
"""Float32 values per adapter parameter: itself, its gradient, AdamW's two moments, the best epoch's copy."""
PLAN_BYTES = 400
"""One line of plans.jsonl."""
CHECKPOINTS_KEPT = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's size. Parameters without embeddings; all_parameters with everything that is loaded."""

    tower_parameters: int
    language_parameters: int
    all_parameters: int
    width: int
    layers: int
    bytes_per_weight: int
    tower_width: int = 0
    tower_layers: int = 0
    quantised_parameters: int = 0
    bytes_per_quantised: float = 0.0


@dataclass(frozen=True, slots=True)
class FitCost:
    """One fit as it enters the sum. clip_s: mean seconds of a clip as the model hears it."""

    n_steps: int
    epochs: int
    n_clips_heard: int
    n_dev_clips: int
    clip_s: float
    adapter_parameters: int
    trains_tower: bool
    recomputes: bool


@dataclass(frozen=True, slots=True)
class Device:
    """A device to plan for: peak operations per second in bfloat16 without sparsity, memory, and the data sheet."""

    name: str
    peak_flops: float
    memory_bytes: float
    source: str


REACHED_SHARE = 0.3
"""Share of the peak that short clips are assumed to reach; a probe on the device itself replaces it."""
DEVICES = (
    Device("NVIDIA L4", 121e12, 24e9, "NVIDIA L4 data sheet (half of the value with sparsity)"),
    Device("NVIDIA A100 80 GB", 312e12, 80e9, "NVIDIA A100 data sheet"),
    Device("NVIDIA H100 SXM", 989e12, 80e9, "NVIDIA H100 data sheet (half of the value with sparsity)"),
)


def clip_tokens(clip_s: float) -> float:
    """Tokens of the language model for one clip with its question."""
    return TOKENS_PER_S * clip_s + PROMPT_TOKENS


def forward_flops(shape: Shape, clip_s: float) -> float:
    """Operations to score one clip."""
    tower = 2.0 * shape.tower_parameters * POSITIONS_PER_S * clip_s
    return tower + 2.0 * shape.language_parameters * clip_tokens(clip_s)


def training_flops(shape: Shape, fit: FitCost) -> float:
    """Operations of a fit's training, dev epochs included."""
    tower = shape.tower_parameters * POSITIONS_PER_S * fit.clip_s
    language = shape.language_parameters * clip_tokens(fit.clip_s)
    passes = 6.0 if fit.recomputes else 4.0
    per_clip = (4.0 if fit.trains_tower else 2.0) * tower + passes * language
    per_clip += 6.0 * fit.adapter_parameters * clip_tokens(fit.clip_s)
    # the frozen tower hears dev once for all fits; only one that is trained hears it again
    per_dev_clip = 2.0 * language + (2.0 * tower if fit.trains_tower else 0.0)
    return fit.n_clips_heard * per_clip + fit.epochs * fit.n_dev_clips * per_dev_clip


def weights_bytes(shape: Shape) -> float:
    """The frozen base."""
    plain = shape.all_parameters - shape.quantised_parameters
    return plain * shape.bytes_per_weight + shape.quantised_parameters * shape.bytes_per_quantised


def adapters_bytes(fits: list[FitCost]) -> float:
    """Adapters, gradients, optimiser and best copies of fits that train together."""
    return float(sum(4 * FIT_STATE_COPIES * fit.adapter_parameters for fit in fits))


def activations_bytes(shape: Shape, fits: list[FitCost], batch: int) -> float:
    """What the backward pass keeps while these fits, `batch` clips each, train together."""
    tokens = sum(batch * clip_tokens(fit.clip_s) for fit in fits)
    positions = sum(batch * POSITIONS_PER_S * fit.clip_s for fit in fits if fit.trains_tower)
    tower = positions * shape.tower_width * shape.tower_layers * KEPT_VALUES
    # checkpointing keeps each layer's input and one layer whole
    recomputes = any(fit.recomputes for fit in fits)
    in_layers = shape.layers + KEPT_VALUES if recomputes else KEPT_VALUES * max(1, shape.layers - 1)
    return (tokens * shape.width * in_layers + tower) * shape.bytes_per_weight


def disk_bytes(fits: list[FitCost], stack: int) -> float:
    """Adapters and plans of all fits, and the checkpoints of the largest stack."""
    kept = sum(4.0 * fit.adapter_parameters + PLAN_BYTES * fit.n_clips_heard for fit in fits)
    largest = sorted((fit.adapter_parameters for fit in fits), reverse=True)[:stack]
    return kept + CHECKPOINTS_KEPT * 4.0 * (FIT_STATE_COPIES - 1) * sum(largest)


def adapter_parameters(linears: list[tuple[int, int]], rank: int) -> int:
    """Parameters of LoRA of that rank on linear modules of (inputs, outputs)."""
    return sum(rank * (n_in + n_out) for n_in, n_out in linears)


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


MACHINES = (1, 2, 4)
DISCORDANT_SHARE, CORRELATION = 0.2, 0.3
"""What the power of the design is told for: the share of clips just one of two methods has right, and the correlation
within groups; the defaults of `listenwell power`."""
TARGETS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "out_proj"),
    "attention+mlp": (
        *("q_proj", "k_proj", "v_proj", "o_proj", "out_proj"),
        *("gate_proj", "up_proj", "down_proj", "fc1", "fc2"),
    ),
}


@dataclass(frozen=True, slots=True)
class Work:
    """The fits of one kind: how many, how many steps in all, and operations."""

    kind: str
    n_fits: int
    n_steps: int
    flops: float


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """Everything a plan says. Bytes and seconds; rate: operations per second seen by the probe, None without.

    machines: with a rate, on how many machines like this one training takes how long, and the share of it they idle.
    """

    work: tuple[Work, ...]
    scoring_flops: float
    memory: dict[str, float]
    free_memory_bytes: float | None
    disk_bytes: float
    free_disk_bytes: float
    rate: float | None
    machines: tuple[tuple[int, float, float], ...]
    devices: tuple[tuple[str, float, bool, str], ...]
    power: tuple[tuple[str, int, float], ...]

    @property
    def flops(self) -> float:
        """Operations of the whole study."""
        return sum(work.flops for work in self.work) + self.scoring_flops

    @property
    def seconds(self) -> float | None:
        """Time on this machine at the rate the probe saw."""
        return None if self.rate is None else self.flops / self.rate


def plan_study(config: Config, *, probe: bool = False, on_progress: OnProgress = ignore_progress) -> StudyPlan:
    """Plan the study of `config`; with `probe`, load the model and time some steps of a stack."""
    parts = read_parts(config, on_progress)[0] if probe else _unread_parts(config, on_progress)
    network = _skeleton(config)
    shape = _shape(network, config)
    by_kind = _requests(config, parts)
    distinct = _distinct(by_kind)
    costs = {kind: [_cost(request, network) for request in requests] for kind, requests in distinct.items()}
    every = [cost for of_kind in costs.values() for cost in of_kind]
    stack, batch = config.train.stack, config.train.batch
    together = sorted(every, key=lambda cost: -cost.adapter_parameters)[:stack]
    memory = {
        "frozen base": weights_bytes(shape),
        f"adapters and optimiser of {len(together)} fits": adapters_bytes(together),
        f"activations of {len(together)} x {batch} clips": activations_bytes(shape, together, batch),
    }
    work = tuple(
        Work(kind, len(own), sum(cost.n_steps for cost in own), sum(training_flops(shape, cost) for cost in own))
        for kind, own in costs.items()
    )
    scoring = _scoring_flops(config, parts, shape, by_kind)
    flops = sum(each.flops for each in work) + scoring
    needed = sum(memory.values())
    rate = _rate(config, parts, shape, network, len(together)) if probe else None
    return StudyPlan(
        work=work,
        scoring_flops=scoring,
        memory=memory,
        free_memory_bytes=_free_memory(config),
        disk_bytes=disk_bytes(every, stack),
        free_disk_bytes=float(shutil.disk_usage(_existing(config.output)).free),
        rate=rate,
        machines=() if rate is None else tuple(_on_machines(config, shape, costs, rate)),
        devices=tuple(
            (device.name, flops / (REACHED_SHARE * device.peak_flops), needed <= device.memory_bytes, device.source)
            for device in DEVICES
        ),
        power=tuple(_power(name, parts.clips[name]) for name in parts.test_sets),
    )


def _unread_parts(config: Config, on_progress: OnProgress) -> Parts:
    """The parts before any recording is read. Their fits are counted, not found, so that names serve as hashes."""
    clips, backgrounds = prepare(config, on_progress)
    named = [replace(clip, pcm_sha256=clip.pcm_sha256 or clip.clip_id) for clip in clips]
    beds = [replace(each, pcm_sha256=each.pcm_sha256 or each.background_id) for each in backgrounds]
    return divide(named, beds, config.data)


def _on_machines(
    config: Config, shape: Shape, costs: dict[str, list[FitCost]], rate: float
) -> Iterator[tuple[int, float, float]]:
    """Machines, seconds of training and idle share; fits of one kind wait for all of the kind before them."""
    stacks = []
    for kind, own in costs.items():
        # a generation of a sampled search waits for the one before
        n_together = config.search.sampled.generation if "search" in kind and not config.search.grid else len(own)
        for first in range(0, len(own), max(1, n_together)):
            fits = [training_flops(shape, cost) / rate for cost in own[first : first + n_together]]
            stacks.append([sum(fits[i : i + config.train.stack]) for i in range(0, len(fits), config.train.stack)])
    for n_machines in MACHINES:
        timelines = [simulate(stage, n_machines) for stage in stacks]
        seconds = sum(timeline.end_s for timeline in timelines)
        idle = sum(timeline.idle_s for timeline in timelines)
        yield n_machines, seconds, idle / (n_machines * seconds) if seconds else 0.0


def _skeleton(config: Config) -> Any:
    """The network without weights: shapes only."""
    folder = model_folder(config.model.name)
    try:
        described = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{config.model.name}: its config cannot be read ({str(error).splitlines()[0]}); give a model folder, or a "
            "hub id with the hub within reach."
        ) from error
    return empty_network(config.model.name, described)


def _shape(network: Any, config: Config) -> Shape:
    text = network.config.text_config
    inner = network.model
    return Shape(
        tower_parameters=_count(inner.audio_tower),
        language_parameters=_count(inner.language_model) - _count(inner.language_model.get_input_embeddings()),
        all_parameters=_count(network),
        width=text.hidden_size,
        layers=text.num_hidden_layers,
        tower_width=network.config.audio_config.d_model,
        tower_layers=network.config.audio_config.encoder_layers,
        bytes_per_weight=2 if resolve_dtype(config.model) == "bfloat16" else 4,
        **_packed(inner.language_model, config.model.quantization),
    )


def _packed(language_model: Any, quantization: Quantization) -> dict[str, Any]:
    """How many parameters are quantised, and to how many bytes each."""
    if quantization == "none":
        return {}
    linears = [module for module in language_model.modules() if isinstance(module, torch.nn.Linear)]
    return {
        "quantised_parameters": sum(module.weight.numel() for module in linears),
        "bytes_per_quantised": BYTES_PER_WEIGHT[quantization],
    }


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _requests(config: Config, parts: Parts) -> dict[str, list[FitRequest]]:
    """Every fit of the study by kind.

    Trials of a sampled search are counted with the config's own size, and whole, as if none ended at a rung. An arm
    that searches in every fold takes a fit of that search.
    """
    arms = expand_arms(config, {} if config.search.is_wanted else None)
    folds = folds_of(config, parts) if config.loso.arms else []
    nested = nested_arms(config)
    shared = {name: arm for name, arm in loso_arms(config, {}).items() if name not in nested}
    inner = fold_search_config(config)
    return {
        "search": [FitRequest("search", each, parts, config) for each in _trials(config)],
        "arms and final": [FitRequest(arm.fit_name, arm.config, parts, config) for arm in arms],
        "search in every fold": [
            FitRequest("search", each, fold_parts(fold, parts), inner)
            for fold in (folds if nested else [])
            for each in _trials(inner)
        ],
        "leave one speaker out": fold_requests(config, [shared] * len(folds), folds, parts) if shared else [],
    }


def _trials(config: Config) -> list[Config]:
    search = config.search
    points = [dict(point) for point in search.grid] or [{"seed": number} for number in range(search.sampled.trials)]
    return [change_config(config, point, "search") for point in points]


def _distinct(by_kind: dict[str, list[FitRequest]]) -> dict[str, list[FitRequest]]:
    """The same, each identity where it first comes: it is trained once."""
    seen: set[str] = set()
    distinct: dict[str, list[FitRequest]] = {}
    for kind, requests in by_kind.items():
        distinct[kind] = []
        for request in requests:
            key = identity(**spec_record(request, "the base"))
            if key not in seen:
                seen.add(key)
                distinct[kind].append(request)
    return distinct


def _cost(request: FitRequest, network: Any) -> FitCost:
    config, clips = request.config, request.parts.clips[TRAIN]
    per_epoch = config.train.clips_per_epoch or len(clips)
    linears = _linears(network, config)
    return FitCost(
        n_steps=count_steps(config.train, per_epoch),
        epochs=config.train.epochs,
        n_clips_heard=per_epoch * config.train.epochs,
        n_dev_clips=len(request.parts.clips[DEV]),
        clip_s=_mean_s(clips, config),
        adapter_parameters=adapter_parameters(linears, config.lora.rank) + _projector(network, config),
        trains_tower=config.lora.scope != "language_model",
        recomputes=config.train.gradient_checkpointing,
    )


def _linears(network: Any, config: Config) -> list[tuple[int, int]]:
    """Inputs and outputs of every module the config's adapter changes."""
    halves = {"language_model": ["language_model"], "audio_tower": ["audio_tower"]}
    halves["both"] = ["language_model", "audio_tower"]
    named = {
        f"model.{half}.{name}": module
        for half in halves[config.lora.scope]
        for name, module in getattr(network.model, half).named_modules()
        if isinstance(module, torch.nn.Linear) and name.rsplit(".", 1)[-1] in TARGETS[kind_of(config.lora)]
    }
    return [(named[name].in_features, named[name].out_features) for name in match_targets(list(named), config.lora)]


def _projector(network: Any, config: Config) -> int:
    projector = family_of(config.model.name, network.config).projector_name
    return _count(network.get_submodule(projector)) if config.train.projector == "trained" else 0


def _mean_s(clips: Sequence[Clip], config: Config) -> float:
    return sum(max(clip.duration_s, config.short_clips.minimum_s) for clip in clips) / len(clips)


def _scoring_flops(config: Config, parts: Parts, shape: Shape, by_kind: dict[str, list[FitRequest]]) -> float:
    """Dev, test and the search's dev under every condition: the tower once, the language model once per method."""
    n_methods = len(by_kind["arms and final"]) + len(by_kind["fewer speakers"]) + 1
    tower_only = replace(shape, language_parameters=0)
    language_only = replace(shape, tower_parameters=0)
    total = 0.0
    for part in (DEV, *parts.test_sets):
        clip_s = _mean_s(parts.clips[part], config)
        times = n_methods + (len(by_kind["search"]) if part == DEV else 0)
        each = forward_flops(tower_only, clip_s) + times * forward_flops(language_only, clip_s)
        total += len(parts.clips[part]) * len(config.evaluation.conditions) * each
    for request in [*by_kind["search in every fold"], *by_kind["leave one speaker out"]]:
        n_clips = sum(len(clips) for part, clips in request.parts.clips.items() if part != TRAIN)
        total += n_clips * forward_flops(shape, _mean_s(request.parts.clips[TRAIN], config))
    return total


def _free_memory(config: Config) -> float | None:
    """Free memory of the device the config names, None where the system does not tell."""
    device = resolve_device(config.model.device)
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024.0 * int(found[0]) if found else None


def _existing(folder: Path) -> Path:
    return next(each for each in [folder.absolute(), *folder.absolute().parents] if each.exists())


def _power(name: str, clips: Sequence[Clip]) -> tuple[str, int, float]:
    """Test set, groups of the rarer class, and the least difference in balanced accuracy that it shows."""
    groups = {label: {clip.group for clip in clips if clip.label == label} for label in ("SPEECH", "NONSPEECH")}
    rarer = min(groups, key=lambda label: len(groups[label]))
    n_groups = len(groups[rarer])
    per_group = sum(clip.label == rarer for clip in clips) / n_groups
    return name, n_groups, detectable_difference(n_groups, DISCORDANT_SHARE, per_group, CORRELATION)


def _rate(config: Config, parts: Parts, shape: Shape, network: Any, n_fits: int) -> float:
    """Operations a second of n_fits of the config's own fit, timed on this machine."""
    one_step = replace(
        _cost(FitRequest("probe", config, parts, config), network), n_clips_heard=config.train.batch, n_dev_clips=0
    )
    return n_fits * training_flops(shape, one_step) / time_steps(config, parts, n_fits)
