"""A reader sees the old content or the new one; whatever breaks the writing leaves no trace of it."""

import errno
import os
from pathlib import Path

import pytest

from listenwell.atomic_files import atomic_folder, atomic_path, remove_left_over, write_json, write_text
from listenwell.errors import ListenwellError


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every flush to the disk fails as on a full one."""

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_text_is_written_and_replaced_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "one")
    write_text(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert names(path.parent) == ["a.txt"]


def test_json_keeps_the_order_of_its_keys_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "ü"\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert names(tmp_path) == ["a.json"]


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path, full_disk):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(
        ListenwellError, match=r"a\.txt: the disk is full; nothing was written under this name"
    ) as caught:
        write_text(path, "new")
    assert caught.value.exit_status == 1
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_old_folder(tmp_path, full_disk):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    with pytest.raises(ListenwellError, match="the disk is full"), atomic_folder(tmp_path / "model") as folder:
        (folder / "weights").write_text("new")
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("refused", [1, 2], ids=["the old one away", "the new one in"])
def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch, refused):
    replace, n_renames = os.replace, 0

    def refuse_one(source: Path, target: Path) -> None:
        nonlocal n_renames
        n_renames += 1
        if n_renames == refused:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    with atomic_folder(tmp_path / "model") as folder:
        (folder / "weights").write_text("old")
    monkeypatch.setattr(os, "replace", refuse_one)
    with pytest.raises(ListenwellError, match="model"), atomic_folder(tmp_path / "model") as folder:
        (folder / "weights").write_text("new")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_one_may_not_write_to_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ListenwellError, match="choose a folder you may write to"):
        write_text(tmp_path / "a.txt", "new")


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_writer_leaves_nothing(tmp_path, interruption):
    def write_half():
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert names(tmp_path) == []


def test_a_folder_appears_whole_and_replaces_the_old_one_whole(tmp_path):
    for content in ("old", "new"):
        with atomic_folder(tmp_path / "model") as folder:
            (folder / content).write_text(content)
            assert names(tmp_path / "model") == ["old"] if content == "new" else not (tmp_path / "model").exists()
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model"]


def test_what_killed_writers_left_in_a_folder_is_removed_and_nothing_else(tmp_path):
    begun = [atomic_folder(tmp_path / "adapter"), atomic_path(tmp_path / "spec.json"), atomic_path(tmp_path / "other")]
    for each in begun:
        each.__enter__()
    (tmp_path / ".adapter.old.x1_y2z3a").mkdir()
    kept = {"spec.json", ".gitignore", ".spec.json.lock", ".spec.json.swp", ".nfs0000000000000001", ".DS_Store"}
    for name in kept:
        (tmp_path / name).write_text("{}")
    assert len(names(tmp_path)) == len(kept) + 4
    remove_left_over(tmp_path, "spec.json")
    assert len(names(tmp_path)) == len(kept) + 3
    remove_left_over(tmp_path)
    assert set(names(tmp_path)) == kept


def test_files_of_a_new_folder_may_be_read_by_everybody(tmp_path):
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "inner").mkdir(mode=0o700)
        (temporary / "inner" / "weights").touch(mode=0o600)
    assert [path.stat().st_mode & 0o777 for path in sorted((tmp_path / "model").rglob("*"))] == [0o755, 0o644]
