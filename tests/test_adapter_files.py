"""Adapters on disk: plain PEFT + transformers give the same scores, and a wrong or broken adapter is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2AudioForConditionalGeneration

from listenwell.errors import ModelError
from listenwell.model.adapter_files import read_adapter, write_adapter
from listenwell.model.audio_language_model import answer_scores
from listenwell.model.loading import load_model
from listenwell.model.lora import Adapter, new_adapter
from listenwell.model.mel import log_mel
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.random_models import build_random_model
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


@pytest.fixture(scope="module")
def model(base):
    return load_model(ModelConfig(name=str(base), device="cpu"))


def peft_score(peft, model) -> float:
    before, after = prompt_text(PromptConfig(), model.processor)
    text = before + model.processor.audio_token + after
    inputs = model.processor(text=text, audio=[CLIP], sampling_rate=16_000, return_tensors="pt")
    prompt = model.prompt(PromptConfig())
    with torch.no_grad():
        logits = peft(**inputs).logits[0, -1]
    return float(logits[prompt.speech_id] - logits[prompt.nonspeech_id])


def our_score(adapter, model) -> float:
    with torch.no_grad():
        audio = model.embed_audio([log_mel(CLIP, model.mel_filters)], adapter)
        return float(answer_scores(model, audio, model.prompt(PromptConfig()), adapter)[0])


@pytest.mark.parametrize(("scope", "projector"), [("language_model", False), ("both", True)])
def test_plain_peft_gives_the_same_score(base, model, tmp_path, scope, projector):
    config = LoraConfig(rank=4, alpha=8, scope=scope)
    adapter = trained_adapter(model, config, projector=projector)
    write_adapter(tmp_path / "adapter", adapter, config, str(base), {"base_fingerprint": model.fingerprint})
    network = Qwen2AudioForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(network, tmp_path / "adapter").eval()
    assert peft_score(theirs, model) == pytest.approx(our_score(adapter, model), abs=1e-4)
    assert abs(our_score(adapter, model) - our_score(None, model)) > 1e-2


def test_an_adapter_comes_back_as_it_was_written(base, model, tmp_path):
    adapter = trained_adapter(model, LoraConfig(rank=4), projector=True)
    write_adapter(tmp_path / "a", adapter, LoraConfig(rank=4), str(base), {"base_fingerprint": model.fingerprint})
    again, listens = read_adapter(tmp_path / "a", model)
    assert listens == {"base_fingerprint": model.fingerprint}
    assert again.scale == adapter.scale
    assert again.projector is not None
    assert torch.equal(again.projector.weight, adapter.projector.weight)
    assert all(torch.equal(again.pairs[n].b, adapter.pairs[n].b) for n in adapter.pairs)


def test_an_adapter_of_another_base_is_refused(base, model, tmp_path):
    adapter = trained_adapter(model, LoraConfig(rank=4), projector=False)
    write_adapter(tmp_path / "a", adapter, LoraConfig(rank=4), str(base), {"base_fingerprint": "0" * 64})
    with pytest.raises(ModelError, match="trained on the base 000000000000"):
        read_adapter(tmp_path / "a", model)


@pytest.mark.parametrize("broken", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_broken_adapter_is_refused(base, model, tmp_path, broken):
    adapter = trained_adapter(model, LoraConfig(rank=4), projector=False)
    write_adapter(tmp_path / "a", adapter, LoraConfig(rank=4), str(base), {})
    content = (tmp_path / "a" / broken).read_bytes()
    (tmp_path / "a" / broken).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="broken"):
        read_adapter(tmp_path / "a", model)
    (tmp_path / "a" / broken).unlink()
    with pytest.raises(ModelError, match="no " + broken):
        read_adapter(tmp_path / "a", model)


def peft_adapter(base: Path, out: Path, **settings):
    """An adapter as plain PEFT makes and saves it, with a B that is not zero, and the PEFT model it belongs to."""
    network = Qwen2AudioForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    peft = get_peft_model(network, PeftLoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ATTENTION} | settings))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                draw = stream(7, name).normal(0, 0.1, tuple(parameter.shape))
                parameter.add_(torch.from_numpy(draw).to(parameter.dtype))
    peft.save_pretrained(out, save_embedding_layers=False)
    return peft.eval()


ATTENTION = ["q_proj", "v_proj"]
"""Bare names hit the language model and the audio encoder alike."""


@pytest.mark.parametrize(
    ("settings", "n_modules"),
    [
        ({}, 8),
        ({"use_rslora": True}, 8),
        ({"target_modules": r".*language_model.*\.(q|v|up)_proj"}, 6),
        ({"modules_to_save": ["multi_modal_projector"]}, 8),
        ({"layers_to_transform": [1]}, 4),
    ],
)
def test_an_adapter_of_plain_peft_scores_the_same_here(base, model, tmp_path, settings, n_modules):
    peft = peft_adapter(base, tmp_path / "a", **settings)
    adapter, listens = read_adapter(tmp_path / "a", model)
    assert listens == {}
    assert len(adapter.pairs) == n_modules
    assert (adapter.projector is not None) == ("modules_to_save" in settings)
    assert adapter.scale == pytest.approx(8 / (math.sqrt(4) if "use_rslora" in settings else 4))
    assert our_score(adapter, model) == pytest.approx(peft_score(peft, model), abs=1e-4)


def as_transformers_4(folder: Path) -> None:
    """Give the keys the module names of transformers 4."""
    path = folder / "adapter_model.safetensors"
    before = load_file(path)
    renamed = {}
    for key, tensor in before.items():
        name = key.removeprefix("base_model.model.model.")
        if name.startswith("language_model."):
            name = name.replace("language_model.", "language_model.model.", 1)
        renamed[f"base_model.model.{name}"] = tensor
    assert len(renamed) == len(before)
    save_file(renamed, path)


@pytest.mark.parametrize("settings", [{}, {"modules_to_save": ["multi_modal_projector"]}])
def test_module_names_of_transformers_4_and_5_load_alike(base, model, tmp_path, settings):
    peft_adapter(base, tmp_path / "a", **settings)
    five, _ = read_adapter(tmp_path / "a", model)
    as_transformers_4(tmp_path / "a")
    keys = load_file(tmp_path / "a" / "adapter_model.safetensors").keys()
    assert "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.weight" in keys
    assert "base_model.model.audio_tower.layers.0.self_attn.q_proj.lora_A.weight" in keys
    four, _ = read_adapter(tmp_path / "a", model)
    assert four.pairs.keys() == five.pairs.keys()
    assert our_score(four, model) == our_score(five, model)


def test_the_adapter_of_another_base_is_refused_by_its_shapes(model, tmp_path):
    other = build_random_model(tmp_path / "other", "small" if model.network.config.text_config.model_type == "qwen2"
                               else "qwen2_audio_7b")  # fmt: skip
    peft_adapter(other, tmp_path / "a", target_modules=["k_proj"])
    with pytest.raises(ModelError, match=r"2 of 8 tensors have another shape .* it belongs to another base"):
        read_adapter(tmp_path / "a", model)


def test_a_rank_other_than_the_config_says_is_refused(base, model, tmp_path):
    peft_adapter(base, tmp_path / "a")
    change_config(tmp_path / "a", r=8)
    with pytest.raises(ModelError, match=r"16 of 16 tensors have another shape .* \(8, "):
        read_adapter(tmp_path / "a", model)


@pytest.mark.parametrize("target", ["lm_head", "linear"])
def test_targets_outside_the_layers_are_refused(base, model, tmp_path, target):
    peft_adapter(base, tmp_path / "a", target_modules=["q_proj", target])
    with pytest.raises(
        ModelError, match=r"changes 1 modules that this model does not have or listenwell does not adapt"
    ):
        read_adapter(tmp_path / "a", model)


def test_an_adapter_that_lacks_modules_it_names_is_refused(base, model, tmp_path):
    peft_adapter(base, tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    save_file({key: tensor for key, tensor in load_file(path).items() if "audio_tower.layers.1." not in key}, path)
    with pytest.raises(ModelError, match=r"holds 6 adapted modules, but its target_modules name 2 more"):
        read_adapter(tmp_path / "a", model)


def test_tensors_that_would_stay_unused_are_refused(base, model, tmp_path):
    peft_adapter(base, tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    save_file(load_file(path) | {"base_model.model.model.language_model.norm.weight": torch.ones(48)}, path)
    with pytest.raises(ModelError, match=r"1 of 17 tensors are no part of a LoRA adapter"):
        read_adapter(tmp_path / "a", model)


def change_config(folder: Path, **changes) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"bias": "all"}, "bias 'all'"),
        ({"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_name(base, model, tmp_path, change, named):
    peft_adapter(base, tmp_path / "a")
    change_config(tmp_path / "a", **change)
    with pytest.raises(ModelError, match=f"sets {named}"):
        read_adapter(tmp_path / "a", model)
