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
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from listenwell.config import Config
from listenwell.data.backgrounds import BackgroundBank, clip_background_id
from listenwell.data.clip import Background, Clip
from listenwell.errors import ConfigError, ListenwellError, TrainingError
from listenwell.fits.request import Bracket, FitRequest, plan_fits
from listenwell.fits.stacks import DevSets, PlannedStack, train_stack
from listenwell.model.loading import load_model
from listenwell.splits.divide import DEV, TRAIN, Splits, with_speakers
from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import RunFolder, identity, read_json
from listenwell.study_settings import ExecutorConfig

CACHE_VARIABLE = "LISTENWELL_CACHE"
THREADS_VARIABLE = "OMP_NUM_THREADS"
SPLITS = TypeAdapter(list[tuple[dict[str, list[Clip]], dict[str, list[Background]], bool]])
"""Clips, the recordings of the banks, and whether training also mixes in its speakers."""
REQUESTS = TypeAdapter(list[tuple[str, Config, Config, int, Bracket | None]])
"""Name, config, config of dev, place of the splits among those shared, bracket."""


def train_on_ray(stacks: Sequence[PlannedStack], requests: Sequence[FitRequest], run: RunFolder) -> None:
    """Train every stack of fits among those requested, as many at a time as Ray has room for.

    Raises ConfigError when Ray is not there, TrainingError when a stack failed or its workers died too often.
    """
    executor = requests[0].config.executor
    ray = _connect(executor)
    # Ray would give its workers another number of OpenMP's threads, which changes the last bits
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ[THREADS_VARIABLE] if THREADS_VARIABLE in os.environ else str(cores)
    content = requests_to_json(requests, run)
    path = (run.tasks / f"{identity(**content)[:16]}.json").absolute()
    write_json(path, content)
    task = ray.remote(
        num_cpus=executor.cpus,
        num_gpus=executor.gpus,
        max_retries=executor.retries,
        runtime_env={"env_vars": {THREADS_VARIABLE: threads}},
    )(train_task)
    waiting = [task.remote(str(path), [fit.identity for fit in stack.members]) for stack in stacks]
    try:
        failures = [failure for failure in ray.get(waiting) if failure is not None]
    except ray.exceptions.RayError as error:
        raise TrainingError(
            f"{run.root}: Ray gave a stack up ({str(error).strip().splitlines()[0]}) after {executor.retries} retries; "
            "finished fits stay, run the same command to go on."
        ) from error
    if failures:
        raise TrainingError(" ".join(failures))
    path.unlink()


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
        requests, dev_sets, run = _prepare_worker(path)
        planned = {fit.identity: fit for fit in plan_fits(requests, dev_sets.model.fingerprint, run)}
        if not set(members) <= set(planned):
            raise TrainingError(
                f"{run.root}: the worker on {socket.gethostname()} would train other fits than it was asked for: its "
                "listenwell, its libraries or its model differ; install the same version on every machine, and stop "
                "workers that were started before."
            )
        train_stack(PlannedStack([planned[member] for member in members], planned, run), dev_sets)
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
    """Requests and surroundings as JSON values; splits that several requests share stand once."""
    shared = list({id(request.splits): request.splits for request in requests}.values())
    numbers = {id(splits): number for number, splits in enumerate(shared)}
    rows = [(r.name, r.config, r.dev_config, numbers[id(r.splits)], r.bracket) for r in requests]
    parts = []
    for splits in shared:
        clips = {name: splits.clips[name] for name in (TRAIN, DEV)}
        spoken = {clip_background_id(clip) for clip in clips[TRAIN]}
        entries = {name: splits.banks[name].entries for name in clips}
        recordings = {name: [e for e in bank if e.background_id not in spoken] for name, bank in entries.items()}
        parts.append((clips, recordings, len(recordings[TRAIN]) < len(entries[TRAIN])))
    return {
        "folder": os.getcwd(),
        "cache": os.environ[CACHE_VARIABLE] if CACHE_VARIABLE in os.environ else None,
        "n_threads": torch.get_num_threads(),
        "run": str(run.root),
        "ledger": None if run.ledger is None else str(run.ledger),
        "parts": SPLITS.dump_python(parts, mode="json"),
        "requests": REQUESTS.dump_python(rows, mode="json"),
    }


def requests_from_json(content: Mapping[str, Any]) -> tuple[list[FitRequest], RunFolder]:
    """The opposite of requests_to_json."""
    shared = []
    for clips, recordings, mixes_speakers in SPLITS.validate_python(content["parts"]):
        splits = Splits(clips, {name: BackgroundBank(entries) for name, entries in recordings.items()})
        shared.append(with_speakers(splits) if mixes_speakers else splits)
    requests = [
        FitRequest(name, config, shared[number], dev_config, bracket)
        for name, config, dev_config, number, bracket in REQUESTS.validate_python(content["requests"])
    ]
    ledger = content["ledger"]
    return requests, RunFolder(Path(content["run"]), None if ledger is None else Path(ledger))
