"""Any recording is read to its true end: the decoded end is the length, a header is a guess."""

import io
import os
import struct
import sys
import threading

import av
import numpy as np
import pytest
import soundfile
from made_recordings import ENCODERS, change, cut, encode, join

from listenwell.data.audio import Downmix, load_recording, load_waveform, measure_extent
from listenwell.data.decoding import block_frames, open_recording
from listenwell.data.manifest import read_manifest, write_manifest
from listenwell.errors import AudioError, AudioWarning
from listenwell.splits.clips import choose_channels

RATE_HZ = 16_000
SECONDS = np.arange(4 * RATE_HZ) / RATE_HZ
SWEEP = (0.4 * np.sin(2 * np.pi * (150 + 60 * SECONDS) * SECONDS) * (0.6 + 0.4 * np.sin(9 * SECONDS))).astype(
    np.float32
)
SLACK_S = 0.15
"""Encoders fill up their first and last block."""


def recording_s(path):
    return measure_extent(path).seconds


def decode(source):
    """Samples of the first channel, the rate, the fault and the notes."""
    with open_recording(source) as recording:
        blocks = list(recording.blocks(0, block_frames(recording, 1.0)))
        return np.concatenate(blocks)[:, 0], recording.rate_hz, recording.fault, recording.notes


def best_match(found, expected):
    """The largest correlation of two waveforms, one shifted against the other by up to 0.1 s."""
    n = min(found.size, expected.size) - 3200
    shifts = [
        found[s : s + n] @ expected[t : t + n] for s, t in [(i, 0) for i in range(1600)] + [(0, i) for i in range(1600)]
    ]
    return max(shifts) / np.sqrt((found[:n] @ found[:n]) * (expected[:n] @ expected[:n]))


@pytest.mark.parametrize("suffix", ENCODERS)
def test_whatever_people_drop_in_is_read_whole_and_right(tmp_path, suffix):
    path = encode(tmp_path / f"a{suffix}", SWEEP)
    samples = load_recording(path)
    assert samples.size / RATE_HZ == pytest.approx(4.0, abs=SLACK_S)
    assert recording_s(path) == pytest.approx(samples.size / RATE_HZ, abs=0.001)
    assert best_match(samples, SWEEP) > 0.99


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".webm", ".wma"])
def test_a_stretch_is_the_same_stretch_of_the_whole(tmp_path, suffix):
    """Far in, it is sought; FFmpeg knows a place in WebM to a thousandth of a second."""
    path = encode(tmp_path / f"a{suffix}", np.tile(SWEEP, 12), *([48_000] if suffix == ".webm" else []))
    whole = load_recording(path)
    for start_s in (0.5, 3.0) if suffix == ".webm" else (0.5, 20.0, 40.0):
        stretch = load_recording(path, start_s, 0.5)
        first = round(start_s * RATE_HZ)
        nearest = min(np.abs(stretch - whole[first + d : first + d + 8000]).max() for d in range(-20, 21))
        assert stretch.size == 8000
        assert nearest < 0.02


def test_an_mp3_whose_header_miscounts_is_read_whole(tmp_path):
    path = encode(tmp_path / "a.mp3", SWEEP)
    at = max(path.read_bytes().find(mark) for mark in (b"Xing", b"Info"))
    for n_frames in (5, 10_000):
        change(path, at + 8, struct.pack(">I", n_frames))
        assert recording_s(path) == pytest.approx(4.0, abs=SLACK_S)


@pytest.mark.parametrize("tag", [b"TAG" + b"x" * 125, b"APETAGEX" + bytes(24), bytes(40)])
def test_tags_at_the_end_of_an_mp3_are_no_missing_sound(tmp_path, tag):
    path = encode(tmp_path / "a.mp3", SWEEP)
    path.write_bytes(path.read_bytes() + tag)
    assert recording_s(path) == pytest.approx(4.0, abs=SLACK_S)


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".oga", ".flac", ".aac", ".ac3"])
def test_files_joined_end_to_end_are_read_to_the_last(tmp_path, suffix):
    part = encode(tmp_path / f"part{suffix}", np.tile(SWEEP, 3))
    path = join(tmp_path / f"a{suffix}", part, part, part)
    assert recording_s(path) == pytest.approx(3 * recording_s(part), abs=2 * SLACK_S)
    whole = load_recording(path)
    assert whole.size / RATE_HZ == pytest.approx(recording_s(path), abs=0.001)
    if suffix in (".ogg", ".oga", ".flac"):  # times that begin anew are not sought by
        assert best_match(load_recording(path, 33.0, 2.0), whole[33 * RATE_HZ : 35 * RATE_HZ]) > 0.999


@pytest.mark.parametrize(("suffix", "sentence"), [(".wav", "WAV files joined"), (".flac", "of several rates joined")])
def test_joined_files_that_no_decoder_reads_to_the_end_are_refused(tmp_path, suffix, sentence):
    for name, rate_hz in (("one", RATE_HZ), ("two", 2 * RATE_HZ)):
        soundfile.write(tmp_path / f"{name}{suffix}", SWEEP, rate_hz)
    path = join(tmp_path / f"a{suffix}", tmp_path / f"one{suffix}", tmp_path / f"two{suffix}")
    with pytest.raises(AudioError, match=sentence):
        load_recording(path)


def test_headers_that_follow_an_ogg_stream_without_sound_change_no_bit(tmp_path):
    """Programs that cut Ogg files leave some."""
    soundfile.write(tmp_path / "a.ogg", SWEEP, RATE_HZ, subtype="VORBIS")
    whole = (tmp_path / "a.ogg").read_bytes()
    pages = [at for at in range(len(whole)) if whole[at : at + 4] == b"OggS"]
    (tmp_path / "b.ogg").write_bytes(whole + whole[: pages[2]])
    assert np.array_equal(load_recording(tmp_path / "b.ogg"), load_recording(tmp_path / "a.ogg"))


@pytest.mark.parametrize(
    "sizes", [(0, 0), (36, 0), (0xFFFF_FFFF, 0xFFFF_FFFF), (0, 0xFFFF_FFFF), (0x7FFF_F024, 0x7FFF_F000)]
)
def test_a_wav_whose_recorder_stopped_before_it_wrote_the_length_is_read(tmp_path, sizes):
    path = tmp_path / "a.wav"
    soundfile.write(path, SWEEP, RATE_HZ, subtype="PCM_16")
    whole = load_recording(path)
    change(change(path, 4, struct.pack("<I", sizes[0])), 40, struct.pack("<I", sizes[1]))
    if sizes[1]:
        assert np.array_equal(load_recording(path), whole)
    else:
        with pytest.warns(AudioWarning, match="its header tells no length"):
            assert np.array_equal(load_recording(path), whole)


def test_a_wav_behind_a_tag_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", SWEEP, RATE_HZ)
    whole = load_recording(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"ID3\x03\0\0\0\0\x01\x02" + bytes(130) + (tmp_path / "a.wav").read_bytes())
    assert np.array_equal(load_recording(tmp_path / "a.wav"), whole)


def test_a_title_that_is_no_utf_8_does_not_matter(tmp_path):
    soundfile.write(tmp_path / "a.wav", SWEEP, RATE_HZ, subtype="PCM_16")
    whole = (tmp_path / "a.wav").read_bytes()
    title = b"LIST\x10\0\0\0INFOINAM\x04\0\0\0\xe9\xff\xe9\0"
    (tmp_path / "a.wav").write_bytes(whole[:36] + title + b"data\0\0\0\0" + whole[44:])
    with pytest.warns(AudioWarning, match="tells no length"):
        assert load_recording(tmp_path / "a.wav").size == SWEEP.size


def test_what_lies_behind_the_end_that_a_wav_tells_is_named(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, SWEEP, RATE_HZ, subtype="PCM_16")
    change(change(path, 4, struct.pack("<I", 36 + 32_000)), 40, struct.pack("<I", 32_000))
    with pytest.warns(AudioWarning, match="75% of it lie behind the end"):
        assert load_recording(path).size == RATE_HZ


@pytest.mark.parametrize(
    "suffix", [".mp3", ".aac", ".webm", ".mkv", ".ogg", ".oga", ".wma", ".flv", ".tta", ".flac", ".wv", ".avi"]
)
def test_what_breaks_off_is_decoded_as_far_as_it_goes_and_refused_for_training(tmp_path, suffix):
    path = cut(encode(tmp_path / f"a{suffix}", np.tile(SWEEP, 3)))
    samples, rate_hz, fault, _ = decode(path)
    assert fault.startswith("truncated, ")
    assert 2.0 < samples.size / rate_hz < 8.0
    for read in (load_recording, recording_s):
        with pytest.raises(AudioError, match=r"truncated, .*; fetch or export it again\."):
            read(path)


def test_a_damaged_flac_is_told_from_a_whole_one(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.tile(SWEEP, 4), RATE_HZ)
    change(path, path.stat().st_size // 2, bytes(200))
    samples, rate_hz, fault, _ = decode(path)
    assert fault.startswith("damaged, ")
    assert samples.size / rate_hz == pytest.approx(16.0, abs=0.5)
    with pytest.raises(AudioError, match="damaged"):
        load_recording(path)


@pytest.mark.parametrize("n_channels", [9, 32])
def test_more_than_eight_channels_are_read(tmp_path, n_channels):
    channels = np.stack([SWEEP * (k + 1) / n_channels for k in range(n_channels)], axis=1)
    layout = f"{n_channels} channels"
    with av.open(str(tmp_path / "a.nut"), "w", format="nut") as container:
        stream = container.add_stream("pcm_s16le_planar", rate=RATE_HZ)
        stream.codec_context.layout = layout
        frame = av.AudioFrame.from_ndarray(channels.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = RATE_HZ
        planar = av.AudioResampler(format="s16p", layout=layout, rate=RATE_HZ).resample(frame)
        for each in (*planar, None):
            container.mux(stream.encode(each))
    assert load_recording(tmp_path / "a.nut", channel=n_channels - 1) == pytest.approx(SWEEP, abs=1e-4)


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"])
def test_a_playlist_opens_no_other_file(tmp_path, text):
    other = encode(tmp_path / "other.mp3", SWEEP)
    (tmp_path / "list.m3u8").write_text(text.format(other))
    with pytest.raises(AudioError, match="cannot be decoded"):
        load_recording(tmp_path / "list.m3u8")


def test_bytes_that_are_no_sound_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    for n in (1, 3, 40, 5000, 60_000):
        for start in (b"", b"\xff\xfb", b"ID3", b"OggS", b"RIFF"):
            (tmp_path / "a").write_bytes(start + rng.bytes(n))
            with pytest.raises(AudioError):
                load_recording(tmp_path / "a")


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such name")
def test_a_name_that_is_no_text_is_read(tmp_path):
    for suffix in (".wav", ".mp3"):
        encode(tmp_path / f"a{suffix}", SWEEP)
        strange = tmp_path / os.fsdecode(b"\xff\xe9" + suffix.encode())
        (tmp_path / f"a{suffix}").rename(strange)
        assert recording_s(strange) == pytest.approx(4.0, abs=SLACK_S)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".m4a", ".webm"])
def test_an_open_file_and_a_pipe_give_what_the_path_gives(tmp_path, suffix):
    path = encode(tmp_path / f"a{suffix}", SWEEP)
    expected = decode(path)[0]
    with path.open("rb") as file:
        assert np.array_equal(decode(file)[0], expected)
    assert np.array_equal(decode(io.BytesIO(path.read_bytes()))[0], expected)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "wb") as writer:
        thread = threading.Thread(target=lambda: (writer.write(path.read_bytes()), writer.close()))
        thread.start()
        piped = decode(reader)[0]
        thread.join()
    assert np.array_equal(piped, expected)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_what_is_raised_while_ffmpeg_reads_is_not_lost(tmp_path, failure):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 5000:
                raise failure
            return super().read(size)

    content = encode(tmp_path / "a.mp3", SWEEP).read_bytes()
    with pytest.raises((KeyboardInterrupt, AudioError)) as caught:
        decode(Failing(content))
    assert isinstance(caught.value, KeyboardInterrupt) or "Input/output error" in str(caught.value)


def test_channels_that_cancel_each_other_are_not_averaged_away(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([0.5 * SWEEP, -0.52 * SWEEP], axis=1), RATE_HZ, subtype="FLOAT")
    with pytest.warns(AudioWarning, match=r"cancel each other \(antiphase\), so channel 1 was taken alone"):
        assert np.array_equal(load_recording(tmp_path / "a.wav"), np.float32(-0.52) * SWEEP)
    soundfile.write(tmp_path / "b.wav", np.stack([SWEEP, 0 * SWEEP], axis=1), RATE_HZ, subtype="FLOAT")
    assert np.allclose(load_recording(tmp_path / "b.wav"), SWEEP / 2)
    assert np.array_equal(load_recording(tmp_path / "b.wav", channel=0), SWEEP)
    with pytest.raises(AudioError, match="has no channel 2, only 2"):
        load_recording(tmp_path / "b.wav", channel=2)


@pytest.mark.parametrize("n_block", [1, 7, 1600, 5000, 10**6])
def test_where_channels_cancel_each_other_does_not_depend_on_the_blocks(n_block):
    hum = 1e-4 * np.sin(SECONDS[:32_000])
    frames = np.column_stack([np.append(hum, 0 * hum), np.append(-hum, 0.3 * SWEEP[:32_000])]).astype(np.float32)
    whole = Downmix("a", RATE_HZ)
    expected = np.concatenate([whole.mix(frames), whole.flush()])
    downmix = Downmix("a", RATE_HZ)
    mixed = [downmix.mix(frames[i : i + n_block]) for i in range(0, len(frames), n_block)][: 10**5]
    assert np.array_equal(np.concatenate([*mixed, downmix.flush()]), expected)
    assert np.array_equal(expected[:32_000], frames[:32_000, 0])
    assert np.abs(expected[34_000:] - frames[34_000:, 1] / 2).max() < 1e-6


def test_a_study_takes_the_mean_one_channel_or_each(tmp_path):
    soundfile.write(tmp_path / "call.wav", np.stack([SWEEP, 0.5 * SWEEP], axis=1), RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", SWEEP, RATE_HZ, subtype="FLOAT")
    (tmp_path / "clips.csv").write_text("path,label,group,channel\ncall.wav,1,a,\nmono.wav,0,b,\ncall.wav,1,a,1\n")
    clips = read_manifest(tmp_path / "clips.csv")
    by_setting = {
        setting: {
            clip.clip_id: float(load_waveform(clip).max() / SWEEP.max()) for clip in choose_channels(clips, setting)
        }
        for setting in ("mean", 0, "each")
    }
    assert by_setting["mean"] == pytest.approx({"call.wav": 0.75, "mono.wav": 1.0, "call.wav#1": 0.5})
    assert by_setting[0] == pytest.approx({"call.wav": 1.0, "mono.wav": 1.0, "call.wav#1": 0.5})
    assert by_setting["each"] == pytest.approx({"call.wav#0": 1.0, "call.wav#1": 0.5, "mono.wav": 1.0})
    write_manifest(tmp_path / "again.csv", choose_channels(clips, 0))
    assert [clip.channel for clip in read_manifest(tmp_path / "again.csv")] == [0, 0, 1]
