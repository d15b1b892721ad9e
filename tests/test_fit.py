"""The training loop, on a random two-layer model and sounds made in code."""

import itertools
import json
import re
import signal

import numpy as np
import pytest
import torch
from made_sounds import make_tones
from threadpoolctl import threadpool_info, threadpool_limits

from listenwell.augment.plan import AugmentConfig
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.errors import ConfigError, TrainingError
from listenwell.evaluate.probabilities import calibrated_loss
from listenwell.model.audio_language_model import answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.model.prompt import PromptConfig
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.train.checkpoint import Checkpoints
from listenwell.train.fit import FailedFit, StoppedError, Watch, train
from listenwell.train.fit_log import METRICS, PLANS, FitLog
from listenwell.train.fit_underway import DevSet, FitSpec, embed_dev
from listenwell.train.loader import draw_epoch
from listenwell.train.settings import TrainConfig, learning_rate_factor

pytestmark = pytest.mark.slow

SHORT_CLIPS = ShortClipConfig()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = build_random_model(tmp_path_factory.mktemp("model"))
    return load_model(ModelConfig(name=str(folder), device="cpu"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[list[Clip], BackgroundBank]:
    return make_tones(tmp_path_factory.mktemp("corpus"), 24)


def spec(corpus, name="fit", seed=1, lora=None, augment=None, **train_fields) -> FitSpec:
    clips, bank = corpus
    fields = {"epochs": 2, "batch": 8, "learning_rate": 3e-3} | train_fields
    return FitSpec(
        name, lora or LoraConfig(rank=4), TrainConfig(**fields), augment or AugmentConfig(), seed, clips, bank
    )


def dev_set(model, corpus) -> DevSet:
    clips, _ = corpus
    mels = [extract_features(model.mel_filters, load_waveform(clip), SHORT_CLIPS) for clip in clips]
    return embed_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))


def fit(model, corpus, *specs, watch=None):
    return train(model, model.prompt(PromptConfig()), SHORT_CLIPS, specs, [dev_set(model, corpus)] * len(specs), watch)


def logs_for(folder, specs) -> list[FitLog]:
    return [FitLog(folder / one.name) for one in specs]


def plans_of(log: FitLog) -> str:
    return (log.folder / PLANS).read_text()


def metrics_of(log: FitLog) -> list[dict]:
    return [json.loads(line) for line in (log.folder / METRICS).read_text().splitlines()]


def scores_of(model, corpus, result) -> np.ndarray:
    audio = embed_clips(model, dev_set(model, corpus).mels, 8.0, result.adapter)
    return answer_scores(model, audio, model.prompt(PromptConfig()), result.adapter)


def test_a_fit_learns_what_separates_the_classes(model, corpus):
    (result,) = fit(model, corpus, spec(corpus, epochs=12, learning_rate=1e-2))
    assert result.history[-1]["dev_loss"] < 0.5 * np.log(2)  # half of what guessing costs
    lowest = min(epoch["dev_loss"] for epoch in result.history)
    assert result.history[result.best_epoch - 1]["dev_loss"] == lowest
    of_dev = calibrated_loss(scores_of(model, corpus, result), dev_set(model, corpus).is_speech)
    assert lowest == pytest.approx(of_dev, abs=1e-6)


def test_the_same_fit_twice_gives_the_same_bits_with_any_number_of_workers(model, corpus):
    augment = AugmentConfig.model_validate({"pitch": {"probability": 0.5}})
    first, again = (fit(model, corpus, spec(corpus, augment=augment, workers=n))[0] for n in (0, 2))
    assert np.array_equal(scores_of(model, corpus, first), scores_of(model, corpus, again))
    assert first.history == again.history


def test_numpy_computes_on_one_thread_while_a_fit_trains(model, corpus):
    seen: set[int] = set()

    def look(progress) -> None:
        seen.update(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")

    with threadpool_limits(2):
        fit(model, corpus, spec(corpus), watch=Watch(look))
    assert seen == {1}


def test_another_seed_is_another_fit(model, corpus, tmp_path):
    specs = [spec(corpus, str(seed), seed=seed) for seed in (1, 2)]
    logs = logs_for(tmp_path, specs)
    one, two = fit(model, corpus, *specs, watch=Watch(logs=logs))
    assert np.abs(scores_of(model, corpus, one) - scores_of(model, corpus, two)).max() > 1e-3
    assert plans_of(logs[0]) != plans_of(logs[1])


def test_a_fit_in_a_stack_equals_the_fit_alone(model, corpus, tmp_path):
    different = [
        spec(corpus, "a", seed=1, lora=LoraConfig(rank=4)),
        spec(corpus, "b", seed=2, lora=LoraConfig(rank=8, alpha=16, dropout=0.1), epochs=3, batch=5),
        spec(corpus, "c", seed=1, lora=LoraConfig(rank=2, targets="attention"), projector="trained", schedule="linear"),
        spec(corpus, "d", seed=4, lora=LoraConfig(rank=2, scope="both"), epochs=1),
    ]
    logs = logs_for(tmp_path / "stack", different)
    stacked = fit(model, corpus, *different, watch=Watch(logs=logs))
    for one, together, log in zip(different, stacked, logs, strict=True):
        own = FitLog(tmp_path / "alone" / one.name)
        (alone,) = fit(model, corpus, one, watch=Watch(logs=[own]))
        assert plans_of(log) == plans_of(own)
        np.testing.assert_allclose(scores_of(model, corpus, together), scores_of(model, corpus, alone), atol=1e-4)


def first_clips(corpus, n_clips):
    clips, bank = corpus
    return clips[:n_clips], bank


# of 24, 20 and 7 clips the last step of an epoch holds 8, 4 (a batch of 4, or half a batch of 8) and 1
@pytest.mark.parametrize(
    ("n_clips", "batch", "accumulation", "class_weights"),
    [(24, 4, 2, "none"), (20, 2, 4, "balanced"), (7, 3, 2, "none"), (23, 3, 4, "balanced")],
)
def test_accumulation_equals_the_larger_batch_without_dropout(
    model, corpus, tmp_path, n_clips, batch, accumulation, class_weights
):
    few = first_clips(corpus, n_clips)
    fields = {"lora": LoraConfig(rank=4, dropout=0.0), "class_weights": class_weights}
    specs = [
        spec(few, "large", batch=batch * accumulation, **fields),
        spec(few, "small", batch=batch, accumulation=accumulation, **fields),
    ]
    logs = logs_for(tmp_path, specs)
    large, small = (fit(model, corpus, one, watch=Watch(logs=[log]))[0] for one, log in zip(specs, logs, strict=True))
    np.testing.assert_allclose(scores_of(model, corpus, large), scores_of(model, corpus, small), atol=1e-4)
    noted = [metrics_of(log) for log in logs]
    assert sum("loss" in line for line in noted[0]) == 2 * -(-n_clips // (batch * accumulation))
    for one, other in zip(*noted, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


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


def checkpoints(folder, every_steps=1) -> Checkpoints:
    return Checkpoints(folder, "identity", every_steps)


class KilledError(Exception):
    """Stands for a kill: nothing of the loop's own runs after it."""


def kill_at(step):
    def watch(progress):
        if progress.step == step:
            raise KilledError

    return watch


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_killed_stack_goes_on_to_the_same_bits(model, corpus, tmp_path, step):
    # rounds 5 to 8 of an epoch of b are its last step, of 10 clips
    specs = [
        spec(corpus, "a", epochs=3, lora=LoraConfig(rank=4, dropout=0.1), projector="trained"),
        spec(first_clips(corpus, 22), "b", seed=2, batch=3, accumulation=4, class_weights="balanced"),
    ]
    logs, whole_logs = logs_for(tmp_path / "killed", specs), logs_for(tmp_path / "whole", specs)
    whole = fit(model, corpus, *specs, watch=Watch(logs=whole_logs))
    with pytest.raises(KilledError):
        fit(model, corpus, *specs, watch=Watch(kill_at(step), logs, checkpoints(tmp_path / "c", every_steps=2)))
    resumed = fit(model, corpus, *specs, watch=Watch(logs=logs, checkpoints=checkpoints(tmp_path / "c", every_steps=2)))
    for one, other, log, whole_log in zip(whole, resumed, logs, whole_logs, strict=True):
        assert np.array_equal(scores_of(model, corpus, one), scores_of(model, corpus, other))
        assert one.history == other.history
        for name in (PLANS, METRICS):
            assert (log.folder / name).read_text() == (whole_log.folder / name).read_text()


def test_a_signal_saves_and_the_next_call_goes_on(model, corpus, tmp_path):
    def interrupt(progress):
        if progress.step == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StoppedError, match="'fit' at step 2 of 6") as stopped:
        fit(model, corpus, spec(corpus), watch=Watch(interrupt, checkpoints=checkpoints(tmp_path, every_steps=100)))
    assert stopped.value.exit_status == 143
    steps = []
    watch = Watch(lambda progress: steps.append(progress.step), checkpoints=checkpoints(tmp_path, every_steps=100))
    (resumed,) = fit(model, corpus, spec(corpus), watch=watch)
    assert steps == [3, 4, 5, 6]
    (whole,) = fit(model, corpus, spec(corpus))
    assert np.array_equal(scores_of(model, corpus, whole), scores_of(model, corpus, resumed))


def test_a_fit_that_leaves_the_numbers_stops_alone(model, corpus):
    wild = spec(corpus, "wild", epochs=40, learning_rate=1e18, projector="trained", projector_learning_rate=1e30)
    failed, fine = fit(model, corpus, wild, spec(corpus, "tame"))
    assert isinstance(failed, FailedFit)
    assert re.match(r"fit 'wild', step \d+: the (loss|gradient) is (nan|inf) on the clips c\d+", failed.reason)
    (alone,) = fit(model, corpus, spec(corpus, "tame"))
    np.testing.assert_allclose(scores_of(model, corpus, fine), scores_of(model, corpus, alone), atol=1e-4)


def test_out_of_memory_splits_the_stack_and_changes_nothing_but_rounding(model, corpus, tmp_path, monkeypatch):
    """Memory for one row is simulated: a forward pass of more fails as CUDA's allocator does."""
    specs = [spec(corpus, "short", epochs=1), spec(corpus, "b", seed=2), spec(corpus, "c", seed=3)]
    together = fit(model, corpus, *specs)
    answer_logits = model.answer_logits

    def small_memory(rows, *arguments, **options):
        # the two that are left when the first fit has ended do not fit either
        if len(rows) > 1:
            raise torch.OutOfMemoryError("simulated")
        return answer_logits(rows, *arguments, **options)

    monkeypatch.setattr(model, "answer_logits", small_memory)
    split = fit(model, corpus, *specs, watch=Watch(checkpoints=checkpoints(tmp_path)))
    again = fit(model, corpus, *specs, watch=Watch(checkpoints=checkpoints(tmp_path)))
    for one, other in zip(together, split, strict=True):
        np.testing.assert_allclose(scores_of(model, corpus, one), scores_of(model, corpus, other), atol=1e-4)
    assert [result.history for result in split] == [result.history for result in again]
    assert [len(result.history) for result in again] == [1, 2, 2]


def test_one_batch_that_does_not_fit_says_what_to_lower(model, corpus, monkeypatch):
    def no_memory(*arguments, **options):
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(model, "answer_logits", no_memory)
    with pytest.raises(TrainingError, match=r"lower train\.batch"):
        fit(model, corpus, spec(corpus))


def test_gradient_checkpointing_gives_the_same_fit(model, corpus):
    lora = LoraConfig(rank=4, dropout=0.1)
    plain, saving = (
        fit(model, corpus, spec(corpus, lora=lora, gradient_checkpointing=on, projector="trained"))[0]
        for on in (False, True)
    )
    np.testing.assert_allclose(scores_of(model, corpus, plain), scores_of(model, corpus, saving), atol=1e-6)


def test_the_loss_over_the_vocabulary_learns_too_and_differs(model, corpus):
    (answers,) = fit(model, corpus, spec(corpus, epochs=1))
    (vocabulary,) = fit(model, corpus, spec(corpus, epochs=12, learning_rate=1e-2, loss="vocabulary"))
    assert vocabulary.history[0]["train_loss"] > 2 * answers.history[0]["train_loss"]  # log V against log 2
    assert vocabulary.history[-1]["dev_auc"] > 0.9


def test_balanced_weights_make_both_labels_count_alike(model, corpus):
    clips, bank = corpus
    few = [clip for i, clip in enumerate(clips) if clip.label == "SPEECH" or i % 6 == 1]
    plain, balanced = (
        fit(model, (few, bank), spec((few, bank), epochs=1, class_weights=weights))[0]
        for weights in ("none", "balanced")
    )
    assert scores_of(model, corpus, balanced).mean() < scores_of(model, corpus, plain).mean()


def test_patience_stops_a_fit_that_gets_no_better(model, corpus):
    (result,) = fit(model, corpus, spec(corpus, epochs=30, learning_rate=5e-2, patience=2))
    assert len(result.history) == result.best_epoch + 2


def test_a_dropped_fit_ends_there_the_others_go_on_and_a_kill_changes_nothing(model, corpus, tmp_path):
    specs = [spec(corpus, "weak", seed=1, epochs=3), spec(corpus, "strong", seed=2, epochs=3)]
    asked = []

    def keep_going(name, standings):
        asked.append((name, standings[name].history[-1]["epoch"]))
        assert len(standings["weak"].history) == 1  # all fits have ended the epoch before the first is asked
        return name != "weak"

    whole = weak, strong = fit(model, corpus, *specs, watch=Watch(keep_going=keep_going))
    assert asked == [("weak", 1), ("strong", 1), ("strong", 2)]
    assert (weak.was_dropped, len(weak.history), weak.n_steps) == (True, 1, 3)
    assert (strong.was_dropped, len(strong.history), strong.n_steps) == (False, 3, 9)
    (alone,) = fit(model, corpus, specs[1])
    np.testing.assert_allclose(scores_of(model, corpus, strong), scores_of(model, corpus, alone), atol=1e-4)
    asked.clear()
    kept = checkpoints(tmp_path, every_steps=1)
    with pytest.raises(KilledError):
        fit(model, corpus, *specs, watch=Watch(kill_at(5), checkpoints=kept, keep_going=keep_going))
    resumed = fit(model, corpus, *specs, watch=Watch(checkpoints=kept, keep_going=keep_going))
    assert asked == [("weak", 1), ("strong", 1), ("strong", 2)]
    for one, other in zip(whole, resumed, strict=True):
        assert (one.was_dropped, one.history) == (other.was_dropped, other.history)
        assert np.array_equal(scores_of(model, corpus, one), scores_of(model, corpus, other))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_schedule_rises_to_its_peak_and_falls_to_zero(schedule):
    factors = [learning_rate_factor(step, 10, 2, schedule) for step in range(11)]
    assert (factors[0], factors[1], factors[10]) == (0.5, 1.0, 0.0)
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[1:]))
