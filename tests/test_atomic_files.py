"""A reader sees the old content or the new one; whatever breaks the writing leaves no trace of it."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from listenwell.errors import ListenwellError
from listenwell.storage.atomic_files import (
    atomic_folder,
    atomic_path,
    companion,
    is_left_over,
    remove_left_over,
    temporary_prefix,
    write_text,
)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every flush to the disk fails as on a full one."""

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


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
    (tmp_path / f"{temporary_prefix('adapter', 'old')}x1_y2z3a").mkdir()
    kept = {"spec.json", ".gitignore", ".spec.json.lock", ".spec.json.swp", ".nfs0000000000000001", ".DS_Store"}
    # what looked like ours when temporary names began with the file's
    kept |= {".env.template", ".spec.json.abcd1234.json", companion(tmp_path / "spec.json", ".lock").name}
    for name in kept:
        (tmp_path / name).write_text("{}")
    assert len(names(tmp_path)) == len(kept) + 4
    remove_left_over(tmp_path, "spec.json")
    assert len(names(tmp_path)) == len(kept) + 3
    remove_left_over(tmp_path)
    assert set(names(tmp_path)) == kept


def test_a_folder_moved_aside_stays_while_it_is_the_only_copy(tmp_path):
    aside = tmp_path / f"{temporary_prefix('model', 'old')}abcd1234"
    (aside / "model").mkdir(parents=True)
    remove_left_over(tmp_path)
    assert aside.is_dir()
    (tmp_path / "model").mkdir()
    remove_left_over(tmp_path)
    assert names(tmp_path) == ["model"]


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_new_files_and_folders_get_the_permissions_that_the_umask_gives(tmp_path, umask):
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "inner").mkdir(mode=0o700)
        (temporary / "inner" / "weights").touch(mode=0o600)
    modes = [path.stat().st_mode & 0o777 for path in sorted(tmp_path.glob("model/**/*"))]
    assert [(tmp_path / "model").stat().st_mode & 0o777, *modes] == [0o777 & ~umask, 0o777 & ~umask, 0o666 & ~umask]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
def test_a_file_or_folder_that_is_there_keeps_its_permissions(tmp_path, mode):
    path, folder = tmp_path / "a.txt", tmp_path / "model"
    path.touch()
    path.chmod(mode)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == mode
    folder.mkdir()
    folder.chmod(mode | 0o700)
    with atomic_folder(folder) as temporary:
        assert temporary.stat().st_mode & 0o777 == mode | 0o700
    assert folder.stat().st_mode & 0o777 == mode | 0o700


def test_a_symbolic_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far" / "model").mkdir(parents=True)
    (tmp_path / "far" / "a.txt").write_text("old")
    for name in ("a.txt", "model", "new.txt"):
        (tmp_path / name).symlink_to(Path("far") / name)
    write_text(tmp_path / "a.txt", "new")
    write_text(tmp_path / "new.txt", "new")
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "weights").touch()
    assert all((tmp_path / name).is_symlink() for name in ("a.txt", "model", "new.txt"))
    assert (tmp_path / "far" / "a.txt").read_text() == (tmp_path / "far" / "new.txt").read_text() == "new"
    assert names(tmp_path / "far" / "model") == ["weights"]
    assert names(tmp_path / "far") == ["a.txt", "model", "new.txt"]


def test_a_pipe_and_an_open_file_are_refused_and_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/stdout"), Path("/proc/self/fd/1"), Path("/dev/null")):
        with pytest.raises(ListenwellError, match="is a pipe, a device or an open file"):
            write_text(path, "content")
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("suffix", ["", ".json", ".a-long-suffix-that-is-a-part-of-the-name"])
def test_the_longest_names_are_written(tmp_path, suffix):
    name = "ü" * ((255 - len(suffix)) // 2) + suffix
    write_text(tmp_path / name, "content")
    with atomic_folder(tmp_path / "folder" / name) as temporary:
        assert is_left_over(temporary, name)
    with atomic_folder(tmp_path / "folder" / name):
        pass
    companion(tmp_path / name, ".lock").touch()
    assert names(tmp_path / "folder") == [name]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("file/a.txt", "a file stands where a folder was expected"),
        ("file/inner/a.txt", "a file stands where a folder was expected"),
        ("a" * 256, "its name is too long"),
        ("folder", "is a folder, a file was expected"),
        ("loop", "is a symbolic link that leads back to itself"),
    ],
)
def test_a_name_that_no_file_can_have_is_one_sentence(tmp_path, name, sentence):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ListenwellError, match=sentence):
        write_text(tmp_path / name, "new")
    assert names(tmp_path) == ["file", "folder", "loop"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_flushes_no_folders_is_written_to(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_text(tmp_path / "a.txt", "new")
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "inner").mkdir()
    assert names(tmp_path) == ["a.txt", "model"]
