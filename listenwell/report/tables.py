"""The tables of a study's numbers: methods, comparisons, arms, search, held-out speakers; some for a terminal too.

A cell is a number with its 95 % interval beside it. Columns of one test set rest on the same clips, so their count of
clips and groups stands in the column's head. What a study did not do gives no table, or one without rows.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from listenwell.evaluate.methods import CALIBRATED, FINE_TUNED, Comparison, Row
from listenwell.report.blocks import Cell, Column, Table, make_column, make_row, make_table
from listenwell.report.results import HELD_OUT, Results, distinct, metric_of
from listenwell.report.trained import Fit, LadderRow, LeaveOneOut, Search
from listenwell.report.wording import (
    BELOW_CHANCE,
    DASH,
    MINUS,
    condition_title,
    count_phrase,
    format_difference,
    format_difference_interval,
    format_interval,
    format_metric,
    format_number,
    format_p,
    format_signed,
    method_title,
)
from listenwell.train.fit_log import EPOCHS

MAIN_CONDITIONS = ("clean", "noisy", "200ms", "100ms")
MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Speech found",
    "specificity": "Other sounds rejected",
    "roc_auc": "AUC",
}
MEASURE_HEADS = [f"#{title}" for title in MEASURES.values()]
CONDITION_COLUMNS = ("test_set", "condition", "method", "threshold", "threshold_value", "measure", "value", "low",
                     "high", "clips", "groups", "interval")  # fmt: skip
SPEAKERS_HELD_OUT = {
    "group": "Speakers held out",
    "corpus": "Speakers held out with their corpus",
    "category": "Speakers held out with kinds of sounds",
}
CHANCE = 0.5
"""ROC AUC of guessing."""


def main_table(results: Results, test_set: str) -> Table:
    """Methods and thresholds down, the main conditions across."""
    conditions = [condition for condition in MAIN_CONDITIONS if condition in results.conditions_of(test_set)]
    rows = []
    for method, threshold in results.shown_methods():
        judged = [results.row(method, threshold, test_set, condition) for condition in conditions]
        cells = (Cell(method_title(method), threshold), *map(metric_of, judged))
        rows.append(make_row(cells, (method, threshold) == (FINE_TUNED, CALIBRATED)))
    heads = [_condition_head(results, results.rows_of(test_set, condition)) for condition in conditions]
    caption = f"{results.title_of(test_set)}: balanced accuracy, with 95 % intervals"
    note = _below_chance_note(results, test_set, conditions)
    return make_table(caption, [make_column("Method", "threshold"), *heads], rows, note)


def _condition_head(results: Results, rows: Sequence[Row]) -> Column:
    counts = distinct(_counts(results, row) for row in rows)
    return make_column(f"#{condition_title(rows[0].condition)}", "; ".join(counts))


def _below_chance_note(results: Results, test_set: str, conditions: Sequence[str]) -> str:
    """Which methods rank the other sounds above speech beyond doubt, and why they may."""
    shown = [row for condition in conditions for row in results.rows_of(test_set, condition)]
    worse = [row for row in shown if metric_of(row, "roc_auc").high < CHANCE]
    notes = []
    for method in distinct(row.method for row in worse):
        where = distinct(condition_title(row.condition) for row in worse if row.method == method)
        why = f": {BELOW_CHANCE[method]}" if method in BELOW_CHANCE else ""
        notes.append(f"{method_title(method)} ranks the other sounds above speech ({', '.join(where)}){why}.")
    return " ".join(notes)


def condition_rows(results: Results) -> list[list[str]]:
    """Every measure of every method, threshold, test set and condition, as lines of CONDITION_COLUMNS."""
    lines = [
        (row.test_set, row.condition, row.method, row.threshold, row.threshold_value, m.name, m.value, m.low, m.high,
         m.n, m.n_groups, m.method)
        for row in results.rows
        for m in row.metrics
    ]  # fmt: skip
    return [["" if value is None else str(value) for value in line] for line in lines]


def delivered_table(results: Results, test_set: str) -> Table:
    """What the delivered model reaches under every condition."""
    rows = []
    for row in results.delivered_rows(test_set):
        main = metric_of(row)
        name = Cell(
            condition_title(row.condition),
            count_phrase(main.n, main.n_groups, results.n_versions(test_set, row.condition)),
        )
        rows.append((name, *(metric_of(row, measure) for measure in MEASURES)))
    caption = f"{results.title_of(test_set)}: the delivered model, with 95 % intervals"
    return make_table(caption, ("Condition", *MEASURE_HEADS), rows)


def _counts(results: Results, row: Row) -> str:
    main = metric_of(row)
    return count_phrase(main.n, main.n_groups, results.n_versions(row.test_set, row.condition))


def comparison_table(results: Results, test_set: str, threshold: str) -> Table:
    """Conditions down; across, opponents at the threshold that dev chose or at their default."""
    comparisons = [
        pair for pair in results.comparisons if (pair.test_set, pair.opponent_threshold) == (test_set, threshold)
    ]
    opponents = distinct(pair.opponent for pair in comparisons)
    rows = []
    for condition in distinct(pair.condition for pair in comparisons):
        beside = [results.comparison(name, test_set, condition, threshold) for name in opponents]
        versions = results.n_versions(test_set, condition)
        counts = distinct(count_phrase(pair.result.n, pair.result.n_groups, versions) for pair in beside)
        rows.append((Cell(condition_title(condition), "; ".join(counts)), *map(_comparison_cell, beside)))
    heads = [make_column("Condition"), *(make_column(f"#{method_title(name)}", threshold) for name in opponents)]
    notes = distinct(pair.result.note for pair in comparisons if pair.result.note)
    ours = f"{method_title(FINE_TUNED)}, calibrated"
    caption = f"{results.title_of(test_set)}: {ours}, minus opponent, {threshold}; balanced accuracy"
    return make_table(caption, heads, rows, "; ".join(notes))


def _comparison_cell(comparison: Comparison) -> Cell:
    result = comparison.result
    family = " (primary)" if comparison.is_primary else ""
    found = "" if result.detectable is None else f", detectable {format_number(result.detectable)}"
    detail = f"{format_difference_interval(result)}, p {format_p(comparison.p_adjusted)}{family}{found}"
    return Cell(f"{comparison.outcome} {format_signed(result.difference)}", detail)


def ladder_table(results: Results) -> Table:
    """Arms down; test sets and conditions across, and leave-one-speaker-out."""
    places = list(dict.fromkeys((rung.test_set, rung.condition) for rung in results.ladder))
    rungs = {(rung.test_set, rung.condition, rung.arm): rung for rung in results.ladder}
    records = results.leave_one_speaker_out
    by = "group" if any(record.by == "group" for record in records) else "corpus"
    left_out = {record.arm: record.metrics[0] for record in records if record.by == by}
    rows = []
    for arm in distinct(rung.arm for rung in results.ladder):
        of_arm = [rungs[*place, arm] for place in places]
        seeds = ", ".join(map(str, of_arm[0].seeds))
        last = left_out[arm] if arm in left_out else "not run"
        rows.append(make_row((arm, seeds, *map(_rung_cell, of_arm), last), arm == "final"))
    heads = [
        make_column(f"#{results.title_of(test_set)}", condition_title(condition)) for test_set, condition in places
    ]
    return make_table(
        "The ladder: what each change brings",
        ["Arm", "Seeds", *heads, make_column(f"#Leave one {HELD_OUT[by]} out", "clean")],
        rows,
        "Balanced accuracy at each fit's calibrated threshold: the mean over seeds, ± half of its t interval over "
        "seeds (none where their values are alike); in brackets its interval over groups and seeds; Δ is the arm "
        f"{MINUS} the first one, the seeds of both pooled, with its paired interval, better or worse where p, "
        f"corrected over the ladder, says so too. Left out: the study's own seed. {_arms_sentence(results)}",
    )


def _arms_sentence(results: Results) -> str:
    """What every arm changes of the config; search.best, in the words of the search."""
    arms = {arm: dict(results.config["arms"][arm]) for arm in distinct(r.arm for r in results.ladder) if arm != "final"}
    for changes in arms.values():
        if changes.pop("search.best", False) and results.search is not None:
            changes |= {**results.search.best, **changes}
    said = "; ".join(f"{arm} {DASH} {_changes_text(changes)}" for arm, changes in {**arms, "final": {}}.items())
    return f"Arms: {said}."


def _changes_text(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in changes.items()) or "as the config"


def mean_over_seeds(rung: LadderRow) -> str:
    """The mean of an arm's seeds, ± half of its t interval where there are several."""
    spread = "" if rung.seed_half_width is None else f" ±{rung.seed_half_width:.3f}"
    return format_number(rung.pooled.value) + spread


def _rung_cell(rung: LadderRow) -> Cell:
    detail = format_interval(rung.pooled)
    if rung.against is not None:
        detail += f" Δ {format_difference(rung.against)} {rung.against.outcome}"
    return Cell(mean_over_seeds(rung), detail)


def search_table(search: Search) -> Table:
    """The points of the search, best first, and how much of the best one's advantage is luck."""
    rows = [
        (
            _changes_text(point.changes),
            *map(format_number, (point.objective, point.dev_loss, point.dev_auc)),
            point.best_epoch,
            point.n_steps,
        )
        for point in search.ranked
    ]
    heads = ("Settings", "#Dev balanced accuracy", "#Dev loss", "#Dev AUC", "#Best epoch", "#Steps")
    caption = "Search, judged on dev with thresholds of other dev groups"
    return make_table(caption, heads, rows, _search_note(search))


def _search_note(search: Search) -> str:
    luck = "too few groups to say how much choosing flatters the best one"
    optimism = search.optimism
    if optimism.chosen is not None and optimism.left_out is not None and optimism.optimism is not None:
        luck = (
            f"chosen on drawn groups, the best scores {format_number(optimism.chosen)} there and "
            f"{format_number(optimism.left_out)} on the groups left out: choosing flatters it by "
            f"{format_signed(optimism.optimism)}"
        )
    note = f"{search.n_dev_clips} dev clips, {search.n_dev_groups} groups; {luck}."
    if search.dropped:
        whole = search.n_steps["trained_whole"]
        saved = f"{whole - search.n_steps['trained']} of {whole} steps"
        note += f" {len(search.dropped)} more trials ended at a rung, which saved {saved}."
    return note


def speaker_table(record: LeaveOneOut) -> Table:
    """Every held-out speaker of an arm, the hardest first."""
    rows = [
        (
            speaker.speaker,
            f"{speaker.n_speech} + {speaker.n_nonspeech}",
            *map(format_number, (speaker.recall, speaker.specificity, speaker.balanced_accuracy)),
        )
        for speaker in sorted(record.speakers, key=lambda speaker: speaker.balanced_accuracy)
    ]
    heads = ("Speaker held out", "Clips (speech + other)", "#Speech found", "#Other sounds rejected",
             "#Balanced accuracy")  # fmt: skip
    pooled = record.metrics[0]
    note = (
        f"All folds together: {format_metric(pooled)}, {count_phrase(pooled.n, pooled.n_groups)}; mean of folds "
        f"{format_number(record.mean_of_folds)} {format_interval(record.mean)}, standard deviation "
        f"{format_number(record.sd_of_folds)}. {record.mode.capitalize()}."
    )
    if record.failed:
        note += f" Folds that failed {DASH} {', '.join(fold.speaker for fold in record.failed)}."
    if record.gap is not None:
        note += (
            f" A foreign corpus costs {format_difference(record.gap)} of balanced accuracy (speakers held out one by "
            "one, minus with their whole corpus, on the same clips)."
        )
    return make_table(f"{SPEAKERS_HELD_OUT[record.by]}: {record.arm}", heads, rows, note)


def overfitting_sentence(fit: Fit) -> str:
    """Say whether the fit overfitted, as training found it."""
    if fit.overfitting:
        return fit.overfitting
    best = next(epoch for epoch in fit.history if epoch.epoch == fit.best_epoch)
    last = fit.history[-1]
    at_best = (
        f"Dev loss was lowest, {format_number(best.dev_loss)}, after epoch {best.epoch} "
        f"(train loss {format_number(best.train_loss)})"
    )
    if last is best:
        return f"{at_best}, the last one: no overfitting up to there, and more epochs might still help."
    return (
        f"{at_best}; after the last epoch, {last.epoch}, it was {format_number(last.dev_loss)} (train loss "
        f"{format_number(last.train_loss)}): no {EPOCHS} epochs in a row with rising dev and falling train loss, so "
        "no overfitting is named; the weights of the best epoch are used."
    )


def format_table(results: Results) -> str:
    """Return the main tables, the ladder and the search for a terminal."""
    tables = [*(main_table(results, name) for name in results.judged_sets), ladder_table(results)]
    tables += [search_table(results.search)] if results.search else []
    return "\n\n".join(align(table) for table in tables if table.rows)


def align(table: Table) -> str:
    """Return a table for a terminal, its columns aligned."""
    lines = [[column.text for column in table.columns], [column.detail for column in table.columns]]
    lines += [[str(cell) for cell in row.cells] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if not any(lines[1]):
        del lines[1]
    padded = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    notes = [rule, table.note] if table.note else []
    n_heads = len(lines) - len(table.rows)
    return "\n".join([table.caption, rule, *padded[:n_heads], rule, *padded[n_heads:], *notes])
