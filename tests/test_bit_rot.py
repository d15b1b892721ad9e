"""One flipped bit in anything a finished run holds: it is named, or what it touched is made again; never other results.

LISTENWELL_FLIPS sets how many bits are flipped in each kind of file: 1 by default.
"""

import json
import os
import shutil

import pytest
from made_sounds import study_record
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.errors import ListenwellError, ModelError
from listenwell.model.base_files import BASE_FILE
from listenwell.model.loading import load_model
from listenwell.model.settings import ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.random_streams import stream

pytestmark = pytest.mark.slow

N_FLIPS = int(os.environ["LISTENWELL_FLIPS"]) if "LISTENWELL_FLIPS" in os.environ else 1
ABOUT_ONE_RUN = ("name", "config", "provenance")
READ_AGAIN = (
    "fits/*/adapter/adapter_model.safetensors", "fits/*/adapter/listenwell.json", "fits/*/history.json",
    "fits/*/spec.json", "fits/*/scores/held_out.csv", "fits/*/scores/search-dev.json", "scores/fine-tuned-dev.csv",
    "scores/fine-tuned-test.csv", "scores/fine-tuned-test.json", "scores/test.json", "thresholds/fine-tuned.json",
    "seal.jsonl", "leaks.json", "evidence.json", "ledger.json",
)  # fmt: skip
ALWAYS_NAMED = ("fits/*/adapter/adapter_model.safetensors", "fits/*/scores/held_out.csv", "scores/fine-tuned-test.csv")


def flip_bit(path, *key):
    content = bytearray(path.read_bytes())
    rng = stream(0, "bit rot", path.name, *key)
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


@pytest.fixture(scope="module")
def expected(finished_study):
    """The results as JSON, without what tells of one run only."""
    return comparable(finished_study[1])


@pytest.fixture
def run(finished_study, tmp_path, monkeypatch):
    """The run in a copy of the finished study's project, in its cache."""
    output = finished_study[0].output
    monkeypatch.setenv("LISTENWELL_CACHE", str(output.parent / "cache"))
    return shutil.copytree(output.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")) / output.name


def comparable(results):
    return json.loads(json.dumps({key: value for key, value in results.items() if key not in ABOUT_ONE_RUN}))


def attempt(action):
    """What one of our errors says, "" where there was none; and what came back."""
    try:
        return "", action()
    except ListenwellError as error:
        return str(error), None


def first_file(run, pattern):
    return sorted(run.glob(pattern))[0]


@pytest.mark.parametrize("number", range(N_FLIPS))
@pytest.mark.parametrize("pattern", READ_AGAIN)
def test_a_study_with_a_flipped_bit_is_stopped_by_name_or_ends_the_same(finished_study, expected, run, pattern, number):
    config, _ = finished_study
    damaged = first_file(run, pattern)
    flip_bit(damaged, pattern, number)
    complaint, again = attempt(lambda: study_record(config.model_copy(update={"output": run})))
    if complaint:
        assert damaged.name in complaint
        assert "delete it" in complaint or "Start a new run folder" in complaint
    else:
        assert pattern not in ALWAYS_NAMED
        assert comparable(again) == expected | {"seal": comparable(again)["seal"]}


READ_LATER = {
    "results.json": ("runs list", "report", "compare", "export"),
    "fits/*/plans.jsonl": ("trace",),
}


@pytest.mark.parametrize(("pattern", "command"), [(p, c) for p, commands in READ_LATER.items() for c in commands])
def test_a_command_that_reads_a_flipped_bit_later_names_it(finished_study, run, tmp_path, pattern, command):
    config, results = finished_study
    delivered = f"fits/{results['fits'][0]['identity']}"
    damaged = first_file(run, pattern.replace("fits/*", delivered))
    flip_bit(damaged, pattern, command)
    clip = json.loads((config.output / delivered / "plans.jsonl").read_text().splitlines()[0])["clip_id"]
    out = ["--out", str(tmp_path / "out")]
    arguments = {
        "runs list": [str(run)],
        "report": [str(run)],
        "compare": [str(run), str(config.output)],
        "export": [str(run), *out],
        "trace": [clip, "--run", str(run)],
    }
    done = CliRunner().invoke(app, [*command.split(), *arguments[command]])
    assert done.exit_code == 1
    assert f"{damaged}: " in done.output
    assert "was changed or damaged" in done.output or "cannot be read" in done.output


def test_a_flipped_bit_in_a_base_that_was_built_here_is_named(tmp_path):
    folder = build_random_model(tmp_path / "model")
    expected = load_model(ModelConfig(name=str(folder), device="cpu")).fingerprint
    for name in ("model.safetensors", "tokenizer.json", "config.json", BASE_FILE):
        whole = (folder / name).read_bytes()
        flip_bit(folder / name, "base")
        complaint, found = attempt(lambda: load_model(ModelConfig(name=str(folder), device="cpu")))
        assert str(folder) in complaint if complaint else found.fingerprint == expected, name
        (folder / name).write_bytes(whole)
    flip_bit(folder / "model.safetensors", "weights")
    with pytest.raises(ModelError, match="was changed or damaged since it was built"):
        load_model(ModelConfig(name=str(folder), device="cpu"))
