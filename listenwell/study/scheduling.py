"""How long stacks take on several workers, on paper: the next stack goes to whoever is free first.

Stacks are taken in their order, as Ray takes the tasks of a study (list scheduling: Graham 1966, Bell Syst. Tech. J.
45:1563, who shows that the end is never later than 2 - 1/W times the best order's). Every worker has a machine of its
own. Arithmetic only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Timeline:
    """When everything is done, and the worker-seconds spent without a stack."""

    end_s: float
    idle_s: float


def simulate(stacks_s: Sequence[float], n_workers: int) -> Timeline:
    """Return the timeline of stacks of these durations on n_workers (at least one)."""
    waiting = list(stacks_s)
    left = [waiting.pop(0) for _ in range(min(n_workers, len(waiting)))]
    now = busy_s = 0.0
    while left:
        step = min(left)
        now += step
        busy_s += step * len(left)
        left = [remaining for work in left if (remaining := work - step) > _ROUNDING]
        n_free = n_workers - len(left)
        left += [waiting.pop(0) for _ in range(min(n_free, len(waiting)))]
    return Timeline(now, n_workers * now - busy_s)
