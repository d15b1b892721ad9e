"""Commands as processes of their own, to be stopped and killed: forked from a server that has imported the program.

So what is killed is the work and not its imports, which take longer than a small study.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

SERVED = multiprocessing.get_context("forkserver")
SERVED.set_forkserver_preload(["listenwell.cli.main", "listenwell.study.run", "listenwell.detect.files"])


def start_command(arguments: Sequence[str], said: Path) -> ForkServerProcess:
    """Start the command; what it says goes to the file `said`."""
    process = SERVED.Process(target=_run, args=(arguments, said))
    process.start()
    return process


def require_success(process: ForkServerProcess, said: Path) -> None:
    """Wait until the command has ended well."""
    process.join(240)
    assert process.exitcode == 0, said.read_text(encoding="utf-8")


def _run(arguments: Sequence[str], said: Path) -> None:
    """The command in this process, on one thread."""
    import torch

    from listenwell.cli.main import main

    with said.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    sys.argv = ["listenwell", *arguments]
    main()
