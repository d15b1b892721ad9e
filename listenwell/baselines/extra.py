"""What baselines need beyond listenwell: the optional extra `baselines`, imported when one is made."""

import importlib.util
from collections.abc import Mapping, Sequence

from listenwell.errors import ListenwellError

MODULES: Mapping[str, str] = {"silero": "onnxruntime", "webrtc": "webrtcvad"}
"""The module that each baseline of evaluation.baselines needs."""


def installed_baselines() -> list[str]:
    """The baselines that can be made here."""
    return [name for name, module in MODULES.items() if importlib.util.find_spec(module) is not None]


def require_baselines(names: Sequence[str]) -> None:
    """Raise ListenwellError when one of these baselines cannot be made: before a study trains, not after it."""
    there = installed_baselines()
    for name in names:
        if name not in there:
            raise missing_package(f"evaluation.baselines: {name}", MODULES[name])


def missing_package(baseline: str, package: str) -> ListenwellError:
    """Return the error that says how to install what `baseline` needs."""
    return ListenwellError(
        f"{baseline}: the Python package {package} is not installed; in the folder of listenwell's sources run "
        "pip install '.[baselines]', or go without: evaluation.baselines=[]."
    )
