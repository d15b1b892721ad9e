"""The stage between training and judging: dev is scored and chooses the thresholds, then the test sets are opened.

The thresholds are committed to the seal before the first test clip is scored, and the test sets are scored once, under
all conditions, by all methods. Tables are read back where they were made from the same things.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from listenwell.config import Config
from listenwell.data.clip import clip_hashes
from listenwell.errors import ManifestError
from listenwell.evaluate.calibration import Threshold, choose_threshold, write_threshold
from listenwell.evaluate.scores import ScoreTable, read_scores
from listenwell.fits.fitting import Trained
from listenwell.judge.detectors import study_detectors
from listenwell.judge.score import SCORING_VERSION, made_tables, score_clips
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.divide import DEV, Splits
from listenwell.splits.sealing import commit_thresholds, open_test_set
from listenwell.storage.load_or_make import Journal, Made, load_or_make
from listenwell.storage.run_folder import RunFolder, identity

Tables = Mapping[str, Mapping[str, ScoreTable]]
"""Split (dev or a test set) -> method -> scores."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The score tables, and by method the threshold that dev chose and, of the main methods, the default one."""

    tables: Tables
    thresholds: Mapping[str, Threshold]
    defaults: Mapping[str, float]

    @property
    def test_sets(self) -> list[str]:
        """The test sets in their order."""
        return [name for name in self.tables if name != DEV]


def score_study(
    config: Config, splits: Splits, trained: Trained, run: RunFolder, on_progress: OnProgress = ignore_progress
) -> Scored:
    """Score dev, choose and commit the thresholds, score the test sets."""
    detectors, defaults = study_detectors(config, trained)

    def score_split(split: str) -> dict[str, ScoreTable]:
        """Method -> scores; a killed scoring goes on from its journal."""
        clips, bank, conditions = splits.clips[split], splits.banks[split], config.evaluation.conditions
        made_from = {
            "version": SCORING_VERSION,
            "fits": trained.identities,
            "clips": clip_hashes(clips),
            "backgrounds": bank.hashes,
            "evaluation": config.evaluation.model_dump(mode="json", include={"conditions", "baselines"}),
            "scoring.batch_seconds": config.scoring.batch_seconds,
            "seed": config.seed,
        }

        def make() -> Made:
            journal = Journal(run.score_journal(split), identity(**made_from))
            tables = score_clips(detectors, clips, bank, conditions, config, on_progress, f"scoring {split}", journal)
            files = {run.scores(f"{method}-{split}"): table for method, table in sorted(tables.items())}
            return made_tables(files, methods=sorted(tables))

        methods = load_or_make(run.score_identity(split), made_from, make, ManifestError)["methods"]
        run.score_journal(split).unlink(missing_ok=True)
        return {method: read_scores(run.scores(f"{method}-{split}")) for method in methods}

    tables = {DEV: score_split(DEV)}
    thresholds = {method: choose_threshold(table) for method, table in tables[DEV].items()}
    for method, threshold in thresholds.items():
        write_threshold(run.threshold(method), threshold)
    commit_thresholds(run, thresholds, identity(fits=list(trained.identities.values())))
    for name in splits.test_sets:
        open_test_set(run, name, splits.clips[name], thresholds)
        tables[name] = score_split(name)
    return Scored(tables, thresholds, defaults)
