"""Run folders: what made them, one process at a time, a shared ledger; what list, compare and clean say of them."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from made_sounds import make_study, study_record
from typer.testing import CliRunner

import listenwell
from listenwell.cli.main import app
from listenwell.config import dump, load_config
from listenwell.errors import ConfigError, ListenwellError
from listenwell.fits.ledger import hold_fits, open_ledger
from listenwell.storage.atomic_files import OWN, temporary_prefix
from listenwell.storage.load_or_make import cache_root, write_checksummed
from listenwell.storage.run_folder import (
    RunFolder,
    git_commit,
    hold_run,
    holder_of,
    is_held,
    provenance,
    read_json,
    written_by_a_run,
)
from listenwell.study.run import fit_alone
from listenwell.tasks.runs import find_waste, list_runs

QUICK = ("train.epochs=1", "evaluation.conditions=[clean]")


def hold_until_killed(root, is_ready):
    with hold_run(RunFolder(root)):
        is_ready.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    context = multiprocessing.get_context("fork")
    is_ready = context.Event()
    child = context.Process(target=hold_until_killed, args=(tmp_path, is_ready))
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


def test_two_studies_share_a_ledger_and_train_nothing_twice(tmp_path):
    config = make_study(tmp_path, *QUICK, f"ledger={tmp_path / 'shared'}")
    first = fit_alone(config)
    assert first.folder.parent == tmp_path / "shared" / "fits"
    trained_ns = (first.folder / "spec.json").stat().st_mtime_ns
    again = fit_alone(config.model_copy(update={"output": tmp_path / "other"}))
    assert again.record == first.record
    assert (first.folder / "spec.json").stat().st_mtime_ns == trained_ns
    assert not (tmp_path / "other" / "fits").exists()


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


def test_runs_are_listed_compared_and_cleaned_of_what_no_config_asks_for(tmp_path):
    config = make_study(tmp_path, *QUICK)
    old = fit_alone(config.model_copy(update={"seed": 7})).folder
    results = study_record(config)
    unfinished = fit_alone(config.model_copy(update={"output": tmp_path / "second"})).folder
    left = config.output / f"{temporary_prefix('results.json')}x1_abcde.json"
    left.write_text("left by a kill")
    foreign = [config.output / "fits" / "notes.txt", config.output / "fits" / "mine" / "spec.json"]
    foreign += [config.output / "stacks" / "plan.md", tmp_path / "other" / "fits" / ("0" * 16) / "spec.json"]
    for path in (*foreign, tmp_path / "other" / "config.yaml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("seed: 1")
    _, first, second = list_runs(tmp_path)
    assert (first.state, first.n_done, first.n_wanted) == ("finished", 1, 1)
    assert (second.state, second.n_done, second.figures) == ("unfinished", 1, ())
    (value,) = [r["metrics"][0]["value"] for r in results["rows"]
                if (r["method"], r["threshold"], r["condition"]) == ("fine-tuned", "calibrated", "clean")]  # fmt: skip
    assert first.figures[0].value == value
    printed = CliRunner().invoke(app, ["runs", "list", str(tmp_path)]).stdout
    assert "unfinished" in printed
    assert f"{first.figures[0].value:.3f} [" in printed
    assert {each.path for each in find_waste(tmp_path)} == {old, left}
    CliRunner().invoke(app, ["runs", "clean", str(tmp_path), "--dry-run"])
    assert old.is_dir()
    assert "removed" in CliRunner().invoke(app, ["runs", "clean", str(tmp_path), "--yes"]).stdout
    assert not old.exists()
    assert not left.exists()
    assert all(path.is_file() for path in foreign)
    assert unfinished.is_dir()
    assert study_record(config)["rows"] == results["rows"]


def test_a_fit_that_another_run_uses_as_its_ledger_stays(tmp_path):
    config = make_study(tmp_path, *QUICK)
    study_record(config)
    borrowed = fit_alone(
        config.model_copy(update={"output": tmp_path / "b", "ledger": config.output, "seed": 9})
    ).folder
    assert borrowed.parent == config.output / "fits"
    assert find_waste(tmp_path) == []
    assert [each.path for each in find_waste(config.output)] == [borrowed]


@pytest.mark.parametrize("content", ['{"a": 3}', '{"a": [3]}', '{"a": ["../fits"]}', "[]"])
def test_a_broken_note_of_used_fits_is_named(tmp_path, content):
    run = RunFolder(tmp_path)
    run.config.write_text("seed: 1")
    run.used_fits.write_text(content)
    with pytest.raises(ListenwellError, match=r"used_fits\.json: .*run the (study|command) again"):
        open_ledger(run, ["0" * 64])


@pytest.mark.parametrize("rows", [None, [{}], [{"method": "fine-tuned", "threshold": "calibrated"}], "rows"])
def test_results_of_other_kinds_are_named(tmp_path, rows):
    run = RunFolder(tmp_path)
    run.config.write_text("seed: 1")
    write_checksummed(run.results, {"config": load_config(run.config).model_dump(mode="json"), "rows": rows})
    with pytest.raises(ListenwellError, match=r"results\.json: is broken"):
        list_runs(tmp_path)


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


def test_a_study_in_a_project_folder_leaves_what_is_there(tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(dump(make_study(tmp_path, *QUICK)))
    project = tmp_path / "project"
    project.mkdir()
    (project / ".env.template").write_text("SECRET=")
    (project / "config.yaml").write_text("my own")
    refused = CliRunner().invoke(app, ["study", str(study), f"output={project}"])
    assert refused.exit_code == 2
    assert "config.yaml: is there already and no run of listenwell wrote it" in refused.stderr
    assert {path.name: path.read_text() for path in project.iterdir()} == {
        ".env.template": "SECRET=",
        "config.yaml": "my own",
    }
    (project / "config.yaml").unlink()
    for _ in range(2):
        assert CliRunner().invoke(app, ["fit", str(study), f"output={project}"]).exit_code == 0
    assert (project / ".env.template").read_text() == "SECRET="


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


@pytest.mark.parametrize("content", ["", "[]", "3", "[" * 200_000])
def test_what_is_no_object_is_named(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ListenwellError, match=r"results\.json: .*run the command again"):
        read_json(tmp_path / "results.json")
