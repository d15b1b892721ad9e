"""Compare run folders, score tables and predictions of other programs on the same clips.

A source is PATH or PATH@THRESHOLD, the threshold a number or a file that calibrate wrote. A run folder stands for one
of its methods (the fine-tuned model unless another is named) on one of its test sets, at its calibrated threshold; two
run folders can be compared on every test set that both have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from listenwell.errors import ConfigError
from listenwell.evaluate.calibration import read_given_threshold, read_threshold
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.evaluate.pairing import Contender, SideBySide, compare_contenders, correct_all
from listenwell.evaluate.predictions import GivenScale, read_predictions
from listenwell.evaluate.traps import find_traps, warn_best_of
from listenwell.judge.score import read_kept_scores
from listenwell.report.comparison import ComparedRun, RunComparison
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


def compare_runs(folders: Sequence[str], reading: Reading, seed: int, common: bool = False) -> RunComparison:
    """Compare the first run with the second on every test set both have, or on the one that `reading` names.

    Raises as compare_sources does, and ConfigError for other than two runs, or a test set that one of them lacks.
    """
    if len(folders) != 2:
        raise ConfigError(f"compare --html: found {', '.join(folders)}; give two different run folders.")
    runs = [RunFolder(Path(folder)) for folder in folders]
    results = [read_results(run) for run in runs]
    names = [[test_set.name for test_set in study.test_sets] for study in results]
    shared = [name for name in names[0] if name in names[1] and reading.test_set in ("", name)]
    if not shared:
        problem = f"'{reading.test_set}' is not a test set of both" if reading.test_set else "no test set is in both"
        listed = "; ".join(f"{folder}: {', '.join(of)}" for folder, of in zip(folders, names, strict=True))
        raise ConfigError(f"compare --html: {problem} ({listed}).")
    compared, warnings = {}, []
    for name in shared:
        compared[name], of_test_set = compare_sources(folders, replace(reading, test_set=name), seed, common)
        warnings += of_test_set
        if len({study.seal.test_sets[name] for study in results}) > 1:
            title = results[0].title_of(name)
            warnings.append(f"{title}: the runs tested other recordings, or other clips, under this name")
    thresholds = [read_threshold(run.threshold(reading.method)) for run in runs]
    one, other = map(ComparedRun, folders, results, thresholds)
    together = dict(zip(compared, correct_all(list(compared.values()), seed), strict=True))
    return RunComparison((one, other), reading.method, together, list(dict.fromkeys(warnings)))


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
    condition = result.standings[0].condition
    best_of = warn_best_of({s.name: s.metrics[0] for s in result.standings if s.condition == condition})
    return list(dict.fromkeys([*notes, *left_out, *traps, *best_of]))
