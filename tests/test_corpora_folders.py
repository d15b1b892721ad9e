"""A folder of labelled folders, and what all corpora share: lengths, stretches, names that survive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_corpora import record

from listenwell.data.audio import load_waveform
from listenwell.data.corpora import folders
from listenwell.data.corpora.corpus import APART_S, SHORTEST_S, PrepareSettings, cut_stretches, find_folder
from listenwell.data.manifest import read_manifest, write_manifest
from listenwell.errors import AudioError, ManifestError

SECONDS = st.floats(0.01, 30)


def test_labels_groups_and_backgrounds_come_from_folders(tmp_path):
    record(tmp_path / "Speech" / "anna" / "day 1" / "a.wav", 0.2)
    record(tmp_path / "nonspeech" / "rain.flac", 0.2)
    record(tmp_path / "backgrounds" / "street" / "b.wav", 0.2, subtype="PCM_24")
    prepared = folders.prepare(tmp_path, PrepareSettings())
    assert {(clip.label, clip.group) for clip in prepared.clips} == {
        ("SPEECH", "speech/anna"),
        ("NONSPEECH", "nonspeech/rain"),
    }
    assert [bed.background_id for bed in prepared.backgrounds] == ["street/b"]


def test_unreadable_recordings_stop_the_work_above_the_share(tmp_path):
    for i in range(4):
        record(tmp_path / "speech" / "anna" / f"{i}.wav", 0.2, cut=i == 2)
    with pytest.raises(AudioError, match=r"1 of 4 recordings cannot be used"):
        folders.prepare(tmp_path, PrepareSettings())
    prepared = folders.read_folders(tmp_path, "folder", 0.25)
    assert len(prepared.clips) == 3
    assert prepared.notes == ["1 files cannot be read and were left out, the first: speech/anna/2.wav."]


@pytest.mark.parametrize(
    "name", ["<b>bold</b> & 'so'.wav", "two\nlines.wav", "back\rspace.wav", 'a "quoted", name.wav']
)
def test_file_names_with_markup_and_newlines_survive(tmp_path, name):
    # A file name cannot hold "/", so the markup goes through as folders would.
    path = record(tmp_path / "speech" / "anna" / name, 0.2)
    clips = folders.prepare(tmp_path, PrepareSettings()).clips
    write_manifest(tmp_path / "clips.csv", clips)
    (clip,) = read_manifest(tmp_path / "clips.csv")
    assert clip.path == path
    assert len(load_waveform(clip)) == 3200


@given(length_s=SECONDS, clip_s=st.floats(0.5, 10), most=st.integers(1, 6))
def test_stretches_lie_inside_apart_and_are_long_enough(length_s, clip_s, most):
    stretches = cut_stretches(10.0, 10.0 + length_s, PrepareSettings(clip_s=clip_s, clips_per_recording=most))
    assert (len(stretches) > 0) == (10.0 + length_s - 10.0 >= SHORTEST_S)
    assert len(stretches) <= most
    previous_end_s = 10.0 - APART_S
    for start_s, duration_s in stretches:
        assert SHORTEST_S <= duration_s <= clip_s
        assert start_s - previous_end_s >= APART_S - 1e-9
        previous_end_s = start_s + duration_s
    assert previous_end_s <= 10.0 + length_s + 1e-9


def test_folders_that_are_being_unpacked_are_not_found(tmp_path):
    (tmp_path / ".musan.tmp" / "musan").mkdir(parents=True)
    (tmp_path / ".musan.tmp" / "musan" / "README").touch()
    with pytest.raises(ManifestError, match=r"looked for README"):
        find_folder(tmp_path, "README", "MUSAN")


def test_a_pattern_of_file_names_makes_the_readers_of_librispeech_groups(tmp_path):
    for reader in (84, 174):
        record(tmp_path / "speech" / "dev-clean" / str(reader) / "121123" / f"{reader}-121123-0000.flac", 0.2)
    assert {clip.group for clip in folders.read_folders(tmp_path, "^([0-9]+)-", 0.0).clips} == {
        "speech/84",
        "speech/174",
    }
