"""Public corpora: groups and origins, sources that are one across corpora, and every fault with its place."""

import pytest
from made_corpora import ESC50_ROWS, make_esc50, make_musan, make_rirs, write_lines

from listenwell.data.corpora import esc50, musan, rirs
from listenwell.data.corpora.corpus import PrepareSettings
from listenwell.errors import ManifestError


def test_clips_of_one_freesound_recording_are_one_group_and_one_origin(tmp_path):
    clips = esc50.prepare(make_esc50(tmp_path), PrepareSettings()).clips
    assert len(clips) == 5
    assert {clip.group for clip in clips if clip.category == "dog"} == {"esc50_100032"}
    assert {clip.origin for clip in clips if clip.category == "dog"} == {"freesound:100032"}
    assert {(clip.label, clip.licence, clip.start_s) for clip in clips} == {("NONSPEECH", "CC-BY-NC-3.0", 0.0)}
    assert all(clip.duration_s == pytest.approx(5.0, abs=1e-4) for clip in clips)


@pytest.mark.parametrize("source", ["", "NaN"])
def test_a_missing_source_is_refused_and_never_becomes_a_group(tmp_path, source):
    make_esc50(tmp_path, *ESC50_ROWS, f"5-500001-A-1.wav,5,1,rooster,False,{source},A")
    with pytest.raises(ManifestError, match=r"esc50.csv line 7: the src_file is"):
        esc50.prepare(tmp_path, PrepareSettings())


def test_rooms_are_groups_and_measured_ones_are_told_from_simulated(tmp_path):
    settings = PrepareSettings(background_kinds=("room",))
    rooms = rirs.prepare(make_rirs(tmp_path / "RIRS_NOISES"), settings).backgrounds
    assert {(room.background_id.split("/")[1], room.group) for room in rooms} == {
        ("simulated_rirs", "rirs_smallroom_Room001"),
        ("simulated_rirs", "rirs_smallroom_Room002"),
        ("real_rirs_isotropic_noises", "rirs_RVB2014_largeroom1"),
    }
    assert {room.kind for room in rooms} == {"room"}
    assert len({room.background_id for room in rooms}) == 3


def test_noises_become_backgrounds_and_point_sources_name_their_track_in_musan(tmp_path):
    beds = rirs.prepare(make_rirs(tmp_path), PrepareSettings(background_kinds=("noise",))).backgrounds
    assert {(bed.background_id, bed.origin) for bed in beds} == {
        ("rirs/noise-free-sound-0000", "musan:noise-free-sound-0000"),
        ("rirs/noise-free-sound 0001", "musan:noise-free-sound 0001"),
        ("rirs/RVB2014_type1_noise_largeroom1_1", ""),
    }
    assert rirs.prepare(tmp_path, PrepareSettings(background_kinds=("music",))).backgrounds == []


@pytest.mark.parametrize(
    "line",
    [
        "--rir-id x RIRS_NOISES/simulated_rirs/smallroom/x.wav",
        "--rir-id x --room-id Room003",
        "--noise-id 1 --noise-type isotropic RIRS_NOISES/x.wav",
    ],
)
def test_a_line_without_a_room_or_a_file_is_named(tmp_path, line):
    make_rirs(tmp_path)
    name = "noise_list" if "noise-id" in line else "rir_list"
    write_lines(tmp_path / "real_rirs_isotropic_noises" / name, "", line)
    with pytest.raises(ManifestError, match=rf"{name} line 2: .* names no room-"):
        rirs.prepare(tmp_path, PrepareSettings())


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


def test_origins_join_musan_with_the_other_corpora(tmp_path):
    prepared = prepare(make_musan(tmp_path / "musan"))
    origins = {bed.origin for bed in prepared.backgrounds}
    sounds = esc50.prepare(make_esc50(tmp_path / "esc"), PrepareSettings()).clips
    noises = rirs.prepare(make_rirs(tmp_path / "rirs"), PrepareSettings()).backgrounds
    assert "freesound:100032" in origins & {clip.origin for clip in sounds}
    assert "musan:noise-free-sound-0000" in origins & {bed.origin for bed in noises}


def test_speech_is_grouped_by_what_the_licence_knows(tmp_path):
    groups = {clip.path.stem: clip.group for clip in prepare(make_musan(tmp_path)).clips}
    assert groups["speech-librivox-0000"] == "musan_librivox:84"
    assert groups["speech-librivox-0001"] == "musan_librivox:faust-by-goethe"
    assert groups["speech-librivox-0002"] == "musan_speech-librivox-0002"


def test_annotations_without_yes_or_no_are_refused_with_their_line(tmp_path):
    make_musan(tmp_path)
    write_lines(tmp_path / "music/fma/ANNOTATIONS", "music-fma-0000 blues Y Cullah", "music-fma-0001 pop Cullah")
    with pytest.raises(ManifestError, match=r"ANNOTATIONS line 2: 'music-fma-0001 pop Cullah' does not say Y or N"):
        prepare(tmp_path)
