"""From a model's name in the config to a model ready to answer.

"small" is the starter base, built into the cache on first use; "random" a two-layer dry-run model; anything else a
local folder or a hub id. Bases are told apart by their fingerprint (listenwell.model.base_files), so the starter base
can never be mistaken for another one.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, Qwen2AudioProcessor

from listenwell.errors import ModelError
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.base_files import describe_files, fingerprint, loading_options
from listenwell.model.qwen2_5_omni import Qwen25Omni
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.settings import ModelConfig
from listenwell.model.small.assembly import (
    DEFAULT_LAYERS,
    SHIPPED_ALIGNMENT,
    SMOLLM2_135M_INSTRUCT,
    WHISPER_BASE,
    build_small_model,
)
from listenwell.model.small.random_models import build_random_model
from listenwell.storage.load_or_make import cache_root, hash_file, one_maker

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_CPU_BFLOAT16 = {"avx512_bf16", "amx_bf16", "arm_bf16"}
"""Names that torch.cpu gives to units that multiply bfloat16."""


FAMILIES: dict[str, type[AudioLanguageModel]] = {
    "qwen2_audio": Qwen2Audio,
    "qwen2_5_omni": Qwen25Omni,
    "qwen2_5_omni_thinker": Qwen25Omni,
}
"""By the model_type of config.json. Of a whole Qwen2.5-Omni only the thinker is built; talker and token2wav, which make
sound, are not read."""


def load_model(config: ModelConfig) -> AudioLanguageModel:
    """Return the model named by `config`, on its device, in its precision, frozen.

    Raises ModelError when the folder or hub id is no model of a known family, or the device is not there, ConfigError
    when it is to be quantised and cannot be.
    """
    quiet_transformers()
    device, dtype = resolve_device(config.device), _DTYPES[resolve_dtype(config)]
    quantised = loading_options(config.quantization, device, dtype)
    folder = model_folder(config.name)
    try:
        family = family_of(config.name, AutoConfig.from_pretrained(folder))
        # weights in other files are pickles, and stand in no fingerprint
        network, report = family.network_class.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, use_safetensors=True, **quantised
        )
        processor = load_processor(folder)
    except ModelError:
        raise
    except Exception as error:  # what transformers raises for a broken file is of any kind, Exception itself too
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{config.name}: cannot be loaded as a model ({reason}); give 'small', a folder that transformers can "
            "load, or a hub id such as Qwen/Qwen2-Audio-7B-Instruct with the hub within reach."
        ) from error
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong:
        raise ModelError(f"{config.name}: its weights do not fit the model exactly ({wrong}); use another version.")
    # quantised weights were put on the device as they were packed
    network = network if quantised else network.to(device)
    return family(network, processor, fingerprint(folder, config.name, config.quantization))


def family_of(name: str, described: PreTrainedConfig) -> type[AudioLanguageModel]:
    """The family of the model called `name`, by its config. Raises ModelError for an unknown one."""
    if described.model_type not in FAMILIES:
        raise ModelError(
            f"{name}: holds a '{described.model_type}' model; one of {', '.join(sorted(FAMILIES))} was expected."
        )
    return FAMILIES[described.model_type]


def empty_network(name: str, described: PreTrainedConfig) -> PreTrainedModel:
    """The network that `load_model` would fill, without weights: shapes only."""
    network = family_of(name, described).network_class
    with torch.device("meta"):
        empty: PreTrainedModel = network(getattr(described, "thinker_config", described))
    return empty


def load_processor(folder: Path | str) -> Any:
    """Feature extractor, tokenizer and chat template of any family.

    Qwen2-Audio's processor makes of audio and text what Qwen2.5-Omni's makes; that one also wants image and video
    processors, and with them torchvision.
    """
    return Qwen2AudioProcessor.from_pretrained(folder)


def model_folder(name: str) -> Path | str:
    """Return where the model lies: "small" and "random" are built into the cache when missing; a hub id stays one."""
    if name in ("small", "random"):
        folder = cache_root() / "models" / (f"small-{small_model_key()}" if name == "small" else "random")
        if not folder.is_dir():
            with one_maker(folder):
                if not folder.is_dir():
                    _ = build_small_model(folder, cache_root()) if name == "small" else build_random_model(folder)
        return folder
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise ModelError(f"{name}: no such folder; give 'small', an existing model folder, or a hub id OWNER/NAME.")
    return name


def small_model_key() -> str:
    """A key of everything the starter base is made of: both weight files, the depth and the shipped alignment."""
    parts = [part.member_sha256 for part in (*WHISPER_BASE, SMOLLM2_135M_INSTRUCT)]
    parts.append(str(DEFAULT_LAYERS))
    parts.append(hash_file(SHIPPED_ALIGNMENT))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def aligned_groups(config: ModelConfig) -> frozenset[str]:
    """The groups of the starter corpus that the alignment of the starter base trained on; none of another base."""
    if config.name != "small":
        return frozenset()
    record = json.loads(SHIPPED_ALIGNMENT.with_suffix(".json").read_text(encoding="utf-8"))
    return frozenset(record["training_groups"])


def describe_base(config: ModelConfig) -> dict[str, Any]:
    """What a reader must know of the base: whether it is the starter base, what it was made of, and its hub ids."""
    folder = model_folder(config.name)
    hub_ids = [folder] if isinstance(folder, str) else []
    if config.name == "small":
        hub_ids = [WHISPER_BASE[0].hub_id, SMOLLM2_135M_INSTRUCT.hub_id]
    return {"is_starter_base": config.name == "small", "description": describe_files(folder), "hub_ids": hub_ids}


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA when it is there, otherwise the CPU.

    Raises ModelError for a device this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device '{name}' is no device name; give auto, cpu, cuda or cuda:1.") from error
    sees = f"device '{name}': torch {torch.__version__} sees"
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and not n_cuda:
        raise ModelError(f"{sees} no CUDA device; use cpu or auto.")
    if device.type == "cuda" and (device.index or 0) >= n_cuda:
        raise ModelError(f"{sees} CUDA devices up to cuda:{n_cuda - 1} only; use one of these, cpu or auto.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"{sees} no Metal (mps) device; use cpu or auto.")
    return device


def resolve_dtype(config: ModelConfig) -> str:
    """The precision the weights are loaded in: "float32" or "bfloat16"; "auto" takes the faster one of the device."""
    if config.dtype != "auto":
        return config.dtype
    device = resolve_device(config.device)
    if device.type == "cpu":
        has_units = any(has for name, has in torch.cpu.get_capabilities().items() if name in _CPU_BFLOAT16)
    else:
        has_units = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_units else "float32"


def quiet_transformers() -> None:
    """Progress and notices are listenwell's to show; transformers' bars and advice on stderr are switched off."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
