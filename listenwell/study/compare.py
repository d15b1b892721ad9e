"""Open what `listenwell compare` is given: run folders, score tables, predictions of other programs.

A source is PATH or PATH@THRESHOLD, the threshold a number or a file that calibrate wrote. A run folder stands for one
of its methods (the fine-tuned model unless another is named) on one of its test sets, at its calibrated threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.errors import ConfigError, ListenwellError
from listenwell.evaluate.calibration import Threshold, read_given_threshold, read_threshold
from listenwell.evaluate.pairing import Contender, SideBySide, compare_contenders
from listenwell.evaluate.predictions import GivenScale, read_predictions
from listenwell.evaluate.traps import find_traps, warn_best_of
from listenwell.report.results import FINE_TUNED
from listenwell.run_folder import RunFolder, read_kept_results
from listenwell.study.kept_scores import read_kept_scores


@dataclass(frozen=True, slots=True)
class Reading:
    """How the sources are to be read: names of columns and scale of predictions, method and test set of runs."""

    names: Mapping[str, str]
    scale: GivenScale = "auto"
    method: str = FINE_TUNED
    test_set: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to compare; chosen: the record of its threshold, if any; note: what was taken for granted."""

    contender: Contender
    chosen: Threshold | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ComparedSources:
    """The comparison, and what a reader must be told first."""

    result: SideBySide
    warnings: list[str]


def compare_sources(texts: Sequence[str], reading: Reading, seed: int, common: bool = False) -> ComparedSources:
    """Open the sources and compare the first with each of the others. Raises ConfigError for fewer than two."""
    if len(texts) < 2:
        raise ConfigError(f"compare: {len(texts)} source; give at least two run folders or tables.")
    sources = [open_source(text, reading) for text in texts]
    names = [source.contender.name for source in sources]
    if len(set(names)) < len(names):
        raise ConfigError(f"compare: one source stands twice among {', '.join(names)}; name each once.")
    result = compare_contenders([source.contender for source in sources], seed, common)
    return ComparedSources(result, _warnings(sources, result))


def open_source(text: str, reading: Reading) -> Source:
    """Read one source. Raises ConfigError or ManifestError naming it."""
    path, threshold = _split(text)
    if path.is_dir():
        return _open_run(path, threshold, reading)
    found = read_predictions(path, reading.names, reading.scale)
    value, chosen = read_given_threshold(threshold, found.default_threshold)
    return Source(Contender(str(path), found.table, value), chosen, found.note)


def _split(text: str) -> tuple[Path, str]:
    """PATH and THRESHOLD; a path that exists may hold an @."""
    if Path(text).exists():
        return Path(text), ""
    path, _, threshold = text.rpartition("@")
    return (Path(path), threshold) if path else (Path(text), "")


def paths_of(texts: Sequence[str]) -> list[Path]:
    """What comparing these sources reads: their folders and tables, and the files of their thresholds."""
    return [Path(part) for text in texts for part in _split(text) if str(part)]


def _open_run(path: Path, threshold: str, reading: Reading) -> Source:
    run = RunFolder(path)
    test_set = reading.test_set or _only_test_set(run)
    table = read_kept_scores(run.scores(f"{reading.method}-{test_set}"), run.score_identity(test_set))
    chosen = read_threshold(Path(threshold) if threshold else run.threshold(reading.method))
    return Source(Contender(f"{path} {reading.method}", table, chosen.value), chosen)


def results_of(run: RunFolder) -> dict[str, Any]:
    """What results.json of a finished study holds. Raises ListenwellError where there is none, or it was changed."""
    if run.results.is_file() and "test_sets" in (results := read_kept_results(run)):
        return results
    raise ListenwellError(
        f"{run.root}: holds no results of a study; finish it with 'listenwell study', or give score tables."
    )


def _only_test_set(run: RunFolder) -> str:
    names = [entry["name"] for entry in results_of(run)["test_sets"]]
    if len(names) != 1:
        raise ConfigError(f"{run.root}: has the test sets {', '.join(names)}; say which one with --test-set.")
    return str(names[0])


def _warnings(sources: Sequence[Source], result: SideBySide) -> list[str]:
    notes = [source.note for source in sources if source.note]
    traps = [
        trap
        for source in sources
        for trap in find_traps(source.contender.table, source.contender.threshold, source.chosen)
    ]
    left_out = say_left_out(result.left_out)
    condition = result.standings[0].condition
    best_of = warn_best_of({s.name: s.metrics[0] for s in result.standings if s.condition == condition})
    return list(dict.fromkeys([*notes, *left_out, *traps, *best_of]))


def say_left_out(left_out: Mapping[str, int]) -> list[str]:
    """A warning for every source of which rows were left out. left_out: name -> number of rows."""
    return [
        f"{n} rows of {name} were left out, which another source lacks: clips left out are seldom the easy ones"
        for name, n in left_out.items()
        if n
    ]
