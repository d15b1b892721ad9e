"""How long stacks take on several workers, on paper: the next stack goes to whoever is free first.

Stacks are taken in their order, as Ray takes the tasks of a study (list scheduling: Graham 1966, Bell Syst. Tech. J.
45:1563, who shows that the end is never later than 2 - 1/W times the best order's). A worker starts when its first
stack is given to it: imports, model, dev clips. Where more workers compute than there are cores they share them:
between two events every busy worker runs at the same part of its full speed. Arithmetic only; benchmarks/scheduler.py
compares it with Ray.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Speed = Callable[[int], float]
"""Busy workers -> the part of its full speed at which each of them runs."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Timeline:
    """When everything is done, and the worker-seconds spent starting, computing at any speed, and without a stack."""

    end_s: float
    busy_s: float
    idle_s: float

    @property
    def idle_share(self) -> float:
        """The part of the workers' time in which they have nothing to do."""
        return self.idle_s / (self.busy_s + self.idle_s) if self.busy_s else 0.0


def full_speed(busy: int) -> float:
    """Every worker on a machine of its own."""
    return 1.0


def shared_cores(n_cores: int, threads: int = 1) -> Speed:
    """Workers of so many threads each on one machine; cores that are not there are shared."""
    return lambda busy: min(1.0, n_cores / (busy * threads))


def simulate(stacks_s: Sequence[float], n_workers: int, start_s: float = 0.0, speed: Speed = full_speed) -> Timeline:
    """Return the timeline of stacks of these durations, measured alone at full speed, on n_workers (at least one)."""
    waiting = list(stacks_s)
    left = [start_s + waiting.pop(0) for _ in range(min(n_workers, len(waiting)))]
    now = busy_s = 0.0
    while left:
        part = speed(len(left))
        step = min(left) / part
        now += step
        busy_s += step * len(left)
        left = [work - step * part for work in left]
        ended = sum(work <= _ROUNDING for work in left)
        left = [work for work in left if work > _ROUNDING]
        left += [waiting.pop(0) for _ in range(min(ended, len(waiting)))]
    return Timeline(now, busy_s, n_workers * now - busy_s)
