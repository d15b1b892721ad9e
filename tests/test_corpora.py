"""Corpora: prepared into tables, groups and origins by the rules of each, every fault with its place; the commands."""

import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from commands import invoke, succeed
from hypothesis import given
from hypothesis import strategies as st
from made_corpora import ESC50_ROWS, make_esc50, make_musan, make_rirs, make_voxconverse, record, speaker, write_lines
from test_download import Behaviour, serving

from listenwell.data.audio import load_waveform
from listenwell.data.corpora import esc50, folders, musan, rirs, voxconverse
from listenwell.data.corpora.catalogue import ARCHIVE_SUFFIXES, CORPORA
from listenwell.data.corpora.corpus import APART_S, SHORTEST_S, PrepareSettings, cut_stretches, find_folder
from listenwell.data.corpora.voxconverse import MARGIN_S, Turn, cut_recording, read_rttm
from listenwell.data.manifest import read_backgrounds, read_manifest, write_manifest
from listenwell.errors import AudioError, ManifestError

PREPARE, DOWNLOAD = ("corpus", "prepare"), ("corpus", "download")
MAKERS = {"musan": make_musan, "esc50": make_esc50, "voxconverse": make_voxconverse, "rirs": make_rirs}


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA.keys())
def test_every_corpus_describes_itself(corpus):
    assert corpus.title
    assert corpus.purpose
    assert corpus.licence
    assert corpus.layout
    if corpus.name != "folders":
        assert corpus.citation
        assert corpus.home_page.startswith("https://")
        assert corpus.archives
    for archive in corpus.archives:
        assert archive.url.startswith("https://")
        assert archive.name.endswith(ARCHIVE_SUFFIXES)
        algorithm, _, digits = archive.checksum.partition(":")
        assert len(digits) == {"": 0, "md5": 32, "sha256": 64}[algorithm]


@pytest.mark.parametrize("name", MAKERS)
def test_every_corpus_is_prepared_into_tables_that_can_be_read(tmp_path, name):
    MAKERS[name](tmp_path / "root")
    answer = succeed(*PREPARE, name, "--root", tmp_path / "root", "--out", tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert all(str(tmp_path / "out" / each) in answer.stdout for each in written)
    if "clips.csv" in written:
        clips = read_manifest(tmp_path / "out" / "clips.csv")
        assert all(clip.group and clip.recording and clip.corpus == name and clip.licence for clip in clips)
    if "backgrounds.csv" in written:
        assert all(bed.group and bed.licence for bed in read_backgrounds(tmp_path / "out" / "backgrounds.csv"))
    assert written == ({"backgrounds.csv"} if name == "rirs" else
                       {"clips.csv", "backgrounds.csv"} if name == "musan" else {"clips.csv"})  # fmt: skip


def test_a_corpus_prepared_again_leaves_no_table_of_the_time_before(tmp_path):
    make_musan(tmp_path / "musan")
    arguments = (*PREPARE, "musan", "--root", tmp_path / "musan", "--out", tmp_path / "out")
    succeed(*arguments)
    succeed(*arguments, "--backgrounds", "none", "--overwrite")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clips.csv"]


def test_official_parts_are_chosen_on_the_command_line(tmp_path):
    make_voxconverse(tmp_path / "vox")
    arguments = (*PREPARE, "voxconverse", "--root", tmp_path / "vox", "--out", tmp_path / "out", "--parts", "dev")
    succeed(*arguments, "--clips-per-recording", "1")
    clips = read_manifest(tmp_path / "out" / "clips.csv")
    assert {clip.recording for clip in clips} == {"abjxc", "ahnss"}
    assert len(clips) == len({clip.group for clip in clips})


def test_quarantined_recordings_are_listed_with_their_reasons(tmp_path):
    for i in range(50):
        record(tmp_path / "own" / "speech" / f"s{i}.wav", 0.1, cut=i == 10)
    arguments = (*PREPARE, "folders", "--root", tmp_path / "own", "--out", tmp_path / "out")
    answer = succeed(*arguments)
    assert "1 recordings cannot be used, see quarantine.csv" in answer.stdout
    assert "truncated" in (tmp_path / "out" / "quarantine.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((*DOWNLOAD, "unheard_of", "--root", "x"), "corpus 'unheard_of': unknown; expected one of starter, musan"),
        ((*DOWNLOAD, "musan"), "--root: is missing"),
        ((*DOWNLOAD, "starter", "--root", "x"), "run 'listenwell data corpus prepare starter'"),
        ((*DOWNLOAD, "folders", "--root", "x"), "has nothing to download"),
        ((*PREPARE, "musan", "--root", "x"), "--out: is missing"),
        ((*PREPARE, "musan", "--root", "x", "--out", "y", "--clips", "nose"), "unknown kind 'nose'"),
        ((*PREPARE, "musan", "--root", "x", "--out", "y", "--clip-s", "0"), "Invalid value for '--clip-s'"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_missing(arguments, sentence):
    answer = invoke(*arguments)
    assert answer.exit_code == 2
    assert sentence in answer.stderr


def test_download_from_a_mirror_then_prepare_is_the_whole_way(tmp_path):
    make_esc50(tmp_path / "made" / "ESC-50-master")
    archive = Path(shutil.make_archive(str(tmp_path / "ESC-50-master"), "zip", tmp_path / "made"))
    with serving(Behaviour(content=archive.read_bytes())) as file:
        arguments = (*DOWNLOAD, "esc50", "--root", tmp_path / "corpora", "--url", file.url.rpartition("/")[0])
        answer = succeed(*arguments)
        assert "cite Piczak 2015" in answer.stdout
        assert invoke(*arguments).stdout == answer.stdout
    succeed(*PREPARE, "esc50", "--root", tmp_path / "corpora", "--out", tmp_path / "out")
    assert len(read_manifest(tmp_path / "out" / "clips.csv")) == 5


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


@given(length_s=st.floats(0.01, 30), clip_s=st.floats(0.5, 10), most=st.integers(1, 6))
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


def test_the_readers_of_librispeech_are_groups_by_their_folders_or_by_a_pattern_of_the_names(tmp_path):
    for reader in (84, 174):
        record(tmp_path / "speech" / str(reader) / "121123" / f"{reader}-121123-0000.flac", 0.2)
    for group_by in ("folder", "^([0-9]+)-"):
        clips = folders.read_folders(tmp_path, group_by, 0.0).clips
        assert {clip.group for clip in clips} == {"speech/84", "speech/174"}


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
    assert rirs.prepare(tmp_path, PrepareSettings(background_kinds=("noise",))).backgrounds == []
    assert len({room.background_id for room in rooms}) == 3


@pytest.mark.parametrize(
    "line",
    [
        "--rir-id x RIRS_NOISES/simulated_rirs/smallroom/x.wav",
        "--rir-id x --room-id Room003",
        "--rir-id x --room-id Room003 --last option",
    ],
)
def test_a_line_without_a_room_or_a_file_is_named(tmp_path, line):
    make_rirs(tmp_path)
    write_lines(tmp_path / "real_rirs_isotropic_noises/rir_list", "", line)
    with pytest.raises(ManifestError, match=r"rir_list line 2: .* names no room-id or no file"):
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
    assert "freesound:100032" in origins & {clip.origin for clip in sounds}
    assert "musan:noise-free-sound-0000" in origins


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
def test_clips_lie_inside_turns_of_their_speaker_away_from_all_others_and_apart(turns):
    clips = cut_recording(Path("f.wav"), 50.0, turns, PrepareSettings(clips_per_recording=4))
    for clip in clips:
        label, end_s = clip.group.split("/")[1], clip.start_s + clip.duration_s
        assert clip.start_s >= 0
        assert end_s <= 50.0 + 1e-9
        for turn in turns:
            if turn.label != label and turn.end_s > turn.start_s:
                assert end_s <= turn.start_s - MARGIN_S + 1e-9 or clip.start_s >= turn.end_s + MARGIN_S - 1e-9
        own = [turn for turn in turns if turn.label == label]
        for moment in (0.0, 0.31, 0.5, 0.77, 1.0):
            at_s = clip.start_s + moment * clip.duration_s
            assert any(turn.start_s - 1e-9 <= at_s <= turn.end_s + 1e-9 for turn in own)
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
