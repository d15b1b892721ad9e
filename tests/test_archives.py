"""Archives are unpacked whole, inside their folder, or not at all."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from listenwell.data.fetch.download import MARKER, FetchedFile, unpack
from listenwell.errors import DownloadError
from listenwell.random_streams import stream

FILES = {"corpus/README": b"read me", "corpus/a b/<i>\n.wav": stream(0, "wav").bytes(5000), "corpus/empty": b""}
KINDS = (".tar.gz", ".tar.xz", ".zip")


def fetched(path: Path) -> FetchedFile:
    return FetchedFile(path, hashlib.sha256(path.read_bytes()).hexdigest())


def pack(path: Path, files: dict[str, bytes]) -> FetchedFile:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        compression = path.suffix.removeprefix(".").replace("tar", "")
        with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return fetched(path)


def left_behind(folder: Path, archive: FetchedFile) -> list[str]:
    """What lies beside the archive, but for the lock."""
    return sorted(path.name for path in folder.iterdir() if path != archive.path and path.suffix != ".lock")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_archive_is_unpacked_with_a_marker(tmp_path, kind):
    archive = pack(tmp_path / f"corpus{kind}", FILES)
    folder = unpack(archive, tmp_path / "out")
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content
    assert json.loads((folder / MARKER).read_text())["sha256"] == archive.sha256


@pytest.mark.parametrize(("kind", "name"), [(".tar.gz", "../evil"), (".zip", "corpus/../../evil"), (".zip", "/tmp/e")])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, kind, name):
    archive = pack(tmp_path / f"corpus{kind}", {"corpus/README": b"", name: b"evil"})
    with pytest.raises(DownloadError, match=r"would be written outside the folder; nothing was unpacked"):
        unpack(archive, tmp_path / "out")
    assert left_behind(tmp_path, archive) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.CHRTYPE])
def test_links_outside_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "corpus.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("corpus/out")
        entry.type, entry.linkname = kind, "/etc"
        archive.addfile(entry)
        inside = tarfile.TarInfo("corpus/out/passwd")
        archive.addfile(inside)
    packed = fetched(tmp_path / "corpus.tar.gz")
    with pytest.raises(DownloadError, match=r"is damaged, unsafe, .*corpus/out"):
        unpack(packed, tmp_path / "out")
    assert left_behind(tmp_path, packed) == []


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.xz", ".zip"])
def test_a_cut_or_damaged_archive_is_refused(tmp_path, kind):
    archive = pack(tmp_path / f"corpus{kind}", FILES)
    content = archive.path.read_bytes()
    for damaged in (content[: len(content) * 2 // 3], b"no archive", b"", content[:200] + b"damaged" + content[207:]):
        archive.path.write_bytes(damaged)
        with pytest.raises(DownloadError, match=r"is damaged, unsafe, or no tar or zip archive"):
            unpack(fetched(archive.path), tmp_path / "out")
        assert left_behind(tmp_path, archive) == []


def test_what_is_unpacked_already_is_left_as_it_is(tmp_path):
    archive = pack(tmp_path / "corpus.zip", FILES)
    folder = unpack(archive, tmp_path / "out")
    (folder / "corpus" / "README").write_text("my notes")
    assert unpack(archive, tmp_path / "out") == folder
    assert (folder / "corpus" / "README").read_text() == "my notes"


def test_a_half_unpacked_folder_is_told_from_a_whole_one(tmp_path):
    archive = pack(tmp_path / "corpus.zip", FILES)
    (tmp_path / "out" / "corpus").mkdir(parents=True)
    with pytest.raises(
        DownloadError, match=r"has no \.listenwell-unpacked\.json, so it was unpacked by hand, or only half"
    ):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "corpus").is_dir()


def test_a_folder_of_another_archive_is_refused(tmp_path):
    unpack(pack(tmp_path / "corpus.zip", FILES), tmp_path / "out")
    with pytest.raises(DownloadError, match=r"was unpacked from an archive with sha256"):
        unpack(pack(tmp_path / "corpus.zip", {"other": b""}), tmp_path / "out")


def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path):
    archive = pack(tmp_path / "corpus.tar.gz", FILES)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from listenwell.data.fetch.download import unpack; from listenwell.data.fetch.download import FetchedFile\n"
        "from listenwell.errors import ListenwellError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: unpack(FetchedFile(Path(sys.argv[1]), ''), Path(sys.argv[2]))\n"
        "except ListenwellError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(archive.path), str(tmp_path / "out")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith(f"{tmp_path / 'out'}: the disk failed (File too large); nothing was written")
    assert left_behind(tmp_path, archive) == []
