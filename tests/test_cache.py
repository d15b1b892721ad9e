"""What lies in the cache is made once, by whoever comes first."""

import multiprocessing
import pwd
import time
from pathlib import Path

import pytest

from listenwell.errors import ListenwellError
from listenwell.storage.atomic_files import companion, temporary_prefix
from listenwell.storage.cache import cache_root, one_maker


def make_slowly(path: Path, n_made) -> None:
    with one_maker(path):
        if not path.exists():
            time.sleep(0.2)
            n_made.value += 1
            path.write_text("made")


def test_processes_that_want_the_same_thing_make_it_once_and_the_others_wait(tmp_path):
    context = multiprocessing.get_context("fork")
    n_made = context.Value("i", 0)
    makers = [context.Process(target=make_slowly, args=(tmp_path / "model", n_made)) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0, 0, 0]
    assert n_made.value == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_maker_left_goes_and_what_others_make_beside_it_stays(tmp_path):
    for prefix in (temporary_prefix("model"), temporary_prefix("model", "old"), temporary_prefix("model2"), ".model."):
        (tmp_path / f"{prefix}abcd1234").mkdir()
    with one_maker(tmp_path / "model"):
        left = {path.name for path in tmp_path.iterdir()} - {companion(tmp_path / "model", ".lock").name}
        assert left == {f"{temporary_prefix('model2')}abcd1234", ".model.abcd1234"}


def test_a_maker_that_fails_lets_the_next_one_try(tmp_path):
    with pytest.raises(ValueError, match="no"), one_maker(tmp_path / "model"):
        raise ValueError("no")
    with one_maker(tmp_path / "model"):
        (tmp_path / "model").mkdir()
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
    with (
        pytest.raises(ListenwellError, match=r"cannot be written .*; set LISTENWELL_CACHE"),
        one_maker(path),
    ):
        pass
