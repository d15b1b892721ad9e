"""Rewrite the README's figures from a study's results, so that every number there comes from a file.

    python benchmarks/readme_figures.py runs/starter     # copies results.json and report.md to docs/starter-study, too

Without an argument it only rewrites the README from docs/starter-study/results.json; a test checks that this changes
nothing.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from listenwell.report.figures.accuracy import accuracy_curves
from listenwell.report.results import read_results

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "docs" / "starter-study"
START, END = "<!-- figures -->", "<!-- end of figures -->"
CONDITIONS = {"clean": "clean", "noisy": "-5 to 20 dB", "200ms": "200 ms", "100ms": "100 ms"}
ROWS = (
    ("zero-shot", "default", "small model, zero-shot"),
    ("fine-tuned", "default", "fine-tuned, threshold 0"),
    ("fine-tuned", "calibrated", "fine-tuned, calibrated on dev"),
    ("silero", "default", "Silero VAD, its threshold"),
    ("silero", "calibrated", "Silero VAD, calibrated on dev"),
)


def main() -> None:
    """Copy a study's results when one is named, then rewrite the README and the picture."""
    if len(sys.argv) > 1:
        STUDY.mkdir(parents=True, exist_ok=True)
        for name in ("results.json", "report.md"):
            shutil.copy(Path(sys.argv[1]) / name, STUDY / name)
    results = json.loads((STUDY / "results.json").read_text(encoding="utf-8"))
    curves = accuracy_curves(read_results(results))
    (STUDY / "accuracy.svg").write_text(curves[0].svg, encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_figures(readme.read_text(encoding="utf-8"), results), encoding="utf-8")


def with_figures(readme: str, results: dict[str, Any]) -> str:
    """The README with the block between its two markers made anew."""
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return before + START + "\n" + figures(results) + END + after


def figures(results: dict[str, Any]) -> str:
    """The README's table and the sentence about Silero VAD."""
    sets = {entry["name"]: entry for entry in results["test_sets"]}
    lines = []
    for name in ("out_of_corpus", "sealed_test"):
        entry = sets[name]
        lines += [
            f"**{entry['title']}**: balanced accuracy with 95 % intervals that respect groups; "
            f"{entry['n_clips']} clips, {entry['n_groups']} speakers and sources, each in every condition.",
            "",
            "| | " + " | ".join(CONDITIONS.values()) + " |",
            "|---|" + "---|" * len(CONDITIONS),
            *(
                f"| {title} | " + " | ".join(cells(results, name, method, threshold)) + " |"
                for method, threshold, title in ROWS
            ),
            "",
        ]
    lines += [
        "![Balanced accuracy by signal-to-noise ratio](docs/starter-study/accuracy.svg)",
        "",
        against_silero(results),
        "[All figures](docs/starter-study/report.md).",
        "",
    ]
    return "\n".join(lines)


def cells(results: dict[str, Any], test_set: str, method: str, threshold: str) -> list[str]:
    """Balanced accuracy and interval by condition."""
    found = []
    for condition in CONDITIONS:
        wanted = (method, threshold, test_set, condition)
        (row,) = (
            row
            for row in results["rows"]
            if (row["method"], row["threshold"], row["test_set"], row["condition"]) == wanted
        )
        metric = next(metric for metric in row["metrics"] if metric["name"] == "balanced_accuracy")
        found.append(f"{metric['value']:.3f} [{metric['low']:.3f}, {metric['high']:.3f}]")
    return found


def against_silero(results: dict[str, Any]) -> str:
    """What the paired comparison on the out-of-corpus test says, in words."""
    verdicts = []
    for condition in ("clean", "noisy"):
        (found,) = (
            c["result"]
            for c in results["comparisons"]
            if (c["opponent"], c["test_set"], c["condition"]) == ("silero", "out_of_corpus", condition)
        )
        word = "better" if found["low"] > 0 else "worse" if found["high"] < 0 else "cannot tell at this n"
        verdicts.append(
            f"{CONDITIONS[condition]}: {word} ({found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}])"
        )
    return (
        "Fine-tuned and calibrated, against the better of Silero's two thresholds, out of corpus: "
        + "; ".join(verdicts)
        + "."
    )


if __name__ == "__main__":
    main()
