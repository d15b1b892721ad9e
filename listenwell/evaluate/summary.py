"""The measures every score table is reported with, each with its interval."""

from listenwell.evaluate.intervals import Metric, balanced_accuracy_interval, bootstrap_interval, proportion
from listenwell.evaluate.metrics import decide, equal_error_rate, require_classes, roc_auc
from listenwell.evaluate.scores import ScoreTable


def summarise(table: ScoreTable, threshold: float, seed: int) -> list[Metric]:
    """Return balanced accuracy, recall and specificity at `threshold`, AUC and equal error rate of `table`.

    Raises ManifestError when a class is missing. `seed` keys the bootstrap of the last two.
    """
    is_speech, group = table.is_speech, table.group
    require_classes(is_speech, "balanced accuracy")
    says_speech = decide(table.score, threshold)
    return [
        balanced_accuracy_interval(says_speech, is_speech, group),
        proportion("recall", says_speech[is_speech], group[is_speech]),
        proportion("specificity", ~says_speech[~is_speech], group[~is_speech]),
        bootstrap_interval("roc_auc", roc_auc, table.score, is_speech, group, seed),
        bootstrap_interval("equal_error_rate", equal_error_rate, table.score, is_speech, group, seed),
    ]
