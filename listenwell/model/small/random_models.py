"""Random two-layer models with the classes, module names and files of the real ones, built in about a second.

They know nothing, but every road the real models take (folder, processor, chat template, audio encoder,
packed rows, adapters) is the same code. "small" has the small model's classes (Llama, 80 mel bins), "qwen2_audio_7b"
the 7 B's (Qwen2, 128 mel bins), "qwen2_5_omni" those of Qwen2.5-Omni's thinker. Used by tests, dry runs
and checks of shipped configs.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from listenwell.model.base_files import write_base
from listenwell.model.small.assembly import AUDIO_TOKENS
from listenwell.random_streams import stream

RandomShape = Literal["small", "qwen2_audio_7b", "qwen2_5_omni"]
SEED = 0
_TEXT_SHAPES: dict[str, dict[str, Any]] = {
    "small": {"model_type": "llama", "num_key_value_heads": 2},
    "qwen2_audio_7b": {"model_type": "qwen2", "num_key_value_heads": 4},
}
_TEXT: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
_ENCODER: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
}
_MEL_BINS = {"small": 80, "qwen2_audio_7b": 128, "qwen2_5_omni": 128}
_OMNI_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What the template of Qwen2.5-Omni makes of audio and text; Qwen2-Audio's is written in its processor."""


def build_random_model(out: Path, shape: RandomShape = "small") -> Path:
    """Write a random model into the folder `out` and return it; the same weights each time."""
    tokenizer = byte_tokenizer()
    network = _omni(tokenizer) if shape == "qwen2_5_omni" else _qwen2_audio(tokenizer, shape)
    with torch.no_grad():
        for name, parameter in sorted(network.named_parameters()):
            draw = stream(SEED, "random_model", name).normal(0, 0.2, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(draw) + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    processor = Qwen2AudioProcessor(
        feature_extractor=WhisperFeatureExtractor(feature_size=_MEL_BINS[shape]),
        tokenizer=tokenizer,
        chat_template=_OMNI_TEMPLATE if shape == "qwen2_5_omni" else None,
    )
    write_base(out, network, processor, {"name": "random", "shape": shape, "seed": SEED})
    return out


def _qwen2_audio(tokenizer: PreTrainedTokenizerFast, shape: RandomShape) -> Qwen2AudioForConditionalGeneration:
    encoder = Qwen2AudioEncoderConfig(num_mel_bins=_MEL_BINS[shape], max_source_positions=1500, **_ENCODER)
    config = Qwen2AudioConfig(
        audio_config=encoder.to_dict(),
        text_config=_TEXT_SHAPES[shape] | _TEXT | {"vocab_size": len(tokenizer)},
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKENS[1]),
        tie_word_embeddings=False,
        dtype="float32",
    )
    return Qwen2AudioForConditionalGeneration(config)


def _omni(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """The rotary dimensions of a head, 6 of 12, are divided between time, height and width."""
    rotary = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 2, 2]}
    config = Qwen2_5OmniThinkerConfig(
        audio_config={"num_mel_bins": 128, "output_dim": _TEXT["hidden_size"], **_ENCODER},
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": _TEXT["hidden_size"],
            "fullatt_block_indexes": [0],
        },
        text_config=_TEXT | {"vocab_size": len(tokenizer), "num_key_value_heads": 2, "rope_parameters": rotary},
        audio_start_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKENS[0]),
        audio_token_index=tokenizer.convert_tokens_to_ids(AUDIO_TOKENS[1]),
        audio_end_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKENS[2]),
        vision_start_token_id=151652,  # as published; this tokenizer has no such token
        tie_word_embeddings=False,
        dtype="float32",
    )
    return Qwen2_5OmniThinkerForConditionalGeneration(config)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are bytes, with the chat and audio tokens Qwen2-Audio's template needs."""
    alphabet = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *AUDIO_TOKENS]})
    return fast
