"""A base in 8 or 4 bits: what is asked of transformers, what is refused, and LoRA over packed layers."""

import importlib.util

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from listenwell.errors import ConfigError, ModelError
from listenwell.model import base_files as quantization
from listenwell.model.audio_language_model import answer_scores
from listenwell.model.base_files import loading_options, quantization_config
from listenwell.model.loading import fingerprint, load_model
from listenwell.model.lora import merge_adapter, new_adapter
from listenwell.model.mel import log_mel
from listenwell.model.prompt import PromptConfig
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.random_streams import stream

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra quant (bitsandbytes)"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_random_model(tmp_path_factory.mktemp("base") / "model", "qwen2_audio_7b")


def test_four_bits_are_nf4_with_double_quantisation_computed_in_the_models_precision():
    asked = quantization_config("4bit", torch.bfloat16)
    assert (asked.load_in_4bit, asked.load_in_8bit) == (True, False)
    assert (asked.bnb_4bit_quant_type, asked.bnb_4bit_use_double_quant) == ("nf4", True)
    assert asked.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_encoder_projector_and_head_keep_their_precision_and_a_cuda_device_is_needed(base, bits):
    kept = set(quantization_config(bits, torch.float32).llm_int8_skip_modules)
    assert kept == {"lm_head", "model.audio_tower", "model.multi_modal_projector", "model.visual"}
    with pytest.raises(ConfigError, match=rf"model\.quantization is {bits}, which needs a CUDA device; .* 'cpu'"):
        load_model(ModelConfig(name=str(base), device="cpu", quantization=bits))


def test_a_missing_bitsandbytes_is_told_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"bitsandbytes is not installed; .* 'listenwell\[quant\]'"):
        loading_options("4bit", CUDA, torch.float32)


def test_a_quantised_base_is_another_base(base):
    assert len({fingerprint(base, "m", bits) for bits in ("none", "8bit", "4bit")}) == 3
    assert fingerprint(base, "m") == fingerprint(base, "m", "none")


def packed_model(base, bits) -> Qwen2Audio:
    """The base packed by bitsandbytes' CPU code, which listenwell itself does not offer."""
    network = Qwen2AudioForConditionalGeneration.from_pretrained(
        base,
        dtype=torch.float32,
        quantization_config=quantization_config(bits, torch.float32),
        device_map={"": "cpu"},
    )
    return Qwen2Audio(network, AutoProcessor.from_pretrained(base), "packed")


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_trains_over_packed_layers_and_changes_the_score(base):
    model, plain = packed_model(base, "8bit"), load_model(ModelConfig(name=str(base), device="cpu"))
    prompt = model.prompt(PromptConfig())
    targets = model.lora_targets("both", "attention+mlp")
    assert targets == plain.lora_targets("both", "attention+mlp")
    adapter = new_adapter(LoraConfig(rank=2, dropout=0.0), model.network, targets, seed=1)
    adapter.projector = model.own_projector()
    with torch.no_grad():
        for name, pair in adapter.pairs.items():
            pair.b.copy_(torch.from_numpy(stream(1, "b", name).normal(0, 0.05, tuple(pair.b.shape))))
    mels = [log_mel((0.1 * stream(0, "clip").standard_normal(9000)).astype(np.float32), model.mel_filters)]
    logits = model.answer_logits([model.embed_audio(mels, adapter)], prompt, [adapter])
    gradients = torch.autograd.grad(logits.sum(), adapter.factors())
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)
    with torch.no_grad():
        bare, packed, exact = (
            answer_scores(each, each.embed_audio(mels, own), prompt, own)[0]
            for each, own in ((model, None), (model, adapter), (plain, adapter))
        )
    assert abs(packed - bare) > 0.1
    assert packed == pytest.approx(exact, abs=0.1)  # eight bits keep the score, four would not in so small a model
    with pytest.raises(ModelError, match="modules to merge into are quantised"):
        merge_adapter(model.network, adapter)
