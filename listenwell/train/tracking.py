"""Live trackers of experiments, through accelerate's: what a fit writes to metrics.jsonl goes to them as well.

The fits of a stack train side by side, so a stack is one run of the tracker, and every figure bears its fit's name
(final-seed42/loss, final-seed42/dev_loss). A tracker changes no result: where it fails while a stack trains, that is
said once, and training goes on without it. A resumed fit sends the steps since its checkpoint again.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from listenwell.errors import ConfigError
from listenwell.section import Section
from listenwell.train.fit_log import FitLog

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio", "comet_ml", "aim", "clearml", "dvclive", "swanlab"]


class TrackingConfig(Section):
    """Live trackers of experiments; changes no result."""

    to: tuple[TrackerName, ...] = ()
    """tensorboard (files below OUTPUT/tracking), wandb, mlflow, trackio and others; each needs its own package and
    reads its own settings (WANDB_MODE, MLFLOW_TRACKING_URI, ...)."""
    project: str = Field("listenwell", min_length=1)
    """What the trackers call the experiment."""


@contextmanager
def open_trackers(config: TrackingConfig, folder: Path, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Start the trackers of config.to, one run each, by name, and close them at the end.

    folder: where those that write files put them; settings: what the run is described by, numbers and words. Raises
    ConfigError where a tracker cannot be started, such as one whose package is not installed.
    """
    trackers: dict[str, Any] = {name: _start(name, config.project, folder, settings) for name in config.to}
    try:
        yield trackers
    finally:
        tell_each(trackers, lambda tracker: tracker.finish())


def tell_each(trackers: dict[str, Any], act: Callable[[Any], None]) -> None:
    """Call `act` on every tracker; one that fails is said and removed."""
    for name in list(trackers):
        try:
            act(trackers[name])
        except Exception as error:  # of any kind: each tracker has its own
            del trackers[name]
            print(f"listenwell: {name} failed ({error}); training goes on without it.", file=sys.stderr, flush=True)


def _start(name: TrackerName, project: str, folder: Path, settings: Mapping[str, Any]) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    try:
        tracker = kind(project, logging_dir=folder) if kind.requires_logging_directory else kind(project)
        tracker.start()
        tracker.store_init_configuration(dict(settings))
    except ImportError as error:
        raise ConfigError(f"tracking.to names {name}, whose package is not installed ({error}); install it.") from error
    except Exception as error:
        raise ConfigError(f"tracking.to: {name} could not be started ({error}); correct it or leave it out.") from error
    return tracker


class TrackedLog(FitLog):
    """A fit's files, and the same figures to the trackers."""

    def __init__(self, folder: Path, name: str, trackers: dict[str, Any]) -> None:
        super().__init__(folder)
        self.name, self.trackers, self.step = name, trackers, 0

    def add_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one step's or one epoch's figures; an epoch's stand at its last step."""
        super().add_metrics(record)
        self.step = int(record.get("step", self.step))
        values = {f"{self.name}/{name}": value for name, value in record.items() if name != "step"}
        tell_each(self.trackers, lambda tracker: tracker.log(values, step=self.step))
