"""Which clips and backgrounds train, which choose (dev), and which only test.

A manifest may name the splits itself in its split column: "train" and "dev" are taken as they are; "study_pool", or
clips without a split, are divided by group into train and what is missing; every other split is a test set. So a table
without any split becomes train, dev and test. Backgrounds follow the same rule, by their own groups: a background used
in training is used in no other split. Rooms (impulse responses) are used in training alone, where no split says
otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, ROOM, Background, Clip
from listenwell.data.splits import check_disjoint, order_groups, split_by_group
from listenwell.errors import ManifestError
from listenwell.study_settings import DataConfig

Sounding = TypeVar("Sounding", Clip, Background)
TRAIN, DEV, TEST, POOL = "train", "dev", "test", "study_pool"
FEWEST_CHOOSING = 6
"""Groups of a class that dev should have; a convention (docs/decisions/0008)."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Clips and backgrounds of every split; test_sets are the splits beside train and dev, in a fixed order."""

    clips: dict[str, list[Clip]]
    banks: dict[str, BackgroundBank]

    @property
    def test_sets(self) -> list[str]:
        """Names of the splits that only test."""
        return [name for name in self.clips if name not in (TRAIN, DEV)]


def divide(clips: Sequence[Clip], backgrounds: Sequence[Background], config: DataConfig) -> Splits:
    """Return the splits of a study. Raises ManifestError when a split lacks a class or two splits share a group."""
    by_split = group_by_split(clips)
    undivided = by_split.pop(POOL, []) + by_split.pop("", [])
    test_sets = sorted(name for name in by_split if name not in (TRAIN, DEV))
    if undivided:
        shares = {DEV: config.dev_share} | ({} if test_sets else {TEST: config.test_share})
        shares = {name: share for name, share in shares.items() if name not in by_split}
        shares = {TRAIN: 1.0 - sum(shares.values()), **shares}
        for name, given in split_by_group(undivided, shares, config.split_seed).items():
            by_split[name] = by_split.setdefault(name, []) + given
        test_sets = test_sets or [TEST]
    splits = {name: by_split[name] for name in (TRAIN, DEV, *test_sets) if name in by_split}
    _require_splits(splits)
    check_disjoint(splits)
    return Splits(splits, _divide_backgrounds(backgrounds, list(splits), config))


def group_by_split(sounds: Sequence[Sounding], unnamed: str = "") -> dict[str, list[Sounding]]:
    """Split -> its sounds; unnamed: under which name those without a split stand."""
    by_split: dict[str, list[Sounding]] = {}
    for sound in sounds:
        by_split.setdefault(sound.split or unnamed, []).append(sound)
    return by_split


def _require_splits(splits: dict[str, list[Clip]]) -> None:
    for name in (TRAIN, DEV):
        if name not in splits:
            raise ManifestError(
                f"the clips have no split '{name}' (their splits: {', '.join(splits)}); name the splits train, dev and "
                "test, or leave the split column empty to have them divided by group."
            )
    if len(splits) < 3:
        raise ManifestError("the clips have no test split: every split is train or dev; give a split 'test' as well.")
    for name, clips in splits.items():
        missing = [label for label in LABELS if not any(clip.label == label for clip in clips)]
        if missing:
            raise ManifestError(
                f"split '{name}' has {len(clips)} clips but none is {missing[0]}; both labels are needed to train, "
                "calibrate and test. Add recordings or divide the groups again (data.split_seed)."
            )


def _divide_backgrounds(
    backgrounds: Sequence[Background], splits: Sequence[str], config: DataConfig
) -> dict[str, BackgroundBank]:
    rooms = [background for background in backgrounds if background.kind == ROOM]
    others = [background for background in backgrounds if background.kind != ROOM]
    named = {split: [background for background in others if background.split == split] for split in splits}
    pool = [background for background in others if background.split not in named]
    left = order_groups({background.group for background in pool}, config.split_seed)
    n_groups = len(left)
    n_held_out = max(1, round(config.dev_share * n_groups)) if n_groups else 0
    # train takes what the others leave
    for split in sorted((split for split in splits if not named[split]), key=lambda split: split == TRAIN):
        n_chosen = len(left) if split == TRAIN else n_held_out
        chosen, left = set(left[:n_chosen]), left[n_chosen:]
        named[split] = [background for background in pool if background.group in chosen]
    if others and not all(named.values()):
        starved = ", ".join(split for split, given in named.items() if not given)
        raise ManifestError(
            f"{len(others)} backgrounds of {n_groups} undivided groups are too few: no background is left for "
            f"{starved}; add recordings, or name their split."
        )
    for room in rooms:
        named[room.split if room.split in named else TRAIN].append(room)
    return {split: BackgroundBank([replace(b, split=split) for b in given]) for split, given in named.items()}


def with_speakers(splits: Splits) -> Splits:
    """The same splits, the speakers of train in its own bank too, for babble."""
    bank = splits.banks[TRAIN]
    with_babble = BackgroundBank(bank.entries, speakers=splits.clips[TRAIN])
    return replace(splits, banks=splits.banks | {TRAIN: with_babble})


def allocation(splits: Splits) -> list[dict[str, Any]]:
    """Who is where, as JSON values: one record per split and label."""
    return [
        {
            "part": split,
            "label": label,
            "n_clips": len(chosen),
            "groups": sorted({clip.group for clip in chosen}),
            "n_groups": len({clip.group for clip in chosen}),
            "categories": len({clip.category for clip in chosen if clip.category}),
        }
        for split, clips in splits.clips.items()
        for label in LABELS
        for chosen in [[clip for clip in clips if clip.label == label]]
    ]


def warnings_of(splits: Splits) -> list[str]:
    """What a reader must know before believing the numbers."""
    warnings = []
    for split, clips in splits.clips.items():
        if len({clip.group for clip in clips}) == len(clips) > 1:
            warnings.append(
                f"{split}: every clip is its own group; if several clips come from one speaker or source, the "
                "intervals are too narrow and the splits may share speakers."
            )
    for label in LABELS:
        n_groups = len({clip.group for clip in splits.clips[DEV] if clip.label == label})
        if n_groups < FEWEST_CHOOSING:
            warnings.append(
                f"dev has {n_groups} group{'s' * (n_groups != 1)} of {label}: an epoch and a threshold chosen by so "
                f"few may suit them alone; {FEWEST_CHOOSING} or more are advised (add groups, or raise data.dev_share)."
            )
    return warnings
