"""listenwell: fine-tune audio language models to decide SPEECH or NONSPEECH, and prove whether it generalises.

The names in `__all__` are the public API. They load on first use, so that `import listenwell` is instant and
never imports torch; everything else in the package may change between versions.

The one thing done at import is how torch's threads are to wait for each other, which OpenMP reads when torch is loaded.
By default a thread spins for milliseconds at the end of each of a step's thousand parallel loops, and where another
process has the core of one, the others spin as long as that one is not given it (docs/speed.md). Set by the
environment (GOMP_SPINCOUNT, OMP_WAIT_POLICY), or with torch loaded, it stays as it is.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from listenwell.config import Config, load_config
    from listenwell.data.audio import load_waveform
    from listenwell.data.clip import Background, Clip
    from listenwell.data.manifest import read_manifest, write_manifest
    from listenwell.detect.detector import Decision, Detector
    from listenwell.detect.segmentation import Segment
    from listenwell.errors import ListenwellError
    from listenwell.evaluate.scores import ScoreTable, read_scores, write_scores
    from listenwell.fits.fitting import Trained, Trainer
    from listenwell.judge.evidence import Judged, LeftOut, judge_scores
    from listenwell.judge.score import Scored, score_study
    from listenwell.report.results import Results
    from listenwell.splits.gate import Divided, divide_study
    from listenwell.study.leave_one_out import leave_out
    from listenwell.study.run import run_study, train_fits

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__all__ = [
    "Background",
    "Clip",
    "Config",
    "Decision",
    "Detector",
    "Divided",
    "Judged",
    "LeftOut",
    "ListenwellError",
    "Results",
    "ScoreTable",
    "Scored",
    "Segment",
    "Trained",
    "Trainer",
    "__version__",
    "divide_study",
    "judge_scores",
    "leave_out",
    "load_config",
    "load_waveform",
    "read_manifest",
    "read_scores",
    "run_study",
    "score_study",
    "train_fits",
    "write_manifest",
    "write_scores",
]

_HOMES = {
    "Background": "data.clip",
    "Clip": "data.clip",
    "Config": "config",
    "Decision": "detect.detector",
    "Detector": "detect.detector",
    "Divided": "splits.gate",
    "Judged": "judge.evidence",
    "LeftOut": "judge.evidence",
    "ListenwellError": "errors",
    "Results": "report.results",
    "ScoreTable": "evaluate.scores",
    "Scored": "judge.score",
    "Segment": "detect.segmentation",
    "Trained": "fits.fitting",
    "Trainer": "fits.fitting",
    "divide_study": "splits.gate",
    "judge_scores": "judge.evidence",
    "leave_out": "study.leave_one_out",
    "load_config": "config",
    "load_waveform": "data.audio",
    "read_manifest": "data.manifest",
    "read_scores": "evaluate.scores",
    "run_study": "study.run",
    "score_study": "judge.score",
    "train_fits": "study.run",
    "write_manifest": "data.manifest",
    "write_scores": "evaluate.scores",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'listenwell' has no attribute '{name}'")
    return getattr(import_module(f"listenwell.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
