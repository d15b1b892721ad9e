"""What was kept is used for the same thing alone; otherwise it is made again, and one line says why."""

import json
import pwd
import time
from pathlib import Path

import pytest
from made_processes import SERVED

from listenwell.errors import CheckpointError, ListenwellError, ManifestError
from listenwell.storage.load_or_make import (
    Journal,
    Made,
    cache_root,
    hash_file,
    load_or_make,
    load_or_make_all,
    one_maker,
    read_checksummed,
    require_files,
    with_own_hash,
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
        ({"clips": {"labels": "a", "audio": "b"}}, "changed since: seed."),
        ({**FROM, "model": "m"}, "changed since: model."),
        ({str(i): i for i in range(9)}, "changed since: 0, 1, 2, 3 and 7 more."),
    ],
)
def test_another_thing_is_made_anew_and_what_changed_is_named(tmp_path, capsys, changed, named):
    path = tmp_path / "kept.json"
    load_or_make(path, FROM, made(1))
    assert load_or_make(path, changed, made(2)) == {"number": 2}
    assert capsys.readouterr().err == f"listenwell: {path} is made again: {named}\n"
    assert load_or_make(path, changed, made(None)) == {"number": 2}


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


def test_of_several_only_the_missing_are_made_together(tmp_path):
    paths, asked = [tmp_path / f"{i}.json" for i in range(4)], []

    def make(missing):
        asked.append(list(missing))
        return {path: Made({"number": int(path.stem)}) for path in missing}

    load_or_make_all({paths[1]: FROM}, lambda missing: {paths[1]: Made({"number": 1})})
    assert load_or_make_all(dict.fromkeys(paths, FROM), make) == {path: {"number": int(path.stem)} for path in paths}
    assert asked == [[paths[0], paths[2], paths[3]]]


def test_several_that_are_made_again_for_one_reason_are_named_in_one_line(tmp_path, capsys):
    paths = [tmp_path / f"{i}.json" for i in range(4)]
    made_from = {path: {"clips": "a", "fit": path.stem} for path in paths}

    def make(missing):
        return {path: Made({}) for path in missing}

    load_or_make_all(made_from, make)
    load_or_make_all({**{path: {**of, "clips": "b"} for path, of in made_from.items()}, paths[3]: {"clips": "b"}}, make)
    assert capsys.readouterr().err.splitlines() == [
        f"listenwell: {paths[0]} and 2 more are made again: changed since: clips.",
        f"listenwell: {paths[3]} is made again: changed since: clips, fit.",
    ]


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


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "\udcff"])
def test_what_is_no_object_is_refused_by_name(tmp_path, content):
    path = tmp_path / "note.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"note\.json: .*delete it and run"):
        read_checksummed(path)
    with pytest.raises(ManifestError, match=r"absent\.json: cannot be read"):
        read_checksummed(tmp_path / "absent.json", ManifestError)


# the cache


def make_slowly(path: Path, n_made) -> None:
    with one_maker(path):
        if not path.exists():
            time.sleep(0.2)
            n_made.value += 1
            path.write_text("made")


def test_processes_that_want_the_same_thing_make_it_once_and_the_others_wait(tmp_path):
    n_made = SERVED.Value("i", 0)
    makers = [SERVED.Process(target=make_slowly, args=(tmp_path / "model", n_made)) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0, 0, 0]
    assert n_made.value == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("home", ["/proc", "/dev/null", None], ids=["read-only", "a file", "none"])
def test_a_home_without_room_for_the_cache_is_one_sentence_that_names_the_variable(monkeypatch, home):
    monkeypatch.delenv("LISTENWELL_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)

    def unknown_user(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown_user)
    path = cache_root() / "models" / "small"
    assert not path.exists()
    with pytest.raises(ListenwellError, match=r"cannot be written .*; set LISTENWELL_CACHE"), one_maker(path):
        pass


# journals


def test_values_come_back_by_key_in_their_order_to_their_owner_alone(tmp_path):
    first = Journal(tmp_path / "deep" / "journal", "me")
    for key, value in (("a", [1.5]), ("b", {"x": 2}), ("a", [2.5])):
        first.keep(key, value)
    again = Journal(first.path, "me")
    assert (again.known("a"), again.known("b"), again.known("c")) == ([[1.5], [2.5]], [{"x": 2}], [])
    assert Journal(first.path, "another").keys() == []
    again.remove()
    assert Journal(first.path, "me").keys() == []


@pytest.mark.parametrize(
    "line", ["[" * 100_000, "9" * 5_000, json.dumps(with_own_hash({"owner": "me", "key": {"a": 1}, "value": 1}))]
)
def test_a_line_that_is_no_record_costs_that_line_alone(tmp_path, line):
    journal = Journal(tmp_path / "journal", "me")
    journal.keep("a", 1)
    with journal.path.open("a") as file:
        file.write(f"{line}\n")
    journal.keep("b", 2)
    assert [Journal(journal.path, "me").known(key) for key in ("a", "b")] == [[1], [2]]
    assert Journal(journal.path, "me").keys() == ["a", "b"]


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
