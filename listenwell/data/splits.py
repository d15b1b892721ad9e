"""Split clips into parts that share no group, with both classes in every part.

A group (a speaker, a sound source) goes into one part as a whole, so a part is heard by voices and sources that no
other part knows. Shares count groups, not clips. Groups are drawn apart for speech and for non-speech from keyed
streams: the result depends on the seed and the names of the groups alone, not on the order or number of clips.
"""

from collections.abc import Iterable, Mapping, Sequence

from listenwell.data.clip import LABELS, Clip, Label
from listenwell.errors import ManifestError
from listenwell.random_streams import stream_key


def split_by_group(clips: Iterable[Clip], shares: Mapping[str, float], seed: int) -> dict[str, list[Clip]]:
    """Return the parts named in `shares` (part -> relative share of the groups), clips in their given order.

    Raises ManifestError when a class has fewer groups than there are parts, and ValueError for a share of 0 or less.
    """
    if not shares or min(shares.values()) <= 0:
        raise ValueError(f"shares must be positive and not empty, found {dict(shares)}")
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
    return {group: frozenset(found) for group, found in labels.items()}


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
    part_of: dict[str, str] = {}
    served: dict[Label, set[str]] = {label: set() for label in LABELS}
    for labels in (frozenset(LABELS), *(frozenset({label}) for label in LABELS)):
        groups = [group for group, found in labels_of.items() if found == labels]
        unserved = [part for part in shares if any(part not in served[label] for label in labels)]
        needed = unserved if len(labels) == 1 else list(shares)[: max(0, len(shares) - _fewest_pure_groups(labels_of))]
        counts = _apportion(len(groups), shares, needed)
        groups = order_groups(groups, seed)
        for part, count in counts.items():
            for group in groups[:count]:
                part_of[group] = part
            groups = groups[count:]
            for label in labels:
                served[label] |= {part} if count else set()
    return part_of


def order_groups(groups: Iterable[str], seed: int) -> list[str]:
    """Return `groups` in a random order in which each has its own draw: a new group leaves the others' order alone."""
    return sorted(groups, key=lambda group: (stream_key(seed, "split", group), group))


def _fewest_pure_groups(labels_of: Mapping[str, frozenset[Label]]) -> int:
    """Return the smaller of the two classes' numbers of groups that hold this class only."""
    return min(sum(labels == {label} for labels in labels_of.values()) for label in LABELS)


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
            spare = {each: count - (each in needed) for each, count in counts.items()}
            richest = max(spare, key=lambda each: spare[each])
            counts[richest] -= 1
            counts[part] = 1
    return counts
