"""Splits share no group, each holds both classes, and the draw depends on seed and group names alone."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.data.clip import LABELS, Clip
from listenwell.data.splits import check_disjoint, kind_of, make_category_folds, make_corpus_folds, split_by_group
from listenwell.errors import ManifestError


def clip(index: int, label: str, group: str) -> Clip:
    return Clip(f"c{index}", Path("a.wav"), 0.0, 1.0, label, group, "r", "own", "CC0")


def corpus(n_speech: int, n_nonspeech: int, n_both: int = 0, clips_each: int = 2) -> list[Clip]:
    groups = [("SPEECH", f"s{i}") for i in range(n_speech)] + [("NONSPEECH", f"n{i}") for i in range(n_nonspeech)]
    groups += [(label, f"b{i}") for i in range(n_both) for label in LABELS]
    return [clip(i * clips_each + j, *each) for i, each in enumerate(groups) for j in range(clips_each)]


SHARES = st.dictionaries(st.sampled_from(["train", "dev", "test"]), st.floats(0.05, 1.0), min_size=1)


@given(SHARES, st.integers(0, 12), st.integers(0, 12), st.integers(0, 6), st.integers(0, 99))
def test_parts_partition_the_clips_by_group_with_both_classes_in_each(shares, n_speech, n_nonspeech, n_both, seed):
    clips = corpus(n_speech, n_nonspeech, n_both)
    if min(n_speech, n_nonspeech) + n_both < len(shares):
        with pytest.raises(ManifestError):
            split_by_group(clips, shares, seed)
        return
    parts = split_by_group(clips, shares, seed)
    assert list(parts) == list(shares)
    assert sorted(c.clip_id for part in parts.values() for c in part) == sorted(c.clip_id for c in clips)
    check_disjoint(parts)
    for part in parts.values():
        assert {c.label for c in part} == set(LABELS)


def test_shares_count_groups():
    parts = split_by_group(corpus(20, 10), {"train": 0.8, "dev": 0.2}, seed=0)
    assert len({c.group for c in parts["train"] if c.label == "SPEECH"}) == 16
    assert len({c.group for c in parts["train"] if c.label == "NONSPEECH"}) == 8


def test_too_few_groups_are_named_with_what_is_needed():
    with pytest.raises(ManifestError, match=r"NONSPEECH has 1 group \(n0\), but the parts train, dev need at least 2"):
        split_by_group(corpus(5, 1), {"train": 0.8, "dev": 0.2}, seed=0)


def test_a_shared_group_or_clip_is_found():
    with pytest.raises(ManifestError, match="group 'anna' is in part 'train' and in part 'dev'"):
        check_disjoint({"train": [clip(1, "SPEECH", "anna")], "dev": [clip(2, "SPEECH", "anna")]})
    with pytest.raises(ManifestError, match="clip_id 'c1' is in part"):
        check_disjoint({"train": [clip(1, "SPEECH", "anna")], "dev": [clip(1, "SPEECH", "bob")]})


def test_a_group_of_both_labels_goes_by_the_shares_where_other_groups_serve_every_part():
    parts = split_by_group(corpus(6, 6, n_both=1), {"train": 0.1, "test": 0.9}, seed=0)
    assert "b0" in {c.group for c in parts["test"]}


def corpus_clips(corpora: dict[str, tuple[int, int]]) -> list[Clip]:
    """Two clips of every speaker and source; corpora: name -> how many of each it has."""
    return [
        replace(clip(0, label, f"{name}-{label}{i}"), clip_id=f"{name}-{label}{i}-{k}", corpus=name)
        for name, counts in corpora.items()
        for label, n in zip(("SPEECH", "NONSPEECH"), counts, strict=True)
        for i in range(n)
        for k in range(2)
    ]


def test_every_corpus_is_held_out_once_with_all_that_it_has():
    clips = corpus_clips({"a": (3, 0), "b": (2, 4), "c": (2, 0), "d": (0, 5), "e": (0, 1), "f": (0, 2)})
    folds = make_corpus_folds(clips, 1, 0)
    assert [fold.name for fold in folds] == ["corpus a", "corpus b", "corpus c"]
    held_out = [clip.clip_id for fold in folds for clip in fold.held_out]
    assert sorted(held_out) == sorted(clip.clip_id for clip in clips)
    # the largest corpora without speech go to the folds with the fewest sources
    assert [set(fold.corpora) for fold in folds] == [{"a", "d"}, {"b"}, {"c", "f", "e"}]
    for fold in folds:
        assert {clip.corpus for clip in fold.held_out} == set(fold.corpora)
        assert not {clip.corpus for clip in (*fold.train, *fold.dev)} & fold.corpora
        assert {clip.group for clip in fold.train}.isdisjoint(clip.group for clip in fold.dev)


def test_too_few_corpora_with_speech_are_named():
    with pytest.raises(ManifestError, match=r"needs 3 corpora with speech, but there are 2 \(a, b\)"):
        make_corpus_folds(corpus_clips({"a": (3, 2), "b": (2, 4), "d": (0, 5)}), 1, 0)


def test_a_speaker_of_two_corpora_trains_in_neither_fold_and_each_clip_is_tested_once():
    clips = corpus_clips({"a": (3, 1), "b": (3, 2), "c": (3, 2)})
    shared = [replace(each, group="both") if each.group in ("a-SPEECH0", "b-SPEECH0") else each for each in clips]
    folds = make_corpus_folds(shared, 1, 0)
    held_out = [each.clip_id for fold in folds for each in fold.held_out]
    assert sorted(held_out) == sorted(each.clip_id for each in clips)
    for fold in folds[:2]:
        assert "both" in {each.group for each in fold.held_out}
        assert "both" not in {each.group for each in (*fold.train, *fold.dev)}


def category_clips(n_sources: dict[str, int], n_speakers: dict[str, int]) -> list[Clip]:
    sounds = [(f"{kind}/{n}", f"{kind}{n}", "NONSPEECH", "g") for kind, n_ in n_sources.items() for n in range(n_)]
    spoken = [("", f"{corpus}{n}", "SPEECH", corpus) for corpus, n_ in n_speakers.items() for n in range(n_)]
    return [
        replace(clip(i, label, group), category=category, corpus=of)
        for i, (category, group, label, of) in enumerate(2 * (sounds + spoken))
    ]


def test_every_kind_of_sound_is_held_out_once_with_a_corpus_of_speech():
    clips = category_clips({"animal": 5, "tool": 3, "bell": 2, "rain": 1}, {"a": 2, "b": 2, "c": 3})
    folds = make_category_folds(clips, 3, 1, 0)
    assert sorted(c.clip_id for fold in folds for c in fold.held_out) == sorted(c.clip_id for c in clips)
    kinds = [{kind_of(c) for c in fold.held_out if c.label == "NONSPEECH"} for fold in folds]
    assert kinds == [{"animal"}, {"tool"}, {"bell", "rain"}]
    assert [{c.corpus for c in fold.held_out if c.label == "SPEECH"} for fold in folds] == [{"c"}, {"a"}, {"b"}]
    for fold, held in zip(folds, kinds, strict=True):
        assert not held & {kind_of(c) for c in (*fold.train, *fold.dev)}
        check_disjoint({"train": fold.train, "dev": fold.dev, "held_out": fold.held_out})


def test_without_a_number_every_kind_has_its_fold_and_speakers_are_dealt_where_corpora_are_few():
    folds = make_category_folds(category_clips({"animal": 3, "tool": 2, "bell": 2}, {"a": 4}), None, 1, 0)
    assert [{kind_of(c) for c in fold.held_out if c.label == "NONSPEECH"} for fold in folds] == [
        {"animal"}, {"bell"}, {"tool"}
    ]  # fmt: skip
    assert sum(len({c.group for c in fold.held_out if c.label == "SPEECH"}) for fold in folds) == 4


@pytest.mark.parametrize("n_folds", [None, 4])
def test_sounds_without_a_category_or_too_few_kinds_are_said(n_folds):
    clips = category_clips({"animal": 3, "": 2, "bell": 2}, {"a": 4})
    with pytest.raises(ManifestError, match=r"leave-one-category-out in \d folds needs .* name the category"):
        make_category_folds(clips, n_folds, 1, 0)
