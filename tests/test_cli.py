"""The command line: exit statuses, one-sentence errors, and the whole path on the random model."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from made_sounds import make_corpus
from typer.testing import CliRunner, Result

import listenwell
from listenwell.cli import main as cli
from listenwell.config import load_config
from listenwell.errors import ModelError
from listenwell.evaluate.scores import read_scores
from listenwell.model.loading import resolve_device
from listenwell.progress import shown_progress


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def every_command(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield names, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, *names, name)


EVERY_COMMAND = list(every_command(typer.main.get_command(cli.app)))


def packed(text: str) -> str:
    """Without white space: lines are broken where the terminal ends."""
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize(("names", "command"), EVERY_COMMAND, ids=[" ".join(names) for names, _ in EVERY_COMMAND])
def test_every_help_stands_word_for_word_in_the_help_of_its_command(names, command):
    printed = packed(run(*names, "--help").stdout)
    texts = [command.help, *(each.help for each in command.params if getattr(each, "help", None))]
    shown = [each for each in getattr(command, "commands", {}).values() if not each.hidden]
    texts += [inspect.cleandoc(each.help).split("\n\n")[0] for each in shown]
    assert [text for text in texts if packed(text) not in printed] == []


def test_the_help_lists_every_command_in_one_panel_and_old_names_in_none():
    printed = run("--help").stdout
    in_order = [printed.index(f"\n{title}:\n") for title in ("Start", "Use", "Inspect", "Advanced")]
    assert in_order == sorted(in_order)
    listed = re.findall(r"^  ([a-z][a-z-]+) {2,}[A-Z]", printed, re.MULTILINE)
    commands = typer.main.get_command(cli.app).commands
    assert sorted(listed) == sorted(name for name, found in commands.items() if not found.hidden)
    hidden = {name for name, found in commands.items() if found.hidden}
    assert hidden == {"fit", "loso", "test-set", "audio-check", "corpus", "augment"}


def test_brackets_of_what_was_typed_stand_in_the_error_and_in_its_progress(capsys, monkeypatch):
    assert "No such command '[bold]x[/bold]'" in run("[bold]x[/bold]").stderr
    assert "No such option: --[red]" in run("config", "--[red]").stderr
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with shown_progress() as report:
        report("[red]a[/b].wav", 3, 3)
    assert "[red]a[/b].wav" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "of_answers"), [("cp1252", "cp1252"), ("ascii", "utf-8")])
def test_a_terminal_that_lacks_a_letter_shows_it_escaped(tmp_path, encoding, of_answers):
    """Answers go through typer, which takes ASCII for a setting forgotten and writes UTF-8."""
    for name in ("žluť", "录音", "😀", os.fsdecode(b"caf\xe9")):
        (tmp_path / f"{name}.yaml").write_text("seed: x\n")
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        command = [sys.executable, "-m", "listenwell", "config", str(tmp_path / f"{name}.yaml")]
        found = subprocess.run(command, capture_output=True, env=environment)
        assert found.returncode == 2
        expected = f"{name}.yaml line 1".encode(encoding, errors="backslashreplace")
        assert expected in found.stderr
        assert b"Traceback" not in found.stderr
    command = [sys.executable, "-m", "listenwell", "config", f"data.manifest={tmp_path}/žluť.csv"]
    shown = subprocess.run(command, capture_output=True, env=environment, check=True).stdout
    assert f"{tmp_path}/žluť.csv".encode(of_answers, errors="backslashreplace") in shown


def test_an_answer_is_printed_though_standard_error_is_closed():
    found = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m listenwell config 2>&-"], stdout=subprocess.PIPE, check=True
    )
    assert b"seed: 42" in found.stdout


@pytest.mark.parametrize(
    ("name", "n_cuda", "says"),
    [
        ("cuda:7", 0, "device 'cuda:7': torch .* sees no CUDA device"),
        ("cuda:7", 2, "device 'cuda:7': torch .* sees CUDA devices up to cuda:1 only"),
        ("mps", 0, "device 'mps': torch .* sees no Metal"),
    ],
)
def test_a_device_that_this_machine_lacks_is_one_sentence(monkeypatch, name, n_cuda, says):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ModelError, match=says):
        resolve_device(name)
    if n_cuda:
        assert resolve_device("cuda:1") == torch.device("cuda:1")


def test_the_module_runs_and_prints_its_version():
    command = [sys.executable, "-m", "listenwell", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == f"listenwell {listenwell.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("config", "modle.name=x"),
        ("config", "no/such/file.yaml"),
        ("score",),
        ("score", "--out", "x", "--prompt-file", "no/such/file.txt"),
        ("corpus", "prepare", "unheard_of"),
        ("unheard-of",),
        ("config", "--unheard-of"),
    ],
)
def test_wrong_usage_exits_with_2_and_no_traceback(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_an_error_is_one_sentence_on_standard_error_and_exits_with_1(tmp_path):
    result = run("score", "--clips", tmp_path / "no.csv", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"listenwell: error: {tmp_path}/no.csv: cannot be opened")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_ctrl_c_exits_with_130_and_says_what_stays(tmp_path, monkeypatch):
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "read_text", interrupted)
    result = run("config", tmp_path / "study.yaml")
    assert result.exit_code == 130
    assert "finished files stay" in result.stderr


def test_score_goes_from_a_table_of_clips_to_scores_and_results(tmp_path):
    clips = make_corpus(tmp_path)
    (tmp_path / "question.txt").write_text("Is somebody speaking?\nA) yes B) no\n")
    result = run(
        "score", "--clips", tmp_path / "clips.csv", "--model", "random", "--out", tmp_path / "out",
        "--prompt-file", tmp_path / "question.txt", "scoring.batch_seconds=4",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Balanced accuracy" in result.stdout
    assert "16 clips, 8 groups" in result.stdout
    assert len(read_scores(tmp_path / "out" / "scores" / "all.csv")) == len(clips)
    config = load_config(tmp_path / "out" / "config.yaml")
    assert config.prompt.question == "Is somebody speaking?\nA) yes B) no"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {metric["name"] for metric in results["zero-shot"]["all"]["clean"]} >= {"balanced_accuracy", "roc_auc"}
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["listenwell"] == listenwell.__version__


def test_score_of_one_split_and_of_one_that_is_not_there(tmp_path):
    make_corpus(tmp_path, split="dev")
    arguments = ("score", "--clips", tmp_path / "clips.csv", "--model", "random", "--out", tmp_path / "out")
    assert run(*arguments, "--split", "dev").exit_code == 0
    result = run(*arguments, "--split", "test")
    assert result.exit_code == 1
    assert "no clip is in split 'test'; there are 'dev'" in result.stderr


@pytest.mark.parametrize("command", ["study", "fit", "loso", "plan"])
def test_a_missing_table_of_clips_is_named_at_once_and_a_change_is_no_config(tmp_path, command):
    (tmp_path / "study.yaml").write_text("data: {manifest: gone/clips.csv}\n")
    missing = run(command, tmp_path / "study.yaml")
    assert missing.exit_code == 1
    assert "gone/clips.csv: there is no such table of clips, which data.manifest names" in missing.output
    swapped = run(command, "data.manifest=clips.csv")
    assert swapped.exit_code == 2
    assert "data.manifest=clips.csv: is a change, not a config" in swapped.output
