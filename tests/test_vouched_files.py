"""A JSON file that vouches for itself and for files beside it."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from listenwell.errors import CheckpointError, ManifestError
from listenwell.storage.load_or_make import (
    FILES,
    OWN,
    hash_content,
    hash_file,
    is_whole,
    read_vouched,
    require_files,
    with_own_hash,
    without_own_hash,
    write_vouched,
)

KEYS = st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))


@given(content=KEYS)
@example(content={OWN: "0" * 64})
@example(content={OWN: None, FILES: {"a": "b"}, "content": {OWN: 1}})
@example(content={"content": {"a": 1}})
@example(content={"content": 3})
@example(content={FILES: ["table.csv"]})
def test_what_was_written_comes_back_whatever_its_keys(content):
    for files in ({}, {"table.csv": "0" * 64}):
        read = json.loads(json.dumps(with_own_hash(content, files)))
        assert without_own_hash(Path("note.json"), read) == json.loads(json.dumps(content))
        assert (read[FILES] if files else files) == files


@pytest.mark.parametrize("bit", range(8))
def test_no_flipped_bit_gives_other_values(tmp_path, bit, capsys):
    path, content = tmp_path / "note.json", {"value": 0.1, "names": ["a", "b"], "n": 12}
    write_vouched(path, content)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        try:
            found = read_vouched(path)
        except CheckpointError:
            continue
        assert content.items() <= found.items()
        assert found == content or "not checked" in capsys.readouterr().err  # the name of the hash was hit


def test_a_changed_or_missing_file_is_named_with_what_was_expected(tmp_path):
    note, table = tmp_path / "note.json", tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    write_vouched(note, {"made_from": "x"}, [table])
    expected = hash_file(table)
    require_files(note)
    table.write_text("a,b\n1,3\n")
    found = rf"table\.csv: was changed .*sha256 {hash_file(table)[:12]}, expected {expected[:12]}.*delete it and .*note"
    with pytest.raises(ManifestError, match=found):
        require_files(note, kind=ManifestError)
    require_files(note, ["another.csv"])
    table.unlink()
    with pytest.raises(CheckpointError, match=r"table\.csv: .*no file"):
        require_files(note)


def test_a_file_of_an_older_version_is_read_and_said_to_be_unchecked(tmp_path, capsys):
    path = tmp_path / "note.json"
    path.write_text('{"made_from": "x"}')
    assert read_vouched(path) == {"made_from": "x"}
    assert f"{path} holds no hash of itself" in capsys.readouterr().err
    require_files(path, ["table.csv"])


@pytest.mark.parametrize("content", ["", "[]", "{", "3", "[" * 100_000, "\udcff"])
def test_what_is_no_object_is_refused_by_name(tmp_path, content):
    path = tmp_path / "note.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"note\.json: .*delete it and run"):
        read_vouched(path)
    with pytest.raises(ManifestError, match=r"absent\.json: cannot be read"):
        read_vouched(tmp_path / "absent.json", ManifestError)


def test_a_record_is_whole_only_with_its_keys_and_its_hash():
    record = with_own_hash({"a": 1, "b": [2.5]})
    assert is_whole(record, {"a", "b"})
    assert not is_whole(record | {"a": 2}, {"a", "b"})
    assert not is_whole(record, {"a"})
    assert not is_whole([record], {"a", "b"})
    assert record[OWN] == hash_content({"b": [2.5], "a": 1})
    assert FILES not in json.loads(json.dumps(record))


@pytest.mark.parametrize("hashes", [["table.csv"], {"table.csv": 3}, None])
def test_hashes_of_another_kind_are_refused(tmp_path, hashes):
    (tmp_path / "note.json").write_text(json.dumps({FILES: hashes}))
    with pytest.raises(CheckpointError, match=r"note\.json: its files_sha256 holds no hashes by name"):
        require_files(tmp_path / "note.json")
