"""The evidence behind the numbers: leak gate, seal, data sheets, criteria, transfer, errors, allocation, provenance.

The tables that are no measures of a method under a condition; those are in `listenwell.report.tables`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from listenwell.evaluate.methods import CALIBRATED, FINE_TUNED
from listenwell.report.blocks import Cell, Paragraph, Table, make_table
from listenwell.report.found import Leaks, Seal
from listenwell.report.results import Results, metric_of
from listenwell.report.wording import (
    THRESHOLD,
    condition_title,
    format_difference_interval,
    format_metric,
    format_number,
    format_signed,
    method_title,
    plain_sentence,
    spaced,
)

PROBABILITY_HEADS = ("#Brier score", "#Cllr (bits)", "#minCllr", "#actDCF", "#minDCF")
SHOWN_FINDINGS = 50
SHOWN_GROUPS = 15
LEAK_VERDICTS = {"clean": "No leak found.", "leaks": "Leaks found.", "incomplete": "Not everything could be compared."}


def statements(results: Results) -> list[Paragraph]:
    """Whether splits share what they must not share, and whether thresholds stood before anybody saw the tests."""
    return [_leak_statement(results.leaks), _seal_statement(results.seal)]


def _leak_statement(leaks: Leaks) -> Paragraph:
    compared = (
        f"{sum(leaks.n_clips.values())} clips and {sum(leaks.n_backgrounds.values())} backgrounds of "
        f"{len(leaks.n_clips)} splits were compared by group, recording, origin, samples and by sound "
        f"({leaks.n_pairs:,} pairs): {leaks.n_leaks} leaks, {len(leaks.findings) - leaks.n_leaks} warnings"
    )
    missing = f", {len(leaks.unreadable)} sounds could not be read" if leaks.unreadable else ""
    style = "" if leaks.verdict == "clean" else "notice"
    return Paragraph(f"{compared}{missing}.", LEAK_VERDICTS[leaks.verdict], style=style)


def _seal_statement(seal: Seal) -> Paragraph:
    earlier = Counter(look["test_set"] for look in seal.earlier)
    reason = seal.reason.rstrip(".")
    if earlier:
        looks = ", ".join(f"{spaced(name)} {n} time{'s' * (n != 1)}" for name, n in earlier.items())
        reason += f". Opened before by other runs on this machine: {looks}"
    style = "" if seal.verdict == "sealed" else "notice"
    head = f" Hash of its log: {seal.head[:16]}." if seal.head else ""
    return Paragraph(f"{reason[0].upper()}{reason[1:]}.{head}", f"{seal.verdict.capitalize()}.", style=style)


def judged_tables(results: Results) -> list[Table]:
    """What the evidence judges: criteria, the transfer of dev's threshold, the fitted curves, the probabilities."""
    evidence = results.evidence
    criteria = [
        (verdict.criterion, spaced(verdict.test_set) or "study pool", plain_sentence(verdict.sentence))
        for verdict in evidence.criteria
    ]
    transfers = [
        (
            spaced(name),
            *(f"{format_signed(m.value)} {format_difference_interval(m)}" for m in (transfer.shift, transfer.regret)),
            transfer.verdict.outcome,
        )
        for name, transfer in evidence.transfer.items()
    ]
    crossings = [
        (
            spaced(name),
            "duration" if curve.over == "duration_ms" else "SNR",
            spaced(curve.measure),
            "; ".join(plain_sentence(point.sentence) for point in curve.points),
        )
        for name, curves in evidence.curves.items()
        for curve in curves
    ]
    judged = evidence.probability.test_sets.items()
    probabilities = [
        (
            spaced(name),
            condition_title(condition),
            *map(format_metric, metrics),
            format_metric(metric_of(results.row(FINE_TUNED, CALIBRATED, name, condition), "min_dcf")),
        )
        for name, on_test in judged
        for condition, metrics in on_test.metrics.items()
    ]
    compared = ", ".join(f"{name} {format_number(loss)}" for name, loss in evidence.probability.dev_cllr.items())
    return [
        make_table("Success criteria, judged by their intervals", ("Criterion", "On", "Verdict"), criteria),
        make_table(
            "Transfer of the threshold that dev chose",
            ("Test set", "#Shift (logits)", "#Regret (balanced accuracy)", "Within ±0.5"),
            transfers,
        ),
        make_table("Where the fitted curves pass their targets", ("Test set", "Over", "Measure", "At"), crossings),
        make_table(
            "Probabilities by the map that dev chose",
            ("Test set", "Condition", *PROBABILITY_HEADS),
            probabilities,
            f"Cross-fitted Cllr on dev: {compared or 'too few groups to compare'}. A Cllr of 1 knows nothing.",
        ),
    ]


def group_tables(results: Results) -> tuple[Table, Table]:
    """The groups with errors on clean clips, the hardest first; the hardest of each label under every condition."""
    errors = {results.title_of(name): errors for name, errors in results.evidence.errors.items()}
    wrong = [
        (each.group, title, each.label, Cell(format_number(each.right), f"[{each.low:.3f}, {each.high:.3f}]"),
         each.n_wrong, each.n)
        for title, found in errors.items()
        for each in [group for group in found.groups if group.n_wrong][:SHOWN_GROUPS]
    ]  # fmt: skip
    worst = [
        (part.part, title, part.label, condition_title(condition), part.metric)
        for title, found in errors.items()
        for condition, parts in found.worst.items()
        for part in parts
    ]
    caption = f"Groups with errors on clean clips, at most {SHOWN_GROUPS} of a test set"
    note = "Intervals count the group's clips and say nothing about other groups."
    return (
        make_table(caption, ("Group", "Test set", "Label", "#Right", "#Wrong", "#Clips"), wrong, note),
        make_table("The hardest group under each condition", ("Group", "Test set", "Label", "Condition", "#Right"),
                   worst),
    )  # fmt: skip


def errors_sentence(results: Results) -> str:
    """How many clean clips of each test set were decided wrongly."""
    counts = (f"{results.title_of(name)} {e.n_wrong} of {e.n} clips" for name, e in results.evidence.errors.items())
    return f"Wrong on clean clips: {'; '.join(counts)}."


def allocation_tables(results: Results) -> tuple[Table, Table]:
    """Clips, groups and categories of every split and label; the backgrounds by kind."""
    rows = [(spaced(a.part), a.label, a.n_clips, a.n_groups, a.categories) for a in results.allocation]
    backgrounds = [(spaced(count.part), count.kind, count.n) for count in results.backgrounds]
    return (
        make_table("Clips and groups of each split", ("Split", "Label", "#Clips", "#Groups", "#Categories"), rows),
        make_table("Background recordings of each split", ("Split", "Kind", "#Recordings"), backgrounds),
    )


def threshold_table(results: Results) -> Table:
    """Each method's default threshold and the one chosen on dev."""
    rows = [
        (method_title(name), Cell(format_number(method.default_threshold, THRESHOLD), method.form_at_default),
         Cell(format_number(chosen.value, THRESHOLD), method.form), spaced(chosen.criterion),
         format_number(chosen.dev_value), chosen.n, chosen.n_groups, chosen.dev_sha256[:16])
        for name, chosen in results.thresholds.items()
        for method in [results.methods[name]]
    ]  # fmt: skip
    heads = ("Method", "#Default", "#Calibrated", "Chosen by", "#On dev", "#Dev rows", "#Groups",
             "Hash of the dev scores")  # fmt: skip
    return make_table("Thresholds, chosen on the dev scores only", heads, rows)


def sheet_tables(results: Results) -> list[Table]:
    """The classes of the test sets and their licences."""
    classes = [
        (test_set.title, c.label, c.n_clips, c.n_groups, c.n_recordings, c.n_categories,
         *(f"{seconds:.2f}" for seconds in (c.shortest_s, c.median_s, c.longest_s)))
        for test_set in results.test_sets
        for c in test_set.classes
    ]  # fmt: skip
    licences = [(each.title, licence, n) for each in results.test_sets for licence, n in each.licences.items()]
    counts = ("#Clips", "#Groups", "#Recordings", "#Categories", "#Shortest (s)", "#Median (s)", "#Longest (s)")
    return [
        make_table("Clips of the tests", ("Test set", "Label", *counts), classes),
        make_table("Licences of the tests", ("Test set", "Licence", "#Clips"), licences),
    ]


def findings_table(leaks: Leaks) -> Table:
    """The leak gate's findings, leaks first, at most SHOWN_FINDINGS."""
    shown = f", the first {SHOWN_FINDINGS}" if len(leaks.findings) > SHOWN_FINDINGS else ""
    findings = [
        ("leak" if f.is_leak else "warning", f.kind, f"{spaced(f.part_a)}: {f.id_a}", f"{spaced(f.part_b)}: {f.id_b}",
         f.evidence)
        for f in leaks.findings[:SHOWN_FINDINGS]
    ]  # fmt: skip
    return make_table(f"What the leak gate found{shown}", ("", "Kind", "One", "Other", "Evidence"), findings)


def quarantine_table(results: Results) -> Table:
    """The clips that could not be read, and why."""
    rows = [(clip.clip_id, clip.reason) for clip in results.quarantine]
    return make_table("Clips left out because they could not be read", ("Clip", "Reason"), rows)


def provenance_of(results: Results) -> dict[str, str]:
    """The base model and what made the run, as names and values."""
    model = results.model
    described = {
        "name": model.name,
        "fingerprint": model.fingerprint,
        "starter base": "yes" if model.is_starter_base else "no",
        **model.description,
    }
    values = {}
    for name, value in flatten({"model": described, **results.provenance}, ": "):
        plain = "unknown" if value is None else str(value)
        values[name] = ", ".join(map(str, value)) if isinstance(value, list) else plain
    return values


def flatten(tree: Mapping[str, Any], separator: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, named by their keys."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value
