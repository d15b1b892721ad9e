"""Thresholds from folds: whose scores choose them, for every method, and in what is exported."""

import pytest
from made_sounds import make_study

from listenwell.evaluate.calibration import choose_threshold, read_threshold
from listenwell.evaluate.scores import read_scores
from listenwell.fits.fitting import Trainer
from listenwell.model.loading import load_model
from listenwell.progress import ignore_progress
from listenwell.splits.clips import prepare
from listenwell.splits.divide import DEV, TRAIN, divide
from listenwell.splits.gate import divide_study
from listenwell.storage.run_folder import RunFolder
from listenwell.study.calibration import score_calibration
from listenwell.study.run import run_study, train_fits
from listenwell.tasks.export import export_detector

pytestmark = pytest.mark.slow

FOLDS = ("calibration={source: folds, by: group, folds: 2}", "train.epochs=1", "leave_one_out.dev_speakers=1")


def test_the_thresholds_of_all_methods_come_from_clips_held_out_and_go_with_the_detector(tmp_path):
    config = make_study(tmp_path, *FOLDS)
    run_study(config)
    run = RunFolder(config.output)
    splits = divide(*prepare(config), config.data)
    wanted = {clip.clip_id for split in (TRAIN, DEV) for clip in splits.clips[split]}
    for method in ("fine-tuned", "zero-shot", "webrtc"):
        table = read_scores(run.scores(f"{method}-calibration"))
        assert set(table.clip_id.tolist()) == wanted
        assert len(table) == len(wanted) * len(config.evaluation.conditions)
        assert read_threshold(run.threshold(method)) == choose_threshold(table)
    assert "calibrated on clips of train and dev (calibration.source: folds)" in (run.root / "report.md").read_text()
    of_dev = choose_threshold(read_scores(run.scores("fine-tuned-dev")))
    assert read_threshold(run.threshold("fine-tuned")) != of_dev
    bundle = export_detector(config.output, tmp_path / "detector", n_recordings=1, recording_s=6.0)
    assert bundle.thresholds["balanced_accuracy"] == read_threshold(run.threshold("fine-tuned")).value


def test_of_dev_as_many_clips_choose_the_thresholds_as_calibration_clips_says(tmp_path):
    config = make_study(tmp_path, "train.epochs=1", "calibration.clips=2")
    run_study(config)
    run = RunFolder(config.output)
    for method in ("fine-tuned", "zero-shot", "webrtc"):
        table = read_scores(run.scores(f"{method}-dev"))
        assert len(set(table.clip_id.tolist())) == 2
        assert set(table.label.tolist()) == {"SPEECH", "NONSPEECH"}
        assert read_threshold(run.threshold(method)) == choose_threshold(table)
    bundle = export_detector(config.output, tmp_path / "detector", n_recordings=1, recording_s=6.0)
    assert bundle.thresholds["balanced_accuracy"] == read_threshold(run.threshold("fine-tuned")).value


def test_each_clip_is_scored_by_a_fit_that_trained_on_nothing_of_its_group(tmp_path, monkeypatch):
    config = make_study(tmp_path, *FOLDS, "calibration.clips=6")
    run = RunFolder(config.output)
    splits = divide_study(config, run, ignore_progress).splits
    trainer = Trainer(load_model(config.model), run)
    trained = train_fits(config, splits, trainer)
    requested = []
    fit_all = Trainer.fit_all
    monkeypatch.setattr(
        Trainer, "fit_all", lambda self, requests: requested.extend(requests) or fit_all(self, requests)
    )
    found = score_calibration(config, splits, trained, trainer)
    assert found is not None
    drawn = set(found.tables["fine-tuned"].clip_id.tolist())
    assert drawn == set(found.tables["zero-shot"].clip_id.tolist())
    assert len(drawn) == 6
    held_out = [clip for request in requested for clip in request.splits.clips["held_out"]]
    assert sorted(clip.clip_id for clip in held_out) == sorted(drawn)
    for request in requested:
        parts = [{clip.group for clip in request.splits.clips[part]} for part in (TRAIN, DEV, "held_out")]
        assert sum(map(len, parts)) == len(set.union(*parts))
