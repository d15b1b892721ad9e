"""What was compared inside the study: the ladder of arms, the search, leave-one-speaker-out.

Each is a list of tables, empty where the study did not run it.
What training did is told epoch by epoch; whether a fit overfitted is said by the rule of training itself.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from listenwell.report.evidence import plain_table
from listenwell.report.results import StudyResults, distinct
from listenwell.report.tables import Cell, Column, Table, TableRow, numbers, texts
from listenwell.report.wording import (
    DASH,
    MINUS,
    NOTHING,
    condition_title,
    count_phrase,
    format_difference,
    format_difference_interval,
    format_interval,
    format_number,
    verdict_of,
)
from listenwell.train.fit_log import EPOCHS, describe_overfitting


def ladder_tables(results: StudyResults) -> list[Table]:
    """One table of all arms: a column per test set and condition, and one for leave-one-speaker-out."""
    records = results.raw["ladder"]
    if not records:
        return []
    columns = distinct(f"{record['test_set']}\n{record['condition']}" for record in records)
    cells = {(f"{r['test_set']}\n{r['condition']}", r["arm"]): r for r in records}
    by_speaker = {record["arm"]: record for record in results.raw["leave_one_speaker_out"]}
    heads = [Column("Arm", is_number=False), Column("Seeds", is_number=False)]
    heads += [Column(results.title_of(name.split("\n")[0]), condition_title(name.split("\n")[1])) for name in columns]
    heads += [Column("Leave one speaker out", "clean")]
    rows = []
    for arm in distinct(record["arm"] for record in records):
        own = [cells[column, arm] for column in columns]
        row = [Cell(arm), Cell(", ".join(str(seed) for seed in own[0]["seeds"]))]
        row += [_ladder_cell(record) for record in own]
        row += [_speaker_cell(by_speaker[arm]) if arm in by_speaker else Cell("not run")]
        rows.append(TableRow(tuple(row), arm == "final"))
    note = (
        "Balanced accuracy at each fit's calibrated threshold: the mean over seeds, ± half of its t interval over "
        f"seeds; in brackets the interval of the median seed, which counts groups; Δ is that seed {MINUS} the first "
        "arm's median seed, with its paired interval. Leave-one-speaker-out: the study's own seed."
    )
    return [Table("The ladder: what each change brings", tuple(heads), tuple(rows), note)]


def mean_over_seeds(record: Mapping[str, Any]) -> str:
    """The mean of an arm's seeds, ± half of its t interval where there are several."""
    spread = "" if record["seed_half_width"] is None else f" ±{record['seed_half_width']:.3f}"
    return f"{format_number(record['mean'])}{spread}"


def _ladder_cell(record: Mapping[str, Any]) -> Cell:
    median = record["median_seed"]
    detail = format_interval(median["low"], median["high"])
    if (against := record["against"]) is not None:
        difference = format_difference_interval(against["low"], against["high"])
        detail += f" Δ {format_difference(against['difference'])} {difference}"
        detail += f" {verdict_of(against['low'], against['high'])}"
    return Cell(mean_over_seeds(record), detail)


def _speaker_cell(record: Mapping[str, Any]) -> Cell:
    metric = record["metrics"][0]
    return Cell(format_number(metric["value"]), format_interval(metric["low"], metric["high"]))


def search_tables(search: Mapping[str, Any] | None) -> list[Table]:
    """The points of the search, best first, and how much of the best one's advantage is luck."""
    if not search:
        return []
    rows = [
        (
            ", ".join(f"{key} {json.dumps(value)}" for key, value in point["changes"].items()) or "as the config",
            format_number(point["objective"]),
            format_number(point["dev_loss"]),
            format_number(point["dev_auc"]),
            str(point["best_epoch"]),
            str(point["n_steps"]),
        )
        for point in search["ranked"]
    ]
    heads = texts("Settings") + numbers("Dev balanced accuracy", "Dev loss", "Dev AUC", "Best epoch", "Steps")
    table = plain_table("Search, judged on dev with thresholds of other dev groups", heads, rows)
    if table is None:
        return []
    optimism = search["optimism"]
    luck = (
        "too few groups to say how much the best one is flattered"
        if optimism["optimism"] is None
        else f"chosen on drawn groups, the best reads {format_number(optimism['chosen'])} there and "
        f"{format_number(optimism['left_out'])} on the groups left out: selection flatters by "
        f"{format_difference(optimism['optimism'])}"
    )
    note = f"{search['n_dev_clips']} dev clips, {search['n_dev_groups']} groups; {luck}."
    if search.get("dropped"):  # results of earlier versions have none
        steps = search["n_steps"]
        saved = steps["trained_whole"] - steps["trained"]
        note += (
            f" {len(search['dropped'])} more trials ended at a rung, which saved {saved} of {steps['trained_whole']} "
        )
        note += "steps."
    return [Table(table.caption, table.columns, table.rows, note)]


def _interval_of_folds(record: Mapping[str, Any]) -> str:
    """The interval of the mean of folds; results of earlier versions have none."""
    return f" {format_interval(record['mean']['low'], record['mean']['high'])}" if "mean" in record else ""


def speaker_tables(records: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Every held-out speaker of each arm, the hardest first."""
    tables = []
    for record in records:
        rows = [
            (
                fold["speaker"],
                f"{fold['n_speech']} + {fold['n_nonspeech']}",
                format_number(fold["recall"]),
                format_number(fold["specificity"]),
                format_number(fold["balanced_accuracy"]),
            )
            # results of earlier versions have folds of one speaker each
            for fold in sorted(record.get("speakers", record["folds"]), key=lambda fold: fold["balanced_accuracy"])
        ]
        heads = texts("Speaker held out", "Clips (speech + other)")
        heads += numbers("Speech found", "Other sounds rejected", "Balanced accuracy")
        table = plain_table(f"Leave one speaker out: {record['arm']}", heads, rows)
        if table is not None:
            metric = record["metrics"][0]
            mean, sd = format_number(record["mean_of_folds"]), format_number(record["sd_of_folds"])
            note = (
                f"All folds together: {_speaker_cell(record)}, {count_phrase(metric['n'], metric['n_groups'])}; mean "
                f"of folds {mean}{_interval_of_folds(record)}, standard deviation {sd}. {record['mode'].capitalize()}."
            )
            failed = ", ".join(each["speaker"] for each in record["failed"]) or NOTHING
            note += "" if failed == NOTHING else f" Folds that failed {DASH} {failed}."
            tables.append(Table(table.caption, table.columns, table.rows, note))
    return tables


MEASURES = ("train_loss", "dev_loss", "dev_balanced_accuracy_at_0", "dev_auc")


def history_table(fit: Mapping[str, Any]) -> Table:
    """Return one row per epoch of a fit; the best epoch, by dev loss, is the main row."""
    rows = tuple(
        TableRow(
            (
                Cell(str(record["epoch"])),
                Cell(str(record["step"])),
                *(Cell(format_number(record[name])) for name in MEASURES),
                Cell(f"{record['learning_rate']:.2g}"),
            ),
            record["epoch"] == fit["best_epoch"],
        )
        for record in fit["history"]
    )
    heads = numbers("Epoch", "Step", "Train loss", "Dev loss", "Dev balanced accuracy at 0", "Dev AUC", "Learning rate")
    return Table(f"Fit {fit['name']}, seed {fit['seed']}", heads, rows)


def overfitting_sentence(fit: Mapping[str, Any]) -> str:
    """Say whether the fit overfitted; `history` holds at least one epoch."""
    named = describe_overfitting(fit["history"], fit["best_epoch"])
    if named:
        return named
    best = next(record for record in fit["history"] if record["epoch"] == fit["best_epoch"])
    last = fit["history"][-1]
    at_best = (
        f"Dev loss was lowest, {format_number(best['dev_loss'])}, after epoch {best['epoch']} "
        f"(train loss {format_number(best['train_loss'])})"
    )
    if last is best:
        return f"{at_best}, the last one: no overfitting up to there, and more epochs might still help."
    return (
        f"{at_best}; after the last epoch, {last['epoch']}, it was {format_number(last['dev_loss'])} (train loss "
        f"{format_number(last['train_loss'])}): no {EPOCHS} epochs in a row with rising dev and falling train loss, so "
        "no overfitting is named; the weights of the best epoch are used."
    )
