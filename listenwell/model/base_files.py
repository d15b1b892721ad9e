"""A base model as a folder: written whole, known by its fingerprint, whether it is as it was built; and in 8 or 4 bits.

The fingerprint is a hash over the files that decide the model's answers, so two folders of the same content are one
base wherever they lie; of a hub id, over the id and its resolved commit. What this project builds holds
listenwell_base.json as well: what the base was made of, and its fingerprint.

Quantised: LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339) and NF4 with double quantisation (Dettmers et al. 2023,
arXiv:2305.14314) of the language model's linear layers, nine tenths of a large model. The rest keeps its precision: the
audio encoder and the projector make the audio tokens, and the head's two answer rows are read one by one. Adapters stay
float32 and are added by hooks on the layers' outputs, so they never meet a packed weight.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, BitsAndBytesConfig

from listenwell.errors import ConfigError, ModelError
from listenwell.storage.atomic_files import atomic_folder
from listenwell.storage.load_or_make import hash_file, read_checksummed, write_checksummed

BASE_FILE = "listenwell_base.json"
_FINGERPRINT = "fingerprint"
_DECIDING_FILES = (
    "*.safetensors", "config.json", "tokenizer.json", "*processor_config.json", "chat_template.jinja",
    "chat_template.json",
)  # fmt: skip
_SLOW_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json")
"""Read where there is no tokenizer.json."""
Quantization = Literal["none", "8bit", "4bit"]
KEPT_PRECISE = ("lm_head", "model.audio_tower", "model.multi_modal_projector", "model.visual")
BYTES_PER_WEIGHT = {"8bit": 1.0, "4bit": 4.127 / 8}
"""4.127 bits a weight: NF4 with its doubly quantised constants (arXiv:2305.14314, section 3)."""


def write_base(out: Path, network: Any, processor: Any, description: Mapping[str, Any]) -> None:
    """Write network, processor and what they were made of as one folder that plain transformers loads."""
    with atomic_folder(out) as folder:
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
        write_checksummed(folder / BASE_FILE, {**description, _FINGERPRINT: _hash_files(folder)})


def describe_files(folder: Path | str) -> dict[str, Any]:
    """What the base in `folder` was made of; of others than this project's, where it lies, a folder or a hub id."""
    note = Path(folder) / BASE_FILE
    if isinstance(folder, str) or not note.is_file():
        return {"folder_or_id": str(folder)}
    return {name: value for name, value in read_checksummed(note, ModelError).items() if name != _FINGERPRINT}


def fingerprint(folder: Path | str, name: str, quantization: Quantization = "none") -> str:
    """The base's fingerprint (sha256); a quantised base is another base.

    Raises ModelError when a folder that this project built was changed since.
    """
    if quantization != "none":
        return hashlib.sha256(f"{fingerprint(folder, name)} {quantization}".encode()).hexdigest()
    if isinstance(folder, str):
        commit: Any = AutoConfig.from_pretrained(folder)._commit_hash
        return hashlib.sha256(f"{name}@{commit}".encode()).hexdigest()
    now, note = _hash_files(folder), folder / BASE_FILE
    if note.is_file() and (noted := read_checksummed(note, ModelError).get(_FINGERPRINT, now)) != now:
        raise ModelError(
            f"{folder}: was changed or damaged since it was built (fingerprint {now[:12]}, expected "
            f"{str(noted)[:12]}); delete the folder to have it built again, or {BASE_FILE} to use it as it is."
        )
    return now


def _hash_files(folder: Path) -> str:
    patterns = _DECIDING_FILES if (folder / "tokenizer.json").is_file() else (*_DECIDING_FILES, *_SLOW_TOKENIZER)
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return hashlib.sha256("\n".join(f"{file.name} {hash_file(file)}" for file in files).encode()).hexdigest()


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
