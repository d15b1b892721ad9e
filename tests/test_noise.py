"""Which background goes under which clip: no label is contradicted unless the config says so, and silence is passed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from listenwell.augment.noise import (
    BabbleConfig,
    NoiseConfig,
    PlannedBackground,
    PlannedStretch,
    draw_babble,
    draw_noise,
    lay_background,
)
from listenwell.config import load_config
from listenwell.data.audio import rms
from listenwell.data.clip import BACKGROUND_KINDS, ROOM, Background, Clip
from listenwell.errors import ConfigError
from listenwell.random_streams import stream

SPEECH = Clip("c1", Path("c1.wav"), 0.0, 1.0, "SPEECH", "anna", "r1", "made", "CC0")
NONSPEECH = replace(SPEECH, label="NONSPEECH", group="dog")
BACKGROUNDS = [
    Background(f"{kind}_{i}", Path("x.wav"), 9.0, kind, f"{kind}_{i}", "made", "CC0")
    for kind in BACKGROUND_KINDS
    for i in range(5)
]
KIND_OF = {background.background_id: background.kind for background in BACKGROUNDS}
CLIP = (0.1 * stream(1, "clip").standard_normal(8000)).astype(np.float32)


def draw_many(config: NoiseConfig, clip: Clip, n: int = 300, backgrounds=BACKGROUNDS) -> list[PlannedBackground]:
    drawn = [draw_noise(config, clip, 0.5, backgrounds, stream(i, "noise")) for i in range(n)]
    return [planned for planned in drawn if planned is not None]


def ratio_db(background) -> float:
    return 20 * np.log10(rms(CLIP) / rms(background.samples[: CLIP.size] * background.gain))


def kinds_of(drawn: list[PlannedBackground]) -> set[str]:
    return {KIND_OF[stretch.background_id] for planned in drawn for stretch in planned.stretches}


def load(name: str, offset_s: float, duration_s: float) -> np.ndarray:
    return (0.05 * stream(0, name).standard_normal(round(duration_s * 16_000))).astype(np.float32)


def test_voices_go_under_speech_only():
    always = NoiseConfig(probability=1, most_at_once=3)
    assert kinds_of(draw_many(always, SPEECH)) == set(BACKGROUND_KINDS) - {ROOM}
    assert kinds_of(draw_many(always, NONSPEECH)) == {"music", "noise"}


@pytest.mark.parametrize("kind", ["speech", "vocal_music"])
def test_a_policy_that_flips_labels_must_say_so(kind):
    asked = f"augment.noise.under_nonspeech=[noise, {kind}]"
    with pytest.raises(ConfigError, match=f"allows {kind}.*allow_label_flips"):
        load_config(None, [asked])
    allowed = load_config(None, [asked, "augment.noise.allow_label_flips=true"]).augment.noise
    assert kinds_of(draw_many(allowed, NONSPEECH)) == {"noise", kind}


def test_the_probability_is_the_share_of_clips_with_a_background():
    # 2,000 draws at 0.3: standard error 0.010
    assert len(draw_many(NoiseConfig(probability=0.3), SPEECH, 2000)) / 2000 == pytest.approx(0.3, abs=0.04)


def test_kinds_have_their_shares_and_their_ranges():
    config = NoiseConfig(probability=1, shares={"music": 3, "speech": 1}, snr_db={"speech": (15, 20)})
    drawn = draw_many(config, SPEECH, 1000)
    assert kinds_of(drawn) == {"music", "speech"}
    voices = [planned for planned in drawn if KIND_OF[planned.background_id] == "speech"]
    assert len(voices) / 1000 == pytest.approx(0.25, abs=0.06)  # standard error 0.014
    assert all(15 <= planned.snr_db <= 20 for planned in voices)
    assert min(planned.snr_db for planned in drawn) < 0
    assert kinds_of(draw_many(config, NONSPEECH)) == {"music"}


def test_several_backgrounds_at_once_are_different_sources_and_as_many_as_allowed():
    drawn = draw_many(NoiseConfig(probability=1, most_at_once=4), SPEECH)
    assert {len(planned.stretches) for planned in drawn} == {1, 2, 3, 4}
    assert all(len({stretch.background_id for stretch in p.stretches}) == len(p.stretches) for p in drawn)
    only_two = [one for one in BACKGROUNDS if one.kind == "noise"][:2]
    drawn = draw_many(NoiseConfig(probability=1, most_at_once=4), SPEECH, 50, only_two)
    assert {len(planned.stretches) for planned in drawn} <= {1, 2}


def test_a_background_of_the_clips_own_group_is_not_laid_under_it():
    own = replace(BACKGROUNDS[0], group="anna", kind="speech")
    with pytest.raises(ConfigError, match="SPEECH clip like 'c1'"):
        draw_many(NoiseConfig(probability=1), SPEECH, 1, [own])


@pytest.mark.parametrize(
    ("config", "clip", "backgrounds"),
    [
        (NoiseConfig(probability=1), SPEECH, []),
        (NoiseConfig(probability=1), NONSPEECH, BACKGROUNDS[15:20]),
        (NoiseConfig(probability=1, shares={"music": 1}), SPEECH, BACKGROUNDS[10:15]),
    ],
)
def test_a_bank_without_a_fitting_background_is_refused(config, clip, backgrounds):
    with pytest.raises(ConfigError, match=rf"none of the bank's {len(backgrounds)} backgrounds may go under"):
        draw_many(config, clip, 1, backgrounds)


def test_a_background_begins_anywhere_that_the_clip_fits_and_a_short_one_anywhere():
    for duration_s, latest_s in ((0.5, 8.5), (9.0, 9.0), (20.0, 9.0)):
        drawn = [
            draw_noise(NoiseConfig(probability=1), SPEECH, duration_s, BACKGROUNDS, stream(i, "offset"))
            for i in range(200)
        ]
        offsets_s = [planned.offset_s for planned in drawn]
        assert 0 <= min(offsets_s) < 0.1 * latest_s
        assert 0.9 * latest_s < max(offsets_s) <= latest_s
        spares_s = [spare_s for planned in drawn for spare_s in planned.spare_offsets_s]
        assert bool(spares_s) == (duration_s < 9.0)
        assert all(0 <= spare_s <= 9.0 - duration_s for spare_s in spares_s)


def test_silent_places_are_passed_and_counted():
    def load_late(name, offset_s, duration_s):
        return load(name, offset_s, duration_s) * np.float32(offset_s > 5)

    background = lay_background(CLIP, PlannedBackground("a", 1.0, 3.0, (2.0, 6.0, 7.0)), load_late)
    assert background.n_redrawn == 2
    assert ratio_db(background) == pytest.approx(3.0, abs=0.01)
    assert lay_background(CLIP, PlannedBackground("a", 1.0, 3.0, (2.0,)), load_late) is None


def test_over_the_active_part_silence_is_what_is_silent_there():
    clip = np.concatenate([CLIP, np.zeros(8000, np.float32)])

    def load_late(name, offset_s, duration_s):
        sound = load(name, offset_s, duration_s)
        sound[: 8000 if offset_s < 5 else 0] = 0
        return sound

    background = lay_background(clip, PlannedBackground("a", 1.0, 3.0, (6.0,), over="active"), load_late)
    assert background.n_redrawn == 1
    assert ratio_db(background) == pytest.approx(3.0, abs=0.01)
    assert lay_background(clip, PlannedBackground("a", 1.0, 3.0), load_late).n_redrawn == 0


def test_sounds_that_cancel_out_leave_the_clip_alone():
    def load_opposites(name, offset_s, duration_s):
        return load("x", offset_s, duration_s) * np.float32(1 if name == "a" else -1)

    assert (
        lay_background(CLIP, PlannedBackground("a", 0.0, 3.0, (), (PlannedStretch("b", 0.0),)), load_opposites) is None
    )


def test_nothing_is_laid_under_a_silent_clip():
    assert lay_background(CLIP * 0, PlannedBackground("a", 0.0, 3.0), load) is None


def test_the_ratio_is_to_all_backgrounds_together():
    planned = PlannedBackground("a", 0.0, 5.0, (), (PlannedStretch("b", 0.0), PlannedStretch("c", 0.0)))
    background = lay_background(CLIP, planned, load)
    assert ratio_db(background) == pytest.approx(5.0, abs=0.01)
    # three unrelated sounds of one level: sqrt(3) as loud as one
    assert rms(background.samples) / rms(load("a", 0.0, 0.5)) == pytest.approx(np.sqrt(3), rel=0.05)


def test_babble_is_of_several_groups_none_of_them_the_clips_own():
    backgrounds = [replace(one, group="anna") if one.background_id == "speech_0" else one for one in BACKGROUNDS]
    config = BabbleConfig(probability=1, fewest_talkers=2, most_talkers=9)
    drawn = [draw_babble(config, SPEECH, 0.5, backgrounds, stream(i, "babble")) for i in range(200)]
    assert {len(planned.stretches) for planned in drawn} == {2, 3, 4}
    assert kinds_of(drawn) == {"speech"}
    assert "speech_0" not in {stretch.background_id for planned in drawn for stretch in planned.stretches}
    assert all(len({s.background_id for s in planned.stretches}) == len(planned.stretches) for planned in drawn)
    assert all(5 <= planned.snr_db <= 20 for planned in drawn)


def test_babble_goes_under_nonspeech_only_where_label_flips_are_allowed():
    rng = stream(1, "babble")
    assert draw_babble(BabbleConfig(probability=1), NONSPEECH, 0.5, BACKGROUNDS, rng) is None
    assert (
        draw_babble(BabbleConfig(probability=1, allow_label_flips=True), NONSPEECH, 0.5, BACKGROUNDS, rng) is not None
    )


def test_babble_of_too_few_voices_is_refused():
    with pytest.raises(ConfigError, match=r"voices of 5 groups.*fewest_talkers is 6"):
        draw_babble(BabbleConfig(probability=1, fewest_talkers=6), SPEECH, 0.5, BACKGROUNDS, stream(1, "babble"))


@pytest.mark.parametrize(
    ("section", "setting", "named"),
    [
        (NoiseConfig, {"lowest_snr_db": 10, "highest_snr_db": 0}, "swap them"),
        (NoiseConfig, {"snr_db": {"music": (10, 0)}}, "expected the lower first"),
        (NoiseConfig, {"shares": {"music": -1}}, "greater than or equal to 0"),
        (NoiseConfig, {"shares": {"music": 0}}, "one of them above"),
        (NoiseConfig, {"shares": {"traffic": 1}}, "traffic"),
        (BabbleConfig, {"fewest_talkers": 8}, "swap them"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(section, setting, named):
    with pytest.raises(ValueError, match=named):
        section(**setting)
