"""Stacks as Ray tasks: each worker gets paths and JSON, trains its stack into the shared run folder, returns nothing.

What a task needs is written once to tasks/<identity>.json in the run folder. The worker builds the same requests from
it and calls the same function as the local executor, with as many threads, so the bits are the same; the ledger, the
locks and the checkpoints are the same too. A stack whose worker died goes on elsewhere from its newest checkpoint.
Every machine must see the run folder, the recordings and the model under the same paths.
"""

import functools
import logging
import os
import socket
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from listenwell.config import Config
from listenwell.data.backgrounds import BackgroundBank, clip_background_id
from listenwell.data.clip import Background, Clip
from listenwell.errors import ConfigError, ListenwellError, TrainingError
from listenwell.fits.request import FitRequest, Race, fit_identity
from listenwell.fits.stacks import DevSets, train_stack
from listenwell.model.loading import load_model
from listenwell.splits.divide import DEV, TRAIN, Parts
from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import RunFolder, identity, read_json
from listenwell.study_settings import ExecutorConfig

CACHE_VARIABLE = "LISTENWELL_CACHE"
THREADS_VARIABLE = "OMP_NUM_THREADS"


def train_on_ray(stacks: Sequence[Sequence[str]], requests: Sequence[FitRequest], run: RunFolder) -> None:
    """Train every stack (identities of fits among `requests`), as many at a time as Ray has room for.

    Raises ConfigError when Ray is not there, TrainingError when a stack failed or its workers died too often.
    """
    executor = requests[0].config.executor
    if any(request.parts.banks[TRAIN].stored is not None for request in requests):
        raise ConfigError(
            "data.store_backgrounds keeps its file on this machine, where workers on others do not find it; set it to "
            "false, or executor.kind to local."
        )
    ray = _connect(executor)
    content = requests_to_json(requests, run)
    path = (run.tasks / f"{identity(**content)[:16]}.json").absolute()
    write_json(path, content)
    task = ray.remote(
        num_cpus=executor.cpus,
        num_gpus=executor.gpus,
        max_retries=executor.retries,
        runtime_env={"env_vars": {THREADS_VARIABLE: _threads_here()}},
    )(train_task)
    waiting = [task.remote(str(path), list(members)) for members in stacks]
    try:
        failures = [each for each in ray.get(waiting) if each is not None]
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"{run.root}: Ray gave a stack up ({str(error).strip().splitlines()[0]}) after {executor.retries} retries; "
            "finished fits stay, run the same command to go on."
        ) from error
    if failures:
        raise TrainingError(" ".join(failures))
    path.unlink()


def _threads_here() -> str:
    """OpenMP's threads in this process; Ray would give its workers another number, which changes the last bits."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return os.environ[THREADS_VARIABLE] if THREADS_VARIABLE in os.environ else str(cores)


def _connect(executor: ExecutorConfig) -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "executor.kind is ray, but Ray is not installed; run pip install 'listenwell[ray]', or take executor local."
        ) from error
    if not ray.is_initialized():
        try:
            with warnings.catch_warnings():
                # what Ray's client warns of, the error below says
                warnings.filterwarnings("ignore", "Ray Client connection timed out", UserWarning)
                ray.init(
                    address=executor.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
                )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ConfigError(
                f"executor.address: Ray cannot be reached at '{executor.address}' ({str(error).splitlines()[0]}); "
                "start it with 'ray start --head', or leave the address out to start Ray on this machine."
            ) from error
    return ray


def train_task(path: str, members: list[str]) -> str | None:
    """Train one stack, in a worker. Returns None, or what a user must be told."""
    try:
        requests, heard, run = _prepare_worker(path)
        known = {fit_identity(request, heard.model.fingerprint) for request in requests}
        if not set(members) <= known:
            raise TrainingError(
                f"{run.root}: the worker on {socket.gethostname()} would train other fits than it was asked for: its "
                "listenwell, its libraries or its model differ; install the same version on every machine, and stop "
                "workers that were started before."
            )
        train_stack(members, requests, heard, run)
    except ListenwellError as error:
        return str(error)
    return None


@functools.lru_cache(maxsize=1)
def _prepare_worker(path: str) -> tuple[list[FitRequest], DevSets, RunFolder]:
    """What all stacks of one call share, built once in each worker: requests, model and dev clips as heard."""
    content = read_json(Path(path))
    os.chdir(content["folder"])
    if content["cache"] is not None:
        os.environ[CACHE_VARIABLE] = content["cache"]
    torch.set_num_threads(content["n_threads"])
    requests, run = requests_from_json(content)
    return requests, DevSets(load_model(requests[0].config.model), requests), run


def requests_to_json(requests: Sequence[FitRequest], run: RunFolder) -> dict[str, Any]:
    """Requests and surroundings as JSON values; parts that several requests share stand once."""
    parts = {id(request.parts): request.parts for request in requests}
    numbers = {key: number for number, key in enumerate(parts)}
    voices = {clip_background_id(clip): clip for own in parts.values() for clip in [*own.clips[TRAIN], *own.clips[DEV]]}
    return {
        "folder": os.getcwd(),
        "cache": os.environ[CACHE_VARIABLE] if CACHE_VARIABLE in os.environ else None,
        "n_threads": torch.get_num_threads(),
        "run": str(run.root),
        "ledger": None if run.ledger is None else str(run.ledger),
        "parts": [
            {
                "clips": {name: [_as_json(clip) for clip in own.clips[name]] for name in (TRAIN, DEV)},
                "banks": {name: _bank_to_json(own.banks[name], voices) for name in (TRAIN, DEV)},
            }
            for own in parts.values()
        ],
        "requests": [
            {
                "name": request.name,
                "config": request.config.model_dump(mode="json"),
                "dev_config": request.dev_config.model_dump(mode="json"),
                "parts": numbers[id(request.parts)],
                "race": None if request.race is None else asdict(request.race),
            }
            for request in requests
        ],
    }


def requests_from_json(content: Mapping[str, Any]) -> tuple[list[FitRequest], RunFolder]:
    """The opposite of requests_to_json."""
    parts = [
        Parts(
            {name: [_clip(record) for record in clips] for name, clips in own["clips"].items()},
            {name: _bank(record) for name, record in own["banks"].items()},
        )
        for own in content["parts"]
    ]
    requests = [
        FitRequest(
            each["name"],
            Config.model_validate(each["config"]),
            parts[each["parts"]],
            Config.model_validate(each["dev_config"]),
            None if each["race"] is None else Race(**{**each["race"], "rungs": tuple(each["race"]["rungs"])}),
        )
        for each in content["requests"]
    ]
    ledger = content["ledger"]
    return requests, RunFolder(Path(content["run"]), None if ledger is None else Path(ledger))


def _bank_to_json(bank: BackgroundBank, voices: Mapping[str, Clip]) -> dict[str, Any]:
    """Recordings, and the clips whose voices the bank also holds."""
    return {
        "entries": [_as_json(entry) for entry in bank.entries if entry.background_id not in voices],
        "talkers": [_as_json(voices[e.background_id]) for e in bank.entries if e.background_id in voices],
    }


def _bank(record: Mapping[str, Any]) -> BackgroundBank:
    entries = [Background(**{**entry, "path": Path(entry["path"])}) for entry in record["entries"]]
    return BackgroundBank(entries, speakers=[_clip(clip) for clip in record["talkers"]])


def _as_json(record: Clip | Background) -> dict[str, Any]:
    return {**asdict(record), "path": str(record.path)}


def _clip(record: Mapping[str, Any]) -> Clip:
    return Clip(**{**record, "path": Path(record["path"])})
