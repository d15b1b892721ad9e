"""Downloads: interrupted, resumed, refused, compared; against a real server on this machine."""

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from listenwell.data.fetch.download import RESERVE_BYTES, RemoteFile, download
from listenwell.errors import DownloadError, ListenwellError
from listenwell.random_streams import stream

CONTENT = stream(0, "content").bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does: drop the connection after so many bytes, know ranges (at most range_bytes of one), answer
    errors first."""

    content: bytes = CONTENT
    drop_after: int = 0
    ranges: bool = True
    etag: str = '"one"'
    statuses: list[int] = field(default_factory=list)
    with_length: bool = True
    range_bytes: int = 0
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
        end = start + behaviour.range_bytes if start and behaviour.range_bytes else len(behaviour.content)
        rest = behaviour.content[start:end]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + len(rest) - 1}/{len(behaviour.content)}")
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        if behaviour.with_length:
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


def test_a_file_arrives_whole_with_its_record(tmp_path):
    with serving(Behaviour()) as file:
        fetched = download(file, tmp_path / "corpora")
    assert fetched.path.read_bytes() == CONTENT
    record = json.loads((tmp_path / "corpora" / "corpus.bin.json").read_text())
    assert record == {"url": file.url, "n_bytes": 300_000, "sha256": SHA256}
    assert sorted(path.name for path in fetched.path.parent.iterdir()) == ["corpus.bin", "corpus.bin.json"]


def test_dropped_connections_are_resumed_where_they_broke(tmp_path):
    behaviour = Behaviour(drop_after=100_000)
    with serving(behaviour) as file:
        assert download(file, tmp_path, sleep=no_sleep).sha256 == SHA256
    assert behaviour.asked == ["", "bytes=100000-", "bytes=200000-"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(tmp_path):
    behaviour = Behaviour(ranges=False)
    (tmp_path / "corpus.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "corpus.bin.part.json").write_text('{"if_range": "\\"one\\""}')
    with serving(behaviour) as file:
        assert download(file, tmp_path).path.read_bytes() == CONTENT
    assert behaviour.asked == ["bytes=1000-"]


def test_a_file_that_changed_on_the_server_is_not_joined_to_the_old_part(tmp_path):
    (tmp_path / "corpus.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "corpus.bin.part.json").write_text('{"if_range": "\\"zero\\""}')
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


def test_what_was_recorded_on_first_use_is_compared_afterwards(tmp_path):
    with serving(Behaviour()) as file:
        path = download(file, tmp_path).path
        assert download(file, tmp_path).sha256 == SHA256
    path.unlink()
    wrong = pytest.raises(DownloadError, match=r"as recorded in corpus\.bin\.json; it was not kept")
    with serving(Behaviour(content=b"another file")) as other, wrong:
        download(other, tmp_path)
    assert not path.exists()


def test_a_disk_that_is_too_small_is_told_before_the_download(tmp_path):
    with serving(Behaviour()) as file:
        with pytest.raises(
            DownloadError, match=r"corpus\.bin needs 0 MiB more and 64 MiB to spare, but 64 MiB are free"
        ):
            download(file, tmp_path, free=lambda folder: RESERVE_BYTES + 299_999)
        download(file, tmp_path, free=lambda folder: RESERVE_BYTES + 300_000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_up_midway_is_one_sentence(tmp_path):
    (tmp_path / "corpus.bin.part").symlink_to("/dev/full")
    with serving(Behaviour()) as file, pytest.raises(ListenwellError, match=r"corpus\.bin: the disk is full"):
        download(file, tmp_path)
    assert not (tmp_path / "corpus.bin").exists()


def test_ctrl_c_keeps_the_part_and_the_next_run_goes_on(tmp_path):
    behaviour = Behaviour(pause_s=0.2)  # six seconds in all: the signal comes long before the end
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from listenwell.data.fetch.download import RemoteFile, download\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "download(RemoteFile('corpus.bin', sys.argv[1]), Path(sys.argv[2]))"
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
        assert download(file, tmp_path).sha256 == SHA256
    assert behaviour.asked == ["", f"bytes={kept}-"]
