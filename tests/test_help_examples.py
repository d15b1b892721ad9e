"""The help of every command ends with an example, and the examples run one after another."""

from pathlib import Path
from typing import Any

import made_corpora
import pytest
import soundfile
import typer
from page_commands import run_commands

from listenwell.cli.main import app
from listenwell.data.manifest import read_manifest
from listenwell.random_streams import stream

NEEDS_NETWORK = ("data corpus download",)
ORDER = (
    "init", "check", "plan", "config", "preview", "data audio-check", "data test-set", "data corpus list",
    "data corpus prepare", "train", "search", "cross-validate", "prompts", "study", "report",
    "runs list", "seal show", "trace", "export", "detect", "score", "calibrate", "evaluate",
    "compare", "power",
)  # fmt: skip


def shown_commands(command: Any, *names: str) -> dict[str, Any]:
    """Every command that the help lists, by its words."""
    inner = {name: found for name, found in getattr(command, "commands", {}).items() if not found.hidden}
    if not inner:
        return {" ".join(names): command}
    return {words: found for name, each in inner.items() for words, found in shown_commands(each, *names, name).items()}


COMMANDS = shown_commands(typer.main.get_command(app))


def example(name: str) -> str:
    return str(COMMANDS[name].epilog).removeprefix("Example: ")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example_of_it(name):
    assert example(name).startswith(f"listenwell {name}")
    assert name in ORDER or name in NEEDS_NETWORK


@pytest.mark.parametrize("name", NEEDS_NETWORK)
def test_an_example_that_needs_the_network_can_be_parsed(name):
    words = example(name).split()[len(name.split()) + 1 :]
    assert COMMANDS[name].make_context(name, words).params["root"] is not None


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made_corpora.make_musan(tmp_path / "musan")
    soundfile.write("meeting.wav", 0.1 * stream(4, "meeting").standard_normal(80_000), 16_000)
    for kind in ("speech", "nonspeech"):
        for i, who in enumerate(("anna", "ben", "chris", "dora", "emil", "fay", "gus", "hanna")):
            for take in range(5):
                path = Path("my", kind, who, f"{take}.wav")
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, 0.1 * stream(5, kind, i, take).standard_normal(8_000), 16_000)
    Path("questions.txt").write_text("Is it speech? A) yes B) no\nWhat is it? A) a voice B) no voice\n")
    printed = run_commands([example(name) for name in ORDER])
    assert "real-time factor" in printed
    assert len(read_manifest(Path("test/test_set.csv"))) > 0
