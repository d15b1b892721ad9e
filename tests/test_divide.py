"""Dividing a manifest into splits: named splits stay, what has none is divided, and no clip is lost."""

from pathlib import Path

import pytest

from listenwell.data.clip import LABELS, Clip
from listenwell.splits.divide import divide, warnings_of
from listenwell.study_settings import DataConfig


def corpus(**groups_of: int) -> list[Clip]:
    """Two clips of each group, as many groups of each label as asked; "undivided" clips have no split."""
    return [
        Clip(f"{split}-{label}-{i}-{j}", Path("a.wav"), 0.0, 1.0, label, f"{split}-{label}-{i}", "r", "made", "CC0",
             split="" if split == "undivided" else split)
        for split, n_groups in groups_of.items() for label in LABELS for i in range(n_groups) for j in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "named",
    [{}, {"train": 2}, {"dev": 2}, {"test": 3}, {"train": 1, "test": 2}, {"train": 2, "dev": 1, "foreign": 1}],
    ids=str,
)
def test_no_clip_is_lost_whatever_is_named(named):
    clips = corpus(undivided=6, **named)
    splits = divide(clips, [], DataConfig())
    assert sorted(c.clip_id for split in splits.clips.values() for c in split) == sorted(c.clip_id for c in clips)
    for split in named:
        assert {c.clip_id for c in clips if c.split == split} <= {c.clip_id for c in splits.clips[split]}


def test_clips_named_train_are_never_chosen_from_or_tested_on():
    clips = corpus(train=2, undivided=10)
    splits = divide(clips, [], DataConfig())
    assert {c.split for c in splits.clips["dev"]} == {""}
    assert {c.split for c in splits.clips["test"]} == {""}


def test_too_few_groups_that_choose_are_said():
    few = warnings_of(divide(corpus(undivided=16), [], DataConfig()))
    assert [line for line in few if "SPEECH" in line] == [
        f"dev has 4 groups of {label}: an epoch and a threshold chosen by so few may suit them alone; 6 or more are "
        "advised (add groups, or raise data.dev_share)."
        for label in LABELS
    ]
    assert warnings_of(divide(corpus(undivided=24), [], DataConfig())) == []
