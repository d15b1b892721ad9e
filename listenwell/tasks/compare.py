"""Open what `listenwell compare` is given: run folders, score tables, predictions of other programs.

A source is PATH or PATH@THRESHOLD, the threshold a number or a file that calibrate wrote. A run folder stands for one
of its methods (the fine-tuned model unless another is named) on one of its test sets, at its calibrated threshold.

Read two finished studies to be set side by side: the same clips or none, one method of both.

Scores come from the runs' own tables, decided at both thresholds of each run; differences are those of
`listenwell.evaluate.pairing`, corrected together over everything compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from listenwell.augment.conditions import CLEAN
from listenwell.errors import ConfigError, ListenwellError
from listenwell.evaluate.calibration import Threshold, read_given_threshold, read_threshold
from listenwell.evaluate.comparison import holm
from listenwell.evaluate.methods import CALIBRATED, DEFAULT
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.pairing import Contender, SideBySide, align, compare_contenders
from listenwell.evaluate.predictions import GivenScale, read_predictions
from listenwell.evaluate.traps import find_traps, warn_best_of
from listenwell.judge.score import read_kept_scores
from listenwell.report.comparison import ComparedRun, ComparedTestSet, GroupChange, RunComparison
from listenwell.report.results import FINE_TUNED, StudyResults, read_results
from listenwell.storage.run_folder import RunFolder, read_kept_results


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


@dataclass(frozen=True, slots=True)
class _Opened:
    """A run, its folder as it was given, and by name the two thresholds of the method asked for."""

    run: RunFolder
    folder: str
    results: StudyResults
    thresholds: Mapping[str, float]


def compare_runs(folders: Sequence[str], reading: Reading, seed: int, common: bool = False) -> RunComparison:
    """Compare the first run with the second on every test set both have, or on the one that `reading` names.

    Raises ConfigError for other than two runs, or a method or test set that one of them lacks; ManifestError where they
    scored different clips (without `common`) or disagree about a label or a group.
    """
    if len(set(folders)) != 2 or len(folders) != 2:
        raise ConfigError(f"compare --html: found {', '.join(folders)}; give two different run folders.")
    one, other = (_open(folder, reading.method) for folder in folders)
    test_sets, warnings = [], []
    for name in _shared_test_sets(one, other, reading.test_set):
        given = [_contenders(each, reading.method, name) for each in (one, other)]
        at = {
            threshold: compare_contenders([own[threshold] for own in given], seed, common)
            for threshold in (DEFAULT, CALIBRATED)
        }
        changes = _changes(*align([own[CALIBRATED] for own in given], common))
        test_sets.append(ComparedTestSet(name, at, changes))
        warnings += [*say_left_out(at[CALIBRATED].left_out), *_say_other_sound(name, one, other)]
    runs = (ComparedRun(one.folder, one.results), ComparedRun(other.folder, other.results))
    return RunComparison(runs, reading.method, _correct_together(test_sets), list(dict.fromkeys(warnings)))


def _open(folder: str, method: str) -> _Opened:
    run = RunFolder(Path(folder))
    results = read_results(results_of(run))
    if method not in results.methods:
        raise ConfigError(f"{folder}: has no method '{method}'; --method takes {', '.join(results.methods)}.")
    default = results.raw["methods"][method]["default_threshold"]
    return _Opened(run, folder, results, {DEFAULT: default, CALIBRATED: read_threshold(run.threshold(method)).value})


def _shared_test_sets(one: _Opened, other: _Opened, wanted: str) -> list[str]:
    shared = [name for name in one.results.test_sets if name in other.results.test_sets and wanted in ("", name)]
    if not shared:
        found = "; ".join(f"{each.folder}: {', '.join(each.results.test_sets)}" for each in (one, other))
        asked = f"'{wanted}' is not a test set of both" if wanted else "the runs have no test set in common"
        raise ConfigError(f"compare --html: {asked} ({found}).")
    return shared


def _contenders(opened: _Opened, method: str, test_set: str) -> dict[str, Contender]:
    """The method at each threshold, under the name of its run's folder."""
    run = opened.run
    table = read_kept_scores(run.scores(f"{method}-{test_set}"), run.score_identity(test_set))
    return {name: Contender(opened.folder, table, value) for name, value in opened.thresholds.items()}


def _changes(one: Contender, other: Contender) -> list[GroupChange]:
    """How the groups of the clean clips differ, in the order of label and name; the tables hold the same rows."""
    is_clean = one.table.condition == CLEAN
    truth, label, group = (getattr(one.table, name)[is_clean] for name in ("is_speech", "label", "group"))
    right = [decide(each.table.score[is_clean], each.threshold) == truth for each in (one, other)]
    found = []
    for own in sorted(set(zip(label.tolist(), group.tolist(), strict=True))):
        rows = (label == own[0]) & (group == own[1])
        found.append(GroupChange(own[1], own[0], int(rows.sum()), *(int(each[rows].sum()) for each in right)))
    return found


def _say_other_sound(test_set: str, one: _Opened, other: _Opened) -> list[str]:
    """A warning where the seals hold other hashes of the test set's recordings."""
    seals = [each.results.raw["seal"] or {"test_sets": {}} for each in (one, other)]
    hashes = {seal["test_sets"][test_set] for seal in seals if test_set in seal["test_sets"]}
    if len(hashes) < 2:
        return []
    title = one.results.title_of(test_set)
    return [f"{title}: the runs tested other recordings, or other clips, under this name"]


def _correct_together(test_sets: Sequence[ComparedTestSet]) -> list[ComparedTestSet]:
    """The same, every p value corrected by Holm over all pairs of all test sets and thresholds."""
    pairs = [pair for test_set in test_sets for found in test_set.at.values() for pair in found.pairs]
    corrected = iter(holm([pair.difference.p_value for pair in pairs]))

    def correct(found: SideBySide) -> SideBySide:
        return replace(found, pairs=tuple(replace(pair, p_holm=next(corrected)) for pair in found.pairs))

    return [replace(each, at={name: correct(found) for name, found in each.at.items()}) for each in test_sets]


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
