"""The shipped alignment: what joins Whisper's encoder and the cut SmolLM2 into one model.

Whisper and SmolLM2 never met; the projector between them, the embeddings of the three audio tokens and a low-rank
change of the cut layers were trained by `listenwell model align` (listenwell.model.align). They lie beside this file
as float16 safetensors, with the JSON that tells how they were made. Merging is part of building the small model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from listenwell.atomic_files import atomic_path
from listenwell.errors import ModelError
from listenwell.model.lora import Adapter, LoraPair, merge_adapter

SHIPPED_ALIGNMENT = Path(__file__).parent / "aligned" / "small.safetensors"
_PROJECTOR = ("projector.weight", "projector.bias")
_TOKENS, _LORA = "audio_tokens.embeddings", "lora"


@dataclass(frozen=True, slots=True)
class Alignment:
    """projector weight (D, W) and bias (D,); embeddings of the three audio tokens (3, D); LoRA."""

    projector_weight: torch.Tensor
    projector_bias: torch.Tensor
    token_embeddings: torch.Tensor
    adapter: Adapter


def write_alignment(path: Path, alignment: Alignment) -> None:
    """Write the alignment as float16 safetensors, atomically."""
    tensors = {
        _PROJECTOR[0]: alignment.projector_weight,
        _PROJECTOR[1]: alignment.projector_bias,
        _TOKENS: alignment.token_embeddings,
    }
    for name, pair in alignment.adapter.pairs.items():
        tensors[f"{_LORA}.{name}.a"], tensors[f"{_LORA}.{name}.b"] = pair.a, pair.b
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(halves, temporary, metadata={"scale": repr(alignment.adapter.scale)})


def read_alignment(path: Path) -> Alignment:
    """Read an alignment. Raises ModelError when the file is missing or not one."""
    if not path.is_file():
        raise ModelError(
            f"{path}: no alignment there; install the package again, or make one with 'listenwell model align'."
        )
    try:
        with safe_open(path, framework="pt") as file:
            scale = float(file.metadata()["scale"])
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        pairs = {
            name.removeprefix(f"{_LORA}.").removesuffix(".a"): LoraPair(tensors[name], tensors[name[:-1] + "b"])
            for name in sorted(tensors)
            if name.startswith(f"{_LORA}.") and name.endswith(".a")
        }
        return Alignment(tensors[_PROJECTOR[0]], tensors[_PROJECTOR[1]], tensors[_TOKENS], Adapter(scale, pairs))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not an alignment file ({error}); fetch the package again.") from error


def merge_alignment(network: Any, alignment: Alignment) -> None:
    """Put the alignment into an assembled network, in place. Raises ModelError when shapes do not fit."""
    n_layers = network.config.text_config.num_hidden_layers
    adapted = {name for name in alignment.adapter.pairs if f"layers.{n_layers}." in name}
    model = network.model
    if adapted or alignment.projector_weight.shape != model.multi_modal_projector.linear.weight.shape:
        raise ModelError(f"the alignment was trained for another depth or width than this model's {n_layers} layers.")
    merge_adapter(network, alignment.adapter)
    with torch.no_grad():
        model.multi_modal_projector.linear.weight.copy_(alignment.projector_weight)
        model.multi_modal_projector.linear.bias.copy_(alignment.projector_bias)
        model.language_model.embed_tokens.weight[-len(alignment.token_embeddings) :] = alignment.token_embeddings
