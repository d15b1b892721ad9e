"""Run folders: one process at a time, a ledger that several share, what is listed of them, and how they are opened."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from commands import invoke, succeed
from made_processes import SERVED
from made_sounds import make_study, study_record

import listenwell
from listenwell.detect.bundle import read_bundle
from listenwell.errors import CheckpointError, ConfigError, ListenwellError
from listenwell.evaluate.scores import read_scores
from listenwell.fits.ledger import hold_fits
from listenwell.storage.atomic_files import OWN, temporary_prefix
from listenwell.storage.load_or_make import cache_root, hash_file
from listenwell.storage.run_folder import (
    RunFolder,
    git_commit,
    hold_run,
    holder_of,
    is_held,
    provenance,
    written_by_a_run,
)
from listenwell.study.run import fit_alone
from listenwell.tasks.export import export_detector
from listenwell.tasks.runs import delivered_adapter, find_adapter, list_runs, open_run

QUICK = ("train.epochs=1", "evaluation.conditions=[clean]")


def hold_until_killed(root, is_ready):
    with hold_run(RunFolder(root)):
        is_ready.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    is_ready = SERVED.Event()
    child = SERVED.Process(target=hold_until_killed, args=(tmp_path, is_ready))
    child.start()
    assert is_ready.wait(30)
    yield child
    child.kill()
    child.join()


def test_a_second_process_is_told_who_works_in_the_folder(holder, tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(ListenwellError, match=f"process {holder.pid} on {socket.gethostname()}"), hold_run(run):
        pass
    assert is_held(run)


def test_the_folder_of_a_killed_process_is_free_at_once(holder, tmp_path):
    run = RunFolder(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert holder_of(run)["pid"] == holder.pid
    with hold_run(run):
        assert holder_of(run)["pid"] == os.getpid()
    assert holder_of(run) is None


def test_a_study_waits_for_another_that_trains_the_same_fit_and_then_uses_it(tmp_path, capfd):
    config = make_study(tmp_path, *QUICK, f"ledger={tmp_path / 'shared'}")
    done = fit_alone(config)
    trained = (done.folder / "spec.json").stat().st_mtime_ns
    spec = (done.folder / "spec.json").read_text()
    (done.folder / "spec.json").unlink()
    run = RunFolder(tmp_path / "run", tmp_path / "shared")
    found = []
    with hold_fits(run, [done.folder.name]):
        thread = threading.Thread(target=lambda: found.append(fit_alone(config)))
        thread.start()
        while "waiting for it" not in capfd.readouterr().err:
            time.sleep(0.02)
        (done.folder / "spec.json").write_text(spec)
        os.utime(done.folder / "spec.json", ns=(trained, trained))
    thread.join()
    assert found[0].record == done.record
    assert (done.folder / "spec.json").stat().st_mtime_ns == trained


def test_a_ledger_of_another_version_is_refused(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "ledger.json").write_text('{"version": 99}')
    with pytest.raises(ListenwellError, match="version 99, this listenwell reads version 1"):
        fit_alone(make_study(tmp_path, *QUICK, f"ledger={tmp_path / 'shared'}"))


@pytest.mark.slow
def test_runs_are_listed_by_state_with_their_figures_and_foreign_configs_are_passed_over(tmp_path):
    config = make_study(tmp_path, *QUICK)
    results = study_record(config)
    fit_alone(config.model_copy(update={"output": tmp_path / "second"}))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("a: [")
    first, second = list_runs(tmp_path)
    assert (first.state, first.n_done, first.n_wanted) == ("finished", 1, 1)
    assert (second.state, second.n_done, second.rows) == ("unfinished", 1, [])
    (value,) = [r["metrics"][0]["value"] for r in results["rows"]
                if (r["method"], r["threshold"], r["condition"]) == ("fine-tuned", "calibrated", "clean")]  # fmt: skip
    assert first.rows[0].metrics[0].value == value
    printed = invoke("runs", "list", tmp_path).stdout
    assert "unfinished" in printed
    assert f"{value:.3f} [" in printed


def test_whoever_holds_a_run_removes_what_a_kill_left_in_it_but_not_from_its_fits(tmp_path):
    run = RunFolder(tmp_path)
    with hold_run(run):
        pass
    name = f"{temporary_prefix('rows.csv')}abcd1234.csv"
    left = [tmp_path / f"{temporary_prefix('results.json')}abcd1234.json"]
    left += [tmp_path / folder / name for folder in ("tables", "scores", "fits")]
    foreign = [tmp_path / each for each in (".env.template", ".rows.csv.abcd1234.csv", ".config.yaml.swp", name)]
    foreign += [tmp_path / "another_run" / name, tmp_path / "detector" / "adapter" / name]
    for path in (*left, *foreign):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    with hold_run(run):
        assert [path.exists() for path in left] == [False, False, False, True]
    assert all(path.exists() for path in foreign)


def test_a_folder_with_names_that_a_run_writes_is_no_run_unless_one_made_it(tmp_path):
    (tmp_path / "scores").mkdir()
    (tmp_path / "recipe.yaml").write_text("mine")
    with hold_run(RunFolder(tmp_path)):
        pass
    (tmp_path / "config.yaml").write_text("its own")
    with hold_run(RunFolder(tmp_path)):
        pass
    for name in ("config.yaml", "scores/mine.csv", "results.json", "tables/a.tex", "MODEL_CARD.md", "errors/notes.txt"):
        foreign = tmp_path / name.partition(".")[0] / name
        foreign.parent.mkdir(parents=True)
        foreign.write_text("mine")
        with (
            pytest.raises(ConfigError, match="is there already and no run of listenwell wrote it"),
            hold_run(RunFolder(tmp_path / name.partition(".")[0])),
        ):
            pass
        assert [path for path in (tmp_path / name.partition(".")[0]).rglob("*") if path.is_file()] == [foreign]


def test_every_name_of_a_finished_run_is_known_as_one_that_runs_write(finished_study):
    config, _ = finished_study
    known = written_by_a_run(RunFolder(config.output))
    assert [path for path in config.output.iterdir() if path not in known and not path.name.startswith(OWN)] == []


def test_provenance_is_json_and_names_version_machine_and_libraries():
    made_by = json.loads(json.dumps(provenance()))
    assert made_by["listenwell"] == listenwell.__version__
    assert made_by["machine"]["cores"] >= 1
    assert "numpy" in made_by["libraries"]


def git(folder: Path, *arguments: str) -> str:
    person = "-c user.name=a -c user.email=a@b -c commit.gpgsign=false -c core.hooksPath=/dev/null".split()
    command = ["git", "-C", str(folder), *person, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_commit_is_that_of_the_package_and_tells_of_changes(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert git_commit(package) is None
    git(tmp_path, "init", "-q")
    assert git_commit(package) is None, "a package that a repository merely contains, untracked, is not its commit"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert git_commit(package) == commit
    (package / "__init__.py").write_text("# changed\n")
    assert git_commit(package) == f"{commit}+changes"


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LISTENWELL_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    monkeypatch.delenv("LISTENWELL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "listenwell"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study whose fits lie in the folder of a ledger."""
    folder = tmp_path_factory.mktemp("opened")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LISTENWELL_CACHE", str(folder / "cache"))
        config = make_study(folder, "train.epochs=1", "evaluation.conditions=[clean]", f"ledger={folder / 'shared'}")
        study_record(config)
        yield config


@pytest.mark.slow
def test_the_adapter_of_a_study_is_found_in_its_ledger_exported_and_scored(study, tmp_path):
    run, config = open_run(study.output)
    assert config == study
    assert delivered_adapter(run).parents[2] == study.ledger
    assert find_adapter(study.output) == delivered_adapter(run) == find_adapter(delivered_adapter(run))
    export_detector(study.output, tmp_path / "detector", n_recordings=1, recording_s=6.0)
    weights = find_adapter(study.output) / "adapter_model.safetensors"
    assert read_bundle(tmp_path / "detector").adapter_sha256 == hash_file(weights)
    clips = study.output.parent / "clips.csv"
    tables = []
    for adapter in (study.output, find_adapter(study.output)):
        arguments = ["--clips", clips, "--model", "random", "--adapter", adapter, "--out", tmp_path / "out"]
        succeed("score", *arguments)
        tables.append(read_scores(tmp_path / "out" / "scores" / "all.csv"))
    assert tables[0].score.tolist() == tables[1].score.tolist()
    with pytest.raises(ListenwellError, match="was scored, not trained"):
        find_adapter(tmp_path / "out")


def test_what_is_no_finished_study_is_named(study, tmp_path):
    with pytest.raises(ListenwellError, match=r"holds no run \(no config\.yaml\)"):
        open_run(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ListenwellError, match=r"holds no finished study \(no results\.json\)"):
        find_adapter(tmp_path)
    history = find_adapter(study.output).parent / "history.json"
    whole = history.read_bytes()
    history.write_bytes(whole.replace(b"1", b"2", 1))
    with pytest.raises(CheckpointError, match=r"history\.json: was changed"):
        find_adapter(study.output)
    history.write_bytes(whole)
