"""Checkpoints of a stack under training: whole or not there, verified before use, the newest good one wins.

A checkpoint is a folder `step-00000120` of two files: tensors.safetensors, and state.json, which holds everything else
and both hashes (storage.load_or_make). The folder appears by one rename (storage.atomic_files), so a kill leaves the
one before; a flipped bit or a cut file fails its hash, and the next older one is taken. No pickle.

Knows nothing of what is in the states: a state is a JSON record and named tensors, one per fit of the stack.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from listenwell.errors import CheckpointError
from listenwell.storage.atomic_files import atomic_folder
from listenwell.storage.load_or_make import read_checksummed, require_files, write_checksummed

FORMAT_VERSION, KEPT = 4, 2
TENSORS, STATE = "tensors.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class FitState:
    """What one fit needs to go on: JSON values, and tensors by name (no name holds a slash at its start)."""

    record: dict[str, Any]
    tensors: dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one stack below `folder`; the newest KEPT stay. identity: of the fits that are in them."""

    folder: Path
    identity: str
    every_steps: int

    def save(self, step: int, states: Sequence[FitState]) -> Path:
        """Write the checkpoint of `step` and remove older ones. Raises ListenwellError when the disk is full."""
        folder = self.folder / f"step-{step:08d}"
        with atomic_folder(folder) as temporary:
            tensors = {
                f"{number}/{name}": tensor.detach().cpu().contiguous()
                for number, state in enumerate(states)
                for name, tensor in state.tensors.items()
            }
            save_file(tensors, temporary / TENSORS)
            content = {
                "format": FORMAT_VERSION,
                "identity": self.identity,
                "step": step,
                "fits": [state.record for state in states],
            }
            write_checksummed(temporary / STATE, content, [temporary / TENSORS])
        for old in self._names()[:-KEPT]:
            shutil.rmtree(self.folder / old)
        return folder

    def newest(self) -> tuple[int, list[FitState]] | None:
        """The step and states of the newest checkpoint that verifies, or None; a warning names those that do not.

        Raises CheckpointError when it is of other fits or of another version: training on would be another run.
        """
        for name in reversed(self._names()):
            folder = self.folder / name
            try:
                content = read_checksummed(folder / STATE)
                require_files(folder / STATE)
            except CheckpointError:
                print(f"listenwell: warning: checkpoint {name} is damaged and passed over.", file=sys.stderr)
                continue
            self._require_own(folder, content)
            states = [FitState(record, {}) for record in content["fits"]]
            for name, tensor in load_file(folder / TENSORS).items():
                number, _, name_in_fit = name.partition("/")
                states[int(number)].tensors[name_in_fit] = tensor
            return content["step"], states
        return None

    def _names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("step-*")) if self.folder.is_dir() else []

    def _require_own(self, folder: Path, content: Mapping[str, Any]) -> None:
        if content["format"] != FORMAT_VERSION:
            raise CheckpointError(
                f"{folder}: is a checkpoint of format {content['format']}, this version reads format {FORMAT_VERSION}; "
                "finish it with the version that began it, or delete the folder to train from the start."
            )
        if content["identity"] != self.identity:
            raise CheckpointError(
                f"{folder}: belongs to fits {content['identity'][:16]}, not {self.identity[:16]}: settings, clips or "
                "code changed since; delete the folder to train from the start."
            )
