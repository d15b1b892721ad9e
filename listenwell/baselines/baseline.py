"""What a baseline is: another speech detector that gives one score per clip, as the language model does.

Baselines come with the optional extra `baselines`; nothing of theirs is imported before one is made.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from listenwell.data.audio import Waveform
from listenwell.errors import ListenwellError


class Baseline(Protocol):
    """A detector with a score per clip, the higher the more like speech, and the threshold it is published with."""

    name: str
    default_threshold: float

    def scores(self, waveforms: Sequence[Waveform]) -> NDArray[np.float64]:
        """Return the scores of the clips, shape (n,). A clip's score depends on no other clip."""
        ...


def missing_package(baseline: str, package: str) -> ListenwellError:
    """Return the error that says how to install what `baseline` needs."""
    return ListenwellError(
        f"{baseline}: the Python package {package} is not installed; "
        "install the baselines with: pip install 'listenwell[baselines]'"
    )
