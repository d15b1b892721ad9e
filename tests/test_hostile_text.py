"""Text made to explode, sink or overflow a reader: one of our errors, at once."""

import shutil
import time

import pytest

from listenwell.config import load_config
from listenwell.data.manifest import read_manifest
from listenwell.data.tables import read_json_lines
from listenwell.detect.bundle import read_bundle
from listenwell.errors import ConfigError, ManifestError, ModelError, SealError
from listenwell.evaluate.calibration import read_threshold
from listenwell.evaluate.predictions import read_predictions
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.seal import read_chain

MOST_S = 5.0


def doubled(first, inner):
    """Nine levels, each ten aliases of the one before: 10^9 values."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {inner([f'*a{i - 1}'] * 10)}" for i in range(1, 10)]
    return "\n".join(lines)


YAML = {
    "lists": doubled("[x]", lambda ten: f"[{', '.join(ten)}]"),
    "mappings": doubled("{x: 1}", lambda ten: "{" + ", ".join(f"k{i}: {each}" for i, each in enumerate(ten)) + "}"),
    "merges": doubled("{x: 1}", lambda ten: "{<<: [" + ", ".join(ten) + "]}"),
    "deep": "a: " + "[" * 20_000,
    "itself": "seed: &a [*a]",
    "long number": "seed: " + "9" * 5000,
    "date": "seed: 2026-99-99",
}
JSON = {"deep": "[" * 200_000, "long number": '{"a": ' + "9" * 5000 + "}", "no object": "[1]", "number": "3"}


def soon(read, *arguments):
    began = time.process_time()
    try:
        return read(*arguments)
    finally:
        assert time.process_time() - began < MOST_S


@pytest.mark.parametrize("text", YAML.values(), ids=YAML.keys())
def test_yaml_that_would_explode_is_refused_at_once(tmp_path, text):
    (tmp_path / "bomb.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bomb\.yaml"):
        soon(load_config, tmp_path / "bomb.yaml")


@pytest.mark.parametrize("text", JSON.values(), ids=JSON.keys())
@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda path: list(read_json_lines(path)), ManifestError),
        (read_manifest, ManifestError),
        (read_threshold, ManifestError),
        (read_chain, SealError),
    ],
    ids=["lines", "table", "threshold", "seal"],
)
def test_json_that_is_no_record_is_refused_at_once(tmp_path, text, read, kind):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(kind, match=r"a\.jsonl"):
        soon(read, path)


def test_a_zero_byte_in_a_table_or_a_config_is_named(tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("clip_id,label,score,group\na,SPEECH,0.5,\0\n")
    with pytest.raises(ManifestError, match=r"scores\.csv line 2: holds a zero byte"):
        read_predictions(table)
    config = tmp_path / "study.yaml"
    config.write_text('ledger: "a\\0b"\nevaluation:\n  conditions: [clean, "\\0"]\n')
    with pytest.raises(
        ConfigError, match=r"(?s)line 1, ledger: .*without a zero byte.*line 3, evaluation.*without a zero byte"
    ):
        load_config(config)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('ledger: "a\\uD800"\n', "line 1, ledger: found .*lone surrogate"),
        ("true: 1\n", "True: unknown key"),
        ("seed: 1\n1: 2\n", "1: unknown key"),
    ],
)
def test_a_config_is_named_whatever_its_keys_and_texts_are(tmp_path, text, said):
    config = tmp_path / "study.yaml"
    config.write_text(text)
    with pytest.raises(ConfigError, match=rf"study\.yaml.*{said}"):
        load_config(config)


def test_a_detector_whose_numbers_are_beyond_a_float_is_broken(made_detector, tmp_path):
    folder = shutil.copytree(made_detector, tmp_path / "bundle")
    record = read_checksummed(folder / "detector.json")
    record["rule"]["on"] = 10**400
    write_checksummed(folder / "detector.json", record)
    with pytest.raises(ModelError, match=r"detector\.json: is broken"):
        read_bundle(folder)
