"""The engine against its references: a plain padded batch of transformers and PEFT, and each fit alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_references import CLIPS, SHAPES, changed_adapter, loss_of, our_answers, peft_gradients, their_answers
from made_sounds import make_tones

from listenwell.augment.plan import AugmentConfig
from listenwell.config import change_config, load_config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.errors import ModelError
from listenwell.model.audio_language_model import answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.mel import ShortClipConfig, extract_features, log_mel
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.settings import ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.train.fit import Watch, train
from listenwell.train.fit_log import METRICS, FitLog
from listenwell.train.fit_underway import FitSpec, embed_dev

GRID_SIX = Path(__file__).parents[1] / "configs" / "grid_six.yaml"
SHORT_CLIPS = ShortClipConfig()


@pytest.fixture(scope="module", params=SHAPES)
def base(request, tmp_path_factory):
    return build_random_model(tmp_path_factory.mktemp("base") / "model", request.param)


@pytest.fixture(scope="module")
def model(base):
    return load_model(ModelConfig(name=str(base), device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["audio_first", "text_first"])
def test_answers_equal_those_of_transformers_alone_together_and_in_two_rows(model, layout):
    config = PromptConfig(layout=layout)
    mels = [log_mel(clip, model.mel_filters) for clip in CLIPS]
    with torch.no_grad():
        together = our_answers(model, config=config)
        alone = torch.cat([our_answers(model, [clip], config=config) for clip in CLIPS])
        rows = [model.embed_audio(part) for part in (mels[:2], mels[2:])]
        in_rows = model.answer_logits(rows, model.prompt(config))
        theirs = torch.cat([their_answers(model.network, model, [clip], config) for clip in CLIPS])
        padded = their_answers(model.network, model, CLIPS, config)
    torch.testing.assert_close(together, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(together, padded, atol=1e-4, rtol=0)
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    torch.testing.assert_close(in_rows, alone, atol=2e-5, rtol=0)
    assert float(theirs.std(dim=0).min()) > 1e-2


@pytest.mark.slow
def test_packed_rows_equal_a_plain_padded_batch_in_logits_and_in_every_gradient(base, model):
    adapter, _ = changed_adapter(model, "both")
    answers = our_answers(model, adapter=adapter)
    gradients = torch.autograd.grad(loss_of(answers), adapter.factors())
    plain_answers, plain_gradients = peft_gradients(base, model, adapter)
    torch.testing.assert_close(answers.detach(), plain_answers, atol=1e-4, rtol=0)
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        assert float(plain.norm()) > 0
        assert float((gradient - plain).norm()) < 1e-4 * float(plain.norm())


def test_stacked_rows_equal_each_adapter_alone(model):
    adapters = [changed_adapter(model, scope)[0] for scope in ("language_model", "both")]
    halves = [CLIPS[:3], CLIPS[3:]]
    with torch.no_grad():
        rows = [
            model.embed_audio([log_mel(clip, model.mel_filters) for clip in clips], adapter)
            for clips, adapter in zip(halves, adapters, strict=True)
        ]
        stacked = model.answer_logits(rows, model.prompt(PromptConfig()), adapters)
        alone = torch.cat([our_answers(model, clips, a) for clips, a in zip(halves, adapters, strict=True)])
    torch.testing.assert_close(stacked, alone, atol=2e-5, rtol=0)


def test_a_clip_without_audio_tokens_is_refused(model):
    with pytest.raises(ModelError, match="20 ms"):
        model.embed_audio([log_mel(np.full(320, 0.1, dtype=np.float32), model.mel_filters)])


def test_tokens_around_the_audio_equal_the_tokens_of_the_whole_text(model):
    before, after = prompt_text(PromptConfig(), model.processor)
    whole = model.processor.tokenizer(before + model.processor.audio_token + after)["input_ids"]
    prompt = model.prompt(PromptConfig())
    assert whole == [*prompt.prefix_ids, model.processor.audio_token_id, *prompt.suffix_ids]


def test_the_encoder_is_adapted_only_when_its_scope_is_asked_for(model):
    language_model = model.lora_targets("language_model", "attention+mlp")
    encoder = model.lora_targets("audio_tower", "attention")
    assert (len(language_model), len(encoder)) == (2 * 7, 2 * 4)
    assert all(name.startswith("model.language_model.") for name in language_model)
    assert set(model.lora_targets("both", "attention")) == {
        *encoder,
        *model.lora_targets("language_model", "attention"),
    }
    assert len(model.lora_targets("both", "attention+mlp")) == 2 * 7 + 2 * 6


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[list[Clip], BackgroundBank]:
    return make_tones(tmp_path_factory.mktemp("corpus"), 16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "dropout", "tolerance"),
    [("small", "as the grid says", 1e-4), ("small", "off", 1e-5), ("qwen2_5_omni", "as the grid says", 1e-4)],
)
def test_each_fit_of_the_six_config_grid_equals_the_fit_alone_in_every_step_and_score(
    tmp_path_factory, tmp_path, corpus, shape, dropout, tolerance
):
    base = build_random_model(tmp_path_factory.mktemp("stack") / "model", shape)
    model = load_model(ModelConfig(name=str(base), device="cpu"))
    prompt, (clips, bank) = model.prompt(PromptConfig()), corpus
    mels = [extract_features(model.mel_filters, load_waveform(clip), SHORT_CLIPS) for clip in clips]
    dev = embed_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))
    grid = load_config(GRID_SIX)
    specs = []
    for number, point in enumerate(grid.search.grid):
        config = change_config(
            grid, {**point, "train.epochs": 2, "train.batch": 4, "train.clips_per_epoch": None}, "grid"
        )
        lora = config.lora if dropout != "off" else config.lora.model_copy(update={"dropout": 0.0})
        specs.append(FitSpec(str(number), lora, config.train, AugmentConfig(), number, clips, bank))
    assert len(specs) == 6

    def run(folder: Path, own: list[FitSpec]) -> list[tuple[list[float], np.ndarray]]:
        watch = Watch(logs=[FitLog(folder / spec.name) for spec in own])
        results = train(model, prompt, SHORT_CLIPS, own, [dev] * len(own), watch)
        found = []
        for spec, result in zip(own, results, strict=True):
            lines = [json.loads(line) for line in (folder / spec.name / METRICS).read_text().splitlines()]
            audio = embed_clips(model, mels, 8.0, result.adapter)
            losses = [line["loss"] for line in lines if "loss" in line]
            found.append((losses, answer_scores(model, audio, prompt, result.adapter)))
        return found

    together = run(tmp_path / "stack", specs)
    for spec, (losses, scores) in zip(specs, together, strict=True):
        ((losses_alone, scores_alone),) = run(tmp_path / "alone", [spec])
        assert len(losses) == 8
        np.testing.assert_allclose(losses, losses_alone, rtol=0, atol=tolerance)
        np.testing.assert_allclose(scores, scores_alone, rtol=0, atol=tolerance)
