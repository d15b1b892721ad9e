"""Qwen2.5-Omni's thinker through the engine equals transformers' own forward and PEFT, alone and stacked."""

import json

import numpy as np
import pytest
import torch
from made_sounds import make_study, study_record
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from listenwell.detect.detector import Detector
from listenwell.errors import ModelError
from listenwell.model.adapter_files import read_adapter, write_adapter
from listenwell.model.base_files import BASE_FILE
from listenwell.model.loading import load_model
from listenwell.model.lora import Adapter, new_adapter
from listenwell.model.mel import log_mel, pad
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.qwen2_5_omni import Qwen25Omni
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.random_streams import stream
from listenwell.tasks.export import export_detector, export_merged
from listenwell.tasks.plan import FIT_STATE_COPIES, plan_study

LENGTHS = (16_000, 9_001, 32_000, 32_161, 640, 71_234, 1_000, 63_999)
"""0.04 to 4.5 s: within one window of 2 s, a whole one, one frame more, two less a sample, three."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_random_model(tmp_path_factory.mktemp("base") / "model", "qwen2_5_omni")


@pytest.fixture(scope="module")
def model(base):
    loaded = load_model(ModelConfig(name=str(base), device="cpu"))
    assert isinstance(loaded, Qwen25Omni)
    return loaded


def some_clips() -> list[np.ndarray]:
    return [(0.1 * stream(0, "clip", n).standard_normal(n)).astype(np.float32) for n in LENGTHS]


def inputs_of(model, clips, config: PromptConfig) -> dict[str, torch.Tensor]:
    """What transformers' forward is given: spectrograms padded to 30 s, texts padded to the longest."""
    before, after = prompt_text(config, model.processor)
    model.processor.tokenizer.padding_side = "left"
    return model.processor(
        text=[before + model.processor.audio_token + after] * len(clips),
        audio=clips,
        sampling_rate=16_000,
        padding=True,
        return_tensors="pt",
    )


def changed_adapter(model, scope: str, *, projector: bool = False) -> tuple[Adapter, LoraConfig]:
    """An adapter whose B is not zero, so that it changes every answer."""
    config = LoraConfig(rank=4, alpha=8, dropout=0.0, scope=scope)
    adapter = new_adapter(config, model.network, model.lora_targets(scope, config.targets), seed=3)
    with torch.no_grad():
        for name, pair in adapter.pairs.items():
            pair.b.copy_(torch.from_numpy(stream(3, "b", name).normal(0, 0.05, tuple(pair.b.shape))))
        if projector:
            adapter.projector = model.own_projector()
            adapter.projector.weight *= 1.1
            adapter.projector.bias += 0.1
    return adapter, config


def our_answers(model, clips, adapter: Adapter | None = None) -> torch.Tensor:
    audio = model.embed_audio([log_mel(clip, model.mel_filters) for clip in clips], adapter)
    return model.answer_logits([audio], model.prompt(PromptConfig()), [adapter] if adapter else [])


def their_answers(network, model, clips, config: PromptConfig) -> torch.Tensor:
    prompt = model.prompt(config)
    logits = network(**inputs_of(model, clips, config)).logits
    return logits[:, -1, [prompt.speech_id, prompt.nonspeech_id]]


@pytest.mark.parametrize("layout", ["audio_first", "text_first"])
def test_answers_equal_those_of_transformers_alone_and_together(model, layout):
    config = PromptConfig(layout=layout)
    clips = some_clips()
    prompt = model.prompt(config)
    with torch.no_grad():
        mels = [log_mel(clip, model.mel_filters) for clip in clips]
        together = model.answer_logits([model.embed_audio(mels)], prompt)
        alone = torch.cat([model.answer_logits([model.embed_audio([mel])], prompt) for mel in mels])
        theirs = torch.cat([their_answers(model.network, model, [clip], config) for clip in clips])
        padded = their_answers(model.network, model, clips, config)
    torch.testing.assert_close(together, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(together, padded, atol=1e-4, rtol=0)
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)
    assert float(theirs.std(dim=0).min()) > 1e-2


def test_every_gradient_equals_that_of_transformers_and_peft(base, model):
    adapter, _ = changed_adapter(model, "both")
    network = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(base, dtype=torch.float32).eval()
    peft = get_peft_model(network, PeftLoraConfig(r=4, lora_alpha=8, target_modules=sorted(adapter.pairs)))
    factors = []
    for name in sorted(adapter.pairs):
        module = peft.base_model.model.get_submodule(name)
        for own, theirs in ((adapter.pairs[name].a, module.lora_A), (adapter.pairs[name].b, module.lora_B)):
            theirs["default"].weight.data.copy_(own.detach())
            factors.append(theirs["default"].weight)

    def loss_of(answers: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(answers, torch.arange(len(answers)) % 2)

    ours = torch.autograd.grad(loss_of(our_answers(model, some_clips(), adapter)), adapter.factors())
    theirs = torch.autograd.grad(loss_of(their_answers(peft, model, some_clips(), PromptConfig())), factors)
    for own, other in zip(ours, theirs, strict=True):
        assert float(other.norm()) > 0
        assert float((own - other).norm()) < 1e-4 * float(other.norm())


@pytest.mark.parametrize(("scope", "projector"), [("language_model", False), ("both", True)])
def test_plain_peft_reads_our_adapter(base, model, tmp_path, scope, projector):
    adapter, config = changed_adapter(model, scope, projector=projector)
    write_adapter(tmp_path / "adapter", adapter, config, str(base), {"base_fingerprint": model.fingerprint})
    network = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    peft = PeftModel.from_pretrained(network, tmp_path / "adapter").eval()
    with torch.no_grad():
        ours, bare = our_answers(model, some_clips(), adapter), our_answers(model, some_clips())
        theirs = their_answers(peft, model, some_clips(), PromptConfig())
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert float((ours - bare).abs().min()) > 1e-4


@pytest.mark.parametrize("saved", [None, ["audio_tower.proj"]])
def test_an_adapter_of_plain_peft_is_read(base, model, tmp_path, saved):
    network = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    targets = r".*(language_model|audio_tower)\..*(q_proj|v_proj)"
    peft = get_peft_model(network, PeftLoraConfig(r=4, lora_alpha=8, target_modules=targets, modules_to_save=saved))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                draw = stream(7, name).normal(0, 0.1, tuple(parameter.shape))
                parameter.add_(torch.from_numpy(draw).to(parameter.dtype))
    peft.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    adapter, _ = read_adapter(tmp_path / "adapter", model)
    assert (adapter.projector is not None) == (saved is not None)
    with torch.no_grad():
        theirs = their_answers(peft.eval(), model, some_clips(), PromptConfig())
        torch.testing.assert_close(our_answers(model, some_clips(), adapter), theirs, atol=1e-4, rtol=0)


def test_stacked_rows_equal_each_adapter_alone(model):
    adapters = [changed_adapter(model, scope)[0] for scope in ("language_model", "both")]
    halves = [some_clips()[:3], some_clips()[3:]]
    prompt = model.prompt(PromptConfig())
    with torch.no_grad():
        rows = [
            model.embed_audio([log_mel(clip, model.mel_filters) for clip in clips], adapter)
            for clips, adapter in zip(halves, adapters, strict=True)
        ]
        stacked = model.answer_logits(rows, prompt, adapters)
        alone = torch.cat([our_answers(model, clips, a) for clips, a in zip(halves, adapters, strict=True)])
    torch.testing.assert_close(stacked, alone, atol=2e-5, rtol=0)


def test_only_tower_and_language_model_are_adapted(model):
    names = model.lora_targets("both", "attention+mlp")
    assert len(names) == 2 * 7 + 2 * 6
    assert not any("visual" in name or name.endswith("audio_tower.proj") for name in names)
    assert len(model.lora_targets("audio_tower", "attention")) == 2 * 4


def test_a_clip_without_audio_tokens_is_refused(model):
    with pytest.raises(ModelError, match="20 ms"):
        model.embed_audio([log_mel(np.full(320, 0.1, dtype=np.float32), model.mel_filters)])


def whole_omni(base, folder):
    """A folder as the published ones are: thinker, talker and token2wav in one file, configs nested."""
    folder.mkdir()
    for file in base.iterdir():
        if file.name not in ("model.safetensors", "config.json", BASE_FILE):
            (folder / file.name).write_bytes(file.read_bytes())
    tensors = {f"thinker.{name}": tensor for name, tensor in load_file(base / "model.safetensors").items()}
    others = {"talker.model.norm.weight": torch.zeros(3), "token2wav.code2wav_dit_model.norm.weight": torch.zeros(2)}
    save_file(tensors | others, folder / "model.safetensors", metadata={"format": "pt"})
    described = json.loads((base / "config.json").read_text())
    parts = {"model_type": "qwen2_5_omni", "thinker_config": described, "talker_config": {}, "token2wav_config": {}}
    (folder / "config.json").write_text(json.dumps(parts))
    return folder


def test_a_whole_omni_gives_its_thinker(base, model, tmp_path):
    folder = whole_omni(base, tmp_path / "whole")
    thinker = load_model(ModelConfig(name=str(folder), device="cpu"))
    assert not any("talker" in name or "token2wav" in name for name, _ in thinker.network.named_parameters())
    with torch.no_grad():
        assert torch.equal(our_answers(thinker, some_clips()), our_answers(model, some_clips()))
    n = sum(parameter.numel() for parameter in model.network.parameters())
    plan = plan_study(make_study(tmp_path, f"model.name={folder}", "model.device=cpu", "train.projector=trained"))
    assert plan.memory["frozen base"] == 4 * n


def test_a_study_is_planned_run_exported_and_merged(base, model, tmp_path):
    settings = ("lora.scope=both", "train.projector=trained", "train.epochs=1", "model.device=cpu")
    config = make_study(tmp_path, f"model.name={base}", *settings)
    planned = plan_study(config).memory
    results = study_record(config)
    assert {row["method"] for row in results["rows"]} == {"zero-shot", "fine-tuned", "webrtc"}
    (weights,) = config.output.rglob("adapter_model.safetensors")
    n_trained = sum(tensor.numel() for tensor in load_file(weights).values())
    assert planned["adapters and optimiser of 1 fits"] == 4 * FIT_STATE_COPIES * n_trained

    export_detector(config.output, tmp_path / "bundle", n_recordings=1, recording_s=6.0)
    detector = Detector.load(tmp_path / "bundle", device="cpu", dtype="float32")
    export_merged(config.output, tmp_path / "merged")
    merged = load_model(ModelConfig(name=str(tmp_path / "merged"), device="cpu"))
    clips = [pad(clip, config.short_clips) for clip in some_clips()]
    with torch.no_grad():
        by_merged, bare = our_answers(merged, clips), our_answers(model, clips)
    scores = detector.scores(some_clips())
    np.testing.assert_allclose(scores, (by_merged[:, 0] - by_merged[:, 1]).numpy(), rtol=0, atol=1e-4)
    assert np.abs(scores - (bare[:, 0] - bare[:, 1]).numpy()).max() > 1e-3
    recording = np.concatenate(some_clips())
    found = detector.segments(recording, 16_000)
    assert all(0 <= segment.start_s < segment.end_s <= recording.size / 16_000 for segment in found)
