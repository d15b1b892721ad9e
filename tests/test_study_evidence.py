"""The leak gate and the seal inside a study, on the random model and a made corpus."""

import shutil
import time

import pytest
from made_sounds import make_study, study_record
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.data.manifest import read_manifest, write_manifest
from listenwell.errors import LeakageError
from listenwell.splits.sealing import describe_seal, note_opening
from listenwell.storage.run_folder import RunFolder
from listenwell.study.run import fit_alone


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = make_study(tmp_path_factory.mktemp("evidence"), "train.epochs=1", "evaluation.conditions=[clean]")
    return config, study_record(config)


def copied(config, folder):
    shutil.copytree(config.output, folder / "run")
    return config.model_copy(update={"output": folder / "run"})


def with_a_planted_leak(folder, *overrides):
    """A test clip stands in training too, under another name, group and file."""
    config = make_study(folder, "train.epochs=1", "evaluation.conditions=[clean]", *overrides)
    table = folder / "clips.csv"
    results = study_record(config.model_copy(update={"output": folder / "before"}))
    test_groups = {g for record in results["allocation"] if record["part"] == "test" for g in record["groups"]}
    clips = read_manifest(table)
    parts = {g: r["part"] for r in results["allocation"] for g in r["groups"]}
    stolen = max((clip for clip in clips if clip.group in test_groups), key=lambda clip: clip.duration_s)
    shutil.copy(stolen.path, folder / "renamed.wav")
    rows = [type(c)(**{**fields(c), "split": parts[c.group]}) for c in clips]
    copy = type(stolen)(
        **{
            **fields(stolen),
            "clip_id": "renamed", "path": folder / "renamed.wav", "group": "another", "recording": "renamed.wav",
            "split": "train",
        }
    )  # fmt: skip
    write_manifest(table, [*rows, copy])
    return config, stolen.clip_id


def fields(clip):
    return {name: getattr(clip, name) for name in clip.__dataclass_fields__}


def test_a_planted_leak_stops_the_study_before_training(tmp_path):
    config, stolen = with_a_planted_leak(tmp_path)
    for command in (study_record, fit_alone):
        with pytest.raises(LeakageError, match=rf"(renamed.*{stolen}|{stolen}.*renamed)"):
            command(config)
    assert not (config.output / "fits").exists()


def test_a_leak_that_is_only_reported_is_on_the_page(tmp_path):
    config, stolen = with_a_planted_leak(tmp_path, "data.on_leak=report")
    results = study_record(config)
    assert results["leaks"]["verdict"] == "leaks"
    page = (config.output / "report.html").read_text()
    assert "Leaks found." in page
    assert stolen in page


def test_a_study_shows_its_verdict_its_sheets_and_its_seal(finished):
    config, results = finished
    assert results["leaks"]["verdict"] == "clean"
    assert results["seal"]["verdict"] == "sealed"
    assert [entry["event"] for entry in results["seal"]["entries"]] == ["commit", "look"]
    assert results["test_sets"][0]["sheet"]["licences"] == {"CC0": 8}
    for text in ("No leak found.", "Sealed.", "Data sheets of the tests", results["seal"]["head"][:16]):
        assert text in (config.output / "report.html").read_text()
        assert text in (config.output / "report.md").read_text()


def test_other_thresholds_after_a_look_reopen_the_test(finished, tmp_path):
    config = copied(finished[0], tmp_path)
    results = study_record(config.model_copy(update={"seed": 7}))
    assert results["seal"]["verdict"] == "reopened"
    assert "Reopened." in (config.output / "report.html").read_text()


def test_what_opened_the_test_later_is_not_counted_as_earlier(finished, tmp_path):
    config = copied(finished[0], tmp_path)  # a moved run: the machine's log knows another folder
    run = RunFolder(config.output)
    sets = finished[1]["seal"]["test_sets"]
    before = describe_seal(run, sets)["earlier"]
    later = f"later-{time.time_ns()}"  # the cache may remember those of earlier tests
    time.sleep(1.1)  # the logs count seconds
    for name, content in sets.items():
        note_opening(name, content, tmp_path / later)
    assert describe_seal(run, sets)["earlier"] == before
    assert later not in [opening["run"] for opening in before]


def test_a_changed_log_shows_as_unsealed(finished, tmp_path):
    config = copied(finished[0], tmp_path)
    sound = CliRunner().invoke(app, ["seal", "show", str(config.output)])
    assert sound.exit_code == 0
    assert "sealed: " in sound.stdout
    log = config.output / "seal.jsonl"
    log.write_text(log.read_text().replace('"event": "look"', '"event": "peek"'))
    broken = CliRunner().invoke(app, ["seal", "show", str(config.output)])
    assert broken.exit_code == 1
    assert "unsealed: " in broken.stdout
    assert CliRunner().invoke(app, ["report", str(config.output)]).exit_code == 0
    assert "Unsealed." in (config.output / "report.html").read_text()
