"""From a folder or a table of recordings to a study: labels, groups, a warning where files stand for speakers."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from commands import invoke, succeed
from made_sounds import study_record

from listenwell.config import load_config
from listenwell.data.clip import Clip
from listenwell.data.manifest import read_manifest
from listenwell.data.splits import make_folds
from listenwell.errors import ConfigError, ManifestError
from listenwell.random_streams import stream
from listenwell.splits.clips import prepare
from listenwell.splits.divide import divide
from listenwell.tasks.export import export_detector
from listenwell.tasks.init import describe_speakers, leave_one_out_settings, start_from_table, start_project
from listenwell.tasks.runs import list_runs
from listenwell.tasks.trace import trace

pytestmark = pytest.mark.slow


def record(path: Path, *, speech: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(9_600) / 16_000
    rng = stream(0, path.parent.name, path.name)  # every recording another: equal ones would be a leak
    samples = np.sin(2 * np.pi * rng.uniform(100, 400) * time) if speech else rng.standard_normal(time.size)
    soundfile.write(path, 0.1 * samples, 16_000)


def make_recordings(folder: Path, *, by_speaker: bool) -> Path:
    """Thirty recordings: five speakers and five sources with three files each."""
    for i in range(15):
        who, take = f"who{i // 3}", i % 3
        for label in ("speech", "nonspeech"):
            name = f"{who}/{take}.wav" if by_speaker else f"{who}_{take}.wav"
            record(folder / label / name, speech=label == "speech")
    return folder


def test_folders_or_a_pattern_give_groups_and_files_that_stand_in_for_speakers_are_warned_of(tmp_path):
    files = make_recordings(tmp_path / "files", by_speaker=False)
    for pattern, sentence in (("(", "not a regular expression"), ("^x", "finds no group")):
        with pytest.raises(ConfigError, match=sentence):
            start_project(files, pattern)
    assert sum("every SPEECH file is its own group" in warning for warning in start_project(files).warnings) == 1
    started = start_project(files, r"^(who\d)_", overwrite=True)
    assert len({clip.group for clip in started.clips}) == 10
    assert not any("its own group" in warning for warning in started.warnings)
    started = start_project(make_recordings(tmp_path / "folders", by_speaker=True))
    clips = read_manifest(started.clips_csv)
    assert len(clips) == 30
    assert {clip.group for clip in clips if clip.label == "SPEECH"} == {f"speech/who{i}" for i in range(5)}
    assert "5 speakers are few: leave-one-out is their test" in started.warnings[0]
    assert started.warnings[1] == "NONSPEECH has 5 groups: that says little about a sound source nobody heard."


def test_files_outside_the_labels_and_broken_files_are_counted(tmp_path):
    make_recordings(tmp_path, by_speaker=True)
    record(tmp_path / "somewhere" / "else.wav", speech=True)
    (tmp_path / "speech" / "who0" / "broken.wav").write_bytes(b"no sound")
    started = start_project(tmp_path)
    assert len(started.clips) == 30
    with pytest.raises(ManifestError, match="speech/<speaker>/"):
        start_project(tmp_path / "somewhere")
    assert any("1 recordings lie in no folder" in warning for warning in started.warnings)
    assert any("1 files cannot be read" in warning and "broken.wav" in warning for warning in started.warnings)


def test_a_table_of_backgrounds_that_init_did_not_make_is_not_overwritten(tmp_path):
    make_recordings(tmp_path, by_speaker=True)
    (tmp_path / "backgrounds.csv").write_text("mine")
    assert start_project(tmp_path).backgrounds == []  # there are none to write
    for path in (tmp_path / "clips.csv", tmp_path / "study.yaml"):
        path.unlink()
    record(tmp_path / "backgrounds" / "bed.wav", speech=False)
    with pytest.raises(ConfigError, match=r"backgrounds\.csv: is there already"):
        start_project(tmp_path)
    assert (tmp_path / "backgrounds.csv").read_text() == "mine"
    assert not (tmp_path / "clips.csv").exists()
    start_project(tmp_path, overwrite=True)
    assert "bed.wav" in (tmp_path / "backgrounds.csv").read_text()


QUICK = ("model.name=random", "train.epochs=1", "evaluation.baselines=[webrtc]", "evaluation.conditions=[clean, snr_0]")


def files_below(folder: Path, *names: str) -> dict[str, int]:
    """When each file below these folders was written last."""
    files = [path for name in names for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def test_a_study_that_was_moved_when_it_was_finished_is_finished(tmp_path, monkeypatch):
    monkeypatch.setenv("LISTENWELL_CACHE", str(tmp_path / "cache"))
    old = make_recordings(tmp_path / "old", by_speaker=True)
    for i in range(6):
        record(old / "backgrounds" / f"bed{i}.wav", speech=False)
    results = study_record(load_config(start_project(old).config, QUICK))
    shutil.move(old, tmp_path / "new")
    run = tmp_path / "new" / "run"
    done = files_below(run, "fits", "scores")
    assert any(path.startswith("fits/") for path in done)

    walked = trace(read_manifest(tmp_path / "new" / "clips.csv")[0].clip_id, run)
    assert str(tmp_path / "new") in str(walked)
    assert str(tmp_path / "old") not in str(walked)
    export_detector(run, tmp_path / "detector", n_recordings=1, recording_s=6.0)
    assert (tmp_path / "detector" / "detector.json").is_file()
    succeed("report", run)
    (found,) = list_runs(run)
    assert found.state == "finished"

    again = study_record(load_config(tmp_path / "new" / "study.yaml", QUICK))
    assert files_below(run, "fits", "scores") == done  # nothing was trained or scored again
    assert again["rows"] == results["rows"]
    assert not (tmp_path / "old").exists()


@pytest.mark.parametrize("with_backgrounds", [False, True])
def test_the_config_that_init_writes_runs(tmp_path, with_backgrounds):
    make_recordings(tmp_path, by_speaker=True)
    for i in range(6 * with_backgrounds):
        record(tmp_path / "backgrounds" / f"bed{i}.wav", speech=False)
    answer = succeed("init", tmp_path)
    assert f"then listenwell study {tmp_path / 'study.yaml'}" in answer.stdout
    quick = ["model.name=random", "train.epochs=1", "evaluation.baselines=[]"]
    results = study_record(load_config(tmp_path / "study.yaml", quick))
    folds = [row for row in results["rows"] if row["test_set"] == "leave_one_group_out"]
    assert {row["metrics"][0]["n_groups"] for row in folds} == {10}
    assert "on Leave one speaker out, 30 clips" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    conditions = {row["condition"] for row in results["rows"]}
    assert ("snr_0" in conditions) == with_backgrounds
    assert (tmp_path / "run" / "report.html").is_file()


def labelled(n_speakers: int, n_sources: int) -> list[Clip]:
    groups = [("SPEECH", i) for i in range(n_speakers)] + [("NONSPEECH", i) for i in range(n_sources)]
    return [Clip(f"{w}{i}", Path("x.wav"), 0.0, 1.0, w, f"{w}{i}", f"{w}{i}", "own", "") for w, i in groups]


@pytest.mark.parametrize(
    ("n_speakers", "n_sources", "expected"),
    [
        (3, 3, {"dev_speakers": 1}),
        (5, 9, {"dev_speakers": 2}),
        (8, 4, {"dev_speakers": 2, "folds": 4}),
        (19, 30, {"dev_speakers": 2, "folds": 10}),
        (20, 30, {}),
        (2, 9, {}),
        (9, 2, {}),
    ],
)
def test_few_speakers_are_left_out_in_folds_that_can_be_made(n_speakers, n_sources, expected):
    clips = labelled(n_speakers, n_sources)
    settings = leave_one_out_settings(clips)
    assert settings == ({"arms": ["final"], "over": "all", **expected} if expected else {})
    if settings:
        folds = make_folds(clips, settings.get("folds"), settings["dev_speakers"], seed=0)
        assert sum(len(fold.held_out) for fold in folds) == len(clips)
    assert (describe_speakers(clips, has_folds=True) == "") == (n_speakers == 20)


def test_check_says_what_tests_few_speakers(tmp_path):
    config = start_project(make_recordings(tmp_path, by_speaker=True)).config
    assert "leave-one-out is their test" in invoke("check", config).stderr
    alone = invoke("check", config, "leave_one_out.arms=[]")
    assert "leave-one-out would be their test (leave_one_out.arms=[final] leave_one_out.over=all)" in alone.stderr
    assert [line.split(":")[0] for line in alone.stderr.splitlines()] == ["reading", "leak check", "listenwell"]


def test_a_folder_may_have_any_name(tmp_path):
    folder = make_recordings(tmp_path / 'Anna\'s "calls": part #2, größer', by_speaker=True)
    config = load_config(start_project(folder).config)
    assert Path(config.data.manifest) == folder / "clips.csv"
    assert config.output == folder / "run"


def test_baselines_that_are_not_installed_are_left_out_and_named_in_the_config(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    start_project(make_recordings(tmp_path, by_speaker=True))
    assert load_config(tmp_path / "study.yaml").evaluation.baselines == ("webrtc",)
    written = (tmp_path / "study.yaml").read_text(encoding="utf-8")
    assert "# silero, fsmn, marblenet would stand beside your model" in written


def test_a_study_with_a_baseline_that_is_not_installed_stops_before_it_trains(tmp_path, monkeypatch):
    start_project(make_recordings(tmp_path, by_speaker=True))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    answer = invoke("study", tmp_path / "study.yaml", "model.name=random")
    assert answer.exit_code == 1
    assert "evaluation.baselines: silero: the Python package onnxruntime is not installed" in answer.output
    assert not (tmp_path / "run" / "fits").exists()


def make_table(folder: Path, name: str = "data.csv") -> Path:
    """The thirty recordings in a table that knows them by other names, no ids among them."""
    make_recordings(folder, by_speaker=True)
    rows = [
        {
            "audio_filepath": path.relative_to(folder).as_posix(),
            "offset": 0.0,
            "duration": 0.5,
            "class": float(path.parts[-3] == "speech"),
            "Speaker ID": f"{path.parts[-3]} {path.parts[-2]}",
            "text": 'say "hi',
        }
        for path in sorted(folder.rglob("*.wav"))
    ]
    table = folder / name
    if table.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    elif table.suffix in (".jsonl", ".json"):
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = ["\t".join(map(str, row)) for row in [rows[0].keys(), *(row.values() for row in rows)]]
        table.write_text("\n".join(lines))
    return table


@pytest.mark.parametrize("name", ["data.tsv", "manifest.json", "on, off.parquet"])
def test_a_table_of_others_becomes_a_study_and_what_was_taken_for_what_is_shown(tmp_path, name):
    answer = succeed("init", make_table(tmp_path, name))
    for line in (
        "path         is column audio_filepath", "label        is column class", "group        is column Speaker ID",
        "start_s      is column offset", "duration_s   is column duration", "clip_id      is made of path and start",
        "left alone:  text", "SPEECH        15 clips     5 groups",
    ):  # fmt: skip
        assert line in answer.stdout
    config = load_config(tmp_path / "study.yaml")
    assert config.data.columns == {
        "path": "audio_filepath", "label": "class", "group": "Speaker ID", "start_s": "offset",
        "duration_s": "duration",
    }  # fmt: skip
    clips, _ = prepare(config)
    assert clips[0].clip_id == "nonspeech/who0/0.wav"
    assert {clip.duration_s for clip in clips} == {0.5}
    assert not (tmp_path / "clips.csv").exists()


def test_every_command_of_a_study_reads_the_columns_of_its_config(tmp_path, monkeypatch):
    monkeypatch.setenv("LISTENWELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    start_from_table(make_table(tmp_path, "data.jsonl"))
    quick = ["model.name=random", "train.epochs=1", "evaluation.baselines=[]", "data.on_leak=report"]
    config = load_config(tmp_path / "study.yaml")
    trained = divide(*prepare(config), config.data).clips["train"][0].clip_id
    for command in (
        ["plan", "study.yaml", *quick],
        ["fit", "study.yaml", *quick], ["study", "study.yaml", *quick], ["trace", "speech/who0/0.wav", "--run", "run"],
        ["score", "--config", "study.yaml", "--out", "scores", *quick],
        ["augment", "preview", "study.yaml", "--clips", trained, "--out", "heard.html", *quick],
    ):  # fmt: skip
        succeed(*command)
    assert "compared 30 clips" in invoke("check", "study.yaml").output


@pytest.mark.parametrize(
    ("header", "group", "sentence"),
    [
        ("path,label,who", "", r"no column is clearly the group \(speaker or source\), found path, label, who; name"),
        ("path,label,speaker,spk_id", "", "both speaker and spk_id may be the group .*--group COLUMN"),
        ("audio,file_name,label,speaker", "", "both audio and file_name may be the path .*call it 'path' in the table"),
        ("path,kind,speaker", "", r"no column is clearly the label .* write data.columns: \{label: COLUMN\}"),
    ],
)
def test_a_column_that_cannot_be_told_is_asked_for_by_name(tmp_path, header, group, sentence):
    (tmp_path / "data.csv").write_text(header + "\n" + "1," * header.count(",") + "1\n")
    with pytest.raises(ConfigError, match=sentence):
        start_from_table(tmp_path / "data.csv", group)
    assert not (tmp_path / "study.yaml").exists()


def test_a_named_group_and_an_id_that_is_none_are_taken_as_they_are(tmp_path):
    make_recordings(tmp_path, by_speaker=True)
    rows = [f"speech/who{i}/0.wav,1,w{i},same" for i in range(3)]
    (tmp_path / "data.csv").write_text("\n".join(["file,label,who,id", *rows]))
    started = start_from_table(tmp_path / "data.csv", "who")
    assert dict(started.taken) == {"path": "file", "label": "label", "group": "who"}
    assert any("every SPEECH clip is its own group (column who)" in warning for warning in started.warnings)
    with pytest.raises(ConfigError, match="is there already"):
        start_from_table(tmp_path / "data.csv", "who")
