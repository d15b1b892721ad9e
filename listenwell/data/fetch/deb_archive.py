"""Read the files of a Debian package, without dpkg.

A package (.deb) is an `ar` archive of three members; the files are in `data.tar`, compressed with xz, zstd (Ubuntu),
gzip or not at all (deb(5)). The archive is read as a stream, once; nothing is written, links are not followed, and
what is too large to be meant is an error. Knows nothing of where packages come from or what is wanted of them.
"""

import contextlib
import gzip
import lzma
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from listenwell.errors import DownloadError

# The largest wanted file is a piece of music of 15 MB, the largest unpacked package has 500 MB: anything far beyond
# is not what the list was made from, and could fill memory or disk.
MAX_MEMBER_BYTES = 128 * 2**20
MAX_UNPACKED_BYTES = 4 * 2**30


def iterate_files(deb: Path, suffixes: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (path without leading './', content) of the regular files whose names end in one of `suffixes`."""
    try:
        with _open_data_archive(deb) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            unpacked_bytes = 0
            for entry in archive:
                unpacked_bytes += entry.size
                if unpacked_bytes > MAX_UNPACKED_BYTES:
                    raise DownloadError(
                        f"{deb}: unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB, which no listed package does; "
                        f"delete it and fetch it again."
                    )
                if not entry.isreg() or entry.size > MAX_MEMBER_BYTES:
                    continue
                if PurePosixPath(entry.name).suffix not in suffixes:
                    continue
                file = archive.extractfile(entry)
                if file is not None:
                    yield entry.name.removeprefix("./").lstrip("/"), file.read()
    except (tarfile.TarError, lzma.LZMAError, gzip.BadGzipFile, EOFError, ValueError) as error:
        raise DownloadError(
            f"{deb}: the package is truncated or damaged ({error}); delete it and run the command again."
        ) from error


@contextmanager
def _open_data_archive(deb: Path) -> Iterator[IO[bytes]]:
    """Yield the decompressed `data.tar` of a .deb as a stream."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(deb, "rb"))
        except OSError as error:
            raise DownloadError(f"{deb}: cannot be read ({error.strerror}); check the folder of .deb files.") from error
        name, size = _find_data_member(deb, file)
        limited: IO[bytes] = _Slice(file, size)  # type: ignore[assignment]
        if name == "data.tar":
            yield limited
        elif name == "data.tar.xz":
            yield stack.enter_context(lzma.open(limited, "rb"))
        elif name == "data.tar.gz":
            yield stack.enter_context(gzip.open(limited, "rb"))  # type: ignore[arg-type]
        elif name == "data.tar.zst":
            yield stack.enter_context(_open_zstandard(deb, limited))
        else:
            raise DownloadError(f"{deb}: holds '{name}', expected data.tar with xz, zst or gz; fetch Debian's package.")


@contextmanager
def _open_zstandard(deb: Path, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    try:
        import zstandard  # only Ubuntu's packages need it
    except ImportError as error:
        raise DownloadError(
            f"{deb}: is compressed with zstd (Ubuntu); run 'pip install zstandard' and repeat the command."
        ) from error
    try:
        with zstandard.ZstdDecompressor().stream_reader(stream) as reader:
            yield reader
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error


def _find_data_member(deb: Path, file: IO[bytes]) -> tuple[str, int]:
    """Leave `file` at the first byte of the member `data.tar*`; return the member's name and size."""
    if file.read(8) != b"!<arch>\n":
        raise DownloadError(f"{deb}: is not a Debian package (no ar header); delete it and fetch it again.")
    while header := file.read(60):
        try:
            name, size = header[:16].decode("ascii").rstrip().rstrip("/"), int(header[48:58])
        except ValueError as error:
            raise EOFError("no ar member header") from error
        if len(header) < 60 or header[58:] != b"`\n":
            raise EOFError("no ar member header")
        if name.startswith("data.tar"):
            return name, size
        file.seek(size + size % 2, os.SEEK_CUR)
    raise EOFError("no data.tar in it")


class _Slice:
    """The next `size` bytes of a file, as a file; a file that ends before them is truncated."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        chunk = self._file.read(wanted)
        if len(chunk) < wanted:
            raise EOFError("the file ends in the middle")
        self._left -= len(chunk)
        return chunk

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
