"""Results are never those of other data: what a user changes is found, and what stays the same is not made again."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sounds import make_study, study_record

from listenwell.config import load_config
from listenwell.data.manifest import read_manifest
from listenwell.data.sample_hashes import SampleHashes
from listenwell.errors import ListenwellError
from listenwell.splits.clips import set_aside_unreadable
from listenwell.splits.sealing import read_seal
from listenwell.storage.run_folder import RunFolder
from listenwell.tasks.export import export_detector
from listenwell.tasks.score_table import score_manifest
from listenwell.tasks.trace import trace

pytestmark = pytest.mark.slow

SETTINGS = (
    "train.epochs=1", "train.batch=4", "search.grid=[{lora.rank: 2}, {lora.rank: 4}]", "leave_one_out.arms=[final]",
    "leave_one_out.folds=4", "leave_one_out.dev_speakers=1", "evaluation.baselines=[]",
    "evaluation.conditions=[clean, snr_0]",
)  # fmt: skip
TABLES = ("clips.csv", "backgrounds.csv")


class Stages:
    """Remembers which stages of the work were gone through."""

    def __init__(self):
        self.seen = set()

    def __call__(self, stage, done, total):
        self.seen.add(stage)


def run(folder, *overrides):
    """The results of the study in `folder`, and which stages were gone through for them."""
    stages = Stages()
    return study_record(study_of(folder, *overrides), stages), stages.seen


def study_of(folder, *overrides):
    tables = [f"data.manifest={folder / 'clips.csv'}", f"data.backgrounds={folder / 'backgrounds.csv'}"]
    kept = [f"output={folder / 'run'}", "model.name=random", "train.learning_rate=0.005"]
    return load_config(None, [*tables, *kept, *SETTINGS, *overrides])


def tables_of(folder):
    """Every score table of a run by its place."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("run/**/scores/*.csv")}


FOUND = ("rows", "comparisons", "thresholds", "search", "leave_one_speaker_out", "leaks", "evidence", "allocation")


def found_in(value, place=""):
    """What a study found, number by number, by place; identities of fits are left out."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in found_in(inner, f"{place}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, inner in enumerate(value) for k, v in found_in(inner, f"{place}.{i}").items()}
    return {} if place.endswith(("identity", "sha256")) else {place: value}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder of recordings whose tables hold no hashes, with its finished study."""
    folder = tmp_path_factory.mktemp("project")
    make_study(folder)
    assert not any(row["pcm_sha256"] for name in TABLES for row in rows_of(folder / name))
    run(folder)
    return folder


def rows_of(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def project(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "project"))


def clips_of(folder, part):
    """The rows of the clips of one part, as the finished study allotted them."""
    groups = {
        group
        for each in json.loads((folder / "run" / "allocation.json").read_text())
        if each["part"] == part
        for group in each["groups"]
    }
    return [clip for clip in read_manifest(folder / "clips.csv") if clip.group in groups]


def edit(folder, clip_id, column, value):
    rows = rows_of(folder / "clips.csv")
    for row in rows:
        if row["clip_id"] == clip_id:
            row[column] = value
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def export_again(path):
    """The same name, size, format and modification time; other samples."""
    before = path.stat()
    samples, rate_hz = soundfile.read(path, dtype="int16")
    soundfile.write(path, samples[::-1].astype(np.int16), rate_hz)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def change_train_audio(folder):
    export_again(clips_of(folder, "train")[0].path)


def change_dev_audio(folder):
    export_again(clips_of(folder, "dev")[0].path)


def change_test_audio(folder):
    export_again(clips_of(folder, "test")[0].path)


def change_background(folder):
    for i in range(8):
        export_again(folder / f"bed_{i}.wav")


def change_group(folder):
    first, second = sorted({clip.group for clip in clips_of(folder, "test") if clip.label == "SPEECH"})[:2]
    edit(folder, next(c.clip_id for c in clips_of(folder, "test") if c.group == first), "group", second)


def change_label(folder):
    train = [clip for clip in clips_of(folder, "train") if clip.label == "SPEECH"]
    edit(folder, train[0].clip_id, "label", "NONSPEECH")


def change_start(folder):
    clip = max(clips_of(folder, "test"), key=lambda clip: clip.duration_s)
    edit(folder, clip.clip_id, "duration_s", repr(clip.duration_s - 0.25))
    edit(folder, clip.clip_id, "start_s", "0.125")


CHANGES = {
    change_train_audio: "clips.train.audio",
    change_test_audio: "clips.test.audio",
    change_background: "backgrounds.",
    change_group: "clips.test.groups",
    change_label: "clips.train.labels",
    change_start: "clips.test.starts",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_the_data_gives_what_a_new_run_gives_and_is_named(project, tmp_path, capsys, change):
    change(project)
    capsys.readouterr()
    again, _ = run(project)
    assert f"leaks.json is made again: changed since: {CHANGES[change]}" in capsys.readouterr().err
    fresh = Path(shutil.copytree(project, tmp_path / "fresh", ignore=shutil.ignore_patterns("run")))
    expected, _ = run(fresh)
    for name in FOUND:
        # other fits train together, which rounds otherwise
        assert found_in(again[name]) == pytest.approx(found_in(expected[name]), abs=1e-3), name


@pytest.mark.parametrize("how", ["again", "touched", "moved", "copied"])
def test_what_stays_the_same_is_not_made_again(project, tmp_path, capsys, how):
    if how == "touched":
        for path in project.glob("*.wav"):
            path.touch()
    if how == "moved":
        project = Path(shutil.move(project, tmp_path / "elsewhere"))
    if how == "copied":
        project = Path(shutil.copytree(project, tmp_path / "elsewhere"))
    before = tables_of(project)
    _, stages = run(project)
    assert not [s for s in stages if s.startswith(("training", "scoring", "listening", "judging dev", "fitting"))]
    assert "made again" not in capsys.readouterr().err
    assert tables_of(project) == before


def test_arms_that_change_their_names_take_their_scores_along(project):
    def scores_of(arm):
        return (project / "run" / "scores" / f"{arm}-seed42-test.csv").read_bytes()

    run(project, "arms={a: {lora.rank: 1}, b: {train.learning_rate: 0.05}}")
    a, b = scores_of("a"), scores_of("b")
    run(project, "arms={b: {lora.rank: 1}, a: {train.learning_rate: 0.05}}")
    assert (scores_of("a"), scores_of("b")) == (b, a)
    assert a != b


def move_a_group(folder):
    edit(folder, clips_of(folder, "train")[0].clip_id, "group", clips_of(folder, "test")[0].group)


@pytest.mark.parametrize("change", [change_train_audio, change_dev_audio, change_test_audio, move_a_group])
def test_a_run_whose_data_changed_is_not_opened_as_if_they_had_not(project, tmp_path, change):
    clip_id = clips_of(project, "dev")[0].clip_id
    change(project)
    for command, arguments in ((trace, (clip_id, project / "run")), (export_detector, (project / "run", tmp_path))):
        with pytest.raises(ListenwellError, match=r"not those the study was run on \(allocation\.json"):
            command(*arguments)


def test_a_study_that_was_not_finished_again_is_not_exported(project, tmp_path):
    def stop_before_the_test(stage, done, total):
        if stage == "scoring test":
            raise KeyboardInterrupt

    change_train_audio(project)
    with pytest.raises(KeyboardInterrupt):
        study_record(study_of(project), stop_before_the_test)
    with pytest.raises(ListenwellError, match="a later study in this folder was not finished"):
        export_detector(project / "run", tmp_path / "detector")


def test_a_study_behind_a_link_is_opened_from_either_side(project, tmp_path):
    (tmp_path / "scratch").mkdir()
    real = shutil.move(project / "run", tmp_path / "scratch" / "run")
    (project / "run").symlink_to(real)
    run(project)
    clip_id = clips_of(project, "test")[0].clip_id
    for place in (project / "run", Path(real)):
        assert trace(clip_id, place)["part"] == "test"


def test_earlier_looks_at_a_test_are_remembered_of_a_copied_folder(project, finished):
    shutil.rmtree(project / "run")
    run(project)
    assert [each["run"] for each in read_seal(RunFolder(project / "run"))["earlier"]]


def test_scores_of_a_manifest_follow_its_recordings(project, tmp_path, capsys):
    config = study_of(project, f"output={tmp_path / 'scores'}")
    first = score_manifest(config)
    assert score_manifest(config).clips_per_s is None
    moved = Path(shutil.move(project, tmp_path / "elsewhere"))
    config = study_of(moved, f"output={tmp_path / 'scores'}")
    assert score_manifest(config).clips_per_s is None
    export_again(read_manifest(moved / "clips.csv")[0].path)
    again = score_manifest(config)
    assert "all.json is made again: changed since: clips.audio." in capsys.readouterr().err
    assert again.table.score[0] != first.table.score[0]
    assert np.array_equal(again.table.score[1:], first.table.score[1:])


def test_a_second_reading_decodes_nothing_and_an_exported_file_is_decoded_again(project):
    clips = read_manifest(project / "clips.csv")
    first, _ = set_aside_unreadable(clips, 0.0)
    hashes = SampleHashes([clip.path for clip in clips])
    hashes.save()
    assert not hashes.has_new
    assert [hashes.fill_clip(clip) for clip in clips] == first
    assert not hashes.has_new
    export_again(clips[3].path)
    second, _ = set_aside_unreadable(clips, 0.0)
    assert [a.pcm_sha256 != b.pcm_sha256 for a, b in zip(first, second, strict=True)].index(True) == 3
    assert second[:3] + second[4:] == first[:3] + first[4:]


def test_a_cache_that_cannot_be_written_costs_the_memory_and_no_more(project, monkeypatch, capsys):
    (project / "file").write_text("")
    monkeypatch.setenv("LISTENWELL_CACHE", str(project / "file"))
    readable, _ = set_aside_unreadable(read_manifest(project / "clips.csv"), 0.0)
    assert all(clip.pcm_sha256 for clip in readable)
    assert "what was read is not remembered" in capsys.readouterr().err
