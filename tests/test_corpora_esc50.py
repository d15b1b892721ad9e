"""ESC-50: groups and origins are Freesound ids, human sounds are told by their category."""

import pytest
from made_corpora import ESC50_ROWS, make_esc50, record

from listenwell.data.corpora import esc50
from listenwell.data.corpora.corpus import PrepareSettings
from listenwell.errors import AudioError, ManifestError


def test_clips_of_one_freesound_recording_are_one_group_and_one_origin(tmp_path):
    clips = esc50.prepare(make_esc50(tmp_path), PrepareSettings()).clips
    assert len(clips) == 5
    assert {clip.group for clip in clips if clip.category == "dog"} == {"esc50_100032"}
    assert {clip.origin for clip in clips if clip.category == "dog"} == {"freesound:100032"}
    assert {(clip.label, clip.licence, clip.start_s) for clip in clips} == {("NONSPEECH", "CC-BY-NC-3.0", 0.0)}
    assert all(clip.duration_s == pytest.approx(5.0, abs=1e-4) for clip in clips)


def test_human_sounds_are_told_by_their_category(tmp_path):
    clips = esc50.prepare(make_esc50(tmp_path), PrepareSettings()).clips
    assert {"coughing", "laughing"} <= {clip.category for clip in clips}


@pytest.mark.parametrize("source", ["", "NaN"])
def test_a_missing_source_is_refused_and_never_becomes_a_group(tmp_path, source):
    make_esc50(tmp_path, *ESC50_ROWS, f"5-500001-A-1.wav,5,1,rooster,False,{source},A")
    with pytest.raises(ManifestError, match=r"esc50.csv line 7: the src_file is"):
        esc50.prepare(tmp_path, PrepareSettings())


def test_a_wrong_folder_is_named_with_the_file_that_was_looked_for(tmp_path):
    record(tmp_path / "audio" / "1-1-A-0.wav", 0.1)
    with pytest.raises(ManifestError, match=r"looked for meta/esc50.csv"):
        esc50.prepare(tmp_path, PrepareSettings())


def test_a_half_unpacked_archive_is_refused(tmp_path):
    make_esc50(tmp_path)
    for path in (tmp_path / "audio").glob("4-*"):
        path.unlink()
    with pytest.raises(
        AudioError, match=r"1 of 5 recordings cannot be used.*half unpacked.*4-400001-A-10.wav: no such file"
    ):
        esc50.prepare(tmp_path, PrepareSettings())
