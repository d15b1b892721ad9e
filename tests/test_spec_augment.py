"""Masks lie inside the clip's own frames, keep under their cap, and fill with silence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.augment.spec_augment import Masks, SpecAugmentConfig, Warp, apply_masks, draw_masks, warp_time
from listenwell.random_streams import stream


@given(n_frames=st.integers(1, 3000), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_masks_lie_inside_the_clip_and_under_the_cap(n_frames, seed, share):
    config = SpecAugmentConfig(largest_time_share=share, warped_share=1)
    masks = draw_masks(80, n_frames, config, stream(seed, "masks"))
    if masks.warp is not None:
        assert 0 < masks.warp.from_frame < n_frames - 1
        assert 0 < masks.warp.to_frame < n_frames - 1
        assert abs(masks.warp.to_frame - masks.warp.from_frame) <= 10
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


def test_warping_is_not_drawn_by_default_and_leaves_the_masks_as_they_were():
    plain, warped = (draw_masks(80, 100, SpecAugmentConfig(warped_share=w), stream(3, "m")) for w in (0, 1))
    assert plain.warp is None
    assert warped.warp is not None
    assert (warped.frequency, warped.time) == (plain.frequency, plain.time)


@given(n_frames=st.integers(5, 300), seed=st.integers(0, 200))
def test_a_warp_moves_one_frame_and_keeps_the_ends(n_frames, seed):
    warp = draw_masks(80, n_frames, SpecAugmentConfig(warped_share=1), stream(seed, "warp")).warp
    ramp = np.tile(np.arange(n_frames, dtype=np.float32), (3, 1))
    warped = warp_time(ramp, warp)
    assert warped.shape == ramp.shape
    assert warped[:, [0, -1]].tolist() == ramp[:, [0, -1]].tolist()
    assert warped[0, warp.to_frame] == pytest.approx(warp.from_frame, abs=1e-3)
    assert (np.diff(warped[0]) > 0).all()


def test_a_warp_touches_the_clip_only_and_comes_before_the_masks():
    features = stream(0, "features").standard_normal((4, 30)).astype(np.float32)
    masked = apply_masks(features, Masks(time=((0, 2),), warp=Warp(8, 11, 20)), first_frame=5, fill_value=-9.0)
    assert np.array_equal(masked[:, :5], features[:, :5])
    assert np.array_equal(masked[:, 25:], features[:, 25:])
    assert (masked[:, 5:7] == -9).all()
    assert masked[:, 5 + 11] == pytest.approx(features[:, 5 + 8], abs=1e-6)
