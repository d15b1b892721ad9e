"""Lhotse manifests and AudioFolder: clips survive both ways, and what cannot be kept is refused with its place."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sounds import make_corpus
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.data.audio import load_waveform, pcm_sha256
from listenwell.data.clip import Clip
from listenwell.data.exchange import (
    RECORDINGS,
    SUPERVISIONS,
    Unsaid,
    read_audio_folder,
    read_lhotse,
    read_lhotse_cuts,
    write_audio_folder,
    write_lhotse,
)
from listenwell.data.manifest import read_manifest
from listenwell.data.tables import read_json_lines, write_json_lines
from listenwell.errors import ManifestError

SPOKEN = Unsaid("SPEECH", corpus="theirs", licence="CC0")


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    made = make_corpus(tmp_path, n_groups=2, clips_each=2)
    hostile = 'spk <b>|\n"x"'
    return [
        replace(made[0], group=hostile, origin="freesound:1", category="café", split="train"),
        replace(made[1], start_s=0.01, duration_s=0.03, split="dev"),
        *(replace(clip, split="sealed_test") for clip in made[4:]),
    ]


def recording(folder: Path, n_channels: int = 1, **changes) -> dict:
    path = folder / "r.wav"
    soundfile.write(path, 0.1 * np.ones((16_000, n_channels)), 8_000)
    channels = list(range(n_channels))
    source = {"type": "file", "channels": channels, "source": str(path)}
    return {"id": "r", "sources": [source], "sampling_rate": 8_000, "num_samples": 16_000, "duration": 2.0,
            "channel_ids": channels, **changes}  # fmt: skip


def supervision(**changes) -> dict:
    return {"id": "s1", "recording_id": "r", "start": 0.5, "duration": 1.0, "channel": 0, "speaker": "anna", **changes}


def read_theirs(folder: Path, a_recording: dict, *supervisions: dict, unsaid: Unsaid = SPOKEN) -> list[Clip]:
    write_json_lines(folder / RECORDINGS, [a_recording])
    write_json_lines(folder / SUPERVISIONS, supervisions)
    return read_lhotse(folder / RECORDINGS, folder / SUPERVISIONS, unsaid)


def test_clips_survive_lhotse_manifests(clips, tmp_path):
    write_lhotse(tmp_path / "out", clips)
    assert read_lhotse(tmp_path / "out" / RECORDINGS, tmp_path / "out" / SUPERVISIONS, Unsaid()) == clips


def test_a_supervision_of_others_becomes_a_clip_of_its_speaker(tmp_path):
    (clip,) = read_theirs(tmp_path, recording(tmp_path), supervision())
    assert clip == Clip("s1", tmp_path / "r.wav", 0.5, 1.0, "SPEECH", "anna", "r", "theirs", "CC0")
    assert load_waveform(clip).size == 16_000


def test_a_supervision_without_speaker_is_no_group_unless_asked_to_group_by_recording(tmp_path):
    with pytest.raises(ManifestError, match=r"supervisions.jsonl.gz line 1: 's1' has no speaker"):
        read_theirs(tmp_path, recording(tmp_path), supervision(speaker=None))
    (clip,) = read_theirs(
        tmp_path, recording(tmp_path), supervision(speaker=None), unsaid=replace(SPOKEN, group_by="recording")
    )
    assert clip.group == "r"


@pytest.mark.parametrize(
    ("a_recording", "a_supervision", "unsaid", "sentence"),
    [
        ({}, {}, Unsaid(), "no label"),
        ({}, {"speaker": "nan"}, SPOKEN, "group is 'nan'"),
        ({}, {"recording_id": "q"}, SPOKEN, "'q' is not in the recordings"),
        ({}, {"start": "soon"}, SPOKEN, "'start' is 'soon': Input should be a valid number"),
        ({}, {"duration": -1.0}, SPOKEN, "times are 0 or more"),
        ({"transforms": [{"name": "Speed"}]}, {}, SPOKEN, "has transforms"),
        ({"sources": [{"type": "url", "channels": [0], "source": "x"}]}, {}, SPOKEN, "sources url"),
        ({"sources": []}, {}, SPOKEN, "sources none"),
        ({"sources": ["r.wav"]}, {}, SPOKEN, "'sources.0' is 'r.wav'"),
        ({"sources": 0.5}, {}, SPOKEN, "'sources' is '0.5': Input should be a valid list"),
        ({}, {"channel": [[0]]}, SPOKEN, r"'channel.*' is '\[\[0\]\]'"),
        ({"id": None}, {}, SPOKEN, "'id' is 'None'"),
    ],
)
def test_what_lhotse_says_and_a_clip_cannot_is_refused(tmp_path, a_recording, a_supervision, unsaid, sentence):
    with pytest.raises(ManifestError, match=sentence) as caught:
        read_theirs(tmp_path, recording(tmp_path, **a_recording), supervision(**a_supervision), unsaid=unsaid)
    assert " line 1: " in str(caught.value)


def test_one_channel_of_several_is_refused_and_all_of_them_are_read(tmp_path):
    stereo = recording(tmp_path, n_channels=2)
    with pytest.raises(ManifestError, match="one channel of several"):
        read_theirs(tmp_path, stereo, supervision())
    assert len(read_theirs(tmp_path, stereo, supervision(channel=[0, 1]))) == 1


def cut(folder: Path, *supervisions: dict, **changes) -> dict:
    return {"id": "c1", "start": 0.5, "duration": 1.0, "channel": 0, "supervisions": list(supervisions),
            "recording": recording(folder), "type": "MonoCut", **changes}  # fmt: skip


def read_cuts(folder: Path, *cuts: dict, unsaid: Unsaid = SPOKEN) -> list[Clip]:
    write_json_lines(folder / "cuts.jsonl.gz", cuts)
    return read_lhotse_cuts(folder / "cuts.jsonl.gz", unsaid)


def test_a_cuts_supervision_counts_from_the_cut_and_ends_with_it(tmp_path):
    (clip,) = read_cuts(tmp_path, cut(tmp_path, supervision(start=-0.2, duration=0.7)))
    assert (clip.clip_id, clip.start_s, clip.duration_s) == ("s1", 0.5, pytest.approx(0.5))
    (clip,) = read_cuts(tmp_path, cut(tmp_path, supervision(start=0.75, duration=9.0)))
    assert (clip.start_s, clip.duration_s) == (1.25, 0.25)


def test_a_mixed_cut_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="is a MixedCut"):
        read_cuts(tmp_path, cut(tmp_path, type="MixedCut"))


def test_a_cut_or_missing_file_of_json_lines_is_one_sentence(tmp_path):
    whole = gzip.compress(json.dumps(supervision()).encode() * 100)
    for content in (whole[:-20], b"no gzip"):
        (tmp_path / "x.jsonl.gz").write_bytes(content)
        with pytest.raises(ManifestError, match=r"x.jsonl.gz: cannot be opened or read"):
            list(read_json_lines(tmp_path / "x.jsonl.gz"))
    with pytest.raises(ManifestError, match=r"none.jsonl: cannot be opened or read \(No such file"):
        list(read_json_lines(tmp_path / "none.jsonl"))


def test_clips_survive_an_audio_folder_to_the_bit(clips, tmp_path):
    write_audio_folder(tmp_path / "out", clips)
    back = {clip.clip_id: clip for clip in read_audio_folder(tmp_path / "out")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "validation", "sealed_test"}
    for clip in clips:
        samples = load_waveform(clip)
        assert np.array_equal(load_waveform(back[clip.clip_id]), samples)
        moved = {"path": back[clip.clip_id].path, "start_s": 0.0, "duration_s": samples.size / 16_000}
        assert back[clip.clip_id] == replace(clip, **moved, pcm_sha256=pcm_sha256(samples))


def test_an_audio_folder_is_not_written_over_another_folder_nor_over_the_recordings(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("mine")
    (tmp_path / "sounds").mkdir()
    make_corpus(tmp_path / "sounds", n_groups=2, clips_each=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    export = ("corpus", "export", tmp_path / "sounds" / "clips.csv", "--to", "audiofolder", "--out")
    refused = run(*export, tmp_path / "mine")
    assert refused.exit_code == 2
    assert "mine: holds kept.txt, which is not known as listenwell's own, unchanged work" in refused.stderr
    refused = run(*export, tmp_path / "sounds", "--overwrite")
    assert refused.exit_code == 2
    assert "which must not be replaced" in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for _ in range(2):
        assert run(*export, tmp_path / "new").exit_code == 0


def test_a_split_that_leaves_the_folder_is_refused_and_nothing_is_left(clips, tmp_path):
    with pytest.raises(ManifestError, match="cannot name a folder"):
        write_audio_folder(tmp_path / "out", [replace(clips[0], split="../up")])
    assert not (tmp_path / "out").exists()


def their_folder(folder: Path, name: str, metadata: str) -> Path:
    (folder / "train").mkdir(parents=True)
    soundfile.write(folder / "train" / "a.wav", 0.1 * np.ones(16_000), 16_000)
    (folder / "train" / name).write_text(metadata)
    return folder


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("metadata.csv", "file_name,label,speaker_id,transcription\na.wav,speech,7,hello\n"),
        ("metadata.jsonl", '{"file_name": "a.wav", "label": 1, "speaker_id": 7, "text": null}\n'),
    ],
)
def test_metadata_of_others_is_read_by_the_names_it_has(tmp_path, name, metadata):
    (clip,) = read_audio_folder(their_folder(tmp_path / "d", name, metadata), {"group": "speaker_id"})
    path = tmp_path / "d" / "train" / "a.wav"
    assert clip == Clip("train/a.wav", path, 0.0, 1.0, "SPEECH", "7", "train/a.wav", "", "", split="train")


@pytest.mark.parametrize(
    ("name", "metadata", "sentence"),
    [
        ("metadata.csv", "file_name,label,group\n../../x.wav,speech,g\n", "lies outside"),
        ("metadata.csv", "file_name,label\na.wav,speech\n", "required column group"),
        ("metadata.csv", "file_name,label,group\na.wav,speech,nan\n", "group is 'nan'"),
        ("metadata.jsonl", '{"file_name": "a.wav", "label": "dog", "group": "g"}\n', "unknown label 'dog'"),
        ("metadata.jsonl", '{"label": "speech", "group": "g"}\n', "the required column file_name is missing"),
        ("other.csv", "", "no metadata.csv or metadata.jsonl"),
    ],
)
def test_metadata_that_makes_no_clip_is_refused(tmp_path, name, metadata, sentence):
    with pytest.raises(ManifestError, match=sentence):
        read_audio_folder(their_folder(tmp_path / "d", name, metadata))


@pytest.mark.parametrize(
    ("times", "cells", "stretch"),
    [
        ("duration", "0.9", (0.0, 1.0)),
        ("start,end", "0.25,0.5", (0.25, 0.25)),
        ("offset_ms,duration_ms", "250,500", (0.25, 0.5)),
    ],
)
def test_metadata_may_name_a_stretch_and_its_duration_alone_is_that_of_the_file(tmp_path, times, cells, stretch):
    metadata = f"file_name,label,group,{times}\na.wav,1,g,{cells}\n"
    (clip,) = read_audio_folder(their_folder(tmp_path / "d", "metadata.csv", metadata))
    assert (clip.start_s, clip.duration_s) == stretch


def run(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_clips_go_out_and_come_back_through_the_command_line(tmp_path):
    made = make_corpus(tmp_path, n_groups=2, clips_each=1)
    assert run("corpus", "export", tmp_path / "clips.csv", "--to", "lhotse", "--out", tmp_path / "l").exit_code == 0
    result = run(
        "corpus", "import", tmp_path / "l" / SUPERVISIONS, "--from", "supervisions",
        "--recordings", tmp_path / "l" / RECORDINGS, "--out", tmp_path / "back.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert read_manifest(tmp_path / "back.csv") == made
    assert (
        run("corpus", "export", tmp_path / "clips.csv", "--to", "audiofolder", "--out", tmp_path / "a").exit_code == 0
    )
    assert run("corpus", "import", tmp_path / "a", "--from", "audiofolder", "--out", tmp_path / "a.csv").exit_code == 0
    assert [clip.clip_id for clip in read_manifest(tmp_path / "a.csv")] == [clip.clip_id for clip in made]


@pytest.mark.parametrize(
    "arguments", [("--from", "supervisions"), ("--from", "audiofolder", "--column", "group"), ("--from", "csv")]
)
def test_an_import_that_cannot_be_understood_exits_with_2(tmp_path, arguments):
    result = run("corpus", "import", tmp_path / "x", "--out", tmp_path / "y.csv", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
