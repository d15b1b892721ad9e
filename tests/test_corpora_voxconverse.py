"""VoxConverse: speakers are (file, label), and a clip holds one voice."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_corpora import make_voxconverse, record, speaker, write_lines

from listenwell.data.corpora import voxconverse
from listenwell.data.corpora.corpus import APART_S, PrepareSettings
from listenwell.data.corpora.voxconverse import MARGIN_S, Turn, cut_recording, read_rttm
from listenwell.errors import AudioError, ManifestError

SETTINGS = PrepareSettings()
TIMES = st.floats(0, 60).map(lambda seconds: round(seconds, 2))
TURNS = st.lists(
    st.builds(
        lambda start_s, length_s, label: Turn("f", start_s, start_s + length_s, label),
        TIMES, st.floats(0, 20).map(lambda seconds: round(seconds, 2)), st.sampled_from(["spk00", "spk01", "spk02"]),
    ),
    max_size=12,
)  # fmt: skip


def test_per_file_speaker_labels_are_never_joined_across_files(tmp_path):
    clips = voxconverse.prepare(make_voxconverse(tmp_path), SETTINGS).clips
    assert {"abjxc/spk00", "ahnss/spk00", "aepyx/spk00"} <= {clip.group for clip in clips}
    for clip in clips:
        assert clip.group.split("/")[0] == clip.recording == clip.path.stem


@given(turns=TURNS)
def test_rttm_overlaps_are_never_cut(turns, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "f.wav"
    for clip in cut_recording(path, 50.0, turns, SETTINGS):
        label, end_s = clip.group.split("/")[1], clip.start_s + clip.duration_s
        assert clip.start_s >= 0
        assert end_s <= 50.0 + 1e-9
        for turn in turns:
            if turn.label != label and turn.end_s > turn.start_s:
                assert end_s <= turn.start_s - MARGIN_S + 1e-9 or clip.start_s >= turn.end_s + MARGIN_S - 1e-9


@given(turns=TURNS)
def test_a_clip_lies_inside_turns_of_its_speaker(turns, tmp_path_factory):
    for clip in cut_recording(tmp_path_factory.getbasetemp() / "f.wav", 50.0, turns, SETTINGS):
        own = [turn for turn in turns if turn.label == clip.group.split("/")[1]]
        for moment in (0.0, 0.31, 0.5, 0.77, 1.0):
            at_s = clip.start_s + moment * clip.duration_s
            assert any(turn.start_s - 1e-9 <= at_s <= turn.end_s + 1e-9 for turn in own)


@given(turns=TURNS)
def test_clips_of_one_speaker_are_apart_in_time(turns, tmp_path_factory):
    settings = PrepareSettings(clips_per_recording=4)
    clips = cut_recording(tmp_path_factory.getbasetemp() / "f.wav", 50.0, turns, settings)
    for label in {clip.group for clip in clips}:
        own = sorted((clip.start_s, clip.start_s + clip.duration_s) for clip in clips if clip.group == label)
        assert len(own) <= 4
        assert all(later[0] - earlier[1] >= APART_S - 1e-9 for earlier, later in pairwise(own))


def test_a_part_without_audio_is_left_out_and_told(tmp_path):
    make_voxconverse(tmp_path)
    (tmp_path / "voxconverse_test_wav" / "aepyx.wav").unlink()
    prepared = voxconverse.prepare(tmp_path, SETTINGS)
    assert "test: none of its 1 recordings is there; it was left out." in prepared.notes
    assert {clip.recording for clip in prepared.clips} == {"abjxc", "ahnss"}


@pytest.mark.parametrize(
    "line", [speaker("f", -1.0, 2.0, "spk00"), speaker("f", 1.0, -2.0, "spk00"), "SPEAKER f 1 nan 1", "SPEAKER f 1 x 2"]
)
def test_negative_and_missing_times_are_refused_with_their_line(tmp_path, line):
    path = write_lines(tmp_path / "f.rttm", speaker("f", 0.0, 1.0, "spk00"), "", line)
    with pytest.raises(ManifestError, match=r"f\.rttm line 3: .* has no usable times"):
        read_rttm(path)


def test_faulty_rttms_and_unknown_files_beyond_the_share_stop_the_work(tmp_path):
    make_voxconverse(tmp_path)
    dev = tmp_path / "voxconverse-main/dev"
    write_lines(dev / "ahnss.rttm", speaker("ahnss", -1.0, 18.0, "spk00"))
    write_lines(dev / "zzzzz.rttm", speaker("zzzzz", 1.0, 2.0, "spk00"))
    with pytest.raises(AudioError, match=r"2 of 4 recordings cannot be used"):
        voxconverse.prepare(tmp_path, SETTINGS)


def test_two_copies_of_an_annotated_recording_are_refused(tmp_path):
    make_voxconverse(tmp_path)
    record(tmp_path / "other_corpus" / "x.wav", 1.0)
    record(tmp_path / "other_corpus" / "copy" / "x.wav", 1.0)
    assert voxconverse.prepare(tmp_path, SETTINGS).clips
    record(tmp_path / "copy" / "abjxc.wav", 1.0)
    with pytest.raises(ManifestError, match=r"has the same name"):
        voxconverse.prepare(tmp_path, SETTINGS)
