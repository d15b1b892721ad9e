"""Adapters on disk: plain PEFT + transformers give the same scores, and a wrong or broken adapter is refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from made_references import changed_adapter, our_answers, plain_network, save_with_peft, their_answers
from peft import PeftModel
from safetensors.torch import load_file, save_file

from listenwell.errors import ModelError
from listenwell.model.adapter_files import read_adapter, write_adapter
from listenwell.model.loading import load_model
from listenwell.model.lora import interpolate
from listenwell.model.settings import ModelConfig
from listenwell.model.small.random_models import build_random_model


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """A random model of each family, as asked for: its folder, and the model loaded."""
    known = {}

    def family(shape):
        if shape not in known:
            folder = build_random_model(tmp_path_factory.mktemp("base") / "model", shape)
            known[shape] = folder, load_model(ModelConfig(name=str(folder), device="cpu"))
        return known[shape]

    return family


@pytest.fixture(scope="module")
def base(families):
    return families("small")[0]


@pytest.fixture(scope="module")
def model(families):
    return families("small")[1]


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["qwen2_audio_7b", "qwen2_5_omni"])
@pytest.mark.parametrize(("scope", "projector"), [("language_model", False), ("both", True)])
def test_plain_peft_gives_the_same_score(families, tmp_path, shape, scope, projector):
    base, model = families(shape)
    adapter, config = changed_adapter(model, scope, projector=projector)
    write_adapter(tmp_path / "adapter", adapter, config, str(base), {"base_fingerprint": model.fingerprint})
    peft = PeftModel.from_pretrained(plain_network(base, model), tmp_path / "adapter").eval()
    with torch.no_grad():
        ours, bare, theirs = our_answers(model, adapter=adapter), our_answers(model), their_answers(peft, model)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert float((ours - bare).abs().min()) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "settings", "n_modules"),
    [
        ("small", {}, 8),
        ("qwen2_audio_7b", {"use_rslora": True}, 8),
        ("small", {"target_modules": r".*language_model.*\.(q|v|up)_proj"}, 6),
        ("qwen2_audio_7b", {"modules_to_save": ["multi_modal_projector"]}, 8),
        ("small", {"layers_to_transform": [1]}, 4),
        ("qwen2_5_omni", {"target_modules": r".*(language_model|audio_tower)\..*(q_proj|v_proj)",
                          "modules_to_save": ["audio_tower.proj"]}, 8),
    ],
)  # fmt: skip
def test_an_adapter_of_plain_peft_scores_the_same_here(families, tmp_path, shape, settings, n_modules):
    base, model = families(shape)
    peft = save_with_peft(base, model, tmp_path / "a", **settings)
    adapter, listens = read_adapter(tmp_path / "a", model)
    assert listens == {}
    assert len(adapter.pairs) == n_modules
    assert (adapter.projector is not None) == ("modules_to_save" in settings)
    assert adapter.scale == pytest.approx(8 / (math.sqrt(4) if "use_rslora" in settings else 4))
    with torch.no_grad():
        torch.testing.assert_close(our_answers(model, adapter=adapter), their_answers(peft, model), atol=1e-4, rtol=0)


def test_a_share_of_a_change_moves_all_weights_by_that_share(model):
    whole, _ = changed_adapter(model, "both", projector=True)
    name = next(iter(whole.pairs))
    base, whole_weight = model.own_projector(), whole.projector.weight.clone()
    half, all_of_it = (interpolate(whole, base, share) for share in (0.5, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(all_of_it.tensors().values(), whole.tensors().values(), strict=True))
    torch.testing.assert_close(half.pairs[name].b @ half.pairs[name].a, 0.5 * whole.pairs[name].b @ whole.pairs[name].a)
    torch.testing.assert_close(half.projector.weight, (base.weight + whole_weight) / 2)
    torch.testing.assert_close(whole.projector.weight, whole_weight)
    scores = [answer[:, 0] - answer[:, 1] for answer in (our_answers(model, adapter=a) for a in (whole, half))]
    assert not torch.allclose(*scores)


def test_an_adapter_comes_back_as_it_was_written_and_is_refused_on_another_base(base, model, tmp_path):
    adapter, config = changed_adapter(model, "language_model", projector=True)
    write_adapter(tmp_path / "a", adapter, config, str(base), {"base_fingerprint": model.fingerprint})
    again, listens = read_adapter(tmp_path / "a", model)
    assert listens == {"base_fingerprint": model.fingerprint}
    assert again.scale == adapter.scale
    assert again.tensors().keys() == adapter.tensors().keys()
    assert all(torch.equal(again.tensors()[name], tensor) for name, tensor in adapter.tensors().items())
    write_adapter(tmp_path / "a", adapter, config, str(base), {"base_fingerprint": "0" * 64})
    with pytest.raises(ModelError, match="trained on the base 000000000000"):
        read_adapter(tmp_path / "a", model)


@pytest.mark.parametrize("broken", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_broken_adapter_is_refused(base, model, tmp_path, broken):
    adapter, config = changed_adapter(model, "language_model")
    write_adapter(tmp_path / "a", adapter, config, str(base), {})
    content = (tmp_path / "a" / broken).read_bytes()
    (tmp_path / "a" / broken).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="broken"):
        read_adapter(tmp_path / "a", model)
    (tmp_path / "a" / broken).unlink()
    with pytest.raises(ModelError, match="no " + broken):
        read_adapter(tmp_path / "a", model)


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
    save_with_peft(base, model, tmp_path / "a", **settings)
    five, _ = read_adapter(tmp_path / "a", model)
    as_transformers_4(tmp_path / "a")
    keys = load_file(tmp_path / "a" / "adapter_model.safetensors").keys()
    assert "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.weight" in keys
    assert "base_model.model.audio_tower.layers.0.self_attn.q_proj.lora_A.weight" in keys
    four, _ = read_adapter(tmp_path / "a", model)
    assert four.pairs.keys() == five.pairs.keys()
    assert all(torch.equal(four.tensors()[name], tensor) for name, tensor in five.tensors().items())


@pytest.mark.parametrize("target", ["lm_head", "linear"])
def test_targets_outside_the_layers_are_refused(base, model, tmp_path, target):
    save_with_peft(base, model, tmp_path / "a", target_modules=["q_proj", target])
    with pytest.raises(ModelError, match="changes 1 modules that this model does not have or listenwell does not"):
        read_adapter(tmp_path / "a", model)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: {key: t for key, t in tensors.items() if "audio_tower.layers.1." not in key},
         "holds 6 adapted modules, but its target_modules name 2 more"),
        (lambda tensors: tensors | {"base_model.model.model.language_model.norm.weight": torch.ones(48)},
         "1 of 17 tensors are no part of a LoRA adapter"),
    ],
    ids=["too few", "too many"],
)  # fmt: skip
def test_tensors_that_lack_or_would_stay_unused_are_refused(base, model, tmp_path, change, sentence):
    save_with_peft(base, model, tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(ModelError, match=sentence):
        read_adapter(tmp_path / "a", model)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"r": 8}, r"16 of 16 tensors have another shape .* \(8, "),
        ({"use_dora": True}, "sets use_dora"),
        ({"alpha_pattern": {"q_proj": 4}}, "sets alpha_pattern"),
        ({"rank_pattern": {"q_proj": 4}}, "sets rank_pattern"),
        ({"bias": "all"}, "sets bias 'all'"),
        ({"peft_type": "IA3"}, "sets peft_type 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
    ],
)
def test_another_rank_and_what_is_more_than_plain_lora_are_refused_by_name(base, model, tmp_path, change, sentence):
    save_with_peft(base, model, tmp_path / "a")
    path = tmp_path / "a" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=sentence):
        read_adapter(tmp_path / "a", model)
