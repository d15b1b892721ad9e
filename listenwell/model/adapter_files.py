"""Adapters on disk in PEFT's format, so that plain PEFT + transformers loads what listenwell trained.

A folder holds adapter_model.safetensors, adapter_config.json (both PEFT's), and listenwell.json: the base's
fingerprint and everything else that decides an answer (prompt, short-clip policy). An adapter is refused on another
base than it was trained on.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from listenwell.atomic_files import atomic_folder, write_json
from listenwell.errors import ModelError
from listenwell.model.lora import Adapter, LoraPair, ProjectorWeights
from listenwell.model.settings import LoraConfig

_WEIGHTS, _CONFIG, _OURS = "adapter_model.safetensors", "adapter_config.json", "listenwell.json"
_PREFIX = "base_model.model."
_PROJECTOR = "model.multi_modal_projector"


def write_adapter(
    folder: Path, adapter: Adapter, config: LoraConfig, base_name: str, listens: Mapping[str, Any]
) -> None:
    """Write the adapter as one folder, atomically. listens: base fingerprint, prompt and policies, as JSON values."""
    from peft import LoraConfig as PeftLoraConfig

    tensors = {}
    for name, pair in adapter.pairs.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = pair.a
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = pair.b
    if adapter.projector is not None:
        tensors[f"{_PREFIX}{_PROJECTOR}.linear.weight"] = adapter.projector.weight
        tensors[f"{_PREFIX}{_PROJECTOR}.linear.bias"] = adapter.projector.bias
    peft_config = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=sorted(adapter.pairs),
        modules_to_save=None if adapter.projector is None else ["multi_modal_projector"],
        base_model_name_or_path=base_name,
        inference_mode=True,
    )
    with atomic_folder(folder) as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary / _WEIGHTS)
        peft_config.save_pretrained(temporary)
        write_json(temporary / _OURS, dict(listens))


def read_adapter(folder: Path, base_fingerprint: str | None = None) -> tuple[Adapter, dict[str, Any]]:
    """Return the adapter in `folder` and what stands in its listenwell.json ({} when PEFT made it).

    Raises ModelError when files are missing or broken, or when it was trained on a base other than base_fingerprint.
    """
    for needed in (_WEIGHTS, _CONFIG):
        if not (folder / needed).is_file():
            raise ModelError(f"{folder}: no {needed}; give the folder of an adapter that listenwell or PEFT wrote.")
    try:
        config = json.loads((folder / _CONFIG).read_text())
        tensors = {name: tensor.float() for name, tensor in load_file(folder / _WEIGHTS).items()}
        ours = json.loads((folder / _OURS).read_text()) if (folder / _OURS).is_file() else {}
        adapter = Adapter(float(config["lora_alpha"]) / int(config["r"]), _pairs(tensors), _projector(tensors))
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{folder}: the adapter's files are broken ({error}); train or copy it again.") from error
    if ours and base_fingerprint is not None and ours["base_fingerprint"] != base_fingerprint:
        raise ModelError(
            f"{folder}: the adapter was trained on the base {ours['base_fingerprint'][:12]}, the model loaded is "
            f"{base_fingerprint[:12]}; load the base that adapter_config.json names."
        )
    return adapter, ours


def _pairs(tensors: Mapping[str, torch.Tensor]) -> dict[str, LoraPair]:
    ending = ".lora_A.weight"
    return {
        name.removeprefix(_PREFIX).removesuffix(ending): LoraPair(
            tensor, tensors[name.removesuffix(ending) + ".lora_B.weight"]
        )
        for name, tensor in sorted(tensors.items())
        if name.endswith(ending)
    }


def _projector(tensors: Mapping[str, torch.Tensor]) -> ProjectorWeights | None:
    prefix = f"{_PREFIX}{_PROJECTOR}.linear."
    if f"{prefix}weight" not in tensors:
        return None
    return ProjectorWeights(tensors[f"{prefix}weight"], tensors[f"{prefix}bias"])
