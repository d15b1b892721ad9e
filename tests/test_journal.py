import json
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.storage.journal import HeldError, Journal
from listenwell.storage.load_or_make import with_own_hash


def test_values_come_back_by_key_in_their_order_to_their_owner_alone(tmp_path):
    first = Journal(tmp_path / "deep" / "journal", "me")
    for key, value in (("a", [1.5]), ("b", {"x": 2}), ("a", [2.5])):
        first.keep(key, value)
    again = Journal(first.path, "me")
    assert (again.known("a"), again.known("b"), again.known("c")) == ([[1.5], [2.5]], [{"x": 2}], [])
    assert Journal(first.path, "another").keys() == []
    again.remove()
    assert Journal(first.path, "me").keys() == []


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_come_back_to_the_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("j") / "journal"
    Journal(path, "me").keep("k", values)
    assert [float.hex(each) for each in Journal(path, "me").known("k")[0]] == [float.hex(each) for each in values]


def test_a_whole_line_under_another_key_than_text_is_passed_over(tmp_path):
    record = {"owner": "me", "key": {"a": 1}, "value": 1}
    (tmp_path / "journal").write_text(json.dumps(with_own_hash(record)))
    assert Journal(tmp_path / "journal", "me").keys() == []


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5_000])
def test_a_line_that_json_cannot_read_costs_that_line_alone(tmp_path, line):
    journal = Journal(tmp_path / "journal", "me")
    journal.keep("a", 1)
    with journal.path.open("a") as file:
        file.write(f"{line}\n")
    journal.keep("b", 2)
    assert [Journal(journal.path, "me").known(key) for key in ("a", "b")] == [[1], [2]]


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_line_that_a_kill_cut_costs_that_line_alone(tmp_path, cut):
    journal = Journal(tmp_path / "journal", "me")
    journal.keep("a", 1)
    journal.keep("b", 2)
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    after = Journal(journal.path, "me")
    after.keep("c", 3)
    found = Journal(journal.path, "me")
    assert (found.known("a"), found.known("c")) == ([1], [3])
    assert found.known("b") == ([2] if cut == 1 else [])  # without its line end the line is whole


HOLD = """
import sys, time
from pathlib import Path
from listenwell.storage.journal import Journal
journal = Journal(Path(sys.argv[1]), "me", is_alone=True)
print("held", flush=True)
sys.stdin.readline()
journal.remove()
print("removed", flush=True)
sys.stdin.readline()
"""


def holder_of(path):
    """A process that holds the journal; a line sent to it makes it remove the journal, another one end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_journal_that_another_process_holds_is_refused_and_its_holder_named(tmp_path):
    path = tmp_path / "journal"
    with holder_of(path) as process:
        for _ in range(2):
            with pytest.raises(HeldError, match=rf"journal: another process writes it \(process {process.pid} on "):
                Journal(path, "another", is_alone=True)
        Journal(path, "me").keep("a", 1)  # who does not ask to be alone is not refused
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "removed\n"
        assert list(tmp_path.iterdir()) == []
        Journal(path, "another", is_alone=True).remove()
        process.stdin.close()
    assert process.returncode == 0


def test_a_killed_holder_holds_nothing(tmp_path):
    with holder_of(tmp_path / "journal") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        Journal(tmp_path / "journal", "me", is_alone=True).remove()
    assert list(tmp_path.iterdir()) == []
