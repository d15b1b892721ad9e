"""The results of the study that the docs show, as what its results.json holds: what a report is tested on."""

import json
from pathlib import Path
from typing import Any

from listenwell.storage.load_or_make import OWN

RESULTS = Path(__file__).parents[1] / "docs" / "starter-study" / "results.json"


def make_results(test_sets: tuple[str, ...] = ()) -> dict[str, Any]:
    """The record, each time anew; test_sets: other names of its test sets."""
    record: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    del record[OWN]
    if test_sets:
        record["test_sets"] = [record["test_sets"][0] | {"name": name} for name in test_sets]
    return record
