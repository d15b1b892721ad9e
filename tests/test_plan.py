"""A plan is a value: drawn from its key alone, replayed to the bit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from listenwell.augment.conditions import plan_condition
from listenwell.augment.noise import NoiseConfig
from listenwell.augment.plan import AugmentConfig, CropConfig, Plan, apply_plan, draw_plan
from listenwell.augment.reverb import MeasuredRoom
from listenwell.augment.spec_augment import SpecAugmentConfig
from listenwell.data.audio import rms
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.errors import ConfigError
from listenwell.random_streams import stream

CLIP = Clip("c1", Path("c1.wav"), 0.0, 1.0, "SPEECH", "g1", "r1", "made", "CC0")
SAMPLES = (0.1 * stream(1, "clip").standard_normal(16_000)).astype(np.float32)
ALWAYS = AugmentConfig(
    crop=CropConfig(probability=1), noise=NoiseConfig(probability=1), spec_augment=SpecAugmentConfig(probability=1)
)
EVERYTHING = AugmentConfig.model_validate(
    {name: {"probability": 1} for name in AugmentConfig.model_fields} | {"noise": {"probability": 1, "most_at_once": 3}}
)
FIELDS_OF = {
    "speed": {"speed"}, "pitch": {"semitones"}, "tempo": {"tempo"}, "reverb": {"room"},
    "crop": {"crop_start", "crop_length"}, "noise": {"background"}, "babble": {"babble"},
    "gain": {"gain_db"}, "band": {"band", "codes_mu_law"}, "spec_augment": {"masks"},
}  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> BackgroundBank:
    folder = tmp_path_factory.mktemp("beds")
    entries = []
    for name, seconds in (("a", 4.0), ("b", 0.25), ("c", 2.0)):
        bed = 0.05 * stream(0, name).standard_normal(int(seconds * 16_000))
        soundfile.write(folder / f"{name}.wav", bed, 16_000)
        entries.append(Background(name, folder / f"{name}.wav", seconds, "noise", name, "made", "CC0"))
    voices = [replace(entries[0], background_id=f"v{i}", kind="speech", group=f"v{i}") for i in range(4)]
    return BackgroundBank([*entries, *voices])


def draw(bank, policy=ALWAYS, clip=CLIP, seed=42, epoch=1):
    return draw_plan(policy, clip, SAMPLES, bank.entries, 80, seed, epoch)


def test_the_same_key_gives_the_same_plan_and_the_same_bits(bank):
    plan = draw(bank)
    assert plan == draw(bank)
    assert np.array_equal(apply_plan(SAMPLES, plan, bank.load), apply_plan(SAMPLES, draw(bank), bank.load))


@pytest.mark.parametrize("change", [{"seed": 43}, {"epoch": 2}, {"clip": replace(CLIP, clip_id="c2")}])
def test_another_key_gives_another_plan(bank, change):
    assert draw(bank, **change) != draw(bank)


@pytest.mark.parametrize("stage", FIELDS_OF)
def test_switching_one_stage_off_leaves_the_others_as_they_were(bank, stage):
    assert set(FIELDS_OF) == set(AugmentConfig.model_fields)
    # speed, tempo and crop change how much is heard, and so where a crop, a background or a mask may begin
    uncropped = EVERYTHING.model_copy(update={"crop": CropConfig(probability=0)})
    for policy in (EVERYTHING, uncropped):
        section = getattr(policy, stage).model_copy(update={"probability": 0.0})
        whole, less = draw(bank, policy), draw(bank, policy.model_copy(update={stage: section}))
        changed = {name for name in Plan.__dataclass_fields__ if getattr(whole, name) != getattr(less, name)}
        moved = {"crop_start", "crop_length", "background", "babble", "masks"}
        assert changed <= FIELDS_OF[stage] | (moved if stage in ("speed", "tempo", "crop") else set())


def test_a_plan_of_every_stage_comes_back_from_json_and_gives_the_same_bits(bank):
    plan = draw(bank, EVERYTHING)
    assert set(plan.to_json()) == set(Plan.__dataclass_fields__) - (
        {"codes_mu_law"} if not plan.codes_mu_law else set()
    )
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert hash(again) == hash(plan)
    assert np.array_equal(apply_plan(SAMPLES, again, bank.load), apply_plan(SAMPLES, plan, bank.load))


def test_measured_rooms_are_drawn_from_the_bank_and_heard(tmp_path):
    echo = np.zeros(4000, np.float32)
    echo[50], echo[2050] = 1.0, 0.5
    soundfile.write(tmp_path / "hall.wav", echo, 16_000, subtype="FLOAT")
    hall = Background("hall", tmp_path / "hall.wav", 0.25, "room", "hall", "made", "CC0")
    policy = AugmentConfig.model_validate(
        {stage: {"probability": 0} for stage in ("crop", "noise", "spec_augment")}
        | {"reverb": {"probability": 1, "measured_share": 1}}
    )
    bank = BackgroundBank([hall])
    plan = draw(bank, policy)
    assert plan.room == MeasuredRoom("hall", 0.25)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    click = np.zeros(16_000, np.float32)
    click[4000] = 0.5
    heard = apply_plan(click, plan, bank.load)
    assert heard[6000] / heard[4000] == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(ConfigError, match="none of the bank's 0 backgrounds is a room"):
        draw(BackgroundBank([]), policy)


@pytest.mark.parametrize("n_samples", [1, 161, 16_000])
def test_clips_of_any_length_go_through_every_stage_finite_and_within_full_scale(bank, n_samples):
    samples = 10 * SAMPLES[:n_samples]
    for epoch in range(20):
        plan = draw_plan(EVERYTHING, CLIP, samples, bank.entries, 80, 42, epoch)
        heard = apply_plan(samples, plan, bank.load)
        assert heard.size == plan.crop_length or plan.crop_length is None
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert np.abs(heard).max() <= 1


def test_stages_that_are_not_drawn_leave_the_clip_as_it_is(bank):
    off = {name: {"probability": 0} for name in AugmentConfig.model_fields}
    plan = draw(bank, AugmentConfig.model_validate(off))
    assert plan == Plan("c1", 1)
    assert np.array_equal(apply_plan(SAMPLES, plan, bank.load), SAMPLES)


def test_crops_are_between_their_limits_and_masks_fit_the_crop(bank):
    for epoch in range(200):
        plan = draw(bank, epoch=epoch)
        assert 1600 <= plan.crop_length <= 16_000
        assert plan.crop_start + plan.crop_length <= SAMPLES.size
        assert apply_plan(SAMPLES, plan, bank.load).size == plan.crop_length
        assert all(start + width <= -(-plan.crop_length // 160) for start, width in plan.masks.time)


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
