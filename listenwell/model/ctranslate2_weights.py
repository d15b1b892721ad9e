"""Read the tensors of a CTranslate2 model file (format version 6), without CTranslate2.

Layout, little-endian (github.com/OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py):
    u32 version; string specification; u32 revision; u32 n_tensors;
    n_tensors x (string name, u8 rank, u32 dimension x rank, u8 dtype, u32 n_bytes, data); aliases follow.
A string is u16 length and that many bytes, the last one NUL. Knows nothing of any model's tensor names.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from listenwell.errors import ModelError

_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_VERSION = 6


def read_ctranslate2(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return every tensor of the file by name. Raises ModelError when the file is not of this format or cut short."""
    content = path.read_bytes()
    try:
        return dict(_tensors(content))
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: not a CTranslate2 model of format {_VERSION}, or cut short ({error}); fetch it again."
        ) from error


def _tensors(content: bytes) -> Iterator[tuple[str, NDArray[np.generic]]]:
    version, offset = _number(content, 0, "<I")
    if version != _VERSION:
        raise ValueError(f"format version {version}, expected {_VERSION}")
    _, offset = _string(content, offset)
    _, offset = _number(content, offset, "<I")
    n_tensors, offset = _number(content, offset, "<I")
    for _ in range(n_tensors):
        name, offset = _string(content, offset)
        rank, offset = _number(content, offset, "<B")
        shape = struct.unpack_from(f"<{rank}I", content, offset)
        offset += 4 * rank
        dtype, offset = _number(content, offset, "<B")
        n_bytes, offset = _number(content, offset, "<I")
        data = content[offset : offset + n_bytes]
        yield name, np.frombuffer(data, dtype=_DTYPES[dtype]).reshape(shape)
        offset += n_bytes


def _number(content: bytes, offset: int, kind: str) -> tuple[int, int]:
    (value,) = struct.unpack_from(kind, content, offset)
    return value, offset + struct.calcsize(kind)


def _string(content: bytes, offset: int) -> tuple[str, int]:
    length, offset = _number(content, offset, "<H")
    return content[offset : offset + length - 1].decode(), offset + length
