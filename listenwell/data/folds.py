"""Folds that hold out one speaker each, and with every speaker a share of the other sounds.

A fold without non-speech could be won by calling everything speech. So the sound sources are dealt out to the speakers'
folds, every source held out exactly once, and within what is left some speakers and sources choose (dev) instead of
training. Groups stay whole; a group that holds both labels counts as a speaker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from listenwell.data.clip import Clip
from listenwell.data.splits import order_groups
from listenwell.errors import ManifestError


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold; its three lists share no group, and each holds both labels."""

    speaker: str
    train: list[Clip]
    dev: list[Clip]
    held_out: list[Clip]


def leave_one_speaker_out(clips: Sequence[Clip], n_dev_speakers: int, seed: int) -> list[Fold]:
    """Return one fold per speaker, in the order of their names.

    Raises ManifestError when there are too few speakers or sound sources to train, choose and test in every fold.
    """
    speakers = sorted({clip.group for clip in clips if clip.label == "SPEECH"})
    sources = order_groups({clip.group for clip in clips} - set(speakers), seed)
    if len(speakers) < n_dev_speakers + 2:
        raise ManifestError(
            f"leave-one-speaker-out needs {n_dev_speakers + 2} speakers (one held out, {n_dev_speakers} to choose, one "
            f"to train), but there are {len(speakers)}; add speakers or lower loso.dev_speakers."
        )
    if len(sources) < len(speakers):
        raise ManifestError(
            f"leave-one-speaker-out over {len(speakers)} speakers needs {len(speakers)} sound sources, one held out "
            f"with each, but there are {len(sources)}; add NONSPEECH sources."
        )
    return [_fold(clips, speaker, speakers, sources, n_dev_speakers, seed) for speaker in speakers]


def _fold(
    clips: Sequence[Clip], speaker: str, speakers: Sequence[str], sources: Sequence[str], n_dev: int, seed: int
) -> Fold:
    number = speakers.index(speaker)
    held_out = {speaker, *sources[number :: len(speakers)]}
    other_speakers = [each for each in order_groups(speakers, seed + 1) if each not in held_out]
    other_sources = [each for each in sources if each not in held_out]
    n_dev_sources = max(1, round(len(other_sources) * n_dev / len(other_speakers)))
    # each fold chooses by others: the start of the round moves with the fold
    first = number * n_dev
    dev_speakers = [other_speakers[(first + i) % len(other_speakers)] for i in range(n_dev)]
    dev_sources = [other_sources[(number * n_dev_sources + i) % len(other_sources)] for i in range(n_dev_sources)]
    dev = {*dev_speakers, *dev_sources}
    return Fold(
        speaker,
        [clip for clip in clips if clip.group not in held_out | dev],
        [clip for clip in clips if clip.group in dev],
        [clip for clip in clips if clip.group in held_out],
    )
