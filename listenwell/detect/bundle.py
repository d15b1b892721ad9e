"""The folder of a detector, frozen once written: a changed file is refused.

    adapter/         the trained adapter, in PEFT's format
    detector.json    `Bundle`: all that decides an answer, with the sha256 of every other file and of itself
    MODEL_CARD.md    the run's model card, where there is one

Knows nothing of models and audio.
"""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

import listenwell
from listenwell.detect.segmentation import SegmentRule
from listenwell.errors import ModelError
from listenwell.evaluate.probabilities import ProbabilityMap
from listenwell.model.mel import ShortClipConfig
from listenwell.model.prompt import PromptConfig
from listenwell.storage.atomic_files import atomic_folder
from listenwell.storage.load_or_make import hash_file, read_checksummed, write_checksummed

FORMAT = 1
ADAPTER, RECORD, MODEL_CARD = "adapter", "detector.json", "MODEL_CARD.md"
DEFAULT_CRITERION = "balanced_accuracy"
READY = Path(listenwell.__file__).with_name("ready")
"""The folder of the detector that the package ships."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of detector.json.

    thresholds: by criterion, each chosen on dev. probability: P(SPEECH) of a score, by the map that dev chose.
    evidence: the rows of the run's results for this model and its chosen threshold. quantization: detectors exported
    before it was kept name none.
    """

    base: str
    base_fingerprint: str
    adapter_sha256: str
    prompt: PromptConfig
    short_clips: ShortClipConfig
    thresholds: Mapping[str, float]
    probability: ProbabilityMap
    rule: SegmentRule
    evidence: list[dict[str, Any]]
    provenance: Mapping[str, Any]
    quantization: str = "none"


_BUNDLE = TypeAdapter(Bundle)


def write_bundle(folder: Path, bundle: Bundle, adapter: Path, model_card: Path | None = None) -> None:
    """Write the bundle as one folder, atomically, from the adapter's folder and the model card."""
    with atomic_folder(folder) as temporary:
        shutil.copytree(adapter, temporary / ADAPTER)
        if model_card is not None:
            shutil.copyfile(model_card, temporary / MODEL_CARD)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        hashes = {path.relative_to(temporary).as_posix(): hash_file(path) for path in files}
        content = _BUNDLE.dump_python(bundle, mode="json")
        write_checksummed(temporary / RECORD, {"format": FORMAT, **content, "sha256": hashes})


def ready_detector() -> Path:
    """The folder of the detector that the package ships. Raises ModelError where there is none."""
    if not (READY / RECORD).is_file():
        raise ModelError(
            "this version of listenwell ships no detector; give the folder of one that 'listenwell export RUN' wrote, "
            "with --detector FOLDER or Detector.load(FOLDER)."
        )
    return READY


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every file against its hash. Raises ModelError when one is missing or changed."""
    path = folder / RECORD
    if not path.is_file():
        raise ModelError(f"{folder}: no {RECORD}; give a folder that 'listenwell export' wrote.")
    try:
        record = read_checksummed(path, ModelError)
        if record["format"] != FORMAT:
            raise ModelError(f"{path}: has format {record['format']}, {FORMAT} was expected; export it again.")
        _check_files(folder, record["sha256"])
        bundle = _BUNDLE.validate_python(record)
    except ValidationError as error:
        wrong = error.errors()[0]
        reason = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        raise ModelError(f"{path}: is broken ({reason}); export the detector again.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: is broken ({error}); export the detector again.") from error
    if DEFAULT_CRITERION not in bundle.thresholds or not all(map(math.isfinite, bundle.thresholds.values())):
        raise ModelError(f"{path}: its thresholds are not usable ({bundle.thresholds}); export the detector again.")
    return bundle


def _check_files(folder: Path, hashes: Mapping[str, str]) -> None:
    for name, expected in hashes.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ModelError(f"{folder / RECORD}: names '{name}', which lies outside the detector's folder.")
        if not path.is_file() or hash_file(path) != expected:
            state = "is missing" if not path.is_file() else "was changed since the export"
            raise ModelError(f"{path}: {state}; export or copy the detector again.")
