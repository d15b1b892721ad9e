"""Folds that hold out one speaker each, or several, and with them a share of the other sounds.

A fold without non-speech could be won by calling everything speech. So the sound sources are dealt out to the folds,
every source held out exactly once, and within what is left some speakers and sources choose (dev) instead of training.
Groups stay whole; a group that holds both labels counts as a speaker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil

from listenwell.data.clip import LABELS, Clip
from listenwell.data.splits import order_groups
from listenwell.errors import ManifestError


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold; its three lists share no group, and each holds both labels. name: the speaker's, or fold-01."""

    name: str
    train: list[Clip]
    dev: list[Clip]
    held_out: list[Clip]


def make_folds(clips: Sequence[Clip], n_folds: int | None, n_dev_speakers: int, seed: int) -> list[Fold]:
    """Return folds that hold out every group of the clips once; n_folds None: one per speaker, in their names' order.

    Raises ManifestError when there are too few speakers or sound sources to train, choose and test in every fold.
    """
    speakers = sorted({clip.group for clip in clips if clip.label == "SPEECH"})
    sources = order_groups({clip.group for clip in clips} - set(speakers), seed)
    one_each = n_folds is None
    n = len(speakers) if n_folds is None else n_folds
    _require_groups(speakers, sources, n, n_dev_speakers, one_each=one_each)
    dealt = speakers if one_each else order_groups(speakers, seed)
    names = speakers if one_each else [f"fold-{number:02d}" for number in range(1, n + 1)]
    folds = [
        _fold(clips, name, {*dealt[number::n], *sources[number::n]}, number, speakers, sources, n_dev_speakers, seed)
        for number, name in enumerate(names)
    ]
    for fold in folds:
        _require_labels(fold)
    return folds


def _require_groups(
    speakers: Sequence[str], sources: Sequence[str], n_folds: int, n_dev: int, *, one_each: bool
) -> None:
    # the fewest of which one fold's share leaves n_dev and one more
    needed = n_dev + 2 if one_each else next(n for n in count(n_folds) if n - ceil(n / n_folds) > n_dev)
    if len(speakers) < needed:
        held = "one" if one_each else f"1 in {n_folds}"
        raise ManifestError(
            f"leave-one-speaker-out needs {needed} speakers ({held} held out, {n_dev} to choose, at least one to "
            f"train), but there are {len(speakers)}; add speakers, or change loso.dev_speakers or loso.folds."
        )
    if len(sources) < n_folds:
        raise ManifestError(
            f"leave-one-speaker-out in {n_folds} folds needs {n_folds} sound sources, one held out in each, but there "
            f"are {len(sources)}; add NONSPEECH sources, or set loso.folds to {len(sources)} or fewer."
        )


def _fold(
    clips: Sequence[Clip],
    name: str,
    held_out: set[str],
    number: int,
    speakers: Sequence[str],
    sources: Sequence[str],
    n_dev: int,
    seed: int,
) -> Fold:
    other_speakers = [each for each in order_groups(speakers, seed + 1) if each not in held_out]
    other_sources = [each for each in sources if each not in held_out]
    n_dev_sources = max(1, round(len(other_sources) * n_dev / len(other_speakers)))
    # each fold chooses by others: the start of the round moves with the fold
    first = number * n_dev
    dev_speakers = [other_speakers[(first + i) % len(other_speakers)] for i in range(n_dev)]
    dev_sources = [other_sources[(number * n_dev_sources + i) % len(other_sources)] for i in range(n_dev_sources)]
    dev = {*dev_speakers, *dev_sources}
    return Fold(
        name,
        [clip for clip in clips if clip.group not in held_out | dev],
        [clip for clip in clips if clip.group in dev],
        [clip for clip in clips if clip.group in held_out],
    )


def _require_labels(fold: Fold) -> None:
    for part, clips in (("train", fold.train), ("choose", fold.dev), ("be held out", fold.held_out)):
        missing = [label for label in LABELS if not any(clip.label == label for clip in clips)]
        if missing:
            raise ManifestError(
                f"leave-one-speaker-out, fold '{fold.name}': no {missing[0]} clip is left to {part}; add groups of "
                "that class, or lower loso.dev_speakers."
            )
