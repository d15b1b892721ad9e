"""A plan is a value: drawn from its key alone, replayed to the bit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from listenwell.augment.conditions import plan_condition
from listenwell.augment.plan import AugmentConfig, CropConfig, NoiseConfig, Plan, apply_plan, draw_plan
from listenwell.augment.spec_augment import SpecAugmentConfig
from listenwell.data.audio import rms
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.errors import AudioError, ConfigError
from listenwell.random_streams import stream

CLIP = Clip("c1", Path("c1.wav"), 0.0, 1.0, "SPEECH", "g1", "r1", "made", "CC0")
SAMPLES = (0.1 * stream(1, "clip").standard_normal(16_000)).astype(np.float32)
ALWAYS = AugmentConfig(
    crop=CropConfig(probability=1), noise=NoiseConfig(probability=1), spec_augment=SpecAugmentConfig(probability=1)
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> BackgroundBank:
    folder = tmp_path_factory.mktemp("beds")
    entries = []
    for name, seconds in (("a", 4.0), ("b", 0.25), ("c", 2.0)):
        bed = 0.05 * stream(0, name).standard_normal(int(seconds * 16_000))
        soundfile.write(folder / f"{name}.wav", bed, 16_000)
        entries.append(Background(name, folder / f"{name}.wav", seconds, "noise", name, "made", "CC0"))
    return BackgroundBank(entries)


def draw(bank, policy=ALWAYS, clip=CLIP, seed=42, epoch=1):
    return draw_plan(policy, clip, SAMPLES, bank.entries, 80, seed, epoch)


def test_the_same_key_gives_the_same_plan_and_the_same_bits(bank):
    plan = draw(bank)
    assert plan == draw(bank)
    assert np.array_equal(apply_plan(SAMPLES, plan, bank.load), apply_plan(SAMPLES, draw(bank), bank.load))


def test_a_plan_comes_back_from_json(bank):
    plan = draw(bank)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("change", [{"seed": 43}, {"epoch": 2}, {"clip": replace(CLIP, clip_id="c2")}])
def test_another_key_gives_another_plan(bank, change):
    assert draw(bank, **change) != draw(bank)


def test_switching_one_stage_off_leaves_the_others_as_they_were(bank):
    without_masks = ALWAYS.model_copy(update={"spec_augment": SpecAugmentConfig(probability=0)})
    assert replace(draw(bank), masks=None) == draw(bank, without_masks)
    without_noise = ALWAYS.model_copy(update={"noise": NoiseConfig(probability=0)})
    assert replace(draw(bank), background=None) == draw(bank, without_noise)


def test_crops_are_between_their_limits_and_masks_fit_the_crop(bank):
    for epoch in range(200):
        plan = draw(bank, epoch=epoch)
        assert 1600 <= plan.crop_length <= 16_000
        assert plan.crop_start + plan.crop_length <= SAMPLES.size
        assert apply_plan(SAMPLES, plan, bank.load).size == plan.crop_length
        assert all(start + width <= -(-plan.crop_length // 160) for start, width in plan.masks.time)


def test_a_policy_with_its_limits_exchanged_is_refused():
    with pytest.raises(ValueError, match="swap them"):
        NoiseConfig(lowest_snr_db=10, highest_snr_db=0)
    with pytest.raises(ValueError, match="longer than"):
        CropConfig(shortest_s=2, longest_s=1)


def test_a_condition_mixes_at_its_snr_and_keeps_the_stretch_at_every_snr(bank):
    plans = [plan_condition(f"snr_{snr}", CLIP, SAMPLES, bank, 42) for snr in (-5, 20)]
    assert plans[0].background.offset_s == plans[1].background.offset_s
    mixed = apply_plan(SAMPLES, plans[1], bank.load)
    assert 20 * np.log10(rms(SAMPLES) / rms(mixed - SAMPLES)) == pytest.approx(20, abs=0.05)


def speech_with_a_pause() -> np.ndarray:
    samples = SAMPLES.copy()
    samples[:12_000] *= 0.001
    return samples


def test_a_duration_condition_keeps_the_loudest_stretch(bank):
    samples = speech_with_a_pause()
    plan = plan_condition("100ms", CLIP, samples, bank, 42)
    assert plan.crop_length == 1600
    assert plan.crop_start >= 12_000
    windows = [np.sum(samples[i : i + 1600] ** 2) for i in range(0, 14_401, 160)]
    assert plan.crop_start == 160 * int(np.argmax(windows))


def test_a_crop_does_not_fall_into_a_pause(bank):
    samples = speech_with_a_pause()
    for epoch in range(200):
        plan = draw_plan(ALWAYS, CLIP, samples, bank.entries, 80, 42, epoch)
        assert plan.crop_start + plan.crop_length > 12_000


def test_a_condition_leaves_the_clean_clip_alone(bank):
    assert np.array_equal(apply_plan(SAMPLES, plan_condition("clean", CLIP, SAMPLES, bank, 42), bank.load), SAMPLES)


def test_a_short_background_is_repeated(bank):
    short = bank.load("b", 0.0, 1.0)
    assert short.size == 16_000
    assert np.array_equal(short[:4000], short[4000:8000])


@pytest.mark.parametrize("name", ["loud", "0ms", "snr_", "100 ms"])
def test_an_unknown_condition_is_refused(bank, name):
    with pytest.raises(ConfigError, match="unknown"):
        plan_condition(name, CLIP, SAMPLES, bank, 42)


def test_an_snr_without_backgrounds_is_refused():
    with pytest.raises(ConfigError, match="needs backgrounds"):
        plan_condition("snr_0", CLIP, SAMPLES, BackgroundBank([]), 42)


def test_a_background_of_another_bank_is_refused(bank):
    with pytest.raises(AudioError, match="not in the bank"):
        bank.load("z", 0.0, 1.0)
