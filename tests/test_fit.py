"""The training loop, on a random two-layer model and sounds made in code."""

import itertools

import numpy as np
import pytest
import soundfile
import torch

from listenwell.augment.plan import AugmentConfig
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.errors import ConfigError, ModelError, TrainingError
from listenwell.model.listening import answer_scores, embed_clips, hear
from listenwell.model.loading import load_model
from listenwell.model.lora import new_adapter
from listenwell.model.prompt import PromptConfig
from listenwell.model.random_models import build_random_model
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.short_clips import ShortClipConfig
from listenwell.train.fit import DevSet, FitSpec, draw_epoch, hear_dev, train
from listenwell.train.schedule import rate_share
from listenwell.train.settings import TrainConfig

SHORT_CLIPS = ShortClipConfig()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = build_random_model(tmp_path_factory.mktemp("model"))
    return load_model(ModelConfig(name=str(folder), device="cpu"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[list[Clip], BackgroundBank]:
    """Tones are SPEECH, noises NONSPEECH: separable, so a fit that learns must get better."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(24):
        is_tone = i % 2 == 0
        time = np.arange(8000 + 400 * i) / 16_000
        samples = np.sin(2 * np.pi * (300 + 40 * i) * time) if is_tone else rng.standard_normal(time.size)
        soundfile.write(folder / f"{i}.wav", 0.2 * samples, 16_000)
        label = "SPEECH" if is_tone else "NONSPEECH"
        clips.append(
            Clip(
                f"c{i}",
                folder / f"{i}.wav",
                0.0,
                time.size / 16_000,
                label,
                f"g{i // 4}{label}",
                f"r{i}",
                "made",
                "CC0",
            )
        )
    soundfile.write(folder / "bed.wav", 0.1 * rng.standard_normal(40_000), 16_000)
    return clips, BackgroundBank([Background("bed", folder / "bed.wav", 2.5, "noise", "bed", "made", "CC0")])


def spec(corpus, name="fit", seed=1, lora=None, augment=None, **train_fields) -> FitSpec:
    clips, bank = corpus
    fields = {"epochs": 2, "batch": 8, "learning_rate": 3e-3} | train_fields
    return FitSpec(
        name, lora or LoraConfig(rank=4), TrainConfig(**fields), augment or AugmentConfig(), seed, clips, bank
    )


def dev_set(model, corpus) -> DevSet:
    clips, _ = corpus
    mels = [hear(model, load_waveform(clip), SHORT_CLIPS) for clip in clips]
    return hear_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))


def fit(model, corpus, *specs):
    return train(model, model.prompt(PromptConfig()), SHORT_CLIPS, specs, dev_set(model, corpus))


def scores_of(model, corpus, result) -> np.ndarray:
    audio = embed_clips(model, dev_set(model, corpus).mels, 8.0, result.adapter)
    return answer_scores(model, audio, model.prompt(PromptConfig()), result.adapter)


def test_a_fit_learns_what_separates_the_classes(model, corpus):
    (result,) = fit(model, corpus, spec(corpus, epochs=12, learning_rate=1e-2))
    assert result.history[-1]["dev_loss"] < 0.5 * result.history[0]["dev_loss"]
    assert result.history[result.best_epoch - 1]["dev_loss"] == min(epoch["dev_loss"] for epoch in result.history)


def test_the_same_fit_twice_gives_the_same_bits_with_any_number_of_workers(model, corpus):
    first, again = (fit(model, corpus, spec(corpus, workers=n))[0] for n in (0, 3))
    assert np.array_equal(scores_of(model, corpus, first), scores_of(model, corpus, again))
    assert first.history == again.history


def test_another_seed_is_another_fit(model, corpus):
    one, two = (fit(model, corpus, spec(corpus, seed=seed))[0] for seed in (1, 2))
    assert np.abs(scores_of(model, corpus, one) - scores_of(model, corpus, two)).max() > 1e-3
    assert one.plans != two.plans


def test_a_fit_in_a_stack_equals_the_fit_alone(model, corpus):
    different = [
        spec(corpus, "a", seed=1, lora=LoraConfig(rank=4)),
        spec(corpus, "b", seed=2, lora=LoraConfig(rank=8, alpha=16, dropout=0.1), epochs=3, batch=5),
        spec(corpus, "c", seed=1, lora=LoraConfig(rank=2, targets="attention"), projector="trained", schedule="linear"),
        spec(corpus, "d", seed=4, lora=LoraConfig(rank=2, scope="both"), epochs=1),
    ]
    stacked = fit(model, corpus, *different)
    for one, together in zip(different, stacked, strict=True):
        (alone,) = fit(model, corpus, one)
        assert together.plans == alone.plans
        np.testing.assert_allclose(scores_of(model, corpus, together), scores_of(model, corpus, alone), atol=1e-4)


def test_accumulation_equals_the_larger_batch_without_dropout(model, corpus):
    lora = LoraConfig(rank=4, dropout=0.0)
    (large,) = fit(model, corpus, spec(corpus, lora=lora, batch=8))
    (small,) = fit(model, corpus, spec(corpus, lora=lora, batch=4, accumulation=2))
    np.testing.assert_allclose(scores_of(model, corpus, large), scores_of(model, corpus, small), atol=1e-4)


def test_training_leaves_the_base_as_it_was(model, corpus):
    before = {name: parameter.clone() for name, parameter in model.network.named_parameters()}
    fit(model, corpus, spec(corpus, projector="trained"))
    assert all(torch.equal(before[name], parameter) for name, parameter in model.network.named_parameters())


def test_an_epoch_takes_half_of_each_label_and_groups_in_turn(corpus):
    clips, _ = corpus
    drawn = draw_epoch(clips, 12, seed=3, epoch=1)
    assert sum(clip.label == "SPEECH" for clip in drawn) == 6
    assert len({clip.clip_id for clip in drawn}) == 12
    assert {clip.group for clip in drawn} == {clip.group for clip in clips}


def test_a_warm_up_longer_than_the_run_is_refused(model, corpus):
    with pytest.raises(ConfigError, match="6 optimiser steps"):
        fit(model, corpus, spec(corpus, warmup_steps=6))


def test_a_loss_that_leaves_the_numbers_stops_the_fit_and_names_the_clips(model, corpus):
    with pytest.raises(TrainingError, match=r"fit 'fit', step \d+: the (loss|gradient) is (nan|inf) on the clips c\d+"):
        fit(
            model,
            corpus,
            spec(corpus, epochs=40, learning_rate=1e18, projector="trained", projector_learning_rate=1e30),
        )


def test_rank_zero_is_refused_by_the_config():
    with pytest.raises(ValueError, match="rank"):
        LoraConfig(rank=0)


def test_targets_that_hit_nothing_are_refused(model):
    with pytest.raises(ModelError, match="hit no module"):
        new_adapter(LoraConfig(), model.network, [], seed=0)


def test_the_schedule_rises_to_its_peak_and_falls_to_zero():
    shares = [rate_share(step, 10, 2, "linear") for step in range(11)]
    assert shares[1] == 1.0
    assert shares[0] == 0.5
    assert shares[10] == 0.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares[1:]))
