"""Draw a test set: so many speakers with so many clips each, so many other sounds with so many clips each.

Groups are drawn, then clips within each of them. Every group draws from its own stream, keyed by (seed, "test_set",
group): no two groups take the same row numbers, as `groupby.sample(random_state=0)` would, and a group that joins or
leaves the corpus changes no other group's clips.

    groups   categories in turn (languages of speakers, kinds of sounds), each category's groups in drawn order
    clips    recordings in turn, as many as there are; of the clips that this leaves, the one nearest to a duration
             drawn from its own n-th of the group's durations (stratified sampling: Cochran 1977, chapter 5)

A group with both labels counts as a speaker, never as a sound: no group of the test set bears both labels.

`DataSheet` says what is in a test set, where it is from, how much it can show (after Gebru et al.
2021, "Datasheets for datasets", arXiv:1803.09010). Knows no files.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from listenwell.data.clip import LABELS, Clip, Label
from listenwell.errors import ManifestError
from listenwell.random_streams import stream

NEAREST_SHOWN = 3
"""How many of the groups that are short of clips an error names."""
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class SetSize:
    """How many groups of each class, and how many clips of each group."""

    n_speakers: int = 10
    clips_per_speaker: int = 5
    n_sounds: int = 20
    clips_per_sound: int = 3


def draw_test_set(clips: Iterable[Clip], size: SetSize, seed: int) -> list[Clip]:
    """Return the chosen clips, speakers first, groups in drawn order.

    Raises ManifestError, saying what is missing and how many more, when the clips are too few.
    """
    by_group: dict[str, list[Clip]] = {}
    for clip in clips:
        by_group.setdefault(clip.group, []).append(clip)
    spoken = {group: [clip for clip in members if clip.label == "SPEECH"] for group, members in by_group.items()}
    speakers = {group: members for group, members in spoken.items() if members}
    sounds = {group: members for group, members in by_group.items() if group not in speakers}
    wanted: tuple[tuple[Label, dict[str, list[Clip]], int, int], ...] = (
        ("SPEECH", speakers, size.n_speakers, size.clips_per_speaker),
        ("NONSPEECH", sounds, size.n_sounds, size.clips_per_sound),
    )
    lacks = [lack for label, groups, n, clips_each in wanted if (lack := _lack(label, groups, n, clips_each))]
    if lacks:
        raise ManifestError(
            f"the clips are too few for this test set: {'; '.join(lacks)}; add recordings, or ask for a smaller set."
        )
    chosen = []
    for _, groups, n, clips_each in wanted:
        large = {group: members for group, members in groups.items() if len(members) >= clips_each}
        for group in _categories_in_turn(large, seed)[:n]:
            chosen += _draw_clips(group, large[group], clips_each, seed)
    return chosen


def leave_out_related(clips: Iterable[Clip], used: Iterable[Clip]) -> list[Clip]:
    """Return the clips that share no group, recording (of one corpus), origin or samples with any of `used`."""
    taken = {relation for clip in used for relation in _relations(clip)}
    return [clip for clip in clips if taken.isdisjoint(_relations(clip))]


def _relations(clip: Clip) -> Iterator[tuple[str, ...]]:
    yield "group", clip.group
    yield "recording", clip.corpus, clip.recording
    if clip.origin:
        yield "origin", clip.origin
    if clip.pcm_sha256:
        yield "samples", clip.pcm_sha256


def _lack(label: Label, groups: dict[str, list[Clip]], n_groups: int, clips_each: int) -> str:
    """Say what one class lacks, "" when it has enough."""
    large = sum(len(members) >= clips_each for members in groups.values())
    if large >= n_groups:
        return ""
    small = sorted((clips_each - len(members), group) for group, members in groups.items() if len(members) < clips_each)
    nearest = ", ".join(f"'{group}' lacks {n}" for n, group in small[:NEAREST_SHOWN])
    missing = f"{n_groups - large} missing" + (f" (nearest: {nearest})" if nearest else "")
    return f"{large} groups have {clips_each} or more {label} clips, {n_groups} are needed: {missing}"


def _categories_in_turn(groups: dict[str, list[Clip]], seed: int) -> list[str]:
    """Return all groups: one of each category, then the second of each, and so on."""
    rank = {group: stream(seed, "test_set", "group", group).random() for group in groups}
    by_category: dict[str, list[str]] = {}
    for group in sorted(groups, key=lambda group: (rank[group], group)):
        by_category.setdefault(_category(groups[group]), []).append(group)
    turn = {category: stream(seed, "test_set", "category", category).random() for category in by_category}
    categories = sorted(turn, key=lambda category: (turn[category], category))
    in_turn = zip_longest(*(by_category[category] for category in categories))
    return [group for groups_of_turn in in_turn for group in groups_of_turn if group is not None]


def _category(clips: Sequence[Clip]) -> str:
    """Return the category most of the clips bear, the first in the alphabet of several."""
    counts = Counter(clip.category for clip in clips)
    return min(counts, key=lambda category: (-counts[category], category))


def _draw_clips(group: str, clips: Sequence[Clip], n_clips: int, seed: int) -> list[Clip]:
    """Return n_clips of the group's clips, from as many recordings as possible, their durations spread."""
    rng = stream(seed, "test_set", group)
    in_order = sorted(clips, key=lambda clip: clip.clip_id)
    left = [in_order[i] for i in rng.permutation(len(in_order))]
    quantiles = (np.arange(n_clips) + rng.random(n_clips)) / n_clips
    wanted_s = np.quantile([clip.duration_s for clip in left], rng.permutation(quantiles))
    n_taken = dict.fromkeys((clip.recording for clip in left), 0)
    chosen = []
    for duration_s in wanted_s:
        clip = min(left, key=lambda clip: (n_taken[clip.recording], abs(clip.duration_s - duration_s)))
        left.remove(clip)
        n_taken[clip.recording] += 1
        chosen.append(clip)
    return chosen


@dataclass(frozen=True, slots=True)
class Precision:
    """How exactly a measure can be known.

    effective_n: the clips over the design effect of this intra-class correlation; half_widths: (share right,
    half-width of its 95 % interval) each.
    """

    measure: str
    n_clips: int
    n_groups: int
    icc: float
    effective_n: float
    half_widths: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class SheetClass:
    """Clips of one label of a test set; durations in seconds."""

    label: str
    n_clips: int
    n_groups: int
    n_recordings: int
    n_categories: int
    shortest_s: float
    median_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class DataSheet:
    """asked: what the set was drawn with (seed, sizes, tables), as JSON values."""

    asked: Mapping[str, Any]
    clips: Sequence[Clip]
    precision: Sequence[Precision]


def sheet_to_json(sheet: DataSheet) -> dict[str, Any]:
    """Return the sheet as JSON values; durations in s, shares and half-widths from 0 to 1."""
    return {
        "asked": dict(sheet.asked),
        "classes": [asdict(each) for each in describe_classes(sheet.clips)],
        "licences": count_licences(sheet.clips),
        "precision": [asdict(known) for known in sheet.precision],
        # not where the files lie on one machine, which test_set.csv has
        "clips": [{name: value for name, value in asdict(clip).items() if name != "path"} for clip in sheet.clips],
    }


def count_licences(clips: Sequence[Clip]) -> dict[str, int]:
    """How many clips there are of each licence."""
    return dict(sorted(Counter(clip.licence or NOT_STATED for clip in clips).items()))


def describe_classes(clips: Sequence[Clip]) -> list[SheetClass]:
    """What there is of each label."""
    return [_describe_class(label, [clip for clip in clips if clip.label == label]) for label in LABELS]


def _describe_class(label: Label, chosen: Sequence[Clip]) -> SheetClass:
    return SheetClass(
        label,
        len(chosen),
        len({clip.group for clip in chosen}),
        len({(clip.corpus, clip.recording) for clip in chosen}),
        len({clip.category for clip in chosen if clip.category}),
        *np.quantile([clip.duration_s for clip in chosen], [0, 0.5, 1]).tolist(),
    )
