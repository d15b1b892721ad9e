"""The engine against its references: a plain padded batch of transformers and PEFT, and each fit alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from transformers import Qwen2AudioForConditionalGeneration

from listenwell.augment.plan import AugmentConfig
from listenwell.config import change_config, load_config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.model.audio_language_model import answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.lora import Adapter, new_adapter
from listenwell.model.mel import ShortClipConfig, extract_features, log_mel
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.random_streams import stream
from listenwell.train.fit import Watch, train
from listenwell.train.fit_log import METRICS, FitLog
from listenwell.train.fit_underway import FitSpec, embed_dev

LENGTHS = (16_000, 9_001, 4_800, 31_234, 1_600)
GRID_SIX = Path(__file__).parents[1] / "configs" / "grid_six.yaml"
SHORT_CLIPS = ShortClipConfig()


@pytest.fixture(scope="module", params=["small", "qwen2_audio_7b"])
def base(request, tmp_path_factory):
    return build_random_model(tmp_path_factory.mktemp("base") / "model", request.param)


def some_clips() -> list[np.ndarray]:
    return [(0.1 * stream(0, "clip", n).standard_normal(n)).astype(np.float32) for n in LENGTHS]


def loss_of(logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of (B, 2) answers, SPEECH and NONSPEECH in turn."""
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 2)


def plain_batch(base: Path, model, adapter: Adapter) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Answers (B, 2) and the gradients of every LoRA factor, by transformers and PEFT: one batch, clips padded to
    30 s, texts padded to the longest, every position's logits over the whole vocabulary."""
    network = Qwen2AudioForConditionalGeneration.from_pretrained(base, dtype=torch.float32).eval()
    rank = next(iter(adapter.pairs.values())).a.shape[0]
    peft = get_peft_model(
        network, PeftLoraConfig(r=rank, lora_alpha=rank * adapter.scale, target_modules=sorted(adapter.pairs))
    )
    factors = {}
    for name, pair in adapter.pairs.items():
        module = peft.base_model.model.get_submodule(name)
        for key, own, theirs in (("a", pair.a, module.lora_A), ("b", pair.b, module.lora_B)):
            factors[f"{name} {key}"] = theirs["default"].weight
            theirs["default"].weight.data.copy_(own.detach())
    before, after = prompt_text(PromptConfig(), model.processor)
    model.processor.tokenizer.padding_side = "left"
    inputs = model.processor(
        text=[before + model.processor.audio_token + after] * len(LENGTHS),
        audio=some_clips(),
        sampling_rate=16_000,
        padding=True,
        return_tensors="pt",
    )
    prompt = model.prompt(PromptConfig())
    answers = peft(**inputs).logits[:, -1, [prompt.speech_id, prompt.nonspeech_id]]
    gradients = torch.autograd.grad(loss_of(answers), list(factors.values()))
    return answers.detach(), dict(zip(factors, gradients, strict=True))


def test_packed_rows_equal_a_plain_padded_batch_in_logits_and_in_every_gradient(base):
    model = load_model(ModelConfig(name=str(base), device="cpu"))
    adapter = new_adapter(
        LoraConfig(rank=4, alpha=8, dropout=0.0), model.network, model.lora_targets("both", "attention+mlp"), seed=3
    )
    with torch.no_grad():
        for name, pair in adapter.pairs.items():
            pair.b.copy_(torch.from_numpy(stream(3, "b", name).normal(0, 0.05, tuple(pair.b.shape))))
    audio = model.embed_audio([log_mel(clip, model.mel_filters) for clip in some_clips()], adapter)
    answers = model.answer_logits([audio], model.prompt(PromptConfig()), [adapter])
    names = [f"{name} {key}" for name in sorted(adapter.pairs) for key in "ab"]
    gradients = dict(zip(names, torch.autograd.grad(loss_of(answers), adapter.factors()), strict=True))
    plain_answers, plain_gradients = plain_batch(base, model, adapter)
    torch.testing.assert_close(answers.detach(), plain_answers, atol=1e-4, rtol=0)
    assert gradients.keys() == plain_gradients.keys()
    for name, gradient in gradients.items():
        size = float(plain_gradients[name].norm())
        assert size > 0, name
        assert float((gradient - plain_gradients[name]).norm()) < 1e-4 * size, name


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[list[Clip], BackgroundBank]:
    folder = tmp_path_factory.mktemp("corpus")
    clips = []
    for i in range(16):
        label, time = ("SPEECH", "NONSPEECH")[i % 2], np.arange(8000 + 900 * i) / 16_000
        rng = stream(0, "corpus", i)
        samples = np.sin(2 * np.pi * (300 + 40 * i) * time) if i % 2 == 0 else rng.standard_normal(time.size)
        path = folder / f"{i}.wav"
        soundfile.write(path, 0.2 * samples, 16_000)
        clips.append(Clip(f"c{i}", path, 0.0, time.size / 16_000, label, f"g{i}", f"r{i}", "made", "CC0"))
    soundfile.write(folder / "bed.wav", 0.1 * stream(0, "bed").standard_normal(40_000), 16_000)
    return clips, BackgroundBank([Background("bed", folder / "bed.wav", 2.5, "noise", "bed", "made", "CC0")])


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
