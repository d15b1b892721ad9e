"""The sound files of a folder: links followed, hidden ones left out, and every one left out is told."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from listenwell.data.corpora.folders import read_folders
from listenwell.data.sound_files import find_sound_files
from listenwell.detect.recordings import find_recordings
from listenwell.errors import ManifestError


def record(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path.with_suffix(".wav"), 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000)
    return path.with_suffix(".wav").rename(path)


def test_every_sound_is_found_through_links(tmp_path):
    root = tmp_path / "root"
    expected = [record(root / name) for name in ("a.wav", "B.WAV", "deep/er/c.m4a")]
    record(tmp_path / "elsewhere" / "d.flac")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "file.wav").symlink_to(tmp_path / "elsewhere" / "d.flac")
    (root / "round").symlink_to(root)
    (root / "lost.wav").symlink_to(tmp_path / "nowhere.wav")
    found = find_sound_files(root)
    assert found.paths == sorted([*expected, root / "linked" / "d.flac", root / "file.wav"])
    assert found.left_out == [
        f"{root}: 1 file is unreachable (a link leads nowhere) and left out, the first: lost.wav."
    ]


def test_links_that_lead_to_each_other_end(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        record(tmp_path / name / "x.wav")
        (tmp_path / name / "link").symlink_to(tmp_path / other)
    found = [path.relative_to(tmp_path).as_posix() for path in find_sound_files(tmp_path).paths]
    assert found == ["a/link/x.wav", "a/x.wav", "b/link/x.wav", "b/x.wav"]


def test_what_is_left_out_is_counted_and_named(tmp_path):
    record(tmp_path / "a.wav")
    record(tmp_path / "._a.wav")
    record(tmp_path / ".trash" / "b.wav")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    for name in ("notes.txt", "more.txt", "table.csv", "README"):
        (tmp_path / name).write_text("words\n")
    found = find_sound_files(tmp_path)
    assert [path.name for path in found.paths] == ["a.wav"]
    assert found.left_out == [
        f"{tmp_path}: 2 files are hidden and left out, the first: ._a.wav.",
        f"{tmp_path}: 4 files are no sound by name and left out (2 .txt, 1 README, 1 .csv).",
    ]


def test_detect_and_init_leave_out_the_same_and_say_so(tmp_path):
    for name in (
        "speech/anna/a.wav",
        "speech/ben/b.webm",
        "nonspeech/rain/c.m4a",
        "nonspeech/._c.wav",
        "nonspeech/x.txt",
    ):
        record(tmp_path / name)
    (tmp_path / "nonspeech" / "x.txt").write_text("no sound")
    detected = find_recordings([str(tmp_path)])
    prepared = read_folders(tmp_path, "folder", 0.0)
    assert sorted(clip.path for clip in prepared.clips) == detected.paths
    assert len(detected.paths) == 3
    assert prepared.notes == detected.left_out


def test_a_path_that_names_both_labels_is_refused(tmp_path):
    record(tmp_path / "speech" / "noise" / "a.wav")
    with pytest.raises(ManifestError, match=r"speech/noise/a\.wav: lies in 'speech' and in 'noise'"):
        read_folders(tmp_path, "folder", 0.0)
