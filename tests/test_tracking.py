"""Live trackers: what a fit writes down reaches them; a failing one stops nothing; one that is not there is named."""

import json

import pytest
from made_sounds import make_study
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from listenwell.errors import ConfigError
from listenwell.storage.run_folder import RunFolder
from listenwell.study.run import fit_alone
from listenwell.train.tracking import TrackedLog, TrackingConfig, open_trackers, tell_each


@pytest.mark.slow
def test_every_figure_of_a_fit_stands_in_tensorboards_files_and_changes_no_result(tmp_path):
    config = make_study(tmp_path, "tracking.to=[tensorboard]", "train.epochs=2")
    finished = fit_alone(config)
    untracked = fit_alone(make_study(tmp_path, "train.epochs=2", f"output={tmp_path / 'other'}"))
    assert untracked.record == finished.record
    seen = EventAccumulator(str(RunFolder(config.output).tracking / config.tracking.project)).Reload()
    lines = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "dev_loss"):
        (tag,) = [tag for tag in seen.Tags()["scalars"] if tag.endswith(f"/{name}")]
        values = [event.value for event in seen.Scalars(tag)]
        assert values == pytest.approx([line[name] for line in lines if name in line])


def test_a_tracker_that_fails_is_named_once_and_left(tmp_path, capsys):
    class Broken:
        def log(self, values, step):
            raise OSError("no network")

        finish = log

    trackers = {"wandb": Broken()}
    for step in range(3):
        TrackedLog(tmp_path, "fit", trackers).add_metrics({"step": step, "loss": 1.0})
    tell_each(trackers, lambda tracker: tracker.finish())
    assert capsys.readouterr().err == "listenwell: wandb failed (no network); training goes on without it.\n"


def test_a_tracker_whose_package_is_missing_is_named_before_training(tmp_path):
    config = TrackingConfig(to=("swanlab",))
    with (
        pytest.raises(ConfigError, match=r"tracking\.to names swanlab, whose package"),
        open_trackers(config, tmp_path, {}),
    ):
        pass
