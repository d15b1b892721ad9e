"""Names of conditions, what they mean, and that the shortest of them are heard and scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_sounds import make_backgrounds, make_corpus

from listenwell.augment.conditions import FULL_CONDITIONS, Condition, parse_condition, plan_condition
from listenwell.augment.plan import Plan, apply_plan
from listenwell.augment.recording import Band
from listenwell.config import load_config
from listenwell.data.audio import load_waveform, rms
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.errors import ConfigError
from listenwell.random_streams import stream
from listenwell.report.wording import condition_title
from listenwell.study_settings import EvaluationConfig
from listenwell.tasks.score_table import score_manifest

CLIP = Clip("c1", Path("c1.wav"), 0.0, 1.0, "SPEECH", "g1", "r1", "made", "CC0")
SAMPLES = (0.1 * stream(1, "clip").standard_normal(16_000)).astype(np.float32)
EMPTY_BANK = BackgroundBank([])


@pytest.mark.parametrize(
    ("name", "condition", "title"),
    [
        ("clean", Condition(), "clean"),
        ("20ms", Condition(duration_ms=20), "20 ms"),
        ("snr_-10", Condition(snr_db=-10), "\N{MINUS SIGN}10 dB"),
        ("snr_2.5", Condition(snr_db=2.5), "2.5 dB"),
        ("t60_0.3", Condition(t60_s=0.3), "T60 0.3 s"),
        ("bandpass_300_3400", Condition(band=Band(300, 3400)), "300\N{EN DASH}3400 Hz"),
        ("lowpass_3400", Condition(band=Band(high_hz=3400)), "below 3400 Hz"),
        ("highpass_300", Condition(band=Band(low_hz=300)), "above 300 Hz"),
    ],
)
def test_a_name_stands_for_one_condition_and_has_one_title(name, condition, title):
    assert parse_condition(name) == condition
    assert condition_title(name) == title


@pytest.mark.parametrize("name", ["t60_99", "bandpass_3400_300", "lowpass_9000", "snr_99"])
def test_a_number_no_clip_can_be_given_is_refused_with_the_range(name):
    with pytest.raises(ConfigError, match=rf"condition '{name}': .* expected"):
        parse_condition(name)


def test_full_is_the_22_conditions_of_the_field_with_clean_for_both_that_change_nothing():
    found = [parse_condition(name) for name in FULL_CONDITIONS]
    assert [c.duration_ms for c in found if c.duration_ms] == [20, 40, 60, 80, 100, 200, 500, 1000]
    assert [c.snr_db for c in found if c.snr_db is not None] == [-10, -5, 0, 5, 10, 20]
    assert [c.t60_s for c in found if c.t60_s] == [0.3, 1.0, 2.5]
    assert sum(c.band is not None for c in found) == 3
    assert len(found) == 22 - 1
    assert EvaluationConfig(conditions=("full",)).conditions == FULL_CONDITIONS
    assert EvaluationConfig(conditions=("full", "snr_-2")).conditions[-1] == "snr_-2"


@pytest.mark.parametrize("names", [("full", "snr_0"), ("clean", "snr_5", "snr_5.0"), ("snr_0",), ("clean", "loud")])
def test_conditions_that_stand_twice_lack_clean_or_are_unknown_are_refused(names):
    with pytest.raises(ValueError, match=r"no condition twice|unknown"):
        EvaluationConfig(conditions=names)


def test_a_clip_meets_one_room_at_every_reverberation_time_and_another_clip_another_room():
    seeds = {plan_condition(f"t60_{t60_s}", CLIP, SAMPLES, EMPTY_BANK, 42).room.noise_seed for t60_s in (0.3, 1.0, 2.5)}
    other = replace(CLIP, clip_id="c2")
    assert len(seeds) == 1
    assert plan_condition("t60_1.0", other, SAMPLES, EMPTY_BANK, 42).room.noise_seed not in seeds
    assert plan_condition("t60_1.0", CLIP, SAMPLES, EMPTY_BANK, 43).room.noise_seed not in seeds


def test_no_voice_is_mixed_under_a_test_clip():
    backgrounds = [
        Background(kind, Path(f"{kind}.wav"), 9.0, kind, kind, "made", "CC0")
        for kind in ("music", "vocal_music", "noise", "speech")
    ]
    clips = [replace(CLIP, clip_id=f"c{i}") for i in range(40)]
    drawn = {
        plan_condition("snr_0", clip, SAMPLES, BackgroundBank(backgrounds), 42).background.background_id
        for clip in clips
    }
    assert drawn == {"music", "noise"}
    with pytest.raises(ConfigError, match="needs backgrounds without voices"):
        plan_condition("snr_0", CLIP, SAMPLES, BackgroundBank(backgrounds[3:]), 42)


def test_a_plan_reverberates_before_it_crops_and_filters_what_was_mixed():
    room = plan_condition("t60_1.0", CLIP, SAMPLES, EMPTY_BANK, 42).room
    plan = Plan("c1", "made", 8000, 4000, room=room, band=Band(300, 3400))
    click = np.zeros(16_000, np.float32)
    click[2000] = 1
    heard = apply_plan(click, plan, EMPTY_BANK.load)
    assert heard.size == 4000
    assert rms(heard) > 0  # the tail of a click that lies before the crop
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(4000))) ** 2
    hz = np.fft.rfftfreq(4000, 1 / 16_000)
    assert spectrum[(hz > 4000) | (hz < 200)].sum() < 0.05 * spectrum.sum()


def test_every_condition_of_the_full_set_is_scored_down_to_20_ms(tmp_path):
    clips = make_corpus(tmp_path, n_groups=2, clips_each=1)
    config = load_config(
        None,
        ["model.name=random", f"data.manifest={tmp_path / 'clips.csv'}", f"output={tmp_path / 'out'}",
         f"data.backgrounds={make_backgrounds(tmp_path)}", "evaluation.conditions=[full]"],
    )  # fmt: skip
    table = score_manifest(config, conditions=config.evaluation.conditions).table
    assert len(table) == len(FULL_CONDITIONS) * len(clips)
    assert np.isfinite(table.score).all()
    assert set(table.duration_ms[table.condition == "20ms"]) == {20}
    clean_ms = table.duration_ms[table.condition == "clean"]
    assert np.array_equal(table.duration_ms[table.condition == "t60_2.5"], clean_ms)
    assert [load_waveform(clip).size for clip in clips] == pytest.approx(clean_ms * 16, abs=1)
