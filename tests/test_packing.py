"""Packed rows: what each position sees, and which positions are asked for."""

import torch
from hypothesis import given
from hypothesis.strategies import integers, lists

from listenwell.model.packing import BlockAttention, RowLayout, lay_out_rows

ROWS = lists(lists(integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3)
LIKE = torch.zeros(())


def seen_by_plain_mask(lengths: list[list[int]], n_prefix: int) -> set[tuple[int, int]]:
    """(query, key), flat positions: causal, within the same segment or towards the prefix; fill sees nothing."""
    longest = n_prefix + max(map(sum, lengths))
    pairs = set()
    for row, own in enumerate(lengths):
        segments = [0] * n_prefix + [nth for nth, length in enumerate(own, start=1) for _ in range(length)]
        for query, segment in enumerate(segments):
            seen = [key for key in range(query + 1) if segments[key] in (0, segment)]
            pairs |= {(row * longest + query, row * longest + key) for key in seen}
    return pairs


def keys_of(attention: BlockAttention) -> list[set[int]]:
    """The keys that each query of the blocks sees, one after the other."""
    return [
        {int(key) for key, bias in zip(keys, biases, strict=True) if bias == 0}
        for block in attention.blocks
        for keys, of_queries in zip(block.keys, block.mask, strict=True)
        for biases in of_queries
    ]


def seen_in_blocks(layout: RowLayout) -> set[tuple[int, int]]:
    """The same pairs as the blocks and the places of their results say."""
    seen = keys_of(layout.attention)
    n_valid, longest = layout.row_lengths, layout.position_ids.shape[1]
    valid = [row * longest + column for row, n in enumerate(n_valid) for column in range(n)]
    return {(query, key) for query in valid for key in seen[layout.attention.index[query]]}


@given(lengths=ROWS, n_prefix=integers(0, 6))
def test_blocks_see_what_a_mask_over_the_whole_row_would_show(lengths, n_prefix):
    assert seen_in_blocks(lay_out_rows(lengths, n_prefix, LIKE)) == seen_by_plain_mask(lengths, n_prefix)


@given(lengths=ROWS, n_prefix=integers(0, 6), most=integers(1, 4))
def test_the_last_tokens_of_each_clip_are_asked_for_and_see_what_they_saw(lengths, n_prefix, most):
    n_read = [[min(most, length) for length in row] for row in lengths]
    layout = lay_out_rows(lengths, n_prefix, LIKE, n_read)
    longest, wanted = layout.position_ids.shape[1], []
    for row, own in enumerate(lengths):
        ends = [n_prefix + sum(own[: nth + 1]) for nth in range(len(own))]
        wanted += [
            row * longest + column for end, n in zip(ends, n_read[row], strict=True) for column in range(end - n, end)
        ]
    asked = layout.read.flatten()[layout.read_index]
    assert asked.tolist() == wanted
    places = layout.read_attention.index[layout.read_index]
    seen = keys_of(layout.read_attention)
    found = {(query, key) for query, place in zip(wanted, places, strict=True) for key in seen[place]}
    assert found == {pair for pair in seen_by_plain_mask(lengths, n_prefix) if pair[0] in wanted}


def test_clips_of_similar_length_share_a_block_and_long_ones_have_their_own():
    layout = lay_out_rows([[100, 30, 90, 28, 101]], 5, LIKE)
    assert [block.queries.shape for block in layout.attention.blocks] == [(1, 5), (3, 101), (2, 30)]
    assert [block.queries.shape for block in layout.read_attention.blocks] == [(3, 1), (2, 1)]
