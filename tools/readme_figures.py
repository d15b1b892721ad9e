"""Rewrite the figures of README and docs/results.md from studies' results, so that every number comes from a file.

    python tools/readme_figures.py --starter runs/starter       # copies its results and report to docs/starter-study
    python tools/readme_figures.py --kinds runs/unheard_kinds   # copies results of tools/unheard_kinds.py
    python tools/readme_figures.py --full runs/starter_full     # copies its folds and its ladder to docs/starter-full

Without an argument it only rewrites the pages from what lies there; a test checks that this changes nothing.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from listenwell.augment.conditions import match_condition
from listenwell.evaluate.methods import NOISY, Comparison
from listenwell.report.figures import accuracy_curves
from listenwell.report.results import distinct, read_results
from listenwell.report.tables import mean_over_seeds
from listenwell.report.trained import LadderRow
from listenwell.report.wording import condition_title, format_difference, format_p
from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
COMPARISON = TypeAdapter(Comparison)
STUDY = ROOT / "docs" / "starter-study"
KINDS = ROOT / "docs" / "unheard-kinds" / "results.json"
UNHEARD = "unheard_kinds"
COSTS = ROOT / "benchmarks" / "results" / "detector_cost.json"
FULL = ROOT / "docs" / "starter-full" / "results.json"
FULL_PARTS = ("ladder", "leave_one_speaker_out", "provenance")
"""What of a full study's results is kept in docs, with the titles of its test sets and what its folds showed."""
FOLDS = "leave_one_corpus_out"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
OURS = ("fine-tuned", "calibrated")
CONDITIONS = ("clean", NOISY, "200ms", "100ms")
LOUDEST = "snr_-5"
OF_FOLDS = ("clean", NOISY, "100ms")
"""Which conditions the pages show, in this order."""
OPPONENTS = {
    "zero-shot": "base model",
    "silero": "Silero VAD",
    "fsmn": "FSMN-VAD",
    "marblenet": "MarbleNet",
    "webrtc": "WebRTC VAD",
}
FIRST_PAGE = ("zero-shot", "silero", "fsmn")
COMPARED = ("zero-shot", "silero")
"""Opponents of the first page; those whose comparisons the pages list one by one."""


def main() -> None:
    """Copy what is named, then rewrite the pages and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starter", type=Path)
    parser.add_argument("--kinds", type=Path)
    parser.add_argument("--full", type=Path)
    asked = parser.parse_args()
    if asked.starter is not None:
        for name in ("results.json", "report.md", "MODEL_CARD.md"):
            shutil.copy(asked.starter / name, STUDY / name)
    if asked.kinds is not None:
        KINDS.parent.mkdir(exist_ok=True)
        shutil.copy(asked.kinds / "results.json", KINDS)
    if asked.full is not None:
        FULL.parent.mkdir(exist_ok=True)
        full = read(asked.full / "results.json")
        titles = {entry["name"]: entry["title"] for entry in full["test_sets"]}
        of_folds = {
            part: [each for each in full[part] if each["test_set"] == FOLDS] for part in ("rows", "comparisons")
        }
        write_json(FULL, {name: full[name] for name in FULL_PARTS} | of_folds | {"titles": titles})
    (curve, *_), _ = accuracy_curves(read_results(RunFolder(STUDY)))
    (STUDY / "accuracy.svg").write_text(curve.svg, encoding="utf-8")
    for page in PAGES:
        page.write_text(with_figures(page.read_text(encoding="utf-8")), encoding="utf-8")


def with_figures(page: str) -> str:
    """The page with the blocks between its markers made anew from the results in docs."""
    full, kinds = read(FULL), read(KINDS)
    made = {
        "kinds": unheard(kinds), "kinds in full": of_kinds(kinds),
        "corpora": corpora(full), "comparisons": of_corpora(full), "ladder": ladder(full),
        "figures": figures(read(STUDY / "results.json")),
    }  # fmt: skip
    for name, block in made.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = page.partition(start)
        if found:
            page = before + start + "\n" + block + end + rest.partition(end)[2]
    return page


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def figures(results: dict[str, Any]) -> str:
    """The tables of both test sets and the primary comparisons."""
    sets = {entry["name"]: entry for entry in results["test_sets"]}
    lines = []
    for name in ("out_of_corpus", "sealed_test"):
        entry = sets[name]
        lines += [
            f"**{entry['title']}**: balanced accuracy with 95 % intervals that respect groups; "
            f"{entry['n_clips']} clips, {entry['n_groups']} speakers and sources, each in every condition.",
            "",
            *table(results, name, CONDITIONS),
            "",
        ]
    lines += [
        "![Balanced accuracy by signal-to-noise ratio](starter-study/accuracy.svg)",
        "",
        against(results, "thresholds of the same dev, out of corpus"),
        where_it_errs(results),
        "[All figures](starter-study/report.md).",
        "",
    ]
    return "\n".join(lines)


def unheard(results: dict[str, Any]) -> str:
    """Kinds and corpora that neither base nor adapter has heard, all methods, and what the difference is."""
    folds = results["folds"]
    counts = {metric["name"]: metric["n_groups"] for metric in row_of(results, *OURS, UNHEARD, "clean")["metrics"]}
    n_clips = sum(fold["n_clips"] for fold in folds)
    n_corpora, n_kinds = (len({name for fold in folds for name in fold[key]}) for key in ("corpora", "kinds"))
    return "\n".join([
        f"**Corpora and kinds of sounds never heard**: {n_clips} clips of {counts['recall']} speakers of {n_corpora} "
        f"corpora and {counts['specificity']} sources of {n_kinds} kinds, in {len(folds)} folds. Neither the adapter "
        "nor the alignment of its base, [made anew](docs/results.md#corpora-and-kinds-never-heard) for each fold, "
        "trained on the corpora and kinds that it is tested on.",
        "",
        *side_by_side(results, UNHEARD, CONDITIONS, FIRST_PAGE),
        "",
    ])  # fmt: skip


def of_kinds(results: dict[str, Any]) -> str:
    """All methods, the comparisons, the seeds, and the kinds of sounds that are rejected worst."""
    titles = titles_of(results, UNHEARD, CONDITIONS)
    by_seed = ", ".join(
        f"{title} {' / '.join(f'{of_seed[condition]:.3f}' for of_seed in results['seeds'].values())}"
        for condition, title in titles.items()
    )
    costs = read(COSTS)["processor_seconds_per_second_of_audio"]
    ends = (" cost |", "---|", *(f" {costs[method]:.4f} |" for method, _, _ in rows_of(results, UNHEARD)))
    return "\n".join([
        *(line + end for line, end in zip(table(results, UNHEARD, CONDITIONS), ends, strict=True)),
        "",
        "Cost: processor seconds of one core per second of audio, on clips (`benchmarks/detector_cost.py`).",
        "",
        against(results, "thresholds of the same fold's dev"),
        f"Seeds {', '.join(results['seeds'])}, each alone in all folds: {by_seed}. The table holds of each fold the "
        "fit with the median dev loss.",
        "",
        "| Kind of sounds | clips | " + " | ".join(f"rejected, {title}" for title in titles.values()) + " |",
        "|---|---|" + "---|" * len(titles),
        *(
            f"| {kind} | {of['n_clips']} | " + " | ".join(f"{of['rejected'][each]:.3f}" for each in titles) + " |"
            for kind, of in sorted(results["kinds"].items(), key=lambda each: each[1]["rejected"]["100ms"])
        ),
        "",
        "| Fold holds out | threshold of dev | best one of its test | balanced accuracy (at the best one) |",
        "|---|---|---|---|",
        *(
            f"| {', '.join(each.replace('_', ' ') for each in fold['kinds'])}; speech of {', '.join(fold['corpora'])} "
            f"| {fold['threshold']:+.2f} | {fold['best_threshold']:+.2f} | "
            + ", ".join(
                f"{title} {fold['reached'][each]:.3f} ({fold['at_best_threshold'][each]:.3f})"
                for each, title in titles.items()
            )
            + " |"
            for fold in results["folds"]
        ),
        "",
    ])  # fmt: skip


def corpora(results: dict[str, Any]) -> str:
    """The folds that leave a corpus out, beside the opponents."""
    record = of_final(results)
    metric, speakers = balanced_accuracy(record), {speaker["speaker"] for speaker in record["speakers"]}
    return "\n".join([
        f"**Every corpus left out once**: {len(speakers)} speakers of {len(record['folds'])} corpora, {metric['n']} "
        f"clips, {metric['n_groups']} speakers and sources, each tested by an adapter that trained on none of "
        "its corpus (the small model itself was aligned on some of them).",
        "",
        *table(results, FOLDS, OF_FOLDS),
        "",
    ])  # fmt: skip


def titles_of(results: dict[str, Any], test_set: str, conditions: Sequence[str]) -> dict[str, str]:
    """What conditions are called: the noisy ones together by the levels that the test set was scored at."""
    matches = [match_condition(row["condition"]) for row in results["rows"] if row["test_set"] == test_set]
    levels = sorted({match.snr_db for match in matches if match is not None and match.snr_db is not None})
    noisy = f"{levels[0]:g} {'and' if len(levels) == 2 else 'to'} {levels[-1]:g} dB" if len(levels) > 1 else "noisy"
    return {condition: noisy if condition == NOISY else condition_title(condition) for condition in conditions}


def balanced_accuracy(record: dict[str, Any]) -> dict[str, Any]:
    """This measure of a row, or of folds."""
    found: dict[str, Any] = next(m for m in record["metrics"] if m["name"] == "balanced_accuracy")
    return found


def of_final(results: dict[str, Any]) -> dict[str, Any]:
    """The record of the delivered recipe, every corpus left out."""
    record: dict[str, Any] = next(
        r for r in results["leave_one_speaker_out"] if (r["arm"], r["by"]) == ("final", "corpus")
    )
    return record


def of_corpora(results: dict[str, Any]) -> str:
    """The primary comparisons of these folds, and the hardest speaker."""
    hardest = min(of_final(results)["speakers"], key=lambda speaker: (speaker["recall"], speaker["speaker"]))
    return "\n".join([
        against(results, "thresholds of the same fold's dev"),
        f"The hardest speaker is {hardest['speaker']}, {hardest['recall']:.0%} of {hardest['n_speech']} clips.",
        "",
    ])  # fmt: skip


def table(results: dict[str, Any], test_set: str, conditions: Sequence[str]) -> list[str]:
    """Methods at both thresholds down, ours at that of dev; conditions across."""
    heads = ("", *titles_of(results, test_set, conditions).values())
    rows = [
        (title, *(level(results, method, threshold, test_set, condition) for condition in conditions))
        for method, threshold, title in rows_of(results, test_set)
    ]
    return lines_of(heads, rows)


def rows_of(results: dict[str, Any], test_set: str) -> list[tuple[str, str, str]]:
    """(method, threshold, title) of the rows of a table."""
    methods = {row["method"] for row in results["rows"] if row["test_set"] == test_set}
    thresholds = {"default": "its own threshold", "calibrated": "calibrated on dev"}
    opponents = [
        (method, threshold, f"{title}, {said}")
        for method, title in OPPONENTS.items()
        if method in methods
        for threshold, said in thresholds.items()
    ]
    return [(*OURS, "fine-tuned, calibrated on dev"), *opponents]


def side_by_side(
    results: dict[str, Any], test_set: str, conditions: Sequence[str], opponents: Sequence[str]
) -> list[str]:
    """Ours, then of every opponent the better of its two thresholds under each condition, and ours minus it."""
    heads = ("", *titles_of(results, test_set, conditions).values())
    rows = [("**fine-tuned**", *(level(results, *OURS, test_set, condition) for condition in conditions))]
    for opponent in opponents:
        best = [
            min(
                (COMPARISON.validate_python(each) for each in results["comparisons"]
                 if (each["opponent"], each["test_set"], each["condition"]) == (opponent, test_set, condition)),
                key=lambda each: each.result.difference,
            )
            for condition in conditions
        ]  # fmt: skip
        levels = [level(results, opponent, each.opponent_threshold, test_set, each.condition) for each in best]
        rows.append((OPPONENTS[opponent], *levels))
        rows.append(("fine-tuned minus it", *(f"{format_difference(each.result)} {each.outcome}" for each in best)))
    return lines_of(heads, rows)


def lines_of(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def level(results: dict[str, Any], method: str, threshold: str, test_set: str, condition: str) -> str:
    """Balanced accuracy with its interval."""
    return with_interval(balanced_accuracy(row_of(results, method, threshold, test_set, condition)))


def row_of(results: dict[str, Any], method: str, threshold: str, test_set: str, condition: str) -> dict[str, Any]:
    """The row of a method at a threshold on a test set under a condition."""
    wanted = (method, threshold, test_set, condition)
    row: dict[str, Any]
    (row,) = (
        row for row in results["rows"] if (row["method"], row["threshold"], row["test_set"], row["condition"]) == wanted
    )
    return row


def against(results: dict[str, Any], where: str) -> str:
    """The primary comparisons, the same at the opponent's own threshold, and the loudest noise alone, as a table that
    says how each p is corrected."""
    comparisons = results["comparisons"]
    lines = [
        f"Fine-tuned minus ({where}) | difference | p | corrected by | detectable in 80 % | |",
        "|---|---|---|---|---|---|",
    ]
    places = {(each["test_set"], each["condition"]) for each in comparisons if each["is_primary"]}
    of_primary = {test_set for test_set, _ in places}
    for each in comparisons:
        is_calibrated = each["opponent_threshold"] == "calibrated"
        is_default = each["opponent"] in COMPARED and each["opponent_threshold"] == "default"
        is_beside = is_default and (each["test_set"], each["condition"]) in places
        is_loudest = each["condition"] == LOUDEST and each["opponent"] in COMPARED and is_calibrated
        if not each["is_primary"] and not is_beside and not (is_loudest and each["test_set"] in of_primary):
            continue
        comparison = COMPARISON.validate_python(each)
        opponent = OPPONENTS[comparison.opponent] + (", its own threshold" if is_default else "")
        found = comparison.result.detectable
        (title,) = titles_of(results, comparison.test_set, [comparison.condition]).values()
        cells = (
            f"{opponent}, {title}", format_difference(comparison.result),
            format_p(comparison.p_adjusted).removeprefix("= "), "Holm" if comparison.is_primary else "max-t",
            "" if found is None else f"{found:.3f}", comparison.outcome,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"| {lines[0]}", *lines[1:], ""])


def where_it_errs(results: dict[str, Any]) -> str:
    """The clean errors out of corpus, and the two groups with most of them."""
    errors = results["evidence"]["errors"]["out_of_corpus"]
    worst = sorted(errors["groups"], key=lambda group: (-group["n_wrong"], group["group"]))[:2]
    named = " and ".join(f"{group['group']} ({group['n_wrong']} of {group['n']} wrong)" for group in worst)
    return f"Of its {errors['n_wrong']} errors on clean clips there, {sum(g['n_wrong'] for g in worst)} are of {named}."


def ladder(results: dict[str, Any]) -> str:
    """The ladder: arms by test set and condition, each against the first, and every corpus left out."""
    titles = results["titles"]
    places = list(dict.fromkeys((record["test_set"], record["condition"]) for record in results["ladder"]))
    by_place = {(r["test_set"], r["condition"], r["arm"]): r for r in results["ladder"]}
    left_out = {r["arm"]: balanced_accuracy(r) for r in results["leave_one_speaker_out"] if r["by"] == "corpus"}
    heads = [f"{titles[test_set]}, {condition_title(condition)}" for test_set, condition in places]
    lines = ["| | " + " | ".join([*heads, "leave one corpus out"]) + " |", "|---|" + "---|" * (len(heads) + 1)]
    for arm in distinct(record["arm"] for record in results["ladder"]):
        cells = [rung(by_place[(*place, arm)]) for place in places]
        held_out = left_out.get(arm)
        cells.append("not run" if held_out is None else with_interval(held_out))
        lines.append(f"| {arm.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def with_interval(metric: dict[str, Any]) -> str:
    return f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]"


def rung(record: dict[str, Any]) -> str:
    """One arm's mean over seeds, and its difference from the first arm."""
    parsed = LadderRow.model_validate(record)
    against = "" if parsed.against is None else f", {format_difference(parsed.against)}"
    return mean_over_seeds(parsed) + against


if __name__ == "__main__":
    main()
