"""LibriSpeech: readers are the same in all subsets, and nobody unknown becomes a group."""

import pytest
from made_corpora import make_librispeech, record

from listenwell.data.corpora import librispeech
from listenwell.data.corpora.corpus import PrepareSettings
from listenwell.errors import ManifestError


def test_readers_are_groups_and_origins(tmp_path):
    clips = librispeech.prepare(make_librispeech(tmp_path), PrepareSettings()).clips
    assert {(clip.group, clip.origin) for clip in clips} == {
        ("librispeech_84", "librivox:84"), ("librispeech_174", "librivox:174")
    }  # fmt: skip
    assert {clip.recording for clip in clips if clip.group == "librispeech_84"} == {
        "dev-clean/84/121123/84-121123-0000", "dev-clean/84/121123/84-121123-0001"
    }  # fmt: skip
    assert {(clip.label, clip.category, clip.licence) for clip in clips} == {("SPEECH", "english", "CC-BY-4.0")}


def test_long_utterances_give_several_clips_apart_in_time(tmp_path):
    clips = librispeech.prepare(make_librispeech(tmp_path), PrepareSettings()).clips
    spans = [(clip.start_s, clip.duration_s) for clip in clips if clip.path.stem == "84-121123-0000"]
    assert spans == [(0.0, 5.0), (9.0, 5.0)]
    assert len({clip.clip_id for clip in clips}) == len(clips)


def test_subsets_in_folders_of_their_own_are_one_corpus(tmp_path):
    make_librispeech(tmp_path / "dev-clean" / "LibriSpeech")
    make_librispeech(tmp_path / "test-clean" / "LibriSpeech", "test-clean", (61,))
    clips = librispeech.prepare(tmp_path, PrepareSettings()).clips
    assert {clip.group for clip in clips} == {"librispeech_84", "librispeech_174", "librispeech_61"}
    only = librispeech.prepare(tmp_path, PrepareSettings(parts=("test-clean",))).clips
    assert {clip.group for clip in only} == {"librispeech_61"}


def test_a_subset_that_is_not_there_or_there_twice_is_refused(tmp_path):
    make_librispeech(tmp_path / "one")
    with pytest.raises(ManifestError, match=r"no utterances .* of test-other, found subsets: dev-clean"):
        librispeech.prepare(tmp_path, PrepareSettings(parts=("test-other",)))
    make_librispeech(tmp_path / "two")
    with pytest.raises(ManifestError, match=r"dev-clean is there twice"):
        librispeech.prepare(tmp_path, PrepareSettings())


def test_a_reader_that_nobody_knows_is_refused(tmp_path):
    make_librispeech(tmp_path)
    record(tmp_path / "dev-clean" / "9999" / "1" / "9999-1-0000.flac", 1.0)
    with pytest.raises(ManifestError, match=r"reader 9999 is not in SPEAKERS\.TXT"):
        librispeech.prepare(tmp_path, PrepareSettings())


def test_a_wrong_folder_is_named_with_the_file_that_was_looked_for(tmp_path):
    with pytest.raises(ManifestError, match=r"looked for SPEAKERS\.TXT"):
        librispeech.prepare(tmp_path, PrepareSettings())
