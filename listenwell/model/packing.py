"""Packed rows: one prefix and many clips in one sequence, no clip padded, no prefix repeated.

Row k is [prefix | clip 1 + suffix | clip 2 + suffix | ...]. Every clip sees the prefix and itself only, and its
positions continue from the prefix's end, so each answer equals the answer of the clip alone in a sequence. This is
the block-diagonal packing of Krell et al. 2021 (arXiv:2107.02027) with a shared prefix. Rows of unequal length are
filled at their end; fill positions see only themselves and are read by nobody.

Shapes: K rows, L longest row, P prefix, S suffix tokens. Knows nothing of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

FILL_SEGMENT = -1
PREFIX_SEGMENT = 0


@dataclass(frozen=True, slots=True)
class RowLayout:
    """position_ids (K, L); mask (K, 1, L, L), True where a query may see a key; row_lengths: positions of each row
    that are not fill; answer_rows, answer_columns (total clips,): where each clip's answer is read, rows then clips."""

    row_lengths: tuple[int, ...]
    position_ids: torch.Tensor
    mask: torch.Tensor
    answer_rows: torch.Tensor
    answer_columns: torch.Tensor


def lay_out_rows(segment_lengths: Sequence[Sequence[int]], n_prefix: int, device: torch.device) -> RowLayout:
    """Lay out rows of segments; a segment is one clip's audio tokens and suffix, its answer read at its last token."""
    row_lengths = [n_prefix + sum(lengths) for lengths in segment_lengths]
    longest = max(row_lengths)
    positions = torch.zeros(len(row_lengths), longest, dtype=torch.long)
    segments = torch.full((len(row_lengths), longest), FILL_SEGMENT, dtype=torch.long)
    answer_rows, answer_columns = [], []
    for row, lengths in enumerate(segment_lengths):
        segments[row, :n_prefix] = PREFIX_SEGMENT
        positions[row, :n_prefix] = torch.arange(n_prefix)
        start = n_prefix
        for segment, length in enumerate(lengths, start=1):
            segments[row, start : start + length] = segment
            positions[row, start : start + length] = torch.arange(n_prefix, n_prefix + length)
            start += length
            answer_rows.append(row)
            answer_columns.append(start - 1)
    return RowLayout(
        tuple(row_lengths),
        positions.to(device),
        _may_see(segments).unsqueeze(1).to(device),
        torch.tensor(answer_rows, device=device),
        torch.tensor(answer_columns, device=device),
    )


def _may_see(segments: torch.Tensor) -> torch.Tensor:
    """(K, L) segment numbers -> (K, L, L) bool: causal, and within the same segment or towards the prefix."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    query, key = segments.unsqueeze(2), segments.unsqueeze(1)
    is_fill = query == FILL_SEGMENT
    shared = (query == key) | (key == PREFIX_SEGMENT)
    return torch.where(is_fill, torch.eye(length, dtype=torch.bool), causal & shared)


def fill_to(sequence: torch.Tensor, length: int) -> torch.Tensor:
    """(l, D) -> (length, D), zeros at the end."""
    return torch.nn.functional.pad(sequence, (0, 0, 0, length - sequence.shape[0]))
