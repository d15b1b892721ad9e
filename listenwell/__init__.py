"""listenwell: fine-tune audio language models to decide SPEECH or NONSPEECH, and prove whether it generalises.

The names imported below are the public API. They load on first use, so that `import listenwell` is instant and
never imports torch; everything else in the package may change between versions.

The one thing done at import is how torch's threads are to wait for each other, which OpenMP reads when torch is loaded.
By default a thread spins for milliseconds at the end of each of a step's thousand parallel loops, and where another
process has the core of one, the others spin as long as that one is not given it (docs/speed.md). Set by the
environment (GOMP_SPINCOUNT, OMP_WAIT_POLICY), or with torch loaded, it stays as it is.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # read by type checkers, and by `_homes`
    # isort: off
    from listenwell.config import Config as Config, load_config as load_config
    from listenwell.data.audio import load_waveform as load_waveform
    from listenwell.data.clip import Background as Background, Clip as Clip
    from listenwell.data.manifest import read_manifest as read_manifest, write_manifest as write_manifest
    from listenwell.detect.detector import Decision as Decision, Detector as Detector
    from listenwell.detect.segmentation import Segment as Segment
    from listenwell.errors import ListenwellError as ListenwellError
    from listenwell.evaluate.scores import (
        ScoreTable as ScoreTable,
        read_scores as read_scores,
        write_scores as write_scores,
    )
    from listenwell.fits.fitting import Trained as Trained, Trainer as Trainer
    from listenwell.judge.evidence import Judged as Judged, LeftOut as LeftOut, judge_scores as judge_scores
    from listenwell.judge.score import Scored as Scored, score_study as score_study
    from listenwell.splits.gate import Divided as Divided, divide_study as divide_study
    from listenwell.study.leave_one_out import leave_out as leave_out
    from listenwell.study.results import Results as Results
    from listenwell.study.run import run_study as run_study, train_fits as train_fits

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _homes() -> dict[str, str]:
    """Public name -> its module, as the imports above say."""
    import ast
    from pathlib import Path

    nodes = ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    imports = [(str(node.module), node.names) for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.name: module for module, names in imports for name in names if module.startswith("listenwell.")}


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__all__":  # what import machinery asks every module for
        raise AttributeError(f"module 'listenwell' has no attribute '{name}'")
    from importlib import import_module

    homes = _homes()
    if name == "__all__":
        return sorted([*homes, "__version__"])
    if name not in homes:
        raise AttributeError(f"module 'listenwell' has no attribute '{name}'")
    return globals().setdefault(name, getattr(import_module(homes[name]), name))


def __dir__() -> list[str]:
    return sorted([*_homes(), "__version__"])
