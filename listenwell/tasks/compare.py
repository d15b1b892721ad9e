"""Compare run folders, score tables and predictions of other programs on the same clips.

A source is PATH or PATH@THRESHOLD, the threshold a number or a file that calibrate wrote. A run folder stands for one
of its methods (the fine-tuned model unless another is named) on one of its test sets, at its calibrated threshold.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from listenwell.config import CHANGES_NOTHING
from listenwell.errors import ConfigError
from listenwell.evaluate.calibration import read_given_threshold, read_threshold
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.evaluate.pairing import Contender, SideBySide, compare_contenders
from listenwell.evaluate.predictions import GivenScale, read_predictions
from listenwell.evaluate.traps import find_traps, warn_best_of
from listenwell.judge.score import read_kept_scores
from listenwell.report.evidence import flatten
from listenwell.report.results import read_results
from listenwell.storage.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Reading:
    """How the sources are to be read: names of columns and scale of predictions, method and test set of runs."""

    names: Mapping[str, str]
    scale: GivenScale = "auto"
    method: str = FINE_TUNED
    test_set: str = ""


def compare_sources(
    texts: Sequence[str], reading: Reading, seed: int, common: bool = False
) -> tuple[SideBySide, list[str]]:
    """Compare the first source with each of the others; also return the warnings a reader must see first.

    Raises ConfigError for fewer than two sources, ManifestError where they scored different clips (without `common`)
    or disagree about a label or a group.
    """
    if len(set(texts)) < 2 or len(set(texts)) < len(texts):
        raise ConfigError(f"compare: found {', '.join(texts)}; give at least two run folders or tables, each once.")
    sources = [open_source(text, reading) for text in texts]
    result = compare_contenders(sources, seed, common)
    return result, _warnings(sources, result)


def open_source(text: str, reading: Reading) -> Contender:
    """Read one source. Raises ConfigError or ManifestError naming it."""
    path, threshold = _split(text)
    if not path.is_dir():
        predictions = read_predictions(path, reading.names, reading.scale)
        value, chosen = read_given_threshold(threshold, predictions.default_threshold)
        return Contender(str(path), predictions.table, value, chosen, predictions.note)
    run, test_set = RunFolder(path), reading.test_set
    if not test_set:
        test_set, *others = [test_set.name for test_set in read_results(run).test_sets]
        if others:
            names = ", ".join([test_set, *others])
            raise ConfigError(f"{path}: has the test sets {names}; say which one with --test-set.")
    methods = sorted(file.stem for file in run.threshold(reading.method).parent.glob("*.json"))
    if reading.method not in methods:
        raise ConfigError(f"{path}: has no method '{reading.method}'; --method takes {', '.join(methods)}.")
    table = read_kept_scores(run.scores(f"{reading.method}-{test_set}"), run.score_identity(test_set))
    run_threshold = read_threshold(Path(threshold) if threshold else run.threshold(reading.method))
    return Contender(f"{path} {reading.method}", table, run_threshold.value, run_threshold)


def _split(text: str) -> tuple[Path, str]:
    """PATH and THRESHOLD; a path that exists may hold an @."""
    path, _, threshold = ("", "", "") if Path(text).exists() else text.rpartition("@")
    return (Path(path), threshold) if path else (Path(text), "")


def differing_settings(texts: Sequence[str]) -> list[str]:
    """One line per setting that differs between the first two sources, where both are runs; those that change no
    result are left out."""
    folders = [RunFolder(_split(text)[0]) for text in texts[:2]]
    if not all(run.results.is_file() for run in folders):
        return []
    configs = [dict(flatten(read_results(run).config, ".")) for run in folders]
    names = [name for name in {**configs[0], **configs[1]} if name.split(".")[0] not in CHANGES_NOTHING]
    pairs = {name: [json.dumps(config.get(name), ensure_ascii=False) for config in configs] for name in names}
    return [f"{name}: {one} and {other}" for name, (one, other) in pairs.items() if one != other]


def paths_of(texts: Sequence[str]) -> list[Path]:
    """What comparing these sources reads: their folders and tables, and the files of their thresholds."""
    return [Path(part) for text in texts for part in _split(text) if str(part)]


def _warnings(sources: Sequence[Contender], result: SideBySide) -> list[str]:
    notes = [source.note for source in sources if source.note]
    left_out = [
        f"{n} rows of {name} were left out, which another source lacks: clips left out are seldom the easy ones"
        for name, n in result.left_out.items()
        if n
    ]
    traps = [trap for source in sources for trap in find_traps(source.table, source.threshold, source.chosen)]
    first = result.rows[0].condition
    best_of = warn_best_of({row.method: row.metrics[0] for row in result.rows if row.condition == first})
    return list(dict.fromkeys([*notes, *left_out, *traps, *best_of]))
