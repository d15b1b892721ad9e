"""Downloads and archives: interrupted, resumed, compared; unpacked whole, inside their folder, or not at all."""

import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from listenwell.data.fetch.download import MARKER, RESERVE_BYTES, FetchedFile, RemoteFile, download, unpack
from listenwell.errors import DownloadError, ListenwellError
from listenwell.random_streams import stream

CONTENT = stream(0, "content").bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does: drop the connection after so many bytes, know ranges, answer errors first."""

    content: bytes = CONTENT
    drop_after: int = 0
    ranges: bool = True
    etag: str = '"one"'
    statuses: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        wanted = self.headers["Range"] or ""
        behaviour.asked.append(wanted)
        if behaviour.statuses:
            self.send_response(behaviour.statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and behaviour.ranges else 0
        if self.headers["If-Range"] not in (None, behaviour.etag):
            start = 0
        if start and start >= len(behaviour.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(behaviour.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = behaviour.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + len(rest) - 1}/{len(behaviour.content)}")
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        for first in range(0, len(rest), 10_000):
            if behaviour.drop_after and first >= behaviour.drop_after:
                self.close_connection = True
                return
            self.wfile.write(rest[first : first + 10_000])
            time.sleep(behaviour.pause_s)


class Server(ThreadingHTTPServer):
    behaviour: Behaviour


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[RemoteFile]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.behaviour = behaviour
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield RemoteFile("corpus.bin", f"http://127.0.0.1:{server.server_address[1]}/corpus.bin")
        finally:
            server.shutdown()
            thread.join()


def no_sleep(seconds: float) -> None:
    pass


def test_a_file_arrives_whole_and_alone(tmp_path):
    with serving(Behaviour()) as file:
        fetched = download(file, tmp_path / "corpora")
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.sha256 == SHA256
    assert [path.name for path in fetched.path.parent.iterdir()] == ["corpus.bin"]


def test_dropped_connections_are_resumed_where_they_broke(tmp_path):
    behaviour = Behaviour(drop_after=100_000)
    with serving(behaviour) as file:
        assert download(file, tmp_path, sleep=no_sleep).sha256 == SHA256
    assert behaviour.asked == ["", "bytes=100000-", "bytes=200000-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(tmp_path):
    (tmp_path / "corpus.bin.part").write_bytes(b"x" * 1000)
    behaviour = Behaviour(ranges=False)
    with serving(behaviour) as file:
        assert download(replace(file, checksum=f"sha256:{SHA256}"), tmp_path).path.read_bytes() == CONTENT
    assert behaviour.asked == ["bytes=1000-"]


def test_what_another_run_left_of_a_file_without_a_hash_is_not_trusted(tmp_path):
    (tmp_path / "corpus.bin.part").write_bytes(b"x" * 1000)
    with serving(Behaviour()) as file:
        assert download(file, tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_validator_or_a_hash_a_part_is_not_trusted(tmp_path, etag):
    behaviour = Behaviour(etag=etag, drop_after=200_000)
    with serving(behaviour) as file, pytest.raises(DownloadError, match=r"gave up"):
        download(file, tmp_path, sleep=no_sleep)
    assert set(behaviour.asked) == {""}
    behaviour.asked.clear()
    with serving(behaviour) as file:
        download(replace(file, checksum=f"sha256:{SHA256}"), tmp_path, sleep=no_sleep)
    assert behaviour.asked == ["bytes=200000-"]


def test_errors_of_the_server_are_tried_again_after_growing_pauses(tmp_path):
    pauses: list[float] = []
    with serving(Behaviour(statuses=[503, 500, 429])) as file:
        assert download(file, tmp_path, sleep=pauses.append).sha256 == SHA256
    assert pauses == [2.0, 4.0, 8.0]


def test_a_file_that_is_not_there_is_an_error_at_once(tmp_path):
    behaviour = Behaviour(statuses=[404])
    with serving(behaviour) as file, pytest.raises(DownloadError, match=r"answered 404 .*--url"):
        download(file, tmp_path, sleep=no_sleep)
    assert len(behaviour.asked) == 1


@pytest.mark.parametrize("checksum", ["sha256:" + "0" * 64, "md5:" + "0" * 32])
def test_a_wrong_file_is_refused_and_not_kept(tmp_path, checksum):
    wrong = pytest.raises(DownloadError, match=rf"has {checksum.split(':')[0]} .*, expected 0000.*, as published")
    with serving(Behaviour()) as file, wrong:
        download(replace(file, checksum=checksum), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_the_download(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=RESERVE_BYTES + 299_999))
    with (
        serving(Behaviour()) as file,
        pytest.raises(DownloadError, match=r"corpus\.bin needs 0 MiB more and 64 MiB to spare, but 64 MiB are free"),
    ):
        download(file, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_midway_is_one_sentence(tmp_path):
    (tmp_path / "corpus.bin.part").symlink_to("/dev/full")
    with serving(Behaviour()) as file, pytest.raises(ListenwellError, match=r"corpus\.bin: the disk is full"):
        download(replace(file, checksum=f"sha256:{SHA256}"), tmp_path)
    assert not (tmp_path / "corpus.bin").exists()


def test_ctrl_c_keeps_the_part_and_the_next_run_goes_on(tmp_path):
    behaviour = Behaviour(pause_s=0.2)  # six seconds in all: the signal comes long before the end
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from listenwell.data.fetch.download import RemoteFile, download\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        f"download(RemoteFile('corpus.bin', sys.argv[1], checksum='sha256:{SHA256}'), Path(sys.argv[2]))"
    )
    with serving(behaviour) as file:
        running = subprocess.Popen([sys.executable, "-c", code, file.url, str(tmp_path)], stderr=subprocess.DEVNULL)
        part = tmp_path / "corpus.bin.part"
        while not (part.exists() and part.stat().st_size > 50_000) and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.wait()
        assert running.returncode != 0
        kept = part.stat().st_size
        assert 50_000 < kept < 300_000
        behaviour.pause_s = 0.0
        assert download(replace(file, checksum=f"sha256:{SHA256}"), tmp_path).sha256 == SHA256
    assert behaviour.asked == ["", f"bytes={kept}-"]


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
