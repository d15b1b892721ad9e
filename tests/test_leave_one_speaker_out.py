"""Leave one speaker out: who is held out, what is refused, and what the numbers say of few folds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_scores import scored
from made_sounds import fold_records, make_corpus, make_study, name_sites, study_record

from listenwell.config import load_config
from listenwell.data.clip import LABELS
from listenwell.data.manifest import read_manifest, write_manifest
from listenwell.data.splits import make_folds
from listenwell.errors import ConfigError, LeakageError, ManifestError
from listenwell.report.results import Results
from listenwell.report.sections import find_answers
from listenwell.splits.clips import prepare
from listenwell.splits.divide import divide, with_speakers
from listenwell.study.leave_one_out import DecidedFold, describe_folds, fold_splits, folds_of, judge_folds
from listenwell.tasks.plan import plan_study

pytestmark = pytest.mark.slow

QUICK = ("train.epochs=1", "evaluation.conditions=[clean]", "leave_one_out.dev_speakers=1")
NESTED = (
    *QUICK,
    "arms={tuned: {search.best: true}}",
    "search.grid=[{lora.rank: 1}, {lora.rank: 2}]",
    "leave_one_out.arms=[tuned, final]",
    "leave_one_out.mode=nested",
    "leave_one_out.dev_speakers=2",
    "data.dev_share=0.3",
    "leave_one_out.folds=3",
)


def groups(clips):
    return {clip.group for clip in clips}


@pytest.mark.parametrize("n_folds", [None, 3])
def test_folds_hold_every_group_out_once_and_share_none(tmp_path, n_folds):
    clips = make_corpus(tmp_path, n_groups=7)
    folds = make_folds(clips, n_folds, n_dev_speakers=2, seed=0)
    assert len(folds) == (n_folds or 7)
    held = [group for fold in folds for group in groups(fold.held_out)]
    assert sorted(held) == sorted(groups(clips))
    for fold in folds:
        parts = [groups(part) for part in (fold.train, fold.dev, fold.held_out)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 14
        for part in (fold.train, fold.dev, fold.held_out):
            assert {clip.label for clip in part} == {"SPEECH", "NONSPEECH"}
        assert [len({c.group for c in fold.dev if c.label == label}) for label in LABELS] == [2, 2]
    assert len({frozenset(groups(fold.dev)) for fold in folds}) > 1
    again = make_folds(clips[::-1], n_folds, n_dev_speakers=2, seed=0)
    assert [groups(fold.held_out) for fold in folds] == [groups(fold.held_out) for fold in again]


@pytest.mark.parametrize("pool", ["", "study_pool"])
def test_what_only_trains_is_never_held_out(tmp_path, pool):
    clips = make_corpus(tmp_path, n_groups=8)
    speakers = sorted({clip.group for clip in clips if clip.label == "SPEECH"})[:2]
    named = [replace(clip, split="train" if clip.group in speakers else pool) for clip in clips]
    config = load_config(None, ["leave_one_out.dev_speakers=1"])
    folds = folds_of(config, divide(named, [], config.data), "group")
    assert not any(groups(fold.held_out + fold.dev) & {*speakers} for fold in folds)
    assert all({*speakers} <= groups(fold.train) for fold in folds)


@pytest.mark.parametrize(
    ("n_groups", "lost", "n_folds", "message"),
    [
        (3, (), None, r"needs 4 speakers \(one held out, 2 to choose, at least one to train\), but there are 3"),
        (5, (), 2, r"needs 6 speakers \(1 in 2 held out"),
        (
            6,
            ("nonspeech_group_0",),
            None,
            "in 6 folds needs 6 sound sources, .* there are 5.* set leave_one_out.folds to 5",
        ),
        (6, tuple(f"nonspeech_group_{i}" for i in range(4)), 2, "no NONSPEECH clip is left to train"),
    ],
)
def test_fewer_groups_than_folds_are_told(tmp_path, n_groups, lost, n_folds, message):
    clips = [clip for clip in make_corpus(tmp_path, n_groups) if clip.group not in lost]
    with pytest.raises(ManifestError, match=message):
        make_folds(clips, n_folds, n_dev_speakers=2, seed=0)


def test_a_speaker_with_one_clip_is_held_out_like_any_other(tmp_path):
    config = make_study(tmp_path, *QUICK)
    clips = read_manifest(tmp_path / "clips.csv")
    lonely = divide(clips, [], config.data).clips["train"][0]
    kept = [clip for clip in clips if clip.group != lonely.group or clip.clip_id == lonely.clip_id]
    write_manifest(tmp_path / "clips.csv", kept)
    (record,) = fold_records(config)
    (own,) = [speaker for speaker in record["speakers"] if speaker["speaker"] == lonely.group]
    assert own["n_speech"] == 1
    assert own["recall"] in (0.0, 1.0)


def heard_groups(config):
    """Groups that each fit of the run was trained on."""
    group_of = {clip.clip_id: clip.group for clip in prepare(config)[0]}
    return [
        {group_of[json.loads(line)["clip_id"]] for line in path.read_text().splitlines()}
        for path in sorted(config.output.glob("fits/*/plans.jsonl"))
    ]


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    config = make_study(tmp_path_factory.mktemp("nested"), *NESTED)
    return config, fold_records(config)


def test_a_nested_fold_searches_on_its_own_training_groups_and_no_test_group_enters(nested):
    config, records = nested
    parts = divide(*prepare(config), config.data)
    folds = folds_of(config, parts, "group")
    assert len(heard_groups(config)) == 3 * 2 + 3  # every point in every fold, and the config itself
    for heard in heard_groups(config):
        assert any(not heard & groups(fold.held_out) for fold in folds)
        assert not heard & groups(parts.clips["test"])
    tuned, final = records
    assert tuned["mode"] == "nested: every fold searched on its own training groups"
    assert final["mode"] == "fixed: the config was chosen on all speakers"
    assert set(tuned["chosen"]) == {fold.name for fold in folds}
    assert all(best["lora.rank"] in (1, 2) for best in tuned["chosen"].values())


def test_with_folds_of_several_speakers_every_speaker_has_its_own_line(nested):
    config, (record, _) = nested
    parts = divide(*prepare(config), config.data)
    speakers = {clip.group for part in ("train", "dev") for clip in parts.clips[part] if clip.label == "SPEECH"}
    assert {each["speaker"] for each in record["speakers"]} == speakers
    assert {each["fold"] for each in record["speakers"]} == {"fold-01", "fold-02", "fold-03"}
    assert record["mean"]["low"] <= record["mean"]["value"] == record["mean_of_folds"] <= record["mean"]["high"]


def test_a_nested_mode_that_no_arm_needs_and_a_search_whose_dev_has_one_speaker_are_refused(tmp_path):
    for changes in ("leave_one_out.arms=[final]", "search.grid=[]"):
        with pytest.raises(ConfigError, match=r"no arm of leave_one_out\.arms takes what a search found"):
            fold_records(make_study(tmp_path, *NESTED, changes))
    with pytest.raises(
        ManifestError, match=r"search without-fold-01: dev has one SPEECH group .*leave_one_out\.dev_speakers"
    ):
        fold_records(make_study(tmp_path, *NESTED, "leave_one_out.dev_speakers=1"))


def test_the_speakers_mixed_under_a_folds_clips_are_those_it_trains_on(tmp_path):
    config = make_study(tmp_path, *QUICK, "augment.babble.probability=1.0")
    splits = with_speakers(divide(*prepare(config), config.data))
    folds = folds_of(config, splits, "group")
    assert len({entry.group for entry in splits.banks["train"].entries if entry.kind == "speech"}) > 2
    for fold in folds:
        bank = fold_splits(fold, splits).banks["train"]
        mixed = {entry.group for entry in bank.entries if entry.kind == "speech"}
        assert mixed == {clip.group for clip in fold.train if clip.label == "SPEECH"}
        assert {entry.group for entry in bank.entries} - mixed == {
            entry.group for entry in splits.banks["train"].entries if entry.kind != "speech"
        }


def test_a_speaker_under_two_names_is_refused_before_a_fold_trains(tmp_path):
    config = make_study(tmp_path, *QUICK)
    train = divide(*prepare(config), config.data).clips["train"]
    by_group = {clip.group: clip for clip in train if clip.label == "SPEECH"}
    first, second = list(by_group.values())[:2]
    second.path.write_bytes(first.path.read_bytes())
    clips = [replace(c, duration_s=first.duration_s) if c.clip_id == second.clip_id else c for c in prepare(config)[0]]
    write_manifest(tmp_path / "clips.csv", clips)
    with pytest.raises(LeakageError, match=r"leaks-folds\.json: 1 leaks between the splits.*same samples"):
        fold_records(config)
    assert not (config.output / "fits").exists()
    (record,) = fold_records(config.model_copy(update={"data": config.data.model_copy(update={"on_leak": "report"})}))
    assert record["n_leaks"] == 1


def decided(name, scores, threshold=0.0):
    return DecidedFold(name, scored(scores), scored(scores), threshold)


def test_a_model_that_always_says_speech_gets_half():
    folds = [decided(f"fold-{i}", {f"s{i}-{j}": 9.0 for j in range(3)} | {f"n{i}": 9.0}) for i in range(5)]
    record = describe_folds("always", folds, [])
    assert record["metrics"][0]["value"] == record["mean_of_folds"] == record["mean"]["value"] == 0.5
    assert {each["balanced_accuracy"] for each in record["speakers"]} == {0.5}


def test_the_plan_counts_the_fits_of_every_fold(nested):
    config, _ = nested
    fits = plan_study(config).fits
    assert len(fits["search in every fold"]) + len(fits["leave one speaker out"]) == len(heard_groups(config))


def test_every_corpus_is_left_out_and_what_a_foreign_one_costs_is_told(tmp_path):
    config = make_study(tmp_path, *QUICK, "leave_one_out.by=[group, corpus]", "leave_one_out.folds=3")
    name_sites(tmp_path / "clips.csv")
    by_group, by_corpus = fold_records(config)
    assert (by_group["by"], by_group["gap"]) == ("group", None)
    assert [fold["speaker"] for fold in by_corpus["folds"]] == ["corpus site0", "corpus site1", "corpus site2"]
    gap = by_corpus["gap"]
    assert gap["n"] == by_group["metrics"][0]["n"] == by_corpus["metrics"][0]["n"]
    difference = by_group["metrics"][0]["value"] - by_corpus["metrics"][0]["value"]
    assert gap["difference"] == pytest.approx(difference)
    assert gap["low"] <= difference <= gap["high"]


def test_backgrounds_of_a_corpus_that_is_held_out_do_not_train(tmp_path):
    config = make_study(tmp_path)
    clips, backgrounds = prepare(config)
    clips = [replace(clip, corpus=f"site{int(clip.group[-1]) % 3}") for clip in clips]
    backgrounds = [replace(each, corpus=f"site{i % 3}") for i, each in enumerate(backgrounds)]
    splits = divide(clips, backgrounds, config.data)
    trained = {entry.corpus for entry in splits.banks["train"].entries}
    for fold in folds_of(config, splits, "corpus"):
        entries = fold_splits(fold, splits).banks["train"].entries
        assert {entry.corpus for entry in entries} == trained - fold.corpora


ALL = (
    *QUICK,
    "leave_one_out.by=corpus",
    "leave_one_out.over=all",
    "leave_one_out.arms=[final]",
    "leave_one_out.conditions=[clean, snr_0]",
    "evaluation.primary.test_sets=[leave_one_corpus_out]",
)


@pytest.fixture(scope="module")
def over_all(tmp_path_factory):
    folder = tmp_path_factory.mktemp("over-all")
    config = make_study(folder, *ALL)
    name_sites(folder / "clips.csv", speech7="test", nonspeech7="test", speech6="test", nonspeech6="test")
    return config, study_record(config)


def test_over_all_groups_every_one_is_tested_once_beside_the_base_and_a_classic_detector(over_all):
    config, record = over_all
    groups = {clip.group for clip in read_manifest(Path(config.data.manifest))}
    rows = [row for row in record["rows"] if row["test_set"] == "leave_one_corpus_out"]
    assert {row["method"] for row in rows} == {"zero-shot", "fine-tuned", "webrtc"}
    assert {row["condition"] for row in rows} == {"clean", "snr_0", "noisy"}
    assert {row["metrics"][0]["n_groups"] for row in rows} == {len(groups)}
    (folds,) = record["leave_one_speaker_out"]
    ours = next(
        r for r in rows if (r["method"], r["threshold"], r["condition"]) == ("fine-tuned", "calibrated", "clean")
    )
    assert ours["metrics"][0] == folds["metrics"][0]
    assert ours["threshold_value"] is None
    assert {c["test_set"] for c in record["comparisons"] if c["is_primary"]} == {"leave_one_corpus_out"}
    assert (config.output / "report.md").read_text().count("Leave one corpus out") > 2


def test_the_answer_is_read_off_the_folds_and_names_the_hardest_speaker(over_all):
    config, record = over_all
    hardest = min(record["leave_one_speaker_out"][0]["speakers"], key=lambda each: (each["recall"], each["speaker"]))
    cards = {card.question: card for card in find_answers(Results.model_validate(record))}
    assert cards["Who is recognised least often?"].strong == f"{hardest['speaker']}: {hardest['recall']:.0%}"
    assert "Comparisons: on Leave one corpus out, " in (config.output / "report.md").read_text()
    card = (config.output / "MODEL_CARD.md").read_text()
    assert "Leave one corpus out: the delivered model" not in card  # the folds' models are others


def test_a_primary_test_set_that_there_will_not_be_is_refused_before_training(tmp_path):
    config = make_study(tmp_path, *QUICK, "evaluation.primary.test_sets=[leave_one_corpus_out]")
    with pytest.raises(ConfigError, match=r"names 'leave_one_corpus_out', which is not tested; there are test"):
        study_record(config)
    assert not (config.output / "fits").exists()


def test_folds_over_all_groups_come_after_the_thresholds_and_need_a_whole_study(over_all):
    config, record = over_all
    assert record["seal"]["verdict"] == "sealed"
    with pytest.raises(ConfigError, match="opens the tests; run the whole study"):
        fold_records(config)


def test_an_opponent_is_decided_at_the_threshold_of_each_folds_own_dev():
    dev = [{"s0": 6.0, "n0": 4.0}, {"s1": 1.0, "n1": -3.0}]
    held_out = [{"s2": 9.0, "n2": -9.0}, {"s3": 8.0, "n3": -8.0}]
    folds = [
        DecidedFold(
            f"fold-{i}", scored(dict.fromkeys(dev[i], 0.0), 1), scored(dict.fromkeys(held_out[i], 0.5), 1), float(i)
        )
        for i in range(2)
    ]
    every = held_out[1] | dev[0] | held_out[0] | dev[1]
    opponents = {
        "silero": scored(every, 1),
        "silero-default": scored({clip: -score for clip, score in every.items()}, 1),
    }
    ours, theirs = judge_folds(folds, opponents, {"fine-tuned": 0.0, "silero": 0.5})
    assert ours.table.score.tolist() == [0.5, 0.5, -0.5, -0.5]
    assert theirs.table.clip_id.tolist() == ours.table.clip_id.tolist() == ["s20", "n20", "s30", "n30"]
    # 5 and -1 lie halfway between the classes of each fold's dev
    assert theirs.table.score.tolist() == [9.0 - 5.0, -9.0 - 5.0, 8.0 + 1.0, -8.0 + 1.0]
    assert theirs.at_default.score.tolist() == [-9.0, 9.0, -8.0, 8.0]
    assert (theirs.calibrated, theirs.default_threshold) == (None, 0.5)


@pytest.mark.parametrize("by", ["[]", "[group, group]", "speaker"])
def test_only_group_and_corpus_once_are_what_is_left_out(by):
    with pytest.raises(ConfigError, match=r"leave_one_out\.by"):
        load_config(None, [f"leave_one_out.by={by}"])
