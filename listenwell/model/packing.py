"""Packed rows: one prefix and many clips in one sequence, no clip padded, no prefix repeated.

    row k         [ prefix | clip 1, suffix | clip 2, suffix | ... | padding ]
    position ids    0..P-1   P, P+1, ...      P, P+1, ...
    may attend to   itself   prefix, itself   prefix, itself     (each causally)
So each answer equals the answer of the clip alone in a sequence: the block-diagonal packing of Krell et al. 2021
(arXiv:2107.02027) with a shared prefix. Padding positions are read by nobody.

Attention is computed in blocks: the prefixes, then clips of similar length, each against prefix and itself. So it costs
clips x length x (prefix + length), where a mask over the whole row would cost the row squared. What is read of the
model is the last tokens of each clip, mostly one, the answer's; they are a second set of blocks.

Shapes: K rows, L longest row, P prefix, n clips of a block, q its queries, k its keys, R most tokens read in a row.
Positions are flat: row x L + column. Knows nothing of the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

MULTIPLE = 32
"""What the length of rows is rounded up to for the model: oneDNN makes a new kernel for every new shape of a bfloat16
product, which takes as long as a small product itself, and keeps it."""
ALIKE = 0.7
"""A clip joins a block of longer ones when it is at least this share of the longest: at most a third is padding."""


@dataclass(frozen=True, slots=True)
class Block:
    """queries (n, q) and keys (n, k): flat positions; mask (n, q, k), float32: 0 where a query sees a key, otherwise
    minus infinity. Clips shorter than the block's longest are padded with positions that exist and are not used."""

    queries: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class BlockAttention:
    """Blocks, and where each position finds its result: index (number of positions,) into the blocks' queries, one
    after the other. Padding positions find that of any other."""

    blocks: tuple[Block, ...]
    index: torch.Tensor


@dataclass(frozen=True, slots=True)
class RowLayout:
    """position_ids (K, L); row_lengths: positions of each row without padding; attention: of all positions.

    read (K, R): flat positions of the tokens that are read; n_read: how many each row has, the rest being padding;
    read_attention: of these alone; read_index (total,): where they lie in (K, R), flat, rows then clips.
    """

    row_lengths: tuple[int, ...]
    position_ids: torch.Tensor
    attention: BlockAttention
    n_read: tuple[int, ...]
    read: torch.Tensor
    read_attention: BlockAttention
    read_index: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Segment:
    """One clip, or a prefix: where it and its row start, how many prefix positions it sees, and its length.

    Its last n_queries tokens are queries; first_query: where these start among all queries.
    """

    start: int
    row_start: int
    n_prefix: int
    length: int
    first_query: int
    n_queries: int


def lay_out_rows(
    segment_lengths: Sequence[Sequence[int]],
    n_prefix: int,
    like: torch.Tensor,
    n_read: Sequence[Sequence[int]] | None = None,
    multiple: int = 1,
) -> RowLayout:
    """Lay out rows of segments; a segment is one clip's audio tokens and suffix.

    like: lies on the device wanted. n_read: how many of each segment's last tokens are read; by default
    one, the answer's. multiple: row lengths are rounded up to it.
    """
    reads = n_read or [[1] * len(lengths) for lengths in segment_lengths]
    row_lengths = [n_prefix + sum(lengths) for lengths in segment_lengths]
    longest, most_read = round_up(max(row_lengths), multiple), max(map(sum, reads))
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
        _in_blocks([*([prefixes] if n_prefix else []), *_of_similar_length(whole)], position_ids.numel(), like),
        tuple(map(sum, reads)),
        read.to(like.device),
        _in_blocks(list(_of_similar_length(ends)), read.numel(), like),
        torch.cat([torch.arange(end.n_queries) + end.first_query for end in ends]).to(like.device),
    )


def lay_out_segments(
    lengths: Sequence[Sequence[int]], longest: int, like: torch.Tensor
) -> tuple[BlockAttention, torch.Tensor]:
    """Rows of segments without a prefix, each position seeing all of its segment; and the flat positions of the
    segments in (K, longest), rows then segments."""
    row_lengths = [sum(row) for row in lengths]
    segments = []
    for nth, row in enumerate(lengths):
        start = nth * longest
        for length in row:
            segments.append(_Segment(start, nth * longest, 0, length, start, length))
            start += length
    blocks = _in_blocks(list(_of_similar_length(segments)), len(lengths) * longest, like, is_causal=False)
    valid = [torch.arange(nth * longest, nth * longest + length) for nth, length in enumerate(row_lengths)]
    return blocks, torch.cat(valid).to(like.device)


def round_up(n: int, multiple: int) -> int:
    """The next multiple that is at least n."""
    return -(-n // multiple) * multiple


def _of_similar_length(segments: Sequence[_Segment]) -> Iterator[list[_Segment]]:
    """Groups of segments, the longest first."""
    group: list[_Segment] = []
    for segment in sorted(segments, key=lambda s: -s.length):
        if group and segment.length < ALIKE * group[0].length:
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def _in_blocks(
    groups: Sequence[Sequence[_Segment]], n_positions: int, like: torch.Tensor, *, is_causal: bool = True
) -> BlockAttention:
    """A block per group, and where each of n_positions finds its result."""
    blocks, n_queries = [], 0
    index = torch.zeros(n_positions, dtype=torch.long)
    for group in groups:
        most = max(segment.n_queries for segment in group)
        nth = torch.arange(most).minimum(_column([segment.n_queries for segment in group]) - 1)
        queries = _column([segment.first_query for segment in group]) + nth
        index[queries] = n_queries + torch.arange(len(group))[:, None] * most + nth
        n_queries += queries.numel()
        in_segment = _column([segment.length - segment.n_queries for segment in group]) + nth
        last = in_segment if is_causal else _column([segment.length - 1 for segment in group]).expand_as(in_segment)
        keys, may_see = _keys(group, last)
        mask = torch.zeros(may_see.shape).masked_fill(~may_see, -torch.inf)
        blocks.append(Block(queries.to(like.device), keys.to(like.device), mask.to(like.device)))
    return BlockAttention(tuple(blocks), index.to(like.device))


def _keys(group: Sequence[_Segment], last_seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (n, k) of a group, prefix first, and which of them each query sees: up to place last_seen (n, q) of its
    segment."""
    n_prefix, longest = group[0].n_prefix, max(segment.length for segment in group)
    prefix = _column([segment.row_start for segment in group]) + torch.arange(n_prefix)
    nth = torch.arange(longest)
    last = _column([segment.length for segment in group]) - 1
    segments = _column([segment.start for segment in group]) + nth.minimum(last)
    may_see = torch.nn.functional.pad(nth <= last_seen[:, :, None], (n_prefix, 0), value=True)
    return torch.cat([prefix, segments], dim=1), may_see


def _column(values: Sequence[int]) -> torch.Tensor:
    return torch.tensor(values)[:, None]
