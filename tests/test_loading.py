"""From a model's name to a model: precision, broken folders, and the starter base itself."""

import pytest
import torch
from made_references import our_answers, plain_network, their_answers
from transformers import AutoProcessor

from listenwell.config import load_config
from listenwell.data.clip import LABELS
from listenwell.errors import ModelError
from listenwell.evaluate.methods import ZERO_SHOT
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_auc
from listenwell.judge.detectors import LanguageModelDetector
from listenwell.judge.score import score_clips
from listenwell.model.loading import load_model, model_folder, resolve_dtype
from listenwell.model.settings import ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.splits.clips import prepare
from listenwell.splits.divide import DEV, divide


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


@pytest.mark.network
@pytest.mark.slow
def test_the_small_model_loads_in_plain_transformers_with_the_same_logits():
    folder = model_folder("small")
    ours = load_model(ModelConfig(name=str(folder), device="cpu"))
    with torch.no_grad():
        logits = our_answers(ours)
        ours.processor = AutoProcessor.from_pretrained(folder)
        theirs = their_answers(plain_network(folder, ours), ours)
    torch.testing.assert_close(logits, theirs, atol=5e-5, rtol=0)


@pytest.mark.network
@pytest.mark.slow
def test_the_small_model_tells_speech_from_sounds_before_any_fine_tuning():
    config = load_config(None, ["model.device=cpu"])
    parts = divide(*prepare(config), config.data)
    clips = [clip for label in LABELS for clip in [c for c in parts.clips[DEV] if c.label == label][::3]]
    adapters = {ZERO_SHOT: (config.prompt, None)}
    model = load_model(config.model)
    detector = LanguageModelDetector(model, config.short_clips, adapters, config.scoring.batch_seconds)
    table = score_clips([detector], clips, parts.banks[DEV], ["clean"], config)[ZERO_SHOT]
    assert len(table) > 100
    assert roc_auc(table.score, table.is_speech) > 0.95
    assert balanced_accuracy(decide(table.score, 0.0), table.is_speech) > 0.75
