"""The results of a study as a Python program uses them: as a table, a figure, a written report.

The figures in all three are those of `listenwell.report.results`, which holds them.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from listenwell.errors import ListenwellError
from listenwell.evaluate.methods import CALIBRATED
from listenwell.report.found import Seal
from listenwell.report.results import Results as ReportedResults
from listenwell.report.results import metric_of, read_results
from listenwell.report.wording import condition_title, method_title
from listenwell.report.write import PAGE, write_report
from listenwell.splits.sealing import read_seal
from listenwell.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shown_figure() -> "Figure":
    """A figure that notebooks show as it is, without pyplot."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            drawn = io.BytesIO()
            self.savefig(drawn, format="png")
            return drawn.getvalue()

    return ShownFigure(layout="constrained")


class Results(ReportedResults):
    """Everything a study found; dicts named thresholds and methods are by method."""

    @classmethod
    def read(cls, run: Path | str) -> "Results":
        """The results of the finished study in the folder `run`, its seal as it is now. Raises ListenwellError."""
        folder = RunFolder(Path(run))
        kept = read_results(folder).model_copy(update={"seal": Seal.model_validate(read_seal(folder))})
        return cls.model_validate(kept.model_dump())

    def to_frame(self) -> Any:
        """A pandas DataFrame: a row for each measure of each method, threshold, test set and condition.

        Raises ListenwellError where pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            raise ListenwellError("the Python package pandas is not installed; run: pip install pandas") from error
        names = ("method", "threshold", "test_set", "condition"), ("name", "value", "low", "high", "n", "n_groups")
        records = (
            [*(getattr(row, name) for name in names[0]), *(getattr(metric, name) for name in names[1])]
            for row in self.rows
            for metric in row.metrics
        )
        return DataFrame(records, columns=[*names[0], "measure", *names[1][1:]])

    def plot(self, test_set: str = "") -> "Figure":
        """Balanced accuracy of every method at its calibrated threshold under every condition, with 95 % intervals.

        test_set: where the answers are read off unless another is named.
        """
        name = test_set or self.headline
        conditions = self.conditions_of(name)
        figure = shown_figure()
        axes = figure.subplots()
        for place, method in enumerate(self.methods):
            metrics = [metric_of(self.row(method, CALIBRATED, name, condition)) for condition in conditions]
            values = [metric.value for metric in metrics]
            bars = [[m.value - m.low for m in metrics], [m.high - m.value for m in metrics]]
            xs = [x + 0.1 * place for x in range(len(conditions))]
            axes.errorbar(xs, values, bars, fmt="o", capsize=2, label=method_title(method))
        axes.set_xticks(range(len(conditions)), [condition_title(condition) for condition in conditions])
        axes.set(title=self.title_of(name), ylabel="Balanced accuracy")
        axes.legend()
        return figure

    def report(self, folder: Path | str) -> Path:
        """Write report.html, report.md and MODEL_CARD.md into the run's folder; return the page's path."""
        write_report(self, Path(folder))
        return Path(folder) / PAGE
