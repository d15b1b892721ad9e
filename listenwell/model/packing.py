"""Packed rows: one prefix and many clips in one sequence, no clip padded, no prefix repeated.

Row k is [prefix | clip 1 + suffix | clip 2 + suffix | ...]. Every clip sees the prefix and itself only, and its
positions continue from the prefix's end, so each answer equals the answer of the clip alone in a sequence. This is
the block-diagonal packing of Krell et al. 2021 (arXiv:2107.02027) with a shared prefix. Rows of unequal length are
filled at their end; fill positions are read by nobody.

Attention is laid out as its blocks: the prefixes, then groups of clips of similar length, each against prefix and
itself. So it costs clips x length x (prefix + length), where a mask over the whole row would cost the row squared.
What is asked of the model is the last tokens of each clip, mostly one, the answer's; they are a second set of blocks.

Shapes: K rows, L longest row, P prefix, n clips of a block, q its queries, k its keys, R most tokens read in a row.
Positions are flat: row x L + column. Knows nothing of the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

ALIKE = 0.7
"""A clip joins a block of longer ones when it is at least this share of the longest: at most a third is filled."""


@dataclass(frozen=True, slots=True)
class Block:
    """queries (n, q) and keys (n, k): flat positions; bias (n, q, k): 0 where a query sees a key, otherwise minus
    infinity. Clips shorter than the block's longest are filled with positions that exist and are not used."""

    queries: torch.Tensor
    keys: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, slots=True)
class Attending:
    """Blocks, and where each position finds its result: (number of positions,) into the blocks' queries, one after
    the other. Fill positions find that of any other."""

    blocks: tuple[Block, ...]
    results: torch.Tensor


@dataclass(frozen=True, slots=True)
class RowLayout:
    """position_ids (K, L); row_lengths: positions of each row that are not fill; attending: of all positions.

    read (K, R): flat positions of the tokens that are asked for; n_read: how many each row has, the rest being fill;
    read_attending: of these alone; asked (total,): where they lie in (K, R), flat, rows then clips.
    """

    row_lengths: tuple[int, ...]
    position_ids: torch.Tensor
    attending: Attending
    n_read: tuple[int, ...]
    read: torch.Tensor
    read_attending: Attending
    asked: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Segment:
    """One clip, or a prefix: where it starts, the start of its row and how many prefix positions it sees from there,
    and its length. Its last n_asked tokens ask; first_query is where these start among all that ask."""

    start: int
    row_start: int
    n_before: int
    length: int
    first_query: int
    n_asked: int


def lay_out_rows(
    segment_lengths: Sequence[Sequence[int]],
    n_prefix: int,
    like: torch.Tensor,
    n_read: Sequence[Sequence[int]] | None = None,
) -> RowLayout:
    """Lay out rows of segments; a segment is one clip's audio tokens and suffix.

    like: has the device and the precision wanted. n_read: how many of each segment's last tokens are asked for; by
    default one, the answer's.
    """
    reads = n_read or [[1] * len(lengths) for lengths in segment_lengths]
    row_lengths = [n_prefix + sum(lengths) for lengths in segment_lengths]
    longest, most_read = max(row_lengths), max(map(sum, reads))
    position_ids = torch.zeros(len(row_lengths), longest, dtype=torch.long)
    read = torch.zeros(len(row_lengths), most_read, dtype=torch.long)
    prefixes, whole, ends = [], [], []
    for row, (lengths, row_reads) in enumerate(zip(segment_lengths, reads, strict=True)):
        first, column, n_before = row * longest, n_prefix, 0
        position_ids[row, :n_prefix] = torch.arange(n_prefix)
        prefixes.append(_Segment(first, first, 0, n_prefix, first, n_prefix))
        for length, n in zip(lengths, row_reads, strict=True):
            start, end = first + column, column + length
            position_ids[row, column:end] = torch.arange(n_prefix, n_prefix + length)
            read[row, n_before : n_before + n] = torch.arange(first + end - n, first + end)
            whole.append(_Segment(start, first, n_prefix, length, start, length))
            ends.append(_Segment(start, first, n_prefix, length, row * most_read + n_before, n))
            column, n_before = end, n_before + n
    return RowLayout(
        tuple(row_lengths),
        position_ids.to(like.device),
        _attend([*([prefixes] if n_prefix else []), *_alike(whole)], position_ids.numel(), like),
        tuple(map(sum, reads)),
        read.to(like.device),
        _attend(list(_alike(ends)), read.numel(), like),
        torch.cat([torch.arange(end.n_asked) + end.first_query for end in ends]).to(like.device),
    )


def _alike(segments: Sequence[_Segment]) -> Iterator[list[_Segment]]:
    """Groups of segments of similar length, the longest first."""
    group: list[_Segment] = []
    for segment in sorted(segments, key=lambda s: -s.length):
        if group and segment.length < ALIKE * group[0].length:
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def _attend(groups: Sequence[Sequence[_Segment]], n_positions: int, like: torch.Tensor) -> Attending:
    """The blocks of the groups, and where each of n_positions that ask finds its result."""
    blocks, n_queries = [], 0
    results = torch.zeros(n_positions, dtype=torch.long)
    for group in groups:
        most = max(segment.n_asked for segment in group)
        nth = torch.arange(most).minimum(_column([segment.n_asked for segment in group]) - 1)
        queries = _column([segment.first_query for segment in group]) + nth
        results[queries] = n_queries + torch.arange(len(group))[:, None] * most + nth
        n_queries += queries.numel()
        own = _column([segment.length - segment.n_asked for segment in group]) + nth
        keys, may_see = _keys(group, own)
        bias = torch.zeros(may_see.shape).masked_fill(~may_see, -torch.inf)
        blocks.append(Block(queries.to(like.device), keys.to(like.device), bias.to(like)))
    return Attending(tuple(blocks), results.to(like.device))


def _keys(group: Sequence[_Segment], own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (n, k) of a group, prefix first, and which of them queries at `own` (n, q) in their segments see."""
    n_before, longest = group[0].n_before, max(segment.length for segment in group)
    of_prefix = _column([segment.row_start for segment in group]) + torch.arange(n_before)
    nth = torch.arange(longest)
    of_segment = _column([segment.start for segment in group]) + nth.minimum(
        _column([segment.length for segment in group]) - 1
    )
    may_see = torch.nn.functional.pad(nth <= own[:, :, None], (n_before, 0), value=True)
    return torch.cat([of_prefix, of_segment], dim=1), may_see


def _column(values: Sequence[int]) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def fill_to(sequence: torch.Tensor, length: int) -> torch.Tensor:
    """(l, D) -> (length, D), zeros at the end."""
    return torch.nn.functional.pad(sequence, (0, 0, 0, length - sequence.shape[0]))
