"""Clips go out as lhotse manifests and as an AudioFolder with all that is known of them."""

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
from listenwell.data.exchange import RECORDINGS, SUPERVISIONS, write_audio_folder, write_lhotse
from listenwell.data.manifest import read_manifest
from listenwell.errors import ManifestError


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    made = make_corpus(tmp_path, n_groups=2, clips_each=2)
    hostile = 'spk <b>|\n"x"'
    return [
        replace(made[0], group=hostile, origin="freesound:1", category="café", split="train"),
        replace(made[1], start_s=0.01, duration_s=0.03, split="dev"),
        *(replace(clip, split="sealed_test") for clip in made[4:]),
    ]


def run(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_lhotse_manifests_tell_every_clip_and_the_form_of_its_recording(clips, tmp_path):
    soundfile.write(clips[1].path, 0.1 * np.ones((800, 2)), 8_000)
    write_lhotse(tmp_path / "out", clips)
    recordings = {record["id"]: record for record in read_lines(tmp_path / "out" / RECORDINGS)}
    supervisions = read_lines(tmp_path / "out" / SUPERVISIONS)
    assert [said["id"] for said in supervisions] == [clip.clip_id for clip in clips]
    for said, clip in zip(supervisions, clips, strict=True):
        source = recordings[said["recording_id"]]["sources"][0]
        assert source["source"] == str(clip.path)
        assert (said["start"], said["duration"], said["custom"]["group"]) == (clip.start_s, clip.duration_s, clip.group)
        assert said.get("speaker") == (clip.group if clip.label == "SPEECH" else None)
    stereo = recordings[str(clips[1].path)]
    assert (stereo["sampling_rate"], stereo["num_samples"], stereo["duration"]) == (8_000, 800, 0.1)
    assert supervisions[1]["channel"] == stereo["channel_ids"] == [0, 1]


def test_clips_survive_an_audio_folder_to_the_bit(clips, tmp_path):
    write_audio_folder(tmp_path / "out", clips)
    tables = sorted((tmp_path / "out").glob("*/metadata.csv"))
    assert [table.parent.name for table in tables] == ["sealed_test", "train", "validation"]
    back = {clip.clip_id: clip for table in tables for clip in read_manifest(table, {"path": "file_name"})}
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


def test_the_command_writes_lhotse_manifests(clips, tmp_path):
    result = run("corpus", "export", tmp_path / "clips.csv", "--to", "lhotse", "--out", tmp_path / "l")
    assert result.exit_code == 0, result.output
    assert len(read_lines(tmp_path / "l" / SUPERVISIONS)) == len(read_manifest(tmp_path / "clips.csv"))
