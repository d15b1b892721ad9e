"""Arrays, lists and tensors as people hold them: the same sound, the same waveform; what is unclear is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from listenwell.data.audio import as_source, as_waveform, is_file
from listenwell.errors import AudioError

TONE = (0.5 * np.sin(np.arange(4000) * 0.05)).astype(np.float32)
INT16 = np.round(TONE * 32767).astype(np.int16)
STEREO = np.stack([TONE, 0.5 * TONE], axis=1)


@pytest.mark.parametrize(
    "given",
    [
        TONE, TONE.astype(np.float64), TONE.tolist(), TONE[:, None], TONE[None, :], TONE[None, None, :],
        TONE[::-1][::-1], torch.from_numpy(TONE), torch.from_numpy(TONE).double()[None],
        torch.tensor(TONE, requires_grad=True),
        np.asfortranarray(TONE[:, None]),
    ],
)  # fmt: skip
def test_one_channel_in_any_shape_is_the_waveform(given):
    found = as_waveform(given, 16_000)
    assert found.dtype == np.float32
    assert np.array_equal(found, TONE)


@pytest.mark.parametrize(
    ("given", "step"),
    [
        (INT16, 2**-15), (INT16.astype(np.int32) * 2**16, 2**-15), (np.round(TONE * 127).astype(np.int8), 2**-7),
        (np.round(TONE * 127 + 128).astype(np.uint8), 2**-7), (torch.from_numpy(INT16), 2**-15),
        (TONE.astype(np.float16), 2**-11), (torch.from_numpy(TONE).bfloat16(), 2**-8),
        (torch.from_numpy(TONE).half(), 2**-11),
    ],
)  # fmt: skip
def test_integers_and_short_floats_are_scaled_by_their_type(given, step):
    assert np.abs(as_waveform(given, 16_000) - TONE).max() <= step


@pytest.mark.parametrize("given", [STEREO, STEREO.T, STEREO[None], torch.from_numpy(STEREO.T)][:2])
def test_channels_are_averaged_whichever_axis_they_are(given):
    assert as_waveform(given, 16_000) == pytest.approx(0.75 * TONE, abs=1e-6)
    assert np.array_equal(as_waveform(given, 16_000, channel=0), TONE)


@pytest.mark.parametrize(("array", "rate"), [("array", "sampling_rate"), ("waveform", "sample_rate")])
def test_mappings_of_data_sets_say_their_own_rate(array, rate):
    given = {array: np.repeat(TONE, 3), rate: 48_000, "path": None}
    assert as_waveform(given, None).size == pytest.approx(4000, abs=1)
    assert as_waveform(given, 48_000).size == pytest.approx(4000, abs=1)
    with pytest.raises(AudioError, match="leave one out"):
        as_waveform(given, 16_000)
    with pytest.raises(AudioError, match="decode the sound first"):
        as_waveform({"bytes": b"RIFF", "path": "a.wav"}, None)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (TONE * 32768, "full scale is 1"), (np.append(TONE, np.nan), "NaN or infinite"),
        (TONE.astype(complex), "complex128"), (INT16.astype(np.int64), "int64, whose full scale is unknown"),
        (INT16.tolist(), "int64"),
        (TONE > 0, "bool"),
        (np.array(["a"] * 99), "str"), (np.empty(0, np.float32), "is empty"), ([], "is empty"),
        (np.float32(0.1), "shape"),
        (np.zeros((2, 2), np.float32), "cannot be told apart"),
        (np.zeros((40, 4000), np.float32), "cannot be told apart"),
        (np.zeros((2, 2, 4000), np.float32), "one sound"),
        ([[0.1, 0.2], [0.3]], "cannot be taken for a waveform"),
        ((TONE, 16_000), "cannot be taken for a waveform"), (None, "shape"),
        (1e300 * TONE.astype(np.float64), "NaN or infinite"),
    ],
)  # fmt: skip
def test_what_could_be_two_things_or_is_none_is_refused(given, sentence):
    with pytest.raises(AudioError, match=sentence):
        as_waveform(given, 16_000)


def test_a_file_opened_as_text_and_bytes_are_refused(tmp_path):
    (tmp_path / "a").write_text("x")
    with (tmp_path / "a").open() as file, pytest.raises(AudioError, match="opened as text"):
        as_source(file, None)
    with pytest.raises(AudioError, match="is closed"):
        as_source(file, None)
    with pytest.raises(AudioError, match=r"io\.BytesIO"):
        as_waveform(b"RIFF", 16_000)


@pytest.mark.parametrize("rate", [0, -1, 16, float("nan"), float("inf"), "16000", True, 10**9])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(AudioError, match="sample_rate_hz is"):
        as_waveform(TONE, rate)


def test_an_array_must_say_its_rate_and_a_file_must_not(tmp_path):
    with pytest.raises(AudioError, match="give sample_rate_hz"):
        as_waveform(TONE, None)
    with pytest.raises(AudioError, match="a file says its own rate"):
        as_source("a.wav", 16_000)
    assert as_source("a.wav", None) == Path("a.wav")
    (tmp_path / "a").write_bytes(b"x")
    with (tmp_path / "a").open("rb") as file:
        assert is_file(file)
    assert not is_file(TONE)
