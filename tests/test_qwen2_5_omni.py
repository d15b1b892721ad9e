"""A whole Qwen2.5-Omni gives its thinker, and a study of one runs end to end. Its sums: tests/test_equality.py."""

import json

import numpy as np
import pytest
import torch
from made_references import CLIPS, our_answers
from made_sounds import make_study, study_record
from safetensors.torch import load_file, save_file

from listenwell.detect.detector import Detector
from listenwell.model.adapter_files import read_adapter
from listenwell.model.base_files import BASE_FILE
from listenwell.model.loading import load_model
from listenwell.model.lora import merge_adapter
from listenwell.model.mel import pad
from listenwell.model.settings import ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.tasks.export import export_detector
from listenwell.tasks.plan import FIT_STATE_COPIES, plan_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_random_model(tmp_path_factory.mktemp("base") / "model", "qwen2_5_omni")


@pytest.fixture(scope="module")
def model(base):
    return load_model(ModelConfig(name=str(base), device="cpu"))


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
        assert torch.equal(our_answers(thinker), our_answers(model))
    n = sum(parameter.numel() for parameter in model.network.parameters())
    plan = plan_study(make_study(tmp_path, f"model.name={folder}", "model.device=cpu", "train.projector=trained"))
    assert plan.memory["frozen base"] == 4 * n


def test_a_study_is_planned_run_and_exported(base, model, tmp_path):
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
    merged = load_model(ModelConfig(name=str(base), device="cpu"))
    merge_adapter(merged.network, read_adapter(tmp_path / "bundle" / "adapter", merged)[0])
    clips = [pad(clip, config.short_clips) for clip in CLIPS]
    with torch.no_grad():
        by_merged, bare = our_answers(merged, clips), our_answers(model, clips)
    scores = detector.scores(CLIPS)
    np.testing.assert_allclose(scores, (by_merged[:, 0] - by_merged[:, 1]).numpy(), rtol=0, atol=1e-4)
    assert np.abs(scores - (bare[:, 0] - bare[:, 1]).numpy()).max() > 1e-3
    recording = np.concatenate(CLIPS)
    found = detector.segments(recording, 16_000)
    assert all(0 <= segment.start_s < segment.end_s <= recording.size / 16_000 for segment in found)
