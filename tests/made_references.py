"""References of the engine: transformers' padded forward and PEFT, on a random model of every family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model

from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import Adapter, new_adapter
from listenwell.model.mel import log_mel
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.settings import LoraConfig
from listenwell.random_streams import stream

SHAPES = ("small", "qwen2_audio_7b", "qwen2_5_omni")
LENGTHS = (16_000, 9_001, 32_000, 32_161, 640, 71_234, 1_000, 63_999)
"""0.04 to 4.5 s; of Qwen2.5-Omni's windows of 2 s within one, a whole one, one frame more, two less a sample, three."""
CLIPS = [(0.1 * stream(0, "clip", n).standard_normal(n)).astype(np.float32) for n in LENGTHS]
AUDIO_FIRST = PromptConfig()


def plain_network(base: Path, model: AudioLanguageModel) -> Any:
    """The base as transformers alone loads it."""
    return type(model).network_class.from_pretrained(base, dtype=torch.float32).eval()


def their_answers(
    network: Any, model: AudioLanguageModel, clips: Sequence[np.ndarray] = CLIPS, config: PromptConfig = AUDIO_FIRST
) -> torch.Tensor:
    """Answers (B, 2) of one batch, clips padded to 30 s, texts padded to the longest."""
    before, after = prompt_text(config, model.processor)
    model.processor.tokenizer.padding_side = "left"
    text = [before + model.processor.audio_token + after] * len(clips)
    inputs = model.processor(text=text, audio=list(clips), sampling_rate=16_000, padding=True, return_tensors="pt")
    prompt = model.prompt(config)
    return network(**inputs).logits[:, -1, [prompt.speech_id, prompt.nonspeech_id]]


def our_answers(
    model: AudioLanguageModel,
    clips: Sequence[np.ndarray] = CLIPS,
    adapter: Adapter | None = None,
    config: PromptConfig = AUDIO_FIRST,
) -> torch.Tensor:
    """Answers (B, 2) of one packed row."""
    audio = model.embed_audio([log_mel(clip, model.mel_filters) for clip in clips], adapter)
    return model.answer_logits([audio], model.prompt(config), [adapter] if adapter else [])


def changed_adapter(
    model: AudioLanguageModel, scope: str, *, projector: bool = False, seed: int = 3
) -> tuple[Adapter, LoraConfig]:
    """An adapter whose B is not zero, so that it changes every answer."""
    config = LoraConfig(rank=4, alpha=8, dropout=0.0, scope=scope)
    adapter = new_adapter(config, model.network, model.find_targets(config), seed)
    with torch.no_grad():
        for name, pair in adapter.pairs.items():
            pair.b.copy_(torch.from_numpy(stream(seed, "b", name).normal(0, 0.05, tuple(pair.b.shape))))
        if projector:
            adapter.projector = model.own_projector()
            adapter.projector.weight *= 1.1
            adapter.projector.bias += 0.1
    return adapter, config


def peft_gradients(base: Path, model: AudioLanguageModel, adapter: Adapter) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Answers (B, 2) and the gradients of every factor, in the order of `Adapter.factors`, by transformers and PEFT."""
    config = PeftLoraConfig(r=4, lora_alpha=4 * adapter.scale, target_modules=sorted(adapter.pairs))
    peft = get_peft_model(plain_network(base, model), config)
    factors = []
    for name in sorted(adapter.pairs):
        module = peft.base_model.model.get_submodule(name)
        for ours, theirs in ((adapter.pairs[name].a, module.lora_A), (adapter.pairs[name].b, module.lora_B)):
            theirs["default"].weight.data.copy_(ours.detach())
            factors.append(theirs["default"].weight)
    answers = their_answers(peft, model)
    return answers.detach(), list(torch.autograd.grad(loss_of(answers), factors))


def loss_of(answers: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of (B, 2) answers, SPEECH and NONSPEECH in turn."""
    return torch.nn.functional.cross_entropy(answers, torch.arange(len(answers)) % 2)


def save_with_peft(base: Path, model: AudioLanguageModel, out: Path, **settings: Any) -> Any:
    """An adapter as plain PEFT makes and saves it, with a B that is not zero, and the PEFT model it belongs to."""
    config = PeftLoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]} | settings)
    peft = get_peft_model(plain_network(base, model), config)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                draw = stream(7, name).normal(0, 0.1, tuple(parameter.shape))
                parameter.add_(torch.from_numpy(draw).to(parameter.dtype))
    peft.save_pretrained(out, save_embedding_layers=False)
    return peft.eval()
