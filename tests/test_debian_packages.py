"""Single files out of Debian packages: from a folder or apt, and every way in which that can fail."""

import gzip
import hashlib
import io
import lzma
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from listenwell.data.audio import load_recording
from listenwell.data.fetch import packages
from listenwell.data.fetch.packages import AptSource, FolderSource, Member, choose_source, fetch_members, stored_path
from listenwell.errors import DownloadError
from listenwell.storage.atomic_files import write_bytes

BELL, DRUM = b"RIFF of a bell" * 100, b"RIFF of a drum" * 100


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ar_member(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def build_deb(files: dict[str, bytes], compression: str = "xz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    compressed = {"xz": lzma.compress, "gz": gzip.compress, "": bytes}[compression](buffer.getvalue())
    name = f"data.tar.{compression}" if compression else "data.tar"
    control = ar_member("control.tar.xz", b"odd")
    return b"!<arch>\n" + ar_member("debian-binary", b"2.0\n") + control + ar_member(name, compressed)


BELL_MEMBER = Member("toys", "usr/share/toys/bell.wav", sha256(BELL))
DRUM_MEMBER = Member("toys", "usr/share/toys/drum.wav", sha256(DRUM))
TOYS = {"./usr/share/toys/bell.wav": BELL, "./usr/share/toys/drum.wav": DRUM, "./usr/share/doc/toys/copyright": b"GPL"}


@pytest.fixture
def debs(tmp_path: Path) -> Path:
    folder = tmp_path / "debs"
    folder.mkdir()
    (folder / "toys_1.0_all.deb").write_bytes(build_deb(TOYS))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files_below(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
def test_a_wanted_file_comes_out_of_every_kind_of_package(debs: Path, cache: Path, compression: str) -> None:
    (debs / "toys_1.0_all.deb").write_bytes(build_deb(TOYS, compression))
    stored = fetch_members([BELL_MEMBER], cache, FolderSource(debs))
    assert stored[BELL_MEMBER.sha256].read_bytes() == BELL


def test_a_changed_file_names_package_file_both_hashes_and_the_way_out(debs: Path, cache: Path) -> None:
    wanted = Member("toys", BELL_MEMBER.path, sha256(b"the older bell"))
    with pytest.raises(DownloadError) as caught:
        fetch_members([wanted], cache, FolderSource(debs))
    message = str(caught.value)
    assert all(part in message for part in ("toys", wanted.path, wanted.sha256, BELL_MEMBER.sha256))
    assert "LISTENWELL_DEB_FOLDER" in message
    assert not cache.exists()


@pytest.mark.parametrize("name", ["../../evil.wav", "/evil.wav", "./a/../../../evil.wav"])
def test_a_path_that_leads_outside_writes_nothing_outside(debs: Path, cache: Path, name: str) -> None:
    (debs / "toys_1.0_all.deb").write_bytes(build_deb({name: b"evil", "./bell.wav": BELL}))
    before = files_below(cache.parent)
    fetch_members([BELL_MEMBER], cache, FolderSource(debs))
    new = set(files_below(cache.parent)) - set(before)
    assert new == {str(stored_path(cache, BELL_MEMBER.sha256, BELL_MEMBER.path).relative_to(cache.parent))}


@pytest.mark.parametrize("compression", ["xz", "gz", ""])
@pytest.mark.parametrize("share", [0.2, 0.99])
def test_a_truncated_package_is_an_error_and_leaves_no_half_file(
    debs: Path, cache: Path, compression: str, share: float
) -> None:
    noise = os.urandom(50_000)
    whole = build_deb({"./first.wav": BELL, "./usr/share/toys/noise.wav": noise}, compression)
    (debs / "toys_1.0_all.deb").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DownloadError, match="truncated or damaged"):
        fetch_members([Member("toys", "usr/share/toys/noise.wav", sha256(noise))], cache, FolderSource(debs))
    assert not cache.exists()


def test_a_missing_folder_or_package_says_what_to_do(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DownloadError, match="no such folder"):
        fetch_members([BELL_MEMBER], cache, FolderSource(tmp_path / "none"))
    with pytest.raises(DownloadError, match="apt-get download toys"):
        fetch_members([BELL_MEMBER], cache, FolderSource(tmp_path))


def test_the_environment_names_the_source_and_apt_is_asked_otherwise(tmp_path: Path) -> None:
    suite = {"LISTENWELL_DEB_SUITE": "trixie"}
    assert choose_source(tmp_path, {"LISTENWELL_DEB_FOLDER": "/d"}) == FolderSource(Path("/d"))
    assert choose_source(tmp_path, suite) == AptSource(tmp_path / "apt-trixie", "trixie")
    assert choose_source(tmp_path, {}) == AptSource(tmp_path / "apt-bookworm")


def test_a_machine_without_apt_names_the_other_way(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DownloadError, match=r"no apt-get; set LISTENWELL_DEB_FOLDER"):
        fetch_members([BELL_MEMBER], cache, AptSource(cache / "apt"))


def fake_apt(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


APT_WITH_STALE_LISTS = """
for word; do case "$word" in
  -oDir::State::Lists=*) lists="${word#*=}";;
  update|download|indextargets) action="$word";;
esac; done
if [ "$action" = indextargets ]; then ls "$lists" | grep _Packages; exit 0; fi
if [ "$action" = update ]; then echo x >> "$lists/host_Packages"; exit 0; fi
if [ "$(wc -l < "$lists/host_Packages")" -lt 2 ]; then echo 'E: 404 Not Found' >&2; exit 100; fi
cp "$TOYS_DEB" .
"""


def test_apt_whose_lists_are_older_than_the_archive_updates_once_more(
    tmp_path: Path, debs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_apt(tmp_path, APT_WITH_STALE_LISTS, monkeypatch)
    monkeypatch.setenv("TOYS_DEB", str(debs / "toys_1.0_all.deb"))
    stored = fetch_members([BELL_MEMBER], cache, AptSource(cache / "apt"))
    assert stored[BELL_MEMBER.sha256].read_bytes() == BELL
    assert not list(cache.rglob("*.deb"))


needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")


def add_suite(mirror: Path, suite: str, version: str, files: dict[str, bytes]) -> None:
    """Put package toys of this version into the made mirror's `suite`."""
    deb = build_deb(files)
    pool = mirror / "pool" / f"toys_{version}_all.deb"
    write_bytes(pool, deb)
    index = (
        f"Package: toys\nVersion: {version}\nArchitecture: all\nFilename: pool/{pool.name}\nSize: {len(deb)}\n"
        f"SHA256: {sha256(deb)}\n"
    ).encode()
    release = (
        f"Suite: {suite}\nCodename: {suite}\nComponents: main\nArchitectures: amd64\n"
        f"SHA256:\n {sha256(index)} {len(index)} main/binary-amd64/Packages\n"
    ).encode()
    for path, content in (("main/binary-amd64/Packages", index), ("Release", release)):
        write_bytes(mirror / "dists" / suite / path, content)


def set_up_machine(folder: Path, suite: str, mirrors: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let apt-get take its sources from these mirrors and prefer `suite`."""
    sources, config = folder / "machine.list", folder / "apt.conf"
    sources.write_text("".join(f"deb [trusted=yes] {mirror} {suite} main\n" for mirror in mirrors), encoding="utf-8")
    settings = {
        "Acquire::http::Proxy::127.0.0.1": "DIRECT",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Default-Release": suite,
        "Dir::Etc::sourcelist": str(sources),
        "Dir::Etc::sourceparts": "/dev/null",
    }
    config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()), encoding="utf-8")
    monkeypatch.setenv("APT_CONFIG", str(config))


@needs_apt
def test_a_machine_of_another_suite_takes_the_wanted_one_from_its_own_mirrors(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    security, debian = tmp_path / "debian-security", tmp_path / "debian"
    add_suite(security, "trixie", "2.1", {"./drum.wav": DRUM})
    add_suite(debian, "trixie", "2.0", {"./drum.wav": DRUM})
    add_suite(debian, "bookworm", "1.0", TOYS)
    set_up_machine(tmp_path, "trixie", [f"file:{security}", f"file:{debian}"], monkeypatch)
    source = choose_source(cache, {})
    assert fetch_members([BELL_MEMBER], cache, source)[BELL_MEMBER.sha256].read_bytes() == BELL
    fetch_members([DRUM_MEMBER], cache, source)
    assert not list(cache.rglob("*.deb"))
    assert (debian / "pool/toys_1.0_all.deb").exists()


@needs_apt
def test_a_machine_whose_mirrors_lack_the_wanted_suite_names_the_other_way(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_suite(tmp_path / "ubuntu", "noble", "3.0", TOYS)
    set_up_machine(tmp_path, "noble", [f"file:{tmp_path / 'ubuntu'}"], monkeypatch)
    with pytest.raises(DownloadError, match=r"no package lists of suite 'bookworm'.*LISTENWELL_DEB_FOLDER"):
        fetch_members([BELL_MEMBER], cache, choose_source(cache, {}))


@pytest.mark.network
def test_apt_fetches_a_small_real_package_without_root(tmp_path: Path) -> None:
    from listenwell.data.corpora.starter import read_members

    wanted = [member for member in read_members() if member.package == "sound-icons"]
    stored = fetch_members(wanted, tmp_path, packages.choose_source(tmp_path))
    assert all(sha256(path.read_bytes()) == name for name, path in stored.items())


def test_a_headerless_recording_is_read_by_the_suffix_it_keeps(tmp_path):
    path = stored_path(tmp_path, "0" * 64, "usr/share/asterisk/sounds/fr/hello.gsm")
    path.parent.mkdir(parents=True)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)
    soundfile.write(path, tone, 8_000, format="RAW", subtype="GSM610")
    whole = load_recording(path)
    assert whole.size == pytest.approx(16_000, abs=640)
    assert load_recording(path, 0.5, 0.4) == pytest.approx(whole[8_000:14_400], abs=0.02)
    assert stored_path(tmp_path, "0" * 64, "usr/share/sounds/bell.ogg").suffix == ""
