"""MUSAN: kinds from the annotations, origins from the licence texts, clips and backgrounds never from one kind."""

import pytest
from made_corpora import make_esc50, make_librispeech, make_musan, make_rirs, write_lines

from listenwell.data.corpora import esc50, librispeech, musan, rirs
from listenwell.data.corpora.corpus import PrepareSettings
from listenwell.errors import AudioError, ManifestError


def prepare(root, **settings):
    return musan.prepare(root, PrepareSettings(**settings))


def test_music_and_noise_become_backgrounds_and_speech_clips(tmp_path):
    prepared = prepare(make_musan(tmp_path / "musan"))
    assert {bed.background_id: bed.kind for bed in prepared.backgrounds} == {
        "musan/music-fma-0001": "music",
        "musan/music-fma-0002": "music",
        "musan/noise-free-sound-0000": "noise",
        "musan/noise-free-sound-0001": "noise",
        "musan/noise-free-sound-0002": "noise",
        "musan/noise-sound-bible-0000": "noise",
    }
    assert {clip.label for clip in prepared.clips} == {"SPEECH"}
    assert {clip.category for clip in prepared.clips} == {"english", "german"}


def test_music_with_vocals_is_taken_only_when_asked_for(tmp_path):
    make_musan(tmp_path)
    prepared = prepare(tmp_path, clip_kinds=("vocal_music",), background_kinds=("music",))
    assert {clip.recording for clip in prepared.clips} == {"music/fma/music-fma-0000", "music/fma/music-fma-0003"}
    assert {(clip.label, clip.category) for clip in prepared.clips} == {("NONSPEECH", "vocal_music")}


def test_music_without_annotation_counts_as_vocal_and_is_told(tmp_path):
    prepared = prepare(make_musan(tmp_path))
    assert prepared.notes == ["1 music tracks are not in ANNOTATIONS and count as vocal_music."]


def test_the_tracks_of_one_artist_are_one_group(tmp_path):
    groups = {bed.background_id: bed.group for bed in prepare(make_musan(tmp_path)).backgrounds}
    assert (
        groups["musan/music-fma-0001"] == groups["musan/music-fma-0002"] == ("musan_artist_Quiet_Music_for_Tiny_Robots")
    )


def test_licences_come_from_the_folders_and_say_where_they_say_nothing(tmp_path):
    licences = {bed.background_id: bed.licence for bed in prepare(make_musan(tmp_path)).backgrounds}
    assert licences["musan/music-fma-0001"] == "CC BY 4.0"
    assert licences["musan/music-fma-0002"] == "see LICENSE of the folder"
    assert licences["musan/noise-free-sound-0000"] == "Public Domain"


def test_origins_join_musan_with_the_other_corpora(tmp_path):
    prepared = prepare(make_musan(tmp_path / "musan"))
    origins = {bed.origin for bed in prepared.backgrounds}
    readers = {clip.origin for clip in prepared.clips}
    sounds = esc50.prepare(make_esc50(tmp_path / "esc"), PrepareSettings()).clips
    books = librispeech.prepare(make_librispeech(tmp_path / "libri"), PrepareSettings()).clips
    noises = rirs.prepare(make_rirs(tmp_path / "rirs"), PrepareSettings()).backgrounds
    assert "freesound:100032" in origins & {clip.origin for clip in sounds}
    assert "librivox:84" in readers & {clip.origin for clip in books}
    assert "musan:noise-free-sound-0000" in origins & {bed.origin for bed in noises}


def test_speech_is_grouped_by_what_the_licence_knows(tmp_path):
    groups = {clip.path.stem: clip.group for clip in prepare(make_musan(tmp_path)).clips}
    assert groups["speech-librivox-0000"] == "musan_librivox:84"
    assert groups["speech-librivox-0001"] == "musan_librivox:faust-by-goethe"
    assert groups["speech-librivox-0002"] == "musan_speech-librivox-0002"


def test_a_half_unpacked_archive_is_found_by_its_annotations(tmp_path):
    make_musan(tmp_path)
    (tmp_path / "music/fma/music-fma-0001.wav").unlink()
    with pytest.raises(AudioError, match=r"1 of 9 recordings cannot be used.*half unpacked"):
        prepare(tmp_path)


def test_annotations_without_yes_or_no_are_refused_with_their_line(tmp_path):
    make_musan(tmp_path)
    write_lines(tmp_path / "music/fma/ANNOTATIONS", "music-fma-0000 blues Y Cullah", "music-fma-0001 pop Cullah")
    with pytest.raises(ManifestError, match=r"ANNOTATIONS line 2: 'music-fma-0001 pop Cullah' does not say Y or N"):
        prepare(tmp_path)
