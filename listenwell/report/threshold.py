"""What the page needs to move the threshold: every test score of the delivered model, and the opponents' curves.

The content (JSON, read by page.js) is a list of test sets: name, title, threshold (the delivered one), clips as
[clip_id, group, is speech], conditions with the score of each clip (null where it was not scored), and by condition the
opponents whose operating curves the evidence holds, as rates, with the point at their calibrated threshold; and the
reliability of the probabilities on clean clips. Scores
come from the score tables of the run; they stand on the page only where they give the numbers of results.json.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from listenwell.errors import ManifestError
from listenwell.evaluate.methods import CALIBRATED, FINE_TUNED, NOISY, Row, versions
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.scores import ScoreTable, read_scores
from listenwell.report.blocks import Block, Explorer, Paragraph
from listenwell.report.figures import style_of
from listenwell.report.found import OperatingCurve
from listenwell.report.results import Results, metric_of
from listenwell.report.wording import condition_title, method_title, show_characters
from listenwell.storage.load_or_make import require_files
from listenwell.storage.run_folder import RunFolder

ABOUT = (
    "The delivered threshold, chosen on dev, is where the slider starts and where the dashed line stays. A threshold "
    "chosen by looking at a test is no result: nothing measured at another one may be reported for this test set."
)
NOT_THERE = (
    "The scores of {} and their note are not in this run folder; copy its folder scores/, or run the study again."
)
OTHERS = "The scores of {} in this run folder are not those that its results were made of; run the study again."


def threshold_blocks(results: Results, run: RunFolder) -> list[Block]:
    """The explorer of all test sets whose scores lie in the run; which ones do not is said.

    Raises ManifestError for a score table that was changed since it was written.
    """
    found, missing = [], []
    for test_set in results.test_sets:
        path = run.scores(f"{FINE_TUNED}-{test_set.name}")
        note = path.with_suffix(".json")
        if not (path.is_file() and note.is_file()):
            missing.append(NOT_THERE.format(test_set.title))
            continue
        require_files(note, [path.name], ManifestError)
        table = read_scores(path)
        if not _gives(table, results.delivered_rows(test_set.name)):
            missing.append(OTHERS.format(test_set.title))
            continue
        found.append(_describe(results, test_set.name, table))
    explorer: list[Block] = [Paragraph(ABOUT), Explorer({"sets": found})] if found else []
    return [*explorer, *(Paragraph(sentence, style="note") for sentence in missing)]


def _gives(table: ScoreTable, rows: Sequence[Row]) -> bool:
    """Whether the scores give the shares of both classes that the rows hold, under every condition."""
    parts = versions(table)

    def gives(row: Row) -> bool:
        if row.condition not in parts or row.threshold_value is None:
            return False
        part = parts[row.condition]
        is_right = decide(part.score, row.threshold_value) == part.is_speech
        shares = [metric_of(row, name).value for name in ("recall", "specificity")]
        measured = [float(np.mean(is_right[is_class])) for is_class in (part.is_speech, ~part.is_speech)]
        return all(map(math.isclose, measured, shares))

    return all(map(gives, rows))


def _describe(results: Results, name: str, table: ScoreTable) -> dict[str, Any]:
    clips = {
        str(clip): [show_characters(str(clip)), show_characters(str(group)), bool(is_speech)]
        for clip, group, is_speech in zip(table.clip_id, table.group, table.is_speech, strict=True)
    }
    conditions = []
    for condition, part in versions(table).items():
        if condition != NOISY:
            scores = dict(zip(part.clip_id.tolist(), part.score.tolist(), strict=True))
            about = {"name": condition, "title": condition_title(condition)}
            is_noisy = bool(np.isfinite(part.snr_db).any())
            conditions.append({**about, "is_noisy": is_noisy, "scores": [scores.get(clip) for clip in clips]})
    judged = results.evidence.probability.test_sets
    reliability = judged[name].reliability if name in judged else []
    curves = [curve for curve in results.evidence.operating_curves[name] if curve.method != FINE_TUNED]
    return {
        "name": name,
        "title": show_characters(results.title_of(name)),
        "threshold": results.thresholds[FINE_TUNED].value,
        "clips": list(clips.values()),
        "conditions": conditions,
        "reliability": list(map(asdict, reliability)),
        "opponents": [_describe_curve(results, name, curve, place) for place, curve in enumerate(curves)],
    }


def _describe_curve(results: Results, test_set: str, curve: OperatingCurve, place: int) -> dict[str, Any]:
    row = results.row(curve.method, CALIBRATED, test_set, curve.condition)
    return {
        "condition": curve.condition,
        "title": method_title(curve.method),
        "line": style_of(curve.method, place) + 1,
        "fpr": [n / curve.n_other for n in curve.false_alarms],
        "tpr": [n / curve.n_speech for n in curve.hits],
        "mark": [1.0 - metric_of(row, "specificity").value, metric_of(row, "recall").value],
    }
