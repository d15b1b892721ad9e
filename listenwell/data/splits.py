"""Split clips by group, with both classes in every split: by shares, or into folds that hold every group out once.

A group (a speaker, a sound source) goes into one split as a whole, so that a test has speakers and sources that
training does not know. Shares count groups, not clips. Groups are drawn apart for speech and for non-speech from keyed
streams: the result depends on the seed and the names of the groups alone, not on the order or number of clips. A group
that holds both labels counts as a speaker.

A fold without non-speech could be won by calling everything speech. So the sound sources are dealt out to the folds,
every source held out exactly once, and within what is left some speakers and sources choose (dev) instead of training.
Folds by corpus hold whole corpora out: speakers, sources and, by what the caller does with `Fold.corpora`, backgrounds.
Folds by category hold whole kinds of sounds out.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import ceil
from operator import attrgetter

from listenwell.data.clip import LABELS, Clip, Label
from listenwell.errors import ManifestError
from listenwell.random_streams import stream_key

FEWEST_CORPORA = 3
"""One is held out, and those that choose and those that train are not all of one."""


def split_by_group(clips: Iterable[Clip], shares: Mapping[str, float], seed: int) -> dict[str, list[Clip]]:
    """Return the parts named in `shares` (part -> relative share of the groups), clips in their given order.

    Raises ManifestError when a class has fewer groups than there are parts.
    """
    kept = list(clips)
    labels_of = _labels_of_groups(kept)
    part_of = _allocate(labels_of, shares, seed)
    parts: dict[str, list[Clip]] = {part: [] for part in shares}
    for clip in kept:
        parts[part_of[clip.group]].append(clip)
    return parts


def check_disjoint(parts: Mapping[str, Sequence[Clip]]) -> None:
    """Raise ManifestError when a group or a clip_id stands in more than one part."""
    for what in ("group", "clip_id"):
        owner: dict[str, str] = {}
        for part, clips in parts.items():
            for value in sorted({getattr(clip, what) for clip in clips}):
                if owner.setdefault(value, part) != part:
                    raise ManifestError(
                        f"{what} '{value}' is in part '{owner[value]}' and in part '{part}'; parts must share none, "
                        "or the result would not show whether the model generalises. Split the clips again."
                    )


def _labels_of_groups(clips: Sequence[Clip]) -> dict[str, frozenset[Label]]:
    """Return, for every group in sorted order, the labels its clips bear; a speaker may also laugh."""
    labels: dict[str, set[Label]] = {group: set() for group in sorted({clip.group for clip in clips})}
    for clip in clips:
        labels[clip.group].add(clip.label)
    return {group: frozenset(bears) for group, bears in labels.items()}


def _allocate(labels_of: Mapping[str, frozenset[Label]], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Return the part of every group. Groups with both labels go first, since they serve both classes."""
    for label in LABELS:
        groups = [group for group, labels in labels_of.items() if label in labels]
        if len(groups) < len(shares):
            known = f" ({', '.join(groups)})" if groups else ""
            raise ManifestError(
                f"{label} has {len(groups)} group{'s' * (len(groups) != 1)}{known}, but the parts {', '.join(shares)} "
                f"need at least {len(shares)}, one each; add {label} clips of other groups or ask for fewer parts."
            )
    n_pure = min(sum(labels == {label} for labels in labels_of.values()) for label in LABELS)
    part_of: dict[str, str] = {}
    served: dict[Label, set[str]] = {label: set() for label in LABELS}
    for labels in (frozenset(LABELS), *(frozenset({label}) for label in LABELS)):
        groups = [group for group, bears in labels_of.items() if bears == labels]
        unserved = [part for part in shares if any(part not in served[label] for label in labels)]
        needed = unserved if len(labels) == 1 else list(shares)[: max(0, len(shares) - n_pure)]
        counts = _apportion(len(groups), shares, needed)
        groups = order_groups(groups, seed)
        for part, n_groups in counts.items():
            for group in groups[:n_groups]:
                part_of[group] = part
            groups = groups[n_groups:]
            for label in labels:
                served[label] |= {part} if n_groups else set()
    return part_of


def order_groups(groups: Iterable[str], seed: int) -> list[str]:
    """Return `groups` in a random order in which each has its own draw: a new group leaves the others' order alone."""
    return sorted(groups, key=lambda group: (stream_key(seed, "split", group), group))


def _apportion(n_groups: int, shares: Mapping[str, float], needed: Sequence[str]) -> dict[str, int]:
    """Return how many groups each part gets: largest remainders, and at least one for the parts in `needed`."""
    total = sum(shares.values())
    quotas = {part: n_groups * share / total for part, share in shares.items()}
    counts = {part: int(quota) for part, quota in quotas.items()}
    by_remainder = sorted(shares, key=lambda part: counts[part] - quotas[part])
    for part in by_remainder[: n_groups - sum(counts.values())]:
        counts[part] += 1
    for part in needed:
        if counts[part] == 0:
            spare = {part: count - (part in needed) for part, count in counts.items()}
            richest = max(spare, key=spare.__getitem__)
            counts[richest] -= 1
            counts[part] = 1
    return counts


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold; its three lists share no group, and each holds both labels.

    name: the speaker's, the corpus' or fold-01. corpora: those that are held out whole; their clips and backgrounds
    train nothing.
    """

    name: str
    train: list[Clip]
    dev: list[Clip]
    held_out: list[Clip]
    corpora: frozenset[str] = frozenset()


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
    held_out = [{*dealt[number::n], *sources[number::n]} for number in range(n)]
    return [
        _fold(clips, name, groups, number, n_dev_speakers, seed)
        for number, (name, groups) in enumerate(zip(names, held_out, strict=True))
    ]


def make_corpus_folds(clips: Sequence[Clip], n_dev_speakers: int, seed: int) -> list[Fold]:
    """Return folds that hold out every corpus once: one per corpus with speech, in their names' order.

    Corpora without speech are dealt to the folds as wholes, the largest first to the fold with the fewest sound
    sources. A group that stands in several corpora trains in none of their folds, and each clip of it is tested once.
    Raises ManifestError where fewer than FEWEST_CORPORA corpora hold speech, or a fold lacks a class.
    """
    spoken = sorted({clip.corpus for clip in clips if clip.label == "SPEECH"})
    if len(spoken) < FEWEST_CORPORA:
        raise ManifestError(
            f"leave-one-corpus-out needs {FEWEST_CORPORA} corpora with speech, but there are {len(spoken)} "
            f"({', '.join(spoken)}); fill the corpus column of the table, or set leave_one_out.by to group."
        )
    speakers = {clip.group for clip in clips if clip.label == "SPEECH"}
    n_sources = dict.fromkeys(sorted({clip.corpus for clip in clips}), 0)
    n_sources |= _count_groups([clip for clip in clips if clip.group not in speakers], attrgetter("corpus"))
    folds = []
    for number, corpora in enumerate(_deal_wholes(n_sources, [{corpus} for corpus in spoken])):
        held = {clip.clip_id for clip in clips if clip.corpus in corpora}
        fold = _whole_fold(clips, f"corpus {spoken[number]}", held, number, n_dev_speakers, seed)
        folds.append(replace(fold, corpora=frozenset(corpora)))
    return folds


def make_category_folds(clips: Sequence[Clip], n_folds: int | None, n_dev_speakers: int, seed: int) -> list[Fold]:
    """Return folds that hold out every kind of sound once, and with it corpora of speech: neither trains nor chooses.

    A kind is the category of non-speech up to its first "/" ("animal/dog"). Kinds are dealt as wholes, the largest
    first to the fold with the fewest sources; so are the corpora of speech by speakers, or the speakers where corpora
    are fewer than folds. n_folds None: one per kind. Raises ManifestError where kinds or speakers are fewer than folds.
    """
    speech = [clip for clip in clips if clip.label == "SPEECH"]
    speakers = {clip.group for clip in speech}
    kinds = _count_groups([clip for clip in clips if clip.group not in speakers], kind_of)
    n = len(kinds) if n_folds is None else n_folds
    of_speech = attrgetter("corpus" if len({clip.corpus for clip in speech}) >= n else "group")
    spoken = _count_groups(speech, of_speech)
    if "" in kinds or min(len(kinds), len(spoken)) < n or n < 2:
        raise ManifestError(
            f"leave-one-category-out in {n} folds needs as many kinds of sounds and as many speakers, but there are "
            f"{len(kinds)} and {len(spoken)}; name the category of every NONSPEECH clip, or lower leave_one_out.folds "
            "(calibration.folds)."
        )
    parts = zip(
        _deal_wholes(kinds, [set() for _ in range(n)]), _deal_wholes(spoken, [set() for _ in range(n)]), strict=True
    )
    held = [
        {clip.clip_id for clip in clips if (of_speech(clip) in said if clip.group in speakers else kind_of(clip) in of)}
        for of, said in parts
    ]
    names = [f"categories-{number:02d}" for number in range(1, n + 1)]
    return [_whole_fold(clips, *fold, n_dev_speakers, seed) for fold in zip(names, held, range(n), strict=True)]


def kind_of(clip: Clip) -> str:
    """The kind of sound: its category up to the first "/"."""
    return clip.category.partition("/")[0]


def _count_groups(clips: Iterable[Clip], key: Callable[[Clip], str]) -> dict[str, int]:
    """How many groups there are of each value of the key."""
    return Counter(value for value, _ in {(key(clip), clip.group) for clip in clips})


def _deal_wholes(sizes: Mapping[str, int], parts: Sequence[set[str]]) -> Sequence[set[str]]:
    """Add what is in none of the parts: the largest first, to the part that is smallest so far."""
    dealt = set().union(*parts)
    for name in sorted(set(sizes) - dealt, key=lambda name: (-sizes[name], name)):
        min(parts, key=lambda part: sum(sizes[each] for each in part)).add(name)
    return parts


def _whole_fold(clips: Sequence[Clip], name: str, held: set[str], number: int, n_dev_speakers: int, seed: int) -> Fold:
    """The fold that tests the clips with these ids; the other clips of their groups are in none of its parts."""
    fold = _fold(clips, name, {clip.group for clip in clips if clip.clip_id in held}, number, n_dev_speakers, seed)
    return replace(fold, held_out=[clip for clip in fold.held_out if clip.clip_id in held])


def _fold(clips: Sequence[Clip], name: str, held_out: set[str], number: int, n_dev_speakers: int, seed: int) -> Fold:
    """The fold that holds these groups out; which of the others choose goes in turn, fold by fold."""
    speakers = {clip.group for clip in clips if clip.label == "SPEECH"}
    left_speakers = [group for group in order_groups(speakers, seed + 1) if group not in held_out]
    sources = order_groups({clip.group for clip in clips} - speakers, seed)
    left_sources = [group for group in sources if group not in held_out]
    n_dev_sources = max(1, round(len(left_sources) * n_dev_speakers / max(len(left_speakers), 1)))
    dev = {*_in_turn(left_speakers, number, n_dev_speakers), *_in_turn(left_sources, number, n_dev_sources)}
    fold = Fold(
        name,
        [clip for clip in clips if clip.group not in held_out | dev],
        [clip for clip in clips if clip.group in dev],
        [clip for clip in clips if clip.group in held_out],
    )
    _require_labels(fold)
    return fold


def _in_turn(groups: Sequence[str], number: int, n_dev: int) -> list[str]:
    """The n_dev groups that choose in fold `number`; each fold goes on where the one before it ended."""
    return [groups[(number * n_dev + i) % len(groups)] for i in range(n_dev)] if groups else []


def _require_groups(
    speakers: Sequence[str], sources: Sequence[str], n_folds: int, n_dev: int, *, one_each: bool
) -> None:
    # the fewest of which one fold's share leaves n_dev and one more
    needed = n_dev + 2 if one_each else next(n for n in count(n_folds) if n - ceil(n / n_folds) > n_dev)
    if len(speakers) < needed:
        held = "one" if one_each else f"1 in {n_folds}"
        raise ManifestError(
            f"leave-one-speaker-out needs {needed} speakers ({held} held out, {n_dev} to choose, at least one to "
            f"train), but there are {len(speakers)}; add speakers, or change "
            "leave_one_out.dev_speakers or leave_one_out.folds."
        )
    if len(sources) < n_folds:
        raise ManifestError(
            f"leave-one-speaker-out in {n_folds} folds needs {n_folds} sound sources, one held out in each, but there "
            f"are {len(sources)}; add NONSPEECH sources, or set leave_one_out.folds to {len(sources)} or fewer."
        )


def _require_labels(fold: Fold) -> None:
    for part, clips in (("train", fold.train), ("choose", fold.dev), ("be held out", fold.held_out)):
        missing = [label for label in LABELS if not any(clip.label == label for clip in clips)]
        if missing:
            raise ManifestError(
                f"leave-one-out, fold '{fold.name}': no {missing[0]} clip is left to {part}; add groups of "
                "that class, or lower leave_one_out.dev_speakers."
            )
