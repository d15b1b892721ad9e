"""Progress on standard error: a live bar in a terminal, an occasional plain line elsewhere.

Long work reports `on_progress(stage, done, total)`; it knows nothing of terminals. Rates and the time left are
those of the stage so far. What follows ": " in a stage is shown beside it and may change while it runs.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[str, int, int], None]
SECONDS_BETWEEN_LINES = 10.0
SHORTEST_RATED_S = 0.1
"""What was done at once, such as a batch whose clips are reported one by one, has no rate."""


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Report to nobody."""


@contextmanager
def shown_progress() -> Iterator[OnProgress]:
    """Yield a report function that draws on standard error until the block ends."""
    if not sys.stderr.isatty():
        yield PlainLines().report
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            name = stage.partition(": ")[0]
            if name not in tasks:
                tasks[name] = bars.add_task(stage, total=total)
            bars.update(tasks[name], description=stage, completed=done, total=total)

        yield report


class StageClock:
    """Passes reports on and adds up the wall seconds between them, by the first word of their stages."""

    def __init__(self, on_progress: OnProgress, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = {}
        self._on_progress, self._clock, self._last = on_progress, clock, clock()

    def report(self, stage: str, done: int, total: int) -> None:
        """The time since the last report was spent on `stage`."""
        self.count(stage.split()[0].rstrip(":"))
        self._on_progress(stage, done, total)

    def count(self, stage: str) -> None:
        """Add the time since the last report to a stage that reports nothing itself."""
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


class PlainLines:
    """Writes a line when a stage ends, and every SECONDS_BETWEEN_LINES while one or several run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.started: dict[str, float] = {}
        self.last_line = 0.0

    def report(self, stage: str, done: int, total: int) -> None:
        """Write the state of `stage` when it is time to."""
        now, (name, _, detail) = self.clock(), stage.partition(": ")
        if not self.started:
            self.last_line = now
        elapsed = now - self.started.setdefault(name, now)
        if done < total and now - self.last_line < SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        if done >= total:
            del self.started[name]
        is_rated = done > 0 and elapsed >= SHORTEST_RATED_S
        rate = f", {done / elapsed:.1f}/s" if is_rated else ""
        left = f", {elapsed * (total - done) / done:.0f} s left" if is_rated and done < total else ""
        shown = f", {detail}" if detail else ""
        print(f"{name}: {done} of {total}{rate}{left}{shown}", file=sys.stderr, flush=True)
