"""Scores that choose thresholds where dev is small (calibration.source: folds): of clips of train and of dev.

Every clip is scored by a fit of the delivered recipe that trained on nothing of its fold, so the scores are those of
sounds and speakers never heard, and there are as many groups as the pool has. The opponents, which do not train, are
scored on the same clips: their thresholds and forms come from them too. The folds' fits choose their epoch on dev clips
of their own; the delivered adapter stays the one that trained on all of train.
"""

from dataclasses import replace

from listenwell.config import Config
from listenwell.errors import TrainingError
from listenwell.evaluate.methods import FINE_TUNED
from listenwell.evaluate.scores import join_tables
from listenwell.fits.fitting import FinishedFit, Trained, Trainer
from listenwell.fits.request import FitRequest
from listenwell.judge.detectors import study_methods
from listenwell.judge.score import CALIBRATION, ChoosingScores, keep_table, score_fits, score_split
from listenwell.splits.divide import DEV, Splits
from listenwell.study.leave_one_out import HELD_OUT, fold_splits, folds_of
from listenwell.train.loader import draw_some


def score_calibration(config: Config, splits: Splits, trained: Trained, trainer: Trainer) -> ChoosingScores | None:
    """Train the folds' fits and return every method's scores of the clips held out; None where dev chooses.

    Raises TrainingError where a fold's fit left the finite numbers, ManifestError for too few groups.
    """
    calibration, delivered = config.calibration, trained.delivered.arm.config
    if calibration.source == DEV:
        return None
    dealt = config.leave_one_out.model_copy(update={"folds": calibration.folds, "over": "pool"})
    folds = folds_of(config.model_copy(update={"leave_one_out": dealt}), splits, calibration.by)
    clips = draw_some([clip for fold in folds for clip in fold.held_out], calibration.clips, config.seed)
    ids = {clip.clip_id for clip in clips}
    drawn = [replace(fold, held_out=[clip for clip in fold.held_out if clip.clip_id in ids]) for fold in folds]
    requests = [
        FitRequest(f"{CALIBRATION}-{fold.name}", delivered, fold_splits(fold, splits), config)
        for fold in drawn
        if fold.held_out
    ]
    tables = []
    for request, fit in zip(requests, trainer.fit_all(requests), strict=True):
        if not isinstance(fit, FinishedFit):
            raise TrainingError(f"{request.name}: {fit.reason}; set calibration.source=dev, or a lower learning rate.")
        pair, conditions = (request.config, fit), config.evaluation.conditions
        of_fit = score_fits([pair], trainer, request.splits, HELD_OUT, conditions, config, CALIBRATION)
        tables.append(of_fit[fit.folder])
    ours = join_tables(tables)
    keep_table(trainer.run, f"{FINE_TUNED}-{CALIBRATION}", ours)
    model, bank, methods = trainer.model, splits.banks[DEV], study_methods(config, trainer.model)
    others, forms = score_split(methods, model, clips, bank, config, trainer.run, CALIBRATION, trainer.on_progress)
    return ChoosingScores({FINE_TUNED: ours, **others}, forms)
