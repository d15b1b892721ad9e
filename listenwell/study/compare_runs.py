"""Read two finished studies to be set side by side: the same clips or none, one method of both.

Scores come from the runs' own tables, decided at both thresholds of each run; differences are those of
`listenwell.evaluate.pairing`, corrected together over everything compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from listenwell.augment.conditions import CLEAN
from listenwell.errors import ConfigError
from listenwell.evaluate.calibration import read_threshold
from listenwell.evaluate.methods import CALIBRATED, DEFAULT
from listenwell.evaluate.metrics import decide
from listenwell.evaluate.pairing import Contender, SideBySide, align, compare_contenders
from listenwell.evaluate.significance import holm
from listenwell.report.comparison import ComparedRun, ComparedTestSet, GroupChange, RunComparison
from listenwell.report.results import StudyResults, read_results
from listenwell.run_folder import RunFolder
from listenwell.study.compare import Reading, results_of, say_left_out
from listenwell.study.kept_scores import read_kept_scores


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
