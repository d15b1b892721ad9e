"""Which clips an epoch hears, and in which order."""

from collections.abc import Sequence

import numpy as np

from listenwell.data.clip import LABELS, Clip
from listenwell.random_streams import stream


def draw_epoch(clips: Sequence[Clip], n_clips: int, seed: int, epoch: int) -> list[Clip]:
    """The clips of one epoch in the order they are heard.

    All clips shuffled when n_clips takes them all; otherwise half of each label, the groups of a label taking turns.
    """
    rng = stream(seed, "order", epoch)
    if n_clips >= len(clips):
        return [clips[i] for i in rng.permutation(len(clips))]
    drawn: list[Clip] = []
    for label, n_wanted in zip(LABELS, (n_clips - n_clips // 2, n_clips // 2), strict=True):
        drawn += _take_turns([clip for clip in clips if clip.label == label], n_wanted, rng)
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _take_turns(clips: Sequence[Clip], n_wanted: int, rng: np.random.Generator) -> list[Clip]:
    by_group: dict[str, list[Clip]] = {}
    for index in rng.permutation(len(clips)):
        by_group.setdefault(clips[index].group, []).append(clips[index])
    groups = [by_group[group] for group in sorted(by_group)]
    groups = [groups[i] for i in rng.permutation(len(groups))]
    taken: list[Clip] = []
    while len(taken) < n_wanted and any(groups):
        taken += [group.pop() for group in groups if group][: n_wanted - len(taken)]
    return taken
