"""A base model as a folder: written whole, known by its fingerprint, and whether it is still as it was built.

The fingerprint is a hash over the files that decide the model's answers, so two folders of the same content are one
base wherever they lie; of a hub id, over the id and its resolved commit. What this project builds holds
listenwell_base.json as well: what the base was made of, and its fingerprint.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from listenwell.atomic_files import atomic_folder
from listenwell.errors import ModelError
from listenwell.model.quantization import Quantization
from listenwell.vouched_files import hash_file, read_vouched, write_vouched

BASE_FILE = "listenwell_base.json"
_FINGERPRINT = "fingerprint"
_DECIDING_FILES = (
    "*.safetensors", "config.json", "tokenizer.json", "*processor_config.json", "chat_template.jinja",
    "chat_template.json",
)  # fmt: skip
_SLOW_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json")
"""Read where there is no tokenizer.json."""


def write_base(out: Path, network: Any, processor: Any, description: Mapping[str, Any]) -> None:
    """Write network, processor and what they were made of as one folder that plain transformers loads."""
    with atomic_folder(out) as folder:
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
        write_vouched(folder / BASE_FILE, {**description, _FINGERPRINT: _hash_files(folder)})


def describe_files(folder: Path | str) -> dict[str, Any]:
    """What the base in `folder` was made of; of others than this project's, where it lies, a folder or a hub id."""
    note = Path(folder) / BASE_FILE
    if isinstance(folder, str) or not note.is_file():
        return {"folder_or_id": str(folder)}
    return {name: value for name, value in read_vouched(note, ModelError).items() if name != _FINGERPRINT}


def fingerprint(folder: Path | str, name: str, quantization: Quantization = "none") -> str:
    """The base's fingerprint (sha256); a quantised base is another base.

    Raises ModelError when a folder that this project built was changed since.
    """
    if quantization != "none":
        return hashlib.sha256(f"{fingerprint(folder, name)} {quantization}".encode()).hexdigest()
    if isinstance(folder, str):
        commit: Any = AutoConfig.from_pretrained(folder)._commit_hash
        return hashlib.sha256(f"{name}@{commit}".encode()).hexdigest()
    found, note = _hash_files(folder), folder / BASE_FILE
    if note.is_file() and (noted := read_vouched(note, ModelError).get(_FINGERPRINT, found)) != found:
        raise ModelError(
            f"{folder}: was changed or damaged since it was built (fingerprint {found[:12]}, expected "
            f"{str(noted)[:12]}); delete the folder to have it built again, or {BASE_FILE} to use it as it is."
        )
    return found


def _hash_files(folder: Path) -> str:
    patterns = _DECIDING_FILES if (folder / "tokenizer.json").is_file() else (*_DECIDING_FILES, *_SLOW_TOKENIZER)
    files = sorted({file for pattern in patterns for file in folder.glob(pattern)})
    return hashlib.sha256("\n".join(f"{file.name} {hash_file(file)}" for file in files).encode()).hexdigest()
