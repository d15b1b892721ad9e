"""Accuracy against the number of training speakers: nested draws, one point a share, gains with their intervals."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_sounds import make_study

from listenwell.config import load_config
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Background, Clip
from listenwell.data.manifest import read_manifest
from listenwell.data.splits import order_groups
from listenwell.errors import ConfigError, ManifestError
from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.metrics import balanced_accuracy, decide
from listenwell.evaluate.scores import read_scores
from listenwell.report.results import read_results
from listenwell.report.training import speaker_curve_tables
from listenwell.study.arms import Arm
from listenwell.study.parts import Parts, with_talkers
from listenwell.study.run import fit_alone, run_study
from listenwell.study.speaker_curve import curve_arms, parts_of_arms

CONFIG = load_config(None)


def clip(name: str, label: str, group: str) -> Clip:
    return Clip(name, f"/{name}.wav", 0.0, 1.0, label, group, f"{name}.wav", "made", "CC0")


def made_parts(n_speakers: int, clips_each: int = 2) -> Parts:
    """n_speakers speakers, one of whom also laughs, and three sources, in train; one of each elsewhere."""
    train = [clip(f"s{i}-{j}", "SPEECH", f"s{i}") for i in range(n_speakers) for j in range(clips_each)]
    train += [clip(f"n{i}", "NONSPEECH", f"n{i}") for i in range(3)] + [clip("laugh", "NONSPEECH", "s0")]
    others = {part: [clip(f"{part}-s", "SPEECH", f"{part}-s"), clip(f"{part}-n", "NONSPEECH", f"{part}-n")]
              for part in ("dev", "test")}  # fmt: skip
    banks = {part: BackgroundBank([Background(f"bed-{part}", "/b.wav", 1.0, "noise", f"bed-{part}", "made", "CC0")])
             for part in ("train", "dev", "test")}  # fmt: skip
    return Parts({"train": train, **others}, banks)


def arms_of(shares, seed=1, config=CONFIG):
    return [Arm(f"speakers-{share:g}", seed, config, share) for share in shares]


def groups_of(parts: Parts, label: str) -> set[str]:
    return {each.group for each in parts.clips["train"] if each.label == label}


@given(n_speakers=st.integers(8, 30), seed=st.integers(0, 1000))
def test_a_smaller_draw_lies_inside_a_larger_one_and_nothing_else_is_changed(n_speakers, seed):
    whole = made_parts(n_speakers)
    drawn = parts_of_arms(arms_of((0.25, 0.5, 0.75, 1.0), seed), whole)
    for fewer, more in pairwise(drawn):
        assert groups_of(fewer, "SPEECH") < groups_of(more, "SPEECH")
    assert [len(groups_of(each, "SPEECH")) for each in drawn] == [int(s * n_speakers) for s in (0.25, 0.5, 0.75, 1)]
    for each in drawn:
        assert {f"n{i}" for i in range(3)} <= groups_of(each, "NONSPEECH")
        assert [each.clips[part] for part in ("dev", "test")] == [whole.clips[part] for part in ("dev", "test")]
        assert each.banks["train"].entries == whole.banks["train"].entries
        kept = groups_of(each, "SPEECH") | groups_of(whole, "NONSPEECH") - {"s0"}
        assert each.clips["train"] == [c for c in whole.clips["train"] if c.group in kept]


def test_seeds_draw_different_speakers():
    assert len({frozenset(groups_of(parts_of_arms(arms_of((0.5,), seed), made_parts(20))[0], "SPEECH"))
                for seed in range(5)}) == 5  # fmt: skip


def test_the_voices_of_those_left_out_are_not_heard_as_babble_either():
    whole = with_talkers(made_parts(8))
    (drawn,) = parts_of_arms(arms_of((0.5,)), whole)
    voices = {entry.group for entry in drawn.banks["train"].entries if entry.kind == "speech"}
    assert voices == groups_of(drawn, "SPEECH")
    assert {entry.group for entry in whole.banks["train"].entries if entry.kind == "speech"} == groups_of(
        whole, "SPEECH"
    )


@pytest.mark.parametrize(
    ("shares", "settings", "error", "message"),
    [
        ((0.1,), (), ConfigError, "0.1 of 8 training speakers is less than one"),
        ((0.5, 0.6), (), ConfigError, "0.5 and 0.6 both keep 4 of 8 training speakers"),
        ((0.99, 1.0), (), None, ""),
        ((0.25,), ("train.clips_per_epoch=10",), ConfigError, "4 SPEECH clips are left, but an epoch takes 5"),
        ((0.5,), ("train.clips_per_epoch=10",), ConfigError, "NONSPEECH clips are left, but an epoch takes 5"),
    ],
)
def test_shares_that_cannot_be_drawn_are_refused(shares, settings, error, message):
    arms = arms_of(shares, config=load_config(None, settings))
    if error is None:
        assert len(parts_of_arms(arms, made_parts(8))) == len(shares)
    else:
        with pytest.raises(error, match=message):
            parts_of_arms(arms, made_parts(8))


def test_too_few_voices_for_babble_are_refused_before_training():
    arms = arms_of((0.25, 0.5), config=load_config(None, ["augment.babble.probability=0.1"]))
    assert parts_of_arms(arms[1:], with_talkers(made_parts(8)))
    with pytest.raises(ConfigError, match="leaves 2 voices, but babble takes 3"):
        parts_of_arms(arms, with_talkers(made_parts(8)))


def test_a_draw_without_other_sounds_is_refused():
    parts = made_parts(8)
    parts.clips["train"][:] = [c for c in parts.clips["train"] if not c.group.startswith("n")]
    speakers = groups_of(parts, "SPEECH")
    seed = next(seed for seed in range(20) if "s0" not in order_groups(speakers, seed)[:2])  # who laughs is left out
    with pytest.raises(ManifestError, match="no NONSPEECH clip is left"):
        parts_of_arms(arms_of((0.25,), seed), parts)


@pytest.mark.parametrize("shares", ["[0.5, 0.25]", "[0.5, 0.5]", "[0]", "[1.0]", "[-0.5]"])
def test_shares_ascend_between_0_and_1(shares):
    with pytest.raises(ConfigError, match=r"speaker_curve\.shares.*the smallest first"):
        load_config(None, [f"speaker_curve.shares={shares}"])


def test_an_arm_of_the_same_name_is_refused():
    with pytest.raises(ConfigError, match=r"'speakers-0\.5' is what speaker_curve calls a share"):
        curve_arms(load_config(None, ["speaker_curve.shares=[0.5]", "arms={speakers-0.5: {lora.rank: 2}}"]))


def test_the_curve_is_off_by_default():
    assert curve_arms(CONFIG) == []


def test_points_are_the_draws_that_were_trained(finished_study):
    config, results = finished_study
    points = results["speaker_curve"]["points"]
    assert [(p["arm"], p["share"], p["n_speakers"]) for p in points] == [
        ("speakers-0.25", 0.25, 1), ("speakers-0.5", 0.5, 2), ("final", 1.0, 4),
    ]  # fmt: skip
    group_of = {clip.clip_id: clip.group for clip in read_manifest(Path(config.data.manifest))}
    heard = set()
    for path in (config.output / "fits").glob("*/plans.jsonl"):
        plans = [json.loads(line) for line in path.read_text().splitlines()]
        heard.add(frozenset(group_of[plan["clip_id"]] for plan in plans if plan["clip_id"].startswith("speech")))
    for point in points:
        for fit in point["fits"]:
            assert frozenset(fit["speakers"]) in heard
            assert len(fit["speakers"]) == point["n_speakers"]
            assert fit["n_speech_clips"] == 2 * point["n_speakers"]
            assert fit["n_nonspeech_clips"] == 8
    for fewer, more in pairwise(points):
        for one, other in zip(fewer["fits"], more["fits"], strict=True):
            assert set(one["speakers"]) < set(other["speakers"])


def test_every_row_is_what_the_score_tables_say(finished_study):
    config, results = finished_study
    delivered, other = (fit["seed"] for fit in results["fits"])
    of_final = {delivered: "fine-tuned", other: f"final-seed{other}"}
    decided: dict[tuple[str, str, int], np.ndarray] = {}
    tables = {}
    for row in results["speaker_curve"]["rows"]:
        for seed in row["seeds"]:
            method = of_final[seed] if row["arm"] == "final" else f"{row['arm']}-seed{seed}"
            table = read_scores(config.output / "scores" / f"{method}-test.csv")
            threshold = json.loads((config.output / "thresholds" / f"{method}.json").read_text())["value"]
            part = table.select(
                np.isfinite(table.snr_db) if row["condition"] == "noisy" else table.condition == "clean"
            )
            decided[row["arm"], row["condition"], seed] = decide(part.score, threshold)
            tables[row["condition"]] = part
    rows = {(row["arm"], row["condition"]): row for row in results["speaker_curve"]["rows"]}
    assert len(rows) == 6
    for (arm, condition), row in rows.items():
        table = tables[condition]
        values = [balanced_accuracy(decided[arm, condition, seed], table.is_speech) for seed in row["seeds"]]
        assert row["values"] == pytest.approx(values)
        assert row["mean"] == pytest.approx(np.mean(values))
        before = {"speakers-0.25": None, "speakers-0.5": "speakers-0.25", "final": "speakers-0.5"}[arm]
        if before is None:
            assert row["gain"] is None
            continue
        gain = row["gain"]
        assert gain["over"] == rows[before, condition]["n_speakers"]
        assert gain["difference"] == pytest.approx(row["mean"] - rows[before, condition]["mean"])
        assert gain["difference"] == pytest.approx(np.mean(gain["of_seeds"]))
        together = [np.concatenate([decided[a, condition, s] for s in row["seeds"]]) for a in (arm, before)]
        twice = np.tile(table.is_speech, 2), np.tile(table.group, 2)
        expected = compare_balanced_accuracy(*together, *twice, config.seed)
        assert (gain["low"], gain["high"]) == (expected.low, expected.high)
        assert gain["n_groups"] == len(set(table.group))


def test_a_clip_heard_by_two_seeds_is_no_second_clip():
    """Two seeds that decide alike leave the interval of the gain as one seed has it."""
    rng = np.random.default_rng(0)
    truth, group = np.arange(80) % 2 == 0, np.array([f"g{i % 20}" for i in range(80)])
    more, fewer = (rng.random(80) < share for share in (0.5, 0.5))
    one = compare_balanced_accuracy(more == truth, fewer == truth, truth, group, 0)
    both = (np.tile(each, 2) for each in (more == truth, fewer == truth, truth, group))
    two = compare_balanced_accuracy(*both, 0)
    assert (two.difference, two.low, two.high) == pytest.approx((one.difference, one.low, one.high))


def test_neither_the_delivered_fits_nor_the_ladder_hold_a_point_of_fewer_speakers(finished_study):
    _, results = finished_study
    assert {fit["name"] for fit in results["fits"]} == {"fine-tuned"}
    assert {row["arm"] for row in results["ladder"]} == {"quiet", "final"}


def test_the_page_and_the_markdown_show_the_curve(finished_study):
    config, _ = finished_study
    page, markdown = ((config.output / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert page.count("Learning curve over training speakers, Test") > 2
    assert 'id="speakers-1-title"' in page
    assert "### Learning curve over training speakers, Test" in markdown


def test_points_that_trained_fewer_steps_are_told(finished_study):
    results = json.loads(json.dumps(finished_study[1]))
    (table,) = speaker_curve_tables(read_results(results))
    assert "fewer steps" not in table.note
    results["speaker_curve"]["points"][0]["fits"][0]["n_steps"] -= 1
    (table,) = speaker_curve_tables(read_results(results))
    assert "Fewer clips also took fewer steps here; with train.clips_per_epoch" in table.note


def test_a_finished_curve_is_not_trained_again_and_a_fit_alone_draws_none(tmp_path, monkeypatch):
    config = make_study(
        tmp_path,
        "train.epochs=1",
        "evaluation.conditions=[clean]",
        "speaker_curve.shares=[0.5]",
    )
    fit_alone(config)
    assert len(list((config.output / "fits").iterdir())) == 1
    first = run_study(config)
    assert len(list((config.output / "fits").iterdir())) == 2
    monkeypatch.setattr("listenwell.study.stacks.train", lambda *_, **__: pytest.fail("was trained again"))
    again = run_study(config)
    assert json.loads(json.dumps(again["speaker_curve"])) == json.loads(json.dumps(first["speaker_curve"]))
