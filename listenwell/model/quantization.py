"""The frozen base in 8 or 4 bits: what transformers and bitsandbytes are asked for.

LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339) and NF4 with double quantisation (Dettmers et al. 2023,
arXiv:2305.14314) of the language model's linear layers, nine tenths of a large model. The rest keeps its precision: the
tower and the projector are what hears, and the head's two answer rows are read one by one. Adapters stay float32 and
are added by hooks on the layers' outputs, so they never meet a packed weight.
"""

import importlib.util
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig

from listenwell.errors import ConfigError

Quantization = Literal["none", "8bit", "4bit"]
KEPT_PRECISE = ("lm_head", "model.audio_tower", "model.multi_modal_projector", "model.visual")
BYTES_PER_WEIGHT = {"8bit": 1.0, "4bit": 4.127 / 8}
"""4.127 bits a weight: NF4 with its doubly quantised constants (arXiv:2305.14314, section 3)."""


def loading_options(quantization: Quantization, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What from_pretrained is given besides the folder; nothing for "none".

    Raises ConfigError when the device is no CUDA device or bitsandbytes is not installed.
    """
    if quantization == "none":
        return {}
    if device.type != "cuda":
        raise ConfigError(
            f"model.quantization is {quantization}, which needs a CUDA device; the model is to lie on '{device}'. Set "
            "model.quantization=none, or run on a machine with a GPU that torch sees."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"model.quantization is {quantization}, but the Python package bitsandbytes is not installed; install it "
            "with: pip install 'listenwell[quant]'"
        )
    return {"quantization_config": quantization_config(quantization, dtype), "device_map": {"": device}}


def quantization_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    """What transformers is told of the packed layers; dtype: what 4-bit layers compute in."""
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(KEPT_PRECISE))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(KEPT_PRECISE),
    )
