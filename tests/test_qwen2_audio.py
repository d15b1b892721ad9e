"""The un-padded model equals transformers' own padded forward, for every model shape the project knows."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from listenwell.config import load_config
from listenwell.data.clip import LABELS
from listenwell.errors import ModelError
from listenwell.evaluate.methods import ZERO_SHOT
from listenwell.evaluate.metrics import balanced_accuracy, decide, roc_auc
from listenwell.judge.detectors import LanguageModelDetector
from listenwell.judge.score import score_clips
from listenwell.model.loading import load_model, model_folder
from listenwell.model.mel import log_mel, n_audio_tokens
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.settings import ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.splits.clips import prepare
from listenwell.splits.divide import DEV, divide

SHAPES = ("small", "qwen2_audio_7b")
LENGTHS = (16_000, 9_001, 640, 31_234, 1_000, 16_000)


@pytest.fixture(scope="module", params=SHAPES)
def model(request, tmp_path_factory) -> Qwen2Audio:
    folder = build_random_model(tmp_path_factory.mktemp("models") / request.param, request.param)
    return load_model(ModelConfig(name=str(folder), device="cpu"))


def made_clips() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(n) * 0.1).astype(np.float32) for n in LENGTHS]


def padded_reference(model: Qwen2Audio, clip: np.ndarray, config: PromptConfig) -> torch.Tensor:
    """The two answers' logits by transformers' processor and forward: 30 s of padding, one clip, all positions."""
    prompt = model.prompt(config)
    before, after = prompt_text(config, model.processor)
    text = before + model.processor.audio_token + after
    inputs = model.processor(text=text, audio=[clip], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        logits = model.network(**inputs).logits
    return logits[0, -1, [prompt.speech_id, prompt.nonspeech_id]]


@pytest.mark.parametrize("layout", ["audio_first", "text_first"])
def test_answer_logits_equal_the_padded_reference(model, layout):
    config = PromptConfig(layout=layout)
    clips = made_clips()
    with torch.no_grad():
        audio = model.embed_audio([log_mel(clip, model.mel_filters) for clip in clips])
        ours = model.answer_logits([audio], model.prompt(config))
    for clip, row in zip(clips, ours, strict=True):
        torch.testing.assert_close(row, padded_reference(model, clip, config), atol=5e-5, rtol=0)


def test_a_clip_is_scored_the_same_alone_and_among_others(model):
    prompt = model.prompt(PromptConfig())
    clips = made_clips()
    with torch.no_grad():
        mels = [log_mel(clip, model.mel_filters) for clip in clips]
        together = model.answer_logits([model.embed_audio(mels)], prompt)
        alone = torch.cat([model.answer_logits([model.embed_audio([mel])], prompt) for mel in mels])
        two_rows = model.answer_logits([model.embed_audio(part) for part in (mels[:2], mels[2:])], prompt)
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    torch.testing.assert_close(two_rows, alone, atol=2e-5, rtol=0)


def test_a_clip_without_audio_tokens_is_refused(model):
    with pytest.raises(ModelError, match="20 ms"):
        model.embed_audio([log_mel(np.full(320, 0.1, dtype=np.float32), model.mel_filters)])
    assert n_audio_tokens(2) == 0


def test_tokens_around_the_audio_equal_the_tokens_of_the_whole_text(model):
    config = PromptConfig()
    before, after = prompt_text(config, model.processor)
    whole = model.processor.tokenizer(before + model.processor.audio_token + after)["input_ids"]
    prompt = model.prompt(config)
    assert whole == [*prompt.prefix_ids, model.processor.audio_token_id, *prompt.suffix_ids]


def test_the_tower_is_hit_only_when_its_scope_is_asked_for(model):
    language_model = model.lora_targets("language_model", "attention+mlp")
    tower = model.lora_targets("audio_tower", "attention")
    assert len(language_model) == 2 * 7
    assert len(tower) == 2 * 4
    assert all(name.startswith("model.language_model.") for name in language_model)
    assert set(model.lora_targets("both", "attention")) == {*tower, *model.lora_targets("language_model", "attention")}


@pytest.mark.network
@pytest.mark.slow
def test_the_small_model_loads_in_plain_transformers_with_the_same_logits():
    folder = model_folder("small")
    ours = load_model(ModelConfig(name=str(folder), device="cpu"))
    with torch.no_grad():
        audio = ours.embed_audio([log_mel(clip, ours.mel_filters) for clip in made_clips()])
        logits = ours.answer_logits([audio], ours.prompt(PromptConfig()))
    ours.network = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    ours.processor = AutoProcessor.from_pretrained(folder)
    for clip, row in zip(made_clips(), logits, strict=True):
        torch.testing.assert_close(row, padded_reference(ours, clip, PromptConfig()), atol=5e-5, rtol=0)


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
