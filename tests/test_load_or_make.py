"""What was kept is used for the same thing alone; otherwise it is made again, and one line says why."""

import json

import pytest

from listenwell.errors import CheckpointError, ManifestError
from listenwell.storage.load_or_make import Made, is_kept, load_or_make, load_or_make_all, write_vouched

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
    write_vouched(path, {"made_from": "a hash", "number": 1})
    assert load_or_make(path, FROM, made(2)) == {"number": 2}
    assert "is made again: an older version made it" in capsys.readouterr().err


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
