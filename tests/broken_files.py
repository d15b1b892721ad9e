"""Files that are nearly valid: what a hypothesis strategy makes of one by changing its bytes or its fields.

    changed_bytes(whole, others)   some bytes overwritten, put in, taken out, repeated, cut off, or taken from another
    changed_values(content)        JSON values with some replaced, taken out, renamed or put in

Places near the start are drawn more often: that is where headers are. The numbers put in are those at which lengths,
counts and signs tip over. Shrinks to one edit.
"""

import copy
import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

TIPPING = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63,
    2**64 - 1,
)
WORDS = (
    b"", b"nan", b"inf", b"-1", b"-0", b"1e308", b"1e-320", b"9" * 400, b"9" * 5000, b"\x00", b"\xff\xfe",
    b"\xed\xa0\x80", b'"', b"'", b",", b";", b"\t", b"\n", b"\r", b"\r\n\r\n", b"../../x", b"/etc/passwd", b"[" * 2000,
    b"{}", b"null",
    b"true", b"%s", b"\xe2\x80\xa8", b"&a [*a]", b"!!python/object/apply:os.system [x]", b"<<: *a",
)  # fmt: skip
MOST_EDITS = 4

PLACES = st.integers(0, 48) | st.integers(0, 1000) | st.integers(0, 2**20)
LENGTHS = st.integers(0, 8) | st.integers(0, 300)
NUMBERS = st.builds(
    lambda value, kind: struct.pack(kind, value & (256 ** struct.calcsize(kind) - 1)),
    st.sampled_from(TIPPING),
    st.sampled_from([f"{order}{size}" for order in "<>" for size in "BHIQ"]),
)
PIECES = NUMBERS | st.sampled_from(WORDS) | st.binary(max_size=8)
EDITS = st.tuples(
    st.sampled_from(["over", "in", "out", "again", "cut", "from another", "bit"]), PLACES, LENGTHS, PIECES
)


def changed_bytes(whole: bytes, others: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Bytes near `whole`, now and then with a stretch of one of `others`; or any few bytes."""
    near = st.lists(EDITS, min_size=1, max_size=MOST_EDITS).map(lambda edits: _edit(whole, edits, others))
    return near | st.binary(max_size=64)


def _edit(whole: bytes, edits: Sequence[tuple[str, int, int, bytes]], others: Sequence[bytes]) -> bytes:
    content = whole
    for kind, place, length, piece in edits:
        at = place % (len(content) + 1)
        if kind == "over":
            content = content[:at] + piece + content[at + len(piece) :]
        elif kind == "in":
            content = content[:at] + piece + content[at:]
        elif kind == "out":
            content = content[:at] + content[at + length :]
        elif kind == "again":
            content = content[: at + length] + content[at:]
        elif kind == "cut":
            content = content[:at]
        elif kind == "bit" and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << length % 8]) + content[at + 1 :]
        elif kind == "from another" and others:
            content = content[:at] + others[length % len(others)][at:]
    return content


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([-(2**63), -1, 0, 1, 2, 2**31, 2**64, 10**400, 0.5, -0.0, 5e-324, 1e308])
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["../x", "/x", "NaN", "a/b", "\x00", "\ud800", "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CHANGES = st.tuples(
    st.sampled_from(["replace", "replace", "take out", "rename", "put in"]), st.integers(0, 2**16), VALUES
)


def changed_values(content: Any) -> st.SearchStrategy[Any]:
    """JSON values near `content`."""
    return st.lists(CHANGES, min_size=1, max_size=MOST_EDITS).map(lambda changes: _change(content, changes))


def _change(content: Any, changes: Sequence[tuple[str, int, Any]]) -> Any:
    root = [copy.deepcopy(content)]
    for kind, place, value in changes:
        inside = list(_places(root))
        holder, key = inside[place % len(inside)]
        if kind == "replace" or holder is root:
            holder[key] = value
        elif kind == "take out":
            del holder[key]
        elif isinstance(holder, dict):
            holder[f"{key}x" if kind == "rename" else str(value)[:8]] = holder.pop(key) if kind == "rename" else value
        else:
            holder.insert(key, value)
    return root[0]


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every (list or object, index or key) below `holder`."""
    for key in range(len(holder)) if isinstance(holder, list) else list(holder):
        yield holder, key
        if isinstance(holder[key], list | dict):
            yield from _places(holder[key])


def to_json(content: Any) -> bytes:
    """JSON as any program may write it, NaN and lone surrogates included."""
    return json.dumps(content).encode()
