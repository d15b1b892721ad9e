"""Masks lie inside the clip's own frames, keep under their cap, and fill with silence."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from listenwell.augment.spec_augment import Masks, SpecAugmentConfig, apply_masks, draw_masks
from listenwell.random_streams import stream


@given(n_frames=st.integers(1, 3000), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_masks_lie_inside_the_clip_and_under_the_cap(n_frames, seed, share):
    config = SpecAugmentConfig(largest_time_share=share)
    masks = draw_masks(80, n_frames, config, stream(seed, "masks"))
    assert all(start >= 0 and start + width <= 80 and width <= 15 for start, width in masks.frequency)
    assert all(start >= 0 and start + width <= n_frames and width <= 35 for start, width in masks.time)
    assert sum(width for _, width in masks.time) <= share * n_frames


def test_the_widest_mask_is_drawn_too():
    widths = {draw_masks(80, 3000, SpecAugmentConfig(), stream(s, "w")).time[0][1] for s in range(400)}
    assert widths == set(range(36))


def test_only_masked_cells_change():
    features = stream(0, "features").standard_normal((10, 20)).astype(np.float32)
    masked = apply_masks(features, Masks(frequency=((2, 3),), time=((1, 4),)), first_frame=5, fill_value=-9.0)
    expected = features.copy()
    expected[2:5] = -9.0
    expected[:, 6:10] = -9.0
    assert np.array_equal(masked, expected)
