"""`listenwell check` puts a study's parts or a table's splits through the gate; a leak ends in exit status 1."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from commands import invoke, succeed
from made_sounds import make_backgrounds, make_corpus, make_study

from listenwell.cli.inspect import report_text
from listenwell.config import dump
from listenwell.data.check.leaks import Finding, LeakReport
from listenwell.data.clip import Clip
from listenwell.data.manifest import read_backgrounds, write_backgrounds, write_manifest
from listenwell.errors import ManifestError
from listenwell.splits.gate import check_study, check_table


def make_table(folder: Path) -> tuple[Path, list[Clip]]:
    """A table with the splits train and test, groups apart; return its path and its clips."""
    clips = [replace(clip, split="test" if clip.group.endswith("0") else "train") for clip in make_corpus(folder)]
    write_manifest(folder / "clips.csv", clips)
    return folder / "clips.csv", clips


def plant_copy(table: Path, clips: list[Clip]) -> str:
    """Add a renamed copy of a train clip to the test split; return its name."""
    (source,) = [clip for clip in clips if clip.clip_id == "nonspeech_1"]
    copy = replace(
        source, clip_id="planted", path=table.parent / "planted.wav", group="nobody", recording="", split="test"
    )
    shutil.copy(source.path, copy.path)
    write_manifest(table, [*clips, copy])
    return copy.clip_id


def test_a_study_is_checked_in_the_splits_it_would_use(tmp_path: Path) -> None:
    report = check_study(make_study(tmp_path))
    assert report.verdict == "clean"
    assert list(report.n_clips) == ["train", "dev", "test"]
    assert sum(report.n_clips.values()) == 32
    assert sum(report.n_backgrounds.values()) == 8


def test_the_command_names_the_leak_writes_the_report_and_exits_1(tmp_path: Path) -> None:
    table, clips = make_table(tmp_path)
    planted = plant_copy(table, clips)
    result = invoke("check", table, "--json", tmp_path / "report.json")
    assert result.exit_code == 1
    assert "leak: same samples, 1 found" in result.output
    assert planted in result.output
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "leaks"
    assert {report["findings"][0]["id_a"], report["findings"][0]["id_b"]} == {"nonspeech_1", planted}


def test_backgrounds_of_a_table_are_compared_too(tmp_path: Path) -> None:
    table, clips = make_table(tmp_path)
    beds = read_backgrounds(make_backgrounds(tmp_path))
    (heard,) = [clip for clip in clips if clip.clip_id == "nonspeech_0"]
    write_backgrounds(tmp_path / "beds.csv", [replace(bed, split="train") for bed in beds])
    assert check_table(table, tmp_path / "beds.csv").verdict == "clean"
    leaking = replace(beds[0], split="train", path=heard.path, duration_s=heard.duration_s)
    write_backgrounds(tmp_path / "beds.csv", [leaking])
    assert "same samples" in [finding.kind for finding in check_table(table, tmp_path / "beds.csv").leaks]


def test_a_table_with_one_split_is_refused_since_a_leak_joins_two(tmp_path: Path) -> None:
    make_corpus(tmp_path)
    with pytest.raises(ManifestError, match=r"every clip is in one split .* name the splits"):
        check_table(tmp_path / "clips.csv")


def test_what_the_config_says_can_be_changed_on_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "study.yaml"
    config.write_text(dump(make_study(tmp_path)), encoding="utf-8")
    quiet = ["data.backgrounds=none", "augment.noise.probability=0", "evaluation.conditions=[clean]"]
    result = succeed("check", config, *quiet)
    assert "compared 32 clips and 0 backgrounds of train, dev, test" in result.output
    result = invoke("check", config, "data.backgroundz=none")
    assert result.exit_code == 2
    assert "data.backgroundz" in result.output
    assert invoke("check", config, "--backgrounds", "b.csv").exit_code == 2
    result = invoke("check", "clips.csv", "data.split_seed=3")
    assert result.exit_code == 2
    assert "is a table of clips, and 'data.split_seed=3' would change a config" in result.output


def test_an_unreadable_clip_of_a_table_is_named_and_the_table_not_called_clean(tmp_path: Path) -> None:
    table, clips = make_table(tmp_path)
    clips[0].path.write_bytes(b"not sound")
    result = invoke("check", table)
    assert result.exit_code == 1
    assert result.stdout.startswith("incomplete: ")
    assert f"not compared by sound: clip '{clips[0].clip_id}'" in result.output


def test_many_findings_of_a_kind_are_cut_short_and_counted() -> None:
    findings = tuple(Finding("same origin", True, "train", f"a{i}", "test", f"b{i}", "", "x") for i in range(25))
    text = report_text(LeakReport(findings, {"train": 25, "test": 25}, {}, 625, (), {}))
    assert "leak: same origin, 25 found" in text
    assert "a19" in text
    assert "a20" not in text
    assert "... and 5 more; --json writes all" in text
