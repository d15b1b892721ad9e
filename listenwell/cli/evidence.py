"""Commands on scores that any program made: calibrate, evaluate, compare, power. None needs a model."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from listenwell.cli.shared import OneSentenceErrors, Overwrite
from listenwell.errors import ConfigError

if TYPE_CHECKING:
    from listenwell.evaluate.pairing import SideBySide
    from listenwell.evaluate.power import Need
    from listenwell.evaluate.predictions import Judgement

app = typer.Typer(cls=OneSentenceErrors)

Columns = Annotated[
    str, typer.Option("--columns", help="Other names of columns: id=path,label=y,score=prob,group=spk.")
]
ScaleOption = Annotated[
    Literal["auto", "log-odds", "probability", "percent"], typer.Option("--scale", help="What the scores are.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the draws of groups.")]
Conditions = Annotated[
    Path | None,
    typer.Option("--conditions", help="What conditions of other names are (CSV: condition, as): dur_20ms,20ms"),
]
TableOut = Annotated[Path | None, typer.Option("--table", help="Write a table here: .csv (every number) or .tex.")]
SHOWN_PARTS = 8
HEADLINES = ("", "clean", "noisy", "all")
JsonOut = Annotated[Path | None, typer.Option("--out", help="Write everything here (JSON).")]


@app.command("calibrate", epilog="Example: listenwell calibrate my/run/scores/fine-tuned-dev.csv --out threshold.json")
def calibrate(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Score table of dev clips (CSV).")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the threshold here (JSON).")] = None,
    criterion: Annotated[
        str,
        typer.Option(
            "--criterion",
            help="balanced_accuracy, accuracy, eer, target_recall=0.95, target_false_alarm=0.01, "
            "or cost=MISS,FALSE_ALARM,SPEECH_SHARE.",
        ),
    ] = "balanced_accuracy",
    columns: Columns = "",
    scale: ScaleOption = "auto",
    seed: Seed = 42,
    overwrite: Overwrite = False,
) -> None:
    """Choose the threshold that a criterion asks for on dev scores, with its interval; no model is needed."""
    from listenwell.evaluate import calibration
    from listenwell.evaluate.calibration import parse_criterion
    from listenwell.evaluate.predictions import parse_columns, read_predictions
    from listenwell.storage.destination import destinations

    wanted = parse_criterion(criterion)
    with destinations([out], inputs=[scores], overwrite=overwrite):
        dev = read_predictions(scores, parse_columns(columns), scale)
        chosen = calibration.calibrate(dev.table, wanted, seed, dev.scale == "log-odds")
        if out is not None:
            calibration.write_calibration(out, chosen)
    threshold, platt, temperature = chosen.threshold, chosen.platt, chosen.temperature
    measure = calibration.MEASURES[threshold.criterion.partition("=")[0]]
    note = f"; {chosen.note}" if chosen.note else ""
    typer.echo(f"{dev.note}\n" if dev.note else "", nl=False)
    typer.echo(
        f"threshold {threshold.value:.6g} [{chosen.low:.4g}, {chosen.high:.4g}] by {threshold.criterion}{note}\n"
        f"  {measure} {threshold.dev_value:.3f} on the {threshold.n} dev scores that chose it "
        f"({threshold.n_groups} groups; optimistic, as every chosen number)\n"
        f"  probability of speech: 1 / (1 + exp(-({platt.slope:.4g} score {platt.intercept:+.4g}))) (Platt)"
        + (f"; temperature {1 / temperature.slope:.4g}" if temperature else "")
    )


@app.command("evaluate", epilog="Example: listenwell evaluate my/run/scores/fine-tuned-test.csv --by group")
def evaluate(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Score table of test clips (CSV).")],
    threshold: Annotated[str, typer.Option(help="A number, or a file of calibrate; else the even odds.")] = "",
    columns: Columns = "",
    scale: ScaleOption = "auto",
    target: Annotated[float | None, typer.Option(min=0, max=1, help="Least balanced accuracy of a success.")] = None,
    by: Annotated[str, typer.Option("--by", help="Also by group, category, corpus (separated by commas).")] = "",
    costs: Annotated[str, typer.Option(help="Of minDCF: of a miss, of a false alarm, share of speech.")] = "1,1,0.5",
    clips: Annotated[Path | None, typer.Option(help="The clips that should be scored (CSV, clip_id).")] = None,
    conditions: Conditions = None,
    out: JsonOut = None,
    table: TableOut = None,
    seed: Seed = 42,
    overwrite: Overwrite = False,
) -> None:
    """Measure a score table at a threshold, by condition, with intervals that respect groups."""
    from listenwell.evaluate import predictions as given
    from listenwell.evaluate.calibration import parse_criterion, read_given_threshold, read_platt
    from listenwell.evaluate.methods import parse_parts
    from listenwell.evaluate.metrics import Costs
    from listenwell.progress import shown_progress
    from listenwell.report.score_tables import judgement_rows, judgement_table, write_table
    from listenwell.storage.atomic_files import write_json
    from listenwell.storage.destination import destinations

    read = [scores, *([Path(threshold)] if threshold else []), *(path for path in (clips, conditions) if path)]
    with destinations([out, table], inputs=read, overwrite=overwrite):
        named = given.read_conditions(conditions) if conditions else {}
        predictions = given.read_predictions(scores, given.parse_columns(columns), scale, named)
        value, chosen = read_given_threshold(threshold, predictions.default_threshold)
        question = given.Question(
            value,
            chosen,
            read_platt(Path(threshold)) if chosen else None,
            target,
            Costs(*parse_criterion(f"cost={costs}").numbers),
            parse_parts(by),
            given.read_ids(clips, given.parse_columns(columns)) if clips else (),
        )
        with shown_progress() as on_progress:
            judgement = given.judge_predictions(predictions, question, seed, on_progress)
        if out is not None:
            write_json(out, asdict(judgement))
        if table is not None:
            write_table(table, judgement_table(judgement), judgement_rows(judgement))
    typer.echo("\n".join(_judgement_lines(judgement)))


@app.command("compare", epilog="Example: listenwell compare my/run my/run/scores/webrtc-test.csv")
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Run folders or score tables; SOURCE@THRESHOLD sets a threshold."),
    ],
    columns: Columns = "",
    scale: ScaleOption = "auto",
    method: Annotated[str, typer.Option("--method", help="Method of a run folder.")] = "fine-tuned",
    test_set: Annotated[str, typer.Option("--test-set", help="Test set of a run folder.")] = "",
    common: Annotated[bool, typer.Option("--common", help="Compare on the clips that all have scored.")] = False,
    out: JsonOut = None,
    table: TableOut = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the comparison as a web page too.")] = None,
    seed: Seed = 42,
    overwrite: Overwrite = False,
) -> None:
    """Compare the first source with each of the others on the same clips, in one table with paired tests."""
    from listenwell.evaluate.predictions import parse_columns
    from listenwell.report.score_tables import comparison_page, comparison_rows, comparison_table, write_table
    from listenwell.report.tables import align
    from listenwell.report.write import write_page
    from listenwell.storage.atomic_files import write_json
    from listenwell.storage.destination import destinations
    from listenwell.tasks.compare import Reading, compare_sources, differing_settings, paths_of

    reading = Reading(parse_columns(columns), scale, method, test_set)
    with destinations([out, table, html], inputs=paths_of(sources), overwrite=overwrite):
        result, warnings = compare_sources(sources, reading, seed, common)
        settings = differing_settings(sources)
        if table is not None:
            write_table(table, comparison_table(result), comparison_rows(result))
        if html is not None:
            write_page(html, comparison_page(result, settings, warnings))
        if out is not None:
            write_json(out, {**asdict(result), "settings": settings, "warnings": warnings})
    lines = [*(f"warning: {warning}" for warning in warnings), align(comparison_table(result)), *_auc_lines(result)]
    typer.echo("\n".join([*lines, *(f"setting {setting}" for setting in settings)]))


@app.command("power", epilog="Example: listenwell power --half-width 0.1")
def power(
    half_width: Annotated[
        float | None, typer.Option("--half-width", help="Wanted half-width of the interval, such as 0.05.")
    ] = None,
    difference: Annotated[
        float | None, typer.Option("--difference", help="Difference between two methods to be found, such as 0.05.")
    ] = None,
    table: Annotated[Path | None, typer.Option("--table", help="Score table: what are its clips worth?")] = None,
    columns: Columns = "",
    share: Annotated[float, typer.Option("--share", help="Recall and specificity to expect.")] = 0.85,
    discordant: Annotated[
        float, typer.Option("--discordant", help="Share of clips that just one of two methods has right.")
    ] = 0.15,
    per_group: Annotated[float, typer.Option("--per-group", help="Clips of a speaker or sound source.")] = 5,
    icc: Annotated[float, typer.Option("--icc", help="Correlation within groups to plan with.")] = 0.3,
    wanted_power: Annotated[float, typer.Option("--power", help="Probability of finding the difference.")] = 0.8,
) -> None:
    """Say how many groups and clips a question needs before they are collected, or what a table's are worth."""
    import numpy as np

    from listenwell.data.clip import LABELS
    from listenwell.evaluate.power import groups_for_difference, groups_for_half_width, worth_of
    from listenwell.evaluate.predictions import parse_columns, read_predictions

    lines = []
    if half_width is not None:
        need = groups_for_half_width(share, half_width, per_group, icc)
        lines.append(f"a share of {share:g} known to +-{half_width:g}: {_need_text(need)}")
        lines.append(f"  balanced accuracy is then known to +-{need.half_width / 2**0.5:.3f}")
    if difference is not None:
        need = groups_for_difference(difference, discordant, per_group, icc, wanted_power)
        lines.append(
            f"a difference of {difference:g} in balanced accuracy, found with probability {wanted_power:g} when one "
            f"method alone is right on {discordant:.0%} of the clips: {_need_text(need)}"
        )
    if table is not None:
        scores = read_predictions(table, parse_columns(columns)).table
        # a clip scored under several conditions is still one clip
        scores = scores.take(np.sort(np.unique(scores.clip_id, return_index=True)[1]))
        for label in LABELS:
            group = scores.group[scores.label == label]
            if not group.size:
                lines.append(f"{label}: no clips")
                continue
            worth = worth_of(label, group, icc, (0.75, 0.85, 0.95))
            widths = ", ".join(f"+-{half:.3f} at {of_share:g}" for of_share, half in worth.half_widths)
            lines.append(
                f"{label}: {worth.n_clips} clips of {worth.n_groups} groups are worth {worth.effective_n:.1f} "
                f"independent ones (correlation {icc:g}): {widths}"
            )
    if not lines:
        raise ConfigError("power: no question; give --half-width, --difference or --table.")
    typer.echo("\n".join(lines))


def _judgement_lines(judgement: "Judgement") -> list[str]:
    """A table of conditions; below it transfer, curves and the worst parts."""
    from listenwell.report.score_tables import judgement_table
    from listenwell.report.tables import align

    lines = [*(f"warning: {warning}" for warning in judgement.warnings), align(judgement_table(judgement))]
    lines += [f"{c or 'all'}: {v.sentence}" for c, v in judgement.verdicts.items() if c in HEADLINES]
    if judgement.transfer is not None:
        transfer = judgement.transfer
        lines += [
            f"transfer of the threshold (the best one here would be {transfer.oracle:.6g})",
            *(f"  {m.name} {m.value:+.3f} [{m.low:+.3f}, {m.high:+.3f}]" for m in (transfer.shift, transfer.regret)),
            f"  {transfer.verdict.sentence}",
        ]
    lines += [
        f"{curve.measure} over {curve.over}: {'; '.join(point.sentence for point in curve.points)}"
        for curve in judgement.curves
    ]
    for column, parts in judgement.parts.items():
        hidden = f" (the first {SHOWN_PARTS} of {len(parts)})" if len(parts) > SHOWN_PARTS else ""
        lines.append(f"right decisions by {column}, the worst first{hidden}")
        for part in parts[:SHOWN_PARTS]:
            metric = part.metric
            lines.append(
                f"  {part.part or '(none)'} ({part.label}) {metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}] "
                f"{metric.n} clips, {metric.n_groups} groups"
            )
    return lines


def _auc_lines(result: "SideBySide") -> list[str]:
    first = next(iter(result.left_out))
    return [
        f"AUC, {condition or 'all'}: {first} minus {opponent} {auc.difference:+.3f} [{auc.low:+.3f}, {auc.high:+.3f}], "
        f"p {auc.p_value:.3g}"
        for condition, by_opponent in result.aucs.items()
        for opponent, auc in by_opponent.items()
        if condition in HEADLINES
    ]


def _need_text(need: "Need") -> str:
    return (
        f"{need.groups} speakers and {need.groups} sound sources, {need.clips} clips of each "
        f"(worth {need.effective_n:.0f} independent ones)"
    )
