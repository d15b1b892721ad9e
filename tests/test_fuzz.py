"""Broken and hostile files of every kind that is read: a value or one of our errors comes back, soon, in little memory.

LISTENWELL_FUZZ_EXAMPLES sets the files tried per target: 25 by default, always the same ones; in `make soak` more, and
other ones each time. A reader that takes more than MOST_S of processor time or MOST_BYTES of new memory fails; so does
an error that does not name the file or its folder.
"""

import os
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from broken_files import changed_bytes, changed_values
from fuzz_targets import TARGETS, Files, Target
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from listenwell.errors import ListenwellError

ASKED = os.environ.get("LISTENWELL_FUZZ_EXAMPLES")
N_EXAMPLES = int(ASKED) if ASKED else 25
MOST_S = 5.0
MOST_BYTES = 2**30


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.timeout(120 + N_EXAMPLES)
def test_a_broken_file_gives_a_value_or_one_of_our_errors(tmp_path_factory, target: Target):
    place = tmp_path_factory.mktemp("fuzz")
    (place / "made").mkdir()
    wholes = target.wholes(place / "made")
    for number, whole in enumerate(wholes):
        target.read(lay_out(place / f"whole-{number}", whole))

    @settings(
        max_examples=max(5, round(N_EXAMPLES * target.share)),
        derandomize=ASKED is None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(broken=broken_folders(target, wholes))
    def no_other_error(broken: Broken) -> None:
        folder = lay_out(place / "broken", broken.files)
        with little_time(), little_memory():
            complaint = complaint_of(target, folder)
        note(complaint)
        assert not complaint or str(folder) in complaint

    no_other_error()


def complaint_of(target: Target, folder: Path) -> str:
    """What one of our errors says, "" where a value comes back."""
    try:
        target.read(folder)
    except ListenwellError as error:
        return str(error)
    return ""


class Broken:
    """A folder with one changed file; shown short, since a model's weights are long."""

    def __init__(self, whole: Files, name: str, content: bytes) -> None:
        self.files, self.name = {**whole, name: content}, name

    def __repr__(self) -> str:
        content = self.files[self.name]
        return f"{self.name}, {len(content)} bytes: {content[:300]!r}"


def broken_folders(target: Target, wholes: Sequence[Files]) -> st.SearchStrategy[Broken]:
    """One of the valid folders with one of its files changed."""
    return st.one_of(
        [
            _broken_file(target, whole, name, [other[name] for other in wholes if name in other]).map(
                lambda content, whole=whole, name=name: Broken(whole, name, content)
            )
            for whole in wholes
            for name in whole
            if name not in target.left_whole
        ]
    )


def _broken_file(target: Target, whole: Files, name: str, others: list[bytes]) -> st.SearchStrategy[bytes]:
    in_bytes = changed_bytes(whole[name], others)
    if name not in target.fields:
        return in_bytes
    fields = target.fields[name]
    return in_bytes | changed_values(fields.parse(whole[name])).map(lambda content: fields.pack(content, whole[name]))


def lay_out(folder: Path, files: Files) -> Path:
    """Write the files into `folder`, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@contextmanager
def little_time() -> Iterator[None]:
    """Fail when the block takes more than MOST_S of this process's time; one that never ends meets pytest's timeout."""
    began = time.process_time()
    yield
    assert time.process_time() - began < MOST_S


@contextmanager
def little_memory() -> Iterator[None]:
    """Let the block take no more than MOST_BYTES of memory: MemoryError is none of our errors."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
