import pytest
import torch

from listenwell.errors import ModelError
from listenwell.model.loading import load_model, model_folder, resolve_dtype
from listenwell.model.settings import ModelConfig
from listenwell.model.small.random_models import build_random_model


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_named_precision_is_the_one_that_is_loaded(dtype):
    config = ModelConfig(name="random", dtype=dtype, device="cpu")
    model_folder(config.name)
    assert resolve_dtype(config) == dtype
    assert load_model(config).dtype == getattr(torch, dtype)


def test_automatic_precision_takes_bfloat16_only_where_the_processor_multiplies_it(monkeypatch):
    config = ModelConfig(name="random", dtype="auto", device="cpu")
    without, old = {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, {"avx2": True}
    for units, expected in [(without, "float32"), (old, "float32"), (without | {"amx_bf16": True}, "bfloat16")]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units)
        assert resolve_dtype(config) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[]"),
        ("config.json", '{"model_type": "qwen2_audio", "text_config": 3}'),
        ("tokenizer.json", '{"model": {"vocab": [1]}}'),
        ("processor_config.json", "null"),
        ("model.safetensors", "........"),
    ],
)
def test_a_broken_model_folder_is_one_sentence(tmp_path, name, content):
    folder = build_random_model(tmp_path / "model")
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=r"model: cannot be loaded as a model \("):
        load_model(ModelConfig(name=str(folder), device="cpu"))
