"""What was kept is used for the same thing alone; otherwise it is made again, and one line says why."""

import json

import pytest

from listenwell.errors import CheckpointError, ManifestError
from listenwell.storage.load_or_make import (
    Made,
    hash_file,
    is_kept,
    load_or_make,
    load_or_make_all,
    read_checksummed,
    require_files,
    write_checksummed,
)

FROM = {"clips": {"labels": "a", "audio": "b"}, "seed": 1}


def made(number):
    """Makes {"number": number}, and fails where it should not be called."""

    def make():
        if number is None:
            raise AssertionError("made again")
        return Made({"number": number})

    return make


def test_the_same_thing_is_made_once(tmp_path, capsys):
    path = tmp_path / "kept.json"
    assert load_or_make(path, FROM, made(1)) == {"number": 1}
    assert load_or_make(path, json.loads(json.dumps(FROM)), made(None)) == {"number": 1}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"clips": {"labels": "a", "audio": "c"}, "seed": 1}, "changed since: clips.audio."),
        ({"clips": {"labels": "a", "audio": "b"}, "seed": 2}, "changed since: seed."),
        ({"clips": {"labels": "a", "audio": "b"}}, "changed since: seed."),
        ({**FROM, "model": "m"}, "changed since: model."),
        ({"clips": 3, "seed": 1}, "changed since: clips."),
        ({str(i): i for i in range(9)}, "changed since: 0, 1, 2, 3 and 7 more."),
    ],
)
def test_another_thing_is_made_anew_and_what_changed_is_named(tmp_path, capsys, changed, named):
    path = tmp_path / "kept.json"
    load_or_make(path, FROM, made(1))
    assert load_or_make(path, changed, made(2)) == {"number": 2}
    assert capsys.readouterr().err == f"listenwell: {path} is made again: {named}\n"
    assert load_or_make(path, changed, made(None)) == {"number": 2}


def test_what_an_older_version_kept_is_made_again(tmp_path, capsys):
    path = tmp_path / "kept.json"
    write_checksummed(path, {"made_from": "a hash", "number": 1})
    assert load_or_make(path, FROM, made(2)) == {"number": 2}
    assert "is made again: changed since: the version that made it" in capsys.readouterr().err


def test_a_file_beside_it_that_is_gone_is_made_again_and_a_changed_one_is_refused(tmp_path, capsys):
    path, table = tmp_path / "kept.json", tmp_path / "table.csv"

    def make():
        return Made({}, write)

    def write():
        table.write_text("1\n")
        return [table]

    load_or_make(path, FROM, make)
    table.unlink()
    load_or_make(path, FROM, make)
    assert table.read_text() == "1\n"
    assert "table.csv is gone" in capsys.readouterr().err
    table.write_text("2\n")
    with pytest.raises(ManifestError, match=r"table\.csv: was changed or damaged"):
        load_or_make(path, FROM, make, ManifestError)


def test_a_damaged_one_is_refused_by_name(tmp_path):
    path = tmp_path / "kept.json"
    load_or_make(path, FROM, made(1))
    path.write_text(path.read_text().replace('"number": 1', '"number": 2'))
    with pytest.raises(CheckpointError, match=r"kept\.json: was changed or damaged"):
        load_or_make(path, FROM, made(3))


def test_of_several_only_the_missing_are_made_together(tmp_path):
    paths, asked = [tmp_path / f"{i}.json" for i in range(4)], []

    def make(missing):
        asked.append(list(missing))
        return [Made({"number": i}) for i in missing]

    load_or_make_all(paths[1:2], FROM, lambda missing: [Made({"number": 1})])
    assert load_or_make_all(paths, FROM, make) == [{"number": i} for i in range(4)]
    assert asked == [[0, 2, 3]]


def test_a_kill_between_a_file_and_its_note_is_no_damage(tmp_path):
    path, table = tmp_path / "kept.json", tmp_path / "table.csv"

    def write():
        table.write_text("1\n")
        return [table]

    def killed():
        table.write_text("2\n")
        raise KeyboardInterrupt

    load_or_make(path, FROM, lambda: Made({}, write))
    with pytest.raises(KeyboardInterrupt):
        load_or_make(path, {"seed": 2}, lambda: Made({}, killed))
    load_or_make(path, FROM, lambda: Made({}, write))
    assert table.read_text() == "1\n"


def test_whether_something_is_kept_is_told_without_a_word(tmp_path, capsys):
    path = tmp_path / "kept.json"
    assert not is_kept(path, FROM)
    load_or_make(path, FROM, made(1))
    assert is_kept(path, FROM)
    assert not is_kept(path, {"seed": 2})
    assert capsys.readouterr().err == ""


# checksummed files


def test_no_flipped_bit_gives_other_values(tmp_path, capsys):
    path, content = tmp_path / "note.json", {"value": 0.1, "names": ["a", "b"], "n": 12}
    write_checksummed(path, content)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            found = read_checksummed(path)
        except CheckpointError:
            continue
        assert content.items() <= found.items()
        assert found == content or "not checked" in capsys.readouterr().err  # the name of the hash was hit


def test_a_changed_or_missing_file_is_named_with_what_was_expected(tmp_path):
    note, table = tmp_path / "note.json", tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    write_checksummed(note, {"made_from": "x"}, [table])
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
    assert read_checksummed(path) == {"made_from": "x"}
    assert f"{path} holds no hash of itself" in capsys.readouterr().err
    require_files(path, ["table.csv"])


@pytest.mark.parametrize("content", ["", "[]", "{", "3", "[" * 100_000, "\udcff"])
def test_what_is_no_object_is_refused_by_name(tmp_path, content):
    path = tmp_path / "note.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"note\.json: .*delete it and run"):
        read_checksummed(path)
    with pytest.raises(ManifestError, match=r"absent\.json: cannot be read"):
        read_checksummed(tmp_path / "absent.json", ManifestError)
