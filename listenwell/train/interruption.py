"""Ctrl-C and SIGTERM while training: finish the step, save, say how to go on.

The first signal asks the loop to stop after the current optimiser step; a second one stops at once (what was saved
before stays). Exit status 130 after Ctrl-C, 143 after SIGTERM, as shells expect (128 + the signal's number).
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from listenwell.errors import ListenwellError


class StoppedError(ListenwellError):
    """Training was asked to stop; what was done is saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


@dataclass(slots=True)
class StopRequest:
    """signal_number is None until somebody asks."""

    signal_number: int | None = None


@contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Within the block, SIGINT and SIGTERM set the request. Outside the main thread signals are not ours: no change."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(signal_number: int, frame: FrameType | None) -> None:
        if request.signal_number is not None:
            raise KeyboardInterrupt
        request.signal_number = signal_number
        print("\nlistenwell: finishing this step, then saving; once more to stop at once.", file=sys.stderr, flush=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
