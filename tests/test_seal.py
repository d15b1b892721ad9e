import json
from pathlib import Path

import pytest

from listenwell.errors import SealError
from listenwell.storage.seal import commit, judge_seal, look, read_chain

FIRST, SECOND = {"fine-tuned": "aa"}, {"fine-tuned": "bb"}


def opened(path: Path) -> Path:
    commit(path, FIRST, "fit 1")
    look(path, "test", "00", FIRST)
    return path


def head(path: Path) -> str:
    return read_chain(path)[-1]["hash"]


def test_a_threshold_committed_after_a_look_is_marked(tmp_path):
    seal = opened(tmp_path / "seal.jsonl")
    commit(seal, SECOND, "fit 1")
    look(seal, "test", "00", SECOND)
    status = judge_seal(seal, head(seal), ["test"])
    assert status.verdict == "reopened"
    assert "entry 3" in status.reason


@pytest.mark.parametrize(
    "harm",
    [
        lambda lines: [lines[0].replace("aa", "cc"), lines[1]],
        lambda lines: [lines[1]],
        lambda lines: [lines[1], lines[0]],
        lambda lines: [*lines, lines[1]],
        lambda lines: [lines[0], lines[1][:-9]],
        lambda lines: [lines[0], "[]"],
        lambda lines: [lines[0], json.dumps({"hash": "0"})],
    ],
    ids=["changed", "first line gone", "swapped", "repeated", "cut in a line", "not an entry", "no fields"],
)
def test_a_broken_chain_is_unsealed_and_takes_no_more_entries(tmp_path, harm):
    seal = opened(tmp_path / "seal.jsonl")
    before = head(seal)
    seal.write_text("\n".join(harm(seal.read_text().splitlines())) + "\n")
    assert judge_seal(seal, before, ["test"]).verdict == "unsealed"
    with pytest.raises(SealError, match="chain of the seal is broken"):
        commit(seal, SECOND, "fit 2")


def test_lines_cut_off_the_end_show_against_the_head_in_the_results(tmp_path):
    seal = opened(tmp_path / "seal.jsonl")
    look(seal, "test", "00", FIRST)
    before = head(seal)
    seal.write_text("".join(line + "\n" for line in seal.read_text().splitlines()[:2]))
    status = judge_seal(seal, before, ["test"])
    assert status.verdict == "unsealed"
    assert "cut off" in status.reason


def test_a_look_after_its_commit_is_sealed_and_without_it_the_test_stays_closed(tmp_path):
    with pytest.raises(SealError, match="no threshold is committed"):
        look(tmp_path / "seal.jsonl", "test", "00", FIRST)
    seal = opened(tmp_path / "seal.jsonl")
    with pytest.raises(SealError, match="other thresholds are committed"):
        look(seal, "test", "00", SECOND)
    commit(seal, FIRST, "fit 1")  # the same again adds nothing
    status = judge_seal(seal, head(seal), ["test"])
    assert status.verdict == "sealed"
    first, second = read_chain(seal)
    assert (second["test_set"], second["test_sha256"], second["commit"]) == ("test", "00", first["hash"])
