"""OpenSLR 28: rooms are groups, and copies of MUSAN's noises say so."""

import pytest
from made_corpora import make_rirs, write_lines

from listenwell.data.corpora import rirs
from listenwell.data.corpora.corpus import PrepareSettings
from listenwell.errors import AudioError, ManifestError


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


def test_a_listed_file_that_is_missing_counts_as_unreadable(tmp_path):
    make_rirs(tmp_path)
    (tmp_path / "simulated_rirs/smallroom/Room001/Room001-00001.wav").unlink()
    with pytest.raises(AudioError, match=r"1 of 6 recordings cannot be used"):
        rirs.prepare(tmp_path, PrepareSettings())


def test_a_wrong_folder_is_named_with_the_file_that_was_looked_for(tmp_path):
    with pytest.raises(ManifestError, match=r"looked for pointsource_noises/noise_list"):
        rirs.prepare(tmp_path, PrepareSettings())
