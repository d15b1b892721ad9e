"""A detector in one folder: everything that decides an answer, and what it was shown to be worth.

    adapter/         the trained adapter, in PEFT's format
    detector.json    base and its fingerprint, prompt, short-clip policy, thresholds chosen on dev, probability map,
                     rule for long recordings, evidence, sha256 of every other file and of itself
    MODEL_CARD.md    the run's model card, where there is one

Frozen once written: a changed file or another base is refused.
"""

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True, slots=True)
class DevRecalls:
    """What the thresholds rest on: the recall of each on dev, by criterion, and of how many SPEECH clips."""

    recalls: Mapping[str, float]
    n_speech: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of detector.json.

    thresholds: by criterion, each chosen on dev. probability: P(SPEECH) of a score, by Platt's map on dev. evidence:
    the rows of the run's results for this model and its chosen threshold. dev: None in detectors exported before it was
    kept.
    """

    base: str
    base_fingerprint: str
    quantization: str
    adapter_sha256: str
    prompt: PromptConfig
    short_clips: ShortClipConfig
    thresholds: Mapping[str, float]
    probability: ProbabilityMap
    rule: SegmentRule
    evidence: list[dict[str, Any]]
    provenance: Mapping[str, Any]
    dev: DevRecalls | None = None


def write_bundle(folder: Path, bundle: Bundle, adapter: Path, model_card: Path | None = None) -> None:
    """Write the bundle as one folder, atomically, from the adapter's folder and the model card."""
    with atomic_folder(folder) as temporary:
        shutil.copytree(adapter, temporary / ADAPTER)
        if model_card is not None:
            shutil.copyfile(model_card, temporary / MODEL_CARD)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        record = {
            "format": FORMAT,
            "base": bundle.base,
            "base_fingerprint": bundle.base_fingerprint,
            "quantization": bundle.quantization,
            "adapter_sha256": bundle.adapter_sha256,
            "prompt": bundle.prompt.model_dump(mode="json"),
            "short_clips": bundle.short_clips.model_dump(mode="json"),
            "thresholds": dict(bundle.thresholds),
            "dev": None if bundle.dev is None else asdict(bundle.dev),
            "probability": asdict(bundle.probability),
            "rule": asdict(bundle.rule),
            "evidence": bundle.evidence,
            "provenance": dict(bundle.provenance),
            "sha256": {path.relative_to(temporary).as_posix(): hash_file(path) for path in files},
        }
        write_checksummed(temporary / RECORD, record)


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
        bundle = Bundle(
            base=record["base"],
            base_fingerprint=record["base_fingerprint"],
            # detectors exported before bases could be quantised name none
            quantization=record["quantization"] if "quantization" in record else "none",
            adapter_sha256=record["adapter_sha256"],
            prompt=PromptConfig.model_validate(record["prompt"]),
            short_clips=ShortClipConfig.model_validate(record["short_clips"]),
            thresholds={name: float(value) for name, value in record["thresholds"].items()},
            probability=_read_map(record["probability"]),
            rule=SegmentRule(**{field.name: float(record["rule"][field.name]) for field in fields(SegmentRule)}),
            evidence=record["evidence"],
            provenance=record["provenance"],
            dev=_read_dev(record["dev"]) if record.get("dev") is not None else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path}: is broken ({error}); export the detector again.") from error
    if bundle.dev is not None and not bundle.dev.recalls.keys() >= bundle.thresholds.keys():
        raise ModelError(f"{path}: is broken (a threshold without its recall on dev); export the detector again.")
    if DEFAULT_CRITERION not in bundle.thresholds or not all(map(math.isfinite, bundle.thresholds.values())):
        raise ModelError(f"{path}: its thresholds are not usable ({bundle.thresholds}); export the detector again.")
    return bundle


def _read_dev(record: Mapping[str, Any]) -> DevRecalls:
    return DevRecalls({name: float(recall) for name, recall in record["recalls"].items()}, int(record["n_speech"]))


def _read_map(record: Mapping[str, Any]) -> ProbabilityMap:
    return ProbabilityMap(float(record["slope"]), float(record["intercept"]))


def _check_files(folder: Path, hashes: Mapping[str, str]) -> None:
    for name, expected in hashes.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ModelError(f"{folder / RECORD}: names '{name}', which lies outside the detector's folder.")
        if not path.is_file() or hash_file(path) != expected:
            state = "is missing" if not path.is_file() else "was changed since the export"
            raise ModelError(f"{path}: {state}; export or copy the detector again.")
