"""The alignment recipe: true answers, the studies' question never asked, a file that merges to the same model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import make_open_weights
from made_sounds import make_corpus
from train_alignment import (
    SHARED_PREFIX,
    AlignmentConfig,
    align,
    draw_question,
    main,
    measure,
    read_parts,
    write_alignment,
)
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from listenwell.config import Config, load_config
from listenwell.data.audio import load_waveform
from listenwell.data.clip import Clip
from listenwell.data.corpora.starter import prepare_starter
from listenwell.data.manifest import read_manifest
from listenwell.errors import ModelError
from listenwell.model.loading import aligned_groups
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.settings import ModelConfig
from listenwell.model.small.assembly import SHIPPED_ALIGNMENT, assemble, merge_alignment, read_alignment
from listenwell.model.small.random_models import build_random_model
from listenwell.random_streams import stream
from listenwell.splits.clips import prepare
from listenwell.splits.divide import DEV, Splits, divide
from listenwell.study.run import warn_of_alignment
from tests.made_starter import make_starter

PHRASES = ["a person speaking french", "dog", "drums", "rain", "speech"]
QUICK = AlignmentConfig(steps=4, batch=4, rank=2, warmup_steps=1)


def clip(label: str, category: str) -> Clip:
    return Clip("c", Path("c.wav"), 0, 1, label, "g", "r", "made", "CC0", category)


def questions(label: str, category: str, speech_share: float = 0.0) -> list:
    return [draw_question(clip(label, category), PHRASES, stream(0, i), speech_share) for i in range(400)]


@pytest.mark.parametrize(("label", "category"), [("SPEECH", "french"), ("NONSPEECH", "dog")])
def test_every_answer_is_true(label, category):
    is_true = {"speech", "a person speaking french"} if label == "SPEECH" else {"dog"}
    for question in questions(label, category) + questions(label, category, 0.4):
        if question.answer in ("yes", "no"):
            asked = {phrase for phrase in PHRASES if phrase in question.text}
            assert bool(asked & is_true) == (question.answer == "yes"), question
        else:
            assert question.answer in is_true


def test_half_of_what_is_asked_falsely_of_a_sound_is_speech():
    false = [q for q in questions("NONSPEECH", "dog") if q.answer == "no"]
    assert 0.4 < sum("spe" in q.text for q in false) / len(false) < 0.6


def test_a_share_of_the_clips_is_asked_about_speech():
    about_speech = [sum(" speech" in q.text for q in questions("SPEECH", "french", share)) for share in (0.0, 0.4)]
    assert about_speech[1] - about_speech[0] > 80


def test_the_question_of_the_studies_is_never_asked():
    study = PromptConfig().question
    assert all(q.text != study for label in ("SPEECH", "NONSPEECH") for q in questions(label, "dog"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_random_model(tmp_path_factory.mktemp("model") / "random")


def load(folder) -> Qwen2Audio:
    network = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return Qwen2Audio(network, AutoProcessor.from_pretrained(folder), "random")


def test_every_prompt_starts_with_the_shared_prefix(folder):
    processor = AutoProcessor.from_pretrained(folder)
    for layout in ("audio_first", "text_first"):
        assert prompt_text(PromptConfig(layout=layout), processor)[0].startswith(SHARED_PREFIX)


@pytest.fixture(scope="module")
def aligned(folder, tmp_path_factory):
    clips = [(clip, load_waveform(clip)) for clip in make_corpus(tmp_path_factory.mktemp("corpus"))]
    noise = stream(0, "noise").standard_normal(20_000).astype(np.float32)
    return align(load(folder), clips, [noise], QUICK)


def test_it_comes_back_from_disk_and_merges(aligned, folder, tmp_path):
    write_alignment(tmp_path / "a.safetensors", aligned)
    read = read_alignment(tmp_path / "a.safetensors")
    network = load(folder).network
    name = "model.language_model.layers.0.self_attn.q_proj"
    before = network.get_submodule(name).weight.clone()
    merge_alignment(network, read)
    pair = read.adapter.pairs[name]
    expected = before + read.adapter.scale * pair.b @ pair.a
    torch.testing.assert_close(network.get_submodule(name).weight.detach(), expected)
    assert torch.equal(network.model.multi_modal_projector.linear.bias.detach(), read.projector_bias)


def test_a_missing_or_broken_file_is_named(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    for name in ("none", "broken"):
        with pytest.raises(ModelError, match=rf"{name}\.safetensors: no alignment file there"):
            read_alignment(tmp_path / f"{name}.safetensors")


def test_the_shipped_alignment_is_small_and_says_how_it_was_made():
    assert SHIPPED_ALIGNMENT.stat().st_size < 8_000_000
    assert SHIPPED_ALIGNMENT.with_suffix(".json").is_file()
    assert (SHIPPED_ALIGNMENT.parent / "MODEL_CARD.md").is_file()


@pytest.mark.slow
def test_the_tool_aligns_measures_and_writes_what_merges_to_the_model_it_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LISTENWELL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "source").mkdir()
    prepare_starter(tmp_path / "cache", make_starter(tmp_path / "source", monkeypatch), workers=1)
    weights, out = make_open_weights(tmp_path / "weights"), tmp_path / "aligned.safetensors"
    main([str(out), "--layers", "2", "--steps", "3", "--source", str(weights)])
    printed = capsys.readouterr().out
    record = json.loads(out.with_suffix(".json").read_text())
    clips = read_manifest(next((tmp_path / "cache" / "starter").glob("*/clips.csv")))
    heard = {clip.group for clip in clips if clip.split in ("study_pool", "train")}
    assert set(record["training_groups"]) < heard
    assert record["n_training_clips"] == sum(clip.group in record["training_groups"] for clip in clips)
    assert record["layers"] == 2
    network, processor = assemble(read_parts(weights), 2)
    merge_alignment(network, read_alignment(out))
    config = Config()
    parts = divide(*prepare(config), config.data)
    again = measure(network, processor, config, parts.clips[DEV], parts)
    assert json.loads(json.dumps(again)) == record["zero_shot_on_dev_groups"]
    for name, metrics in again.items():
        assert f"{name:24} balanced accuracy {metrics[0]['value']:.3f}" in printed


def test_a_study_warns_of_test_groups_that_the_base_was_aligned_on():
    heard = sorted(aligned_groups(ModelConfig(name="small")))
    groups = {"train": ["new"], "dev": ["other"], "test": [heard[0], "another"]}
    splits = Splits(
        {split: [replace(clip("SPEECH", ""), group=group) for group in of] for split, of in groups.items()}, {}
    )
    (warning,) = warn_of_alignment(Config(), splits)
    assert warning.startswith("Test set test: the base model was aligned on 1 of the 2 groups tested")
    assert not warn_of_alignment(load_config(None, ["model.name=random"]), splits)
    folds = load_config(None, ["leave_one_out={arms: [final], over: all}"])
    assert [each.partition(":")[0] for each in warn_of_alignment(folds, splits)] == ["Test set test", "Leave one out"]
