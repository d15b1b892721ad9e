"""Adapters on disk in PEFT's format: plain PEFT + transformers loads what listenwell trained, and the other way round.

A folder holds adapter_model.safetensors, adapter_config.json (both PEFT's), and listenwell.json: the base's
fingerprint and everything else that decides an answer (prompt, short-clip policy). An adapter is refused on another
base than it was trained on. One that PEFT made names no fingerprint; it is refused when a key of it would stay unused
or has another shape than the model's module. Module names of transformers 4 are read as those of transformers 5.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from listenwell.errors import ModelError
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import A, Adapter, B, LoraPair, ProjectorWeights
from listenwell.model.settings import EVERY_LINEAR, LoraConfig
from listenwell.storage.atomic_files import atomic_folder, write_json

_WEIGHTS, _CONFIG, _OURS = "adapter_model.safetensors", "adapter_config.json", "listenwell.json"
_PREFIX = "base_model.model."
_RENAMED = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head", "lm_head"),
    ("audio_tower.", "model.audio_tower."),
    ("multi_modal_projector", "model.multi_modal_projector"),
)
"""Where modules were in transformers 4, and where they are in transformers 5."""
_UNSUPPORTED = (
    "use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "rank_pattern", "alpha_pattern",
    "layer_replication", "trainable_token_indices", "target_parameters", "alora_invocation_tokens", "arrow_config",
    "kasa_config", "velora_config", "monteclora_config", "megatron_config",
)  # fmt: skip
"""PEFT's settings that make something else of the two factors than alpha / r B A."""


def write_adapter(
    folder: Path, adapter: Adapter, config: LoraConfig, base_name: str, listens: Mapping[str, Any]
) -> None:
    """Write the adapter as one folder, atomically. listens: base fingerprint, prompt and policies, as JSON values."""
    from peft import LoraConfig as PeftLoraConfig

    peft_config = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=sorted(adapter.pairs),
        modules_to_save=None if adapter.projector is None else [_saved_module(adapter.projector.name)],
        base_model_name_or_path=base_name,
        inference_mode=True,
    )
    with atomic_folder(folder) as temporary:
        tensors = {_PREFIX + key: t.detach().cpu().contiguous() for key, t in adapter.tensors().items()}
        save_file(tensors, temporary / _WEIGHTS)
        peft_config.save_pretrained(temporary)
        # PEFT holds the names as a set, whose order is another one in every process
        described = json.loads((temporary / _CONFIG).read_text(encoding="utf-8"))
        write_json(temporary / _CONFIG, described | {"target_modules": sorted(described["target_modules"])})
        write_json(temporary / _OURS, dict(listens))


def read_adapter(folder: Path, model: AudioLanguageModel) -> tuple[Adapter, dict[str, Any]]:
    """Return the adapter in `folder`, on the model's device, and its listenwell.json ({} when PEFT made it).

    Raises ModelError when files are missing or broken, when it was trained on another base, and when anything in it
    would be left unused: settings or modules that listenwell does not adapt, missing keys, other shapes.
    """
    for needed in (_WEIGHTS, _CONFIG):
        if not (folder / needed).is_file():
            raise ModelError(f"{folder}: no {needed}; give the folder of an adapter that listenwell or PEFT wrote.")
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        read = load_file(folder / _WEIGHTS)
        tensors = {_present_name(name): tensor.float().to(model.device) for name, tensor in read.items()}
        ours = json.loads((folder / _OURS).read_text(encoding="utf-8")) if (folder / _OURS).is_file() else {}
        if ours and ours["base_fingerprint"] != model.fingerprint:
            raise ModelError(
                f"{folder}: the adapter was trained on the base {ours['base_fingerprint'][:12]}, the model loaded is "
                f"{model.fingerprint[:12]}; load the base that adapter_config.json names."
            )
        _require_plain_lora(folder, config, _saved_module(model.projector_name))
        adapter = _adapter_of(tensors, config, model.projector_name)
        adapted = model.lora_targets("both", EVERY_LINEAR)
        _require_modules(folder, tensors, adapter, adapted, _named_by(config, adapted))
        _require_shapes(folder, adapter, int(config["r"]), model)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelError(f"{folder}: the adapter's files are broken ({error}); train or copy it again.") from error
    return adapter, ours


def _present_name(key: str) -> str:
    """A tensor's key as this version of transformers names the module: v4 had the halves in other places."""
    name = key.removeprefix(_PREFIX)
    for before, now in _RENAMED:
        if name.startswith(before):
            return now + name.removeprefix(before)
    return name


def _require_plain_lora(folder: Path, config: Mapping[str, Any], projector: str) -> None:
    """Raise ModelError for what changes the arithmetic beyond alpha, rank and rank-stabilised scaling."""
    kind, bias, saved = config["peft_type"], config.get("bias"), config.get("modules_to_save") or []
    odd = [f"peft_type '{kind}'"] if kind != "LORA" else []
    odd += [f"bias '{bias}'"] if bias not in (None, "none") else []
    odd += [name for name in _UNSUPPORTED if config.get(name)]
    odd += [f"modules_to_save {saved}"] if set(saved) - {projector, f"model.{projector}"} else []
    if odd:
        raise ModelError(
            f"{folder}: adapter_config.json sets {', '.join(odd)}; listenwell reads plain LoRA with one rank and "
            f"alpha, and a trained {projector}. Merge it with PEFT and use the merged folder as model.name."
        )


def _adapter_of(tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], projector: str) -> Adapter:
    """The adapter that the tensors are, by its config; projector: the full name of the base's."""
    rank = int(config["r"])
    scale = float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    names = [name.removesuffix(A) for name in sorted(tensors) if name.endswith(A)]
    pairs = {name: LoraPair(tensors[name + A], tensors[name + B]) for name in names}
    weight, bias = f"{projector}.weight", f"{projector}.bias"
    trained = ProjectorWeights(tensors[weight], tensors[bias], projector) if weight in tensors else None
    return Adapter(scale, pairs, trained)


def _saved_module(projector: str) -> str:
    """The projector's name in PEFT's modules_to_save; a module that only wraps the linear one is saved whole."""
    return projector.removeprefix("model.").removesuffix(".linear")


def _named_by(config: Mapping[str, Any], adapted: Sequence[str]) -> list[str]:
    """The model's modules that the config's list of target modules names; none where it is narrowed down further.

    Raises ValueError when the list holds something else than names.
    """
    targets = config.get("target_modules")
    if not isinstance(targets, list) or config.get("layers_to_transform") or config.get("exclude_modules"):
        return []
    if not all(isinstance(target, str) for target in targets):
        raise ValueError(f"target_modules holds {json.dumps(targets)[:60]}, names were expected")
    endings = tuple(f".{_present_name(target)}" for target in targets)
    return [name for name in adapted if f".{name}".endswith(endings)]


def _require_modules(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    adapter: Adapter,
    adapted: Sequence[str],
    named: Sequence[str],
) -> None:
    """Raise ModelError unless every tensor is used, on a module the model adapts, and each of the named is there."""
    if foreign := sorted(adapter.pairs.keys() - set(adapted)):
        raise ModelError(
            f"{folder}: the adapter changes {len(foreign)} modules that this model does not have or listenwell does "
            f"not adapt (first: {foreign[0]}); its target modules must lie in the layers of the language model or the "
            "audio encoder of the base that adapter_config.json names."
        )
    if unused := sorted(tensors.keys() - adapter.tensors().keys()):
        raise ModelError(
            f"{folder}: {len(unused)} of {len(tensors)} tensors are no part of a LoRA adapter (first: {unused[0]}); "
            "save it again with PEFT's save_pretrained, without other trained weights."
        )
    if missing := [name for name in named if name not in adapter.pairs]:
        raise ModelError(
            f"{folder}: holds {len(adapter.pairs)} adapted modules, but its target_modules name {len(missing)} more "
            f"(first: {missing[0]}); the file is incomplete, save or copy it again."
        )


def _require_shapes(folder: Path, adapter: Adapter, rank: int, model: AudioLanguageModel) -> None:
    """Raise ModelError unless every tensor has the shape that rank and module ask for."""
    modules, projector = dict(model.network.named_modules()), model.projector_name
    expected = {f"{projector}.{name}": getattr(model.projector, name).shape for name in ("weight", "bias")}
    for name in adapter.pairs:
        expected[name + A] = torch.Size((rank, modules[name].in_features))
        expected[name + B] = torch.Size((modules[name].out_features, rank))
    tensors = adapter.tensors()
    if wrong := [name for name, tensor in tensors.items() if tensor.shape != expected[name]]:
        raise ModelError(
            f"{folder}: {len(wrong)} of {len(tensors)} tensors have another shape than this model needs (first: "
            f"{wrong[0]} is {tuple(tensors[wrong[0]].shape)}, {tuple(expected[wrong[0]])} was expected); it belongs to "
            "another base, load the one that adapter_config.json names."
        )
