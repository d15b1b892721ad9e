"""The corpus commands: list, download from a mirror, prepare; each corpus describes itself wholly."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from made_corpora import make_esc50, make_musan, make_rirs, make_voxconverse, record
from typer.testing import CliRunner, Result

from listenwell.cli.main import app
from listenwell.data.corpora.catalogue import ARCHIVE_SUFFIXES, CORPORA
from listenwell.data.manifest import read_backgrounds, read_manifest

MAKERS = {
    "musan": make_musan,
    "esc50": make_esc50,
    "voxconverse": make_voxconverse,
    "rirs": make_rirs,
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["corpus", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=str)
def test_every_corpus_describes_itself(corpus):
    assert corpus.title
    assert corpus.purpose
    assert corpus.licence
    assert corpus.layout
    if corpus.name != "folders":
        assert corpus.citation
        assert corpus.home_page.startswith("https://")
        assert corpus.archives
    for archive in corpus.archives:
        assert archive.url.startswith("https://")
        assert archive.name.endswith(ARCHIVE_SUFFIXES)
        algorithm, _, digits = archive.checksum.partition(":")
        assert len(digits) == {"": 0, "md5": 32, "sha256": 64}[algorithm]


@pytest.mark.parametrize("name", MAKERS)
def test_every_corpus_is_prepared_into_tables_that_can_be_read(tmp_path, name):
    MAKERS[name](tmp_path / "root")
    answer = run("prepare", name, "--root", tmp_path / "root", "--out", tmp_path / "out")
    assert answer.exit_code == 0, answer.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert all(str(tmp_path / "out" / each) in answer.stdout for each in written)
    if "clips.csv" in written:
        clips = read_manifest(tmp_path / "out" / "clips.csv")
        assert all(clip.group and clip.recording and clip.corpus == name and clip.licence for clip in clips)
    if "backgrounds.csv" in written:
        assert all(bed.group and bed.licence for bed in read_backgrounds(tmp_path / "out" / "backgrounds.csv"))
    assert written == ({"backgrounds.csv"} if name == "rirs" else
                       {"clips.csv", "backgrounds.csv"} if name == "musan" else {"clips.csv"})  # fmt: skip


def test_a_corpus_prepared_again_leaves_no_table_of_the_time_before(tmp_path):
    make_musan(tmp_path / "musan")
    arguments = ("prepare", "musan", "--root", tmp_path / "musan", "--out", tmp_path / "out")
    assert run(*arguments).exit_code == 0
    assert run(*arguments, "--backgrounds", "none").exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clips.csv"]


def test_official_parts_are_chosen_on_the_command_line(tmp_path):
    make_voxconverse(tmp_path / "vox")
    arguments = ("prepare", "voxconverse", "--root", tmp_path / "vox", "--out", tmp_path / "out", "--parts", "dev")
    assert run(*arguments, "--clips-per-recording", "1").exit_code == 0
    clips = read_manifest(tmp_path / "out" / "clips.csv")
    assert {clip.recording for clip in clips} == {"abjxc", "ahnss"}
    assert len(clips) == len({clip.group for clip in clips})


def test_quarantined_recordings_are_listed_with_their_reasons(tmp_path):
    for i in range(50):
        record(tmp_path / "own" / "speech" / f"s{i}.wav", 0.1, cut=i == 10)
    arguments = ("prepare", "folders", "--root", tmp_path / "own", "--out", tmp_path / "out")
    answer = run(*arguments)
    assert answer.exit_code == 0, answer.output
    assert "1 recordings cannot be used, see quarantine.csv" in answer.stdout
    assert "truncated" in (tmp_path / "out" / "quarantine.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("download", "unheard_of", "--root", "x"), "corpus 'unheard_of': unknown; expected one of starter, musan"),
        (("download", "musan"), "--root: is missing"),
        (("download", "starter", "--root", "x"), "run 'listenwell corpus prepare starter'"),
        (("download", "folders", "--root", "x"), "has nothing to download"),
        (("prepare", "musan", "--root", "x"), "--out: is missing"),
        (("prepare", "musan", "--root", "x", "--out", "y", "--clips", "nose"), "unknown kind 'nose'"),
        (("prepare", "musan", "--root", "x", "--out", "y", "--clip-s", "0"), "expected at least 0.5 s"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_missing(arguments, sentence):
    answer = run(*arguments)
    assert answer.exit_code == 2
    assert sentence in answer.stderr


@contextmanager
def mirror(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_download_from_a_mirror_then_prepare_is_the_whole_way(tmp_path):
    make_esc50(tmp_path / "made" / "ESC-50-master")
    shutil.make_archive(str(tmp_path / "mirror" / "ESC-50-master"), "zip", tmp_path / "made")
    with mirror(tmp_path / "mirror") as url:
        arguments = ("download", "esc50", "--root", tmp_path / "corpora", "--url", url)
        answer = run(*arguments)
        assert answer.exit_code == 0, answer.output
        assert "cite Piczak 2015" in answer.stdout
        assert run(*arguments).stdout == answer.stdout
    prepared = run("prepare", "esc50", "--root", tmp_path / "corpora", "--out", tmp_path / "out")
    assert prepared.exit_code == 0, prepared.output
    assert len(read_manifest(tmp_path / "out" / "clips.csv")) == 5


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass
