"""Adapters on disk: plain PEFT + transformers give the same scores, and a wrong or broken adapter is refused."""

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import Qwen2AudioForConditionalGeneration

from listenwell.errors import ModelError
from listenwell.model.adapter_files import read_adapter, write_adapter
from listenwell.model.listening import answer_scores
from listenwell.model.loading import load_model
from listenwell.model.lora import Adapter, new_adapter
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.random_models import build_random_model
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.random_streams import stream

CLIP = (0.1 * stream(0, "clip").standard_normal(9000)).astype(np.float32)


@pytest.fixture(scope="module", params=["small", "qwen2_audio_7b"])
def base(request, tmp_path_factory):
    return build_random_model(tmp_path_factory.mktemp("base") / "model", request.param)


def trained_adapter(model, config: LoraConfig, *, projector: bool) -> Adapter:
    """An adapter whose B is not zero, so that it changes every answer."""
    adapter = new_adapter(config, model.network, model.lora_targets(config.scope, config.targets), seed=5)
    for name, pair in adapter.pairs.items():
        pair.a = pair.a.detach()
        pair.b = torch.from_numpy(stream(5, "b", name).normal(0, 0.1, tuple(pair.b.shape))).float()
    if projector:
        adapter.projector = model.own_projector()
        adapter.projector.weight = adapter.projector.weight.detach() * 1.1
        adapter.projector.bias = adapter.projector.bias.detach() + 0.1
    return adapter


@pytest.mark.parametrize(("scope", "projector"), [("language_model", False), ("both", True)])
def test_plain_peft_gives_the_same_score(base, tmp_path, scope, projector):
    model = load_model(ModelConfig(name=str(base), device="cpu"))
    config = LoraConfig(rank=4, alpha=8, scope=scope)
    adapter = trained_adapter(model, config, projector=projector)
    with torch.no_grad():
        ours = answer_scores(
            model, model.embed_audio([model.log_mel(CLIP)], adapter), model.prompt(PromptConfig()), adapter
        )
        bare = answer_scores(model, model.embed_audio([model.log_mel(CLIP)]), model.prompt(PromptConfig()))
    write_adapter(tmp_path / "adapter", adapter, config, str(base), {"base_fingerprint": model.fingerprint})

    network = Qwen2AudioForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(network, tmp_path / "adapter").eval()
    before, after = prompt_text(PromptConfig(), model.processor)
    inputs = model.processor(
        text=before + model.processor.audio_token + after, audio=[CLIP], sampling_rate=16_000, return_tensors="pt"
    )
    prompt = model.prompt(PromptConfig())
    with torch.no_grad():
        logits = theirs(**inputs).logits[0, -1]
    assert float(logits[prompt.speech_id] - logits[prompt.nonspeech_id]) == pytest.approx(float(ours[0]), abs=1e-4)
    assert abs(ours[0] - bare[0]) > 1e-2


def test_an_adapter_comes_back_as_it_was_written(base, tmp_path):
    model = load_model(ModelConfig(name=str(base), device="cpu"))
    adapter = trained_adapter(model, LoraConfig(rank=4), projector=True)
    write_adapter(tmp_path / "a", adapter, LoraConfig(rank=4), str(base), {"base_fingerprint": model.fingerprint})
    again, listens = read_adapter(tmp_path / "a", model.fingerprint)
    assert listens == {"base_fingerprint": model.fingerprint}
    assert again.scale == adapter.scale
    assert again.projector is not None
    assert torch.equal(again.projector.weight, adapter.projector.weight)
    assert all(torch.equal(again.pairs[n].b, adapter.pairs[n].b) for n in adapter.pairs)


def test_an_adapter_of_another_base_is_refused(base, tmp_path):
    model = load_model(ModelConfig(name=str(base), device="cpu"))
    adapter = trained_adapter(model, LoraConfig(rank=4), projector=False)
    write_adapter(tmp_path / "a", adapter, LoraConfig(rank=4), str(base), {"base_fingerprint": "0" * 64})
    with pytest.raises(ModelError, match="trained on the base 000000000000"):
        read_adapter(tmp_path / "a", model.fingerprint)


@pytest.mark.parametrize("broken", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_broken_adapter_is_refused(base, tmp_path, broken):
    model = load_model(ModelConfig(name=str(base), device="cpu"))
    adapter = trained_adapter(model, LoraConfig(rank=4), projector=False)
    write_adapter(tmp_path / "a", adapter, LoraConfig(rank=4), str(base), {})
    content = (tmp_path / "a" / broken).read_bytes()
    (tmp_path / "a" / broken).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="broken"):
        read_adapter(tmp_path / "a")
    (tmp_path / "a" / broken).unlink()
    with pytest.raises(ModelError, match="no " + broken):
        read_adapter(tmp_path / "a")
