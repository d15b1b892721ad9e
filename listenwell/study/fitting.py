"""Train adapters as a study needs them: specify, reuse what was trained before, train the rest in stacks, keep.

A fit's identity is the hash of everything that decides it: the recipe's version, model, prompt, short-clip policy,
LoRA, training and augmentation settings, seed, the clips' content, the backgrounds, and how dev is heard. A finished
identity is never trained again. Below fits/<identity>/: adapter/ (PEFT format), history.json, plans.jsonl (one line
per clip heard), metrics.jsonl (one line per step and epoch), and spec.json, which is written last, marks the fit as
finished and holds the hashes of adapter and history, which are checked when the fit is read back; failed.json where it
was stopped for good; dropped-<race>.json where it lost one (listenwell.study.halving).

Who trains with whom is decided once and written to stacks/<identity>/members.json before the first step, so a stack
that was stopped or killed goes on as it was, from the newest good checkpoint beside that file.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from listenwell.augment.plan import apply_plan, draw_plan
from listenwell.config import Config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.model.adapter_files import read_adapter, write_adapter
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.hearing import hear
from listenwell.model.loading import resolve_dtype
from listenwell.model.lora import Adapter
from listenwell.model.targets import count_by_half, find_targets
from listenwell.run_folder import RunFolder, identity
from listenwell.run_folder import read_json as read_json
from listenwell.study.halving import HISTORY, SPEC, DroppedFit, Race, Races, Runner
from listenwell.study.ledger import hold_fits, open_ledger
from listenwell.study.parts import DEV, TRAIN, Parts
from listenwell.train.checkpoint import Checkpoints
from listenwell.train.fit import DevSet, FailedFit, FitResult, Watch, hear_dev, train
from listenwell.train.fit_log import FitLog
from listenwell.train.fit_underway import FitSpec, Progress
from listenwell.train.overfitting import describe_overfitting
from listenwell.vouched_files import read_vouched, require_files, write_vouched

DEV_EPOCH = "dev"
RECIPE_VERSION = 4
"""Part of a fit's identity; raised when a change of the code makes the same settings train other bits."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """A fit to be had: its name, its whole config, and who trains and who chooses (dev).

    dev_config: whose augmentation and seed say how dev is heard; one for all fits that are compared.
    race: requests of one race train as one stack, and the worse ones end at its rungs.
    """

    name: str
    config: Config
    parts: Parts
    dev_config: Config
    race: Race | None = None


@dataclass(frozen=True, slots=True)
class FinishedFit:
    """A trained adapter and its record (identity, seed, best epoch, steps, history)."""

    folder: Path
    adapter: Adapter
    record: dict[str, Any]


def fit_all(
    requests: Sequence[FitRequest],
    model: AudioLanguageModel,
    run: RunFolder,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> list[FinishedFit | FailedFit | DroppedFit]:
    """Return the fits of the requests in their order, trained now or read back.

    A fit that left the finite numbers is a FailedFit; it is not tried again. One that lost its race is a DroppedFit.
    Raises StoppedError when a signal asked to stop.
    """
    records = [spec_record(request, model.fingerprint) for request in requests]
    by_identity = {identity(**record): i for i, record in enumerate(records)}
    open_ledger(run, list(by_identity))
    races = _races(by_identity, requests, run)
    planned = list(_plan_stacks(by_identity, requests, races, run))
    if planned and requests[0].config.executor.kind == "ray":
        # loaded only where asked for: Ray is an extra, and its worker calls train_stack
        from listenwell.study.ray_executor import train_on_ray

        train_on_ray(planned, requests, run)
    else:
        heard = DevSets(model, requests)
        for members in planned:
            train_stack(members, requests, heard, run, on_progress)
    return [
        races.result(identity(**record)) or _read_fit(run.fit(identity(**record)), model, request)
        for record, request in zip(records, requests, strict=True)
    ]


def _races(by_identity: Mapping[str, int], requests: Sequence[FitRequest], run: RunFolder) -> Races:
    return Races([Runner(fit, requests[i].name, requests[i].race) for fit, i in by_identity.items()], run.fit)


def train_stack(
    planned: Sequence[str],
    requests: Sequence[FitRequest],
    heard: "DevSets",
    run: RunFolder,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train the fits of these identities together, all of them among `requests`, unless another study has by now."""
    model = heard.model
    records = [spec_record(request, model.fingerprint) for request in requests]
    by_identity = {identity(**record): i for i, record in enumerate(records)}
    races = _races(by_identity, requests, run)
    with hold_fits(run, planned):
        members = _still_to_train(planned, races, run)
        chosen = [by_identity[member] for member in members]
        if chosen:
            stack = _Stack(model, run, members, [requests[i] for i in chosen], [records[i] for i in chosen], races)
            stack.train([heard.of(requests[i]) for i in chosen], on_progress)


def fit_identity(request: FitRequest, model_fingerprint: str) -> str:
    """The hash of everything that decides the fit."""
    return identity(**spec_record(request, model_fingerprint))


def spec_record(request: FitRequest, model_fingerprint: str) -> dict[str, Any]:
    """What a fit is determined by, as JSON values. What changes no result is left out."""
    config, parts = request.config, request.parts
    sections = config.model_dump(mode="json", include={"lora", "train", "augment", "prompt", "short_clips", "seed"})
    for changes_nothing in ("workers", "checkpoint_steps", "stack"):
        del sections["train"][changes_nothing]
    return {
        **sections,
        "recipe_version": RECIPE_VERSION,
        "model": model_fingerprint,
        "dtype": resolve_dtype(config.model),
        "train_clips": identity(clips=[_content(clip) for clip in parts.clips[TRAIN]]),
        "dev_clips": identity(clips=[_content(clip) for clip in parts.clips[DEV]]),
        "dev_hearing": _dev_hearing(request),
        "backgrounds": identity(beds=parts.banks[TRAIN].content),
    }


def _content(clip: Clip) -> list[Any]:
    return [clip.clip_id, clip.label, clip.group, clip.start_s, clip.duration_s, clip.pcm_sha256 or str(clip.path)]


def _dev_hearing(request: FitRequest) -> str:
    heard_as = request.dev_config.model_dump(mode="json", include={"augment", "seed"})
    short_clips = request.config.short_clips.model_dump(mode="json")
    return identity(heard_as=heard_as, short_clips=short_clips, beds=request.parts.banks[DEV].content)


def _plan_stacks(
    by_identity: Mapping[str, int], requests: Sequence[FitRequest], races: Races, run: RunFolder
) -> Iterator[Sequence[str]]:
    """Identities of each stack to train: first those that were begun, then the rest, at most train.stack together."""
    pending = [each for each in by_identity if not races.is_over(each)]
    for path in sorted(run.stacks.glob("*/members.json")):
        members: list[str] = read_vouched(path)["members"]
        is_wanted = set(members) & set(pending) and set(members) <= set(by_identity)
        if is_wanted and path.parent == _stack_folder(members, races, run):
            yield members
            pending = [each for each in pending if each not in members]
    together: dict[str, list[str]] = {}
    for each in pending:
        config = requests[by_identity[each]].config
        shared = config.model_dump(mode="json", include={"prompt", "short_clips"})
        together.setdefault(identity(**shared, race=races.key(each)), []).append(each)
    for alike in together.values():
        size = requests[by_identity[alike[0]]].config.train.stack
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def _stack_identity(members: Sequence[str], races: Races) -> str:
    race = races.key(members[0])
    return identity(members=list(members), race=race) if race else identity(members=list(members))


def _stack_folder(members: Sequence[str], races: Races, run: RunFolder) -> Path:
    return run.stacks / _stack_identity(members, races)[:16]


def _still_to_train(planned: Sequence[str], races: Races, run: RunFolder) -> Sequence[str]:
    """The members that no study sharing the ledger has trained since; a stack that was begun goes on whole."""
    left = [member for member in planned if not races.is_over(member)]
    begun = _stack_folder(planned, races, run)
    if left and begun.is_dir():
        return planned
    shutil.rmtree(begun, ignore_errors=True)
    return left


class DevSets:
    """Every dev clip of the requests heard once, however many fits choose by it."""

    def __init__(self, model: AudioLanguageModel, requests: Sequence[FitRequest]) -> None:
        self.model, self.requests = model, requests
        self.heard: dict[str, tuple[dict[str, int], DevSet]] = {}

    def of(self, request: FitRequest) -> DevSet:
        """The dev clips of one of the requests as it hears them."""
        hearing = _dev_hearing(request)
        if hearing not in self.heard:
            alike = [each for each in self.requests if _dev_hearing(each) == hearing]
            clips = list({clip.clip_id: clip for each in alike for clip in each.parts.clips[DEV]}.values())
            config = request.dev_config.model_copy(update={"short_clips": request.config.short_clips})
            dev = hear_dev_set(config, self.model, clips, request.parts.banks[DEV])
            self.heard[hearing] = {clip.clip_id: i for i, clip in enumerate(clips)}, dev
        index, dev = self.heard[hearing]
        rows = [index[clip.clip_id] for clip in request.parts.clips[DEV]]
        return DevSet([dev.mels[i] for i in rows], [dev.audio[i] for i in rows], dev.is_speech[rows])


@dataclass(frozen=True, slots=True)
class _Stack:
    """Fits that train together, and where they are kept."""

    model: AudioLanguageModel
    run: RunFolder
    members: Sequence[str]
    requests: Sequence[FitRequest]
    records: Sequence[dict[str, Any]]
    races: Races

    def train(self, dev: Sequence[DevSet], on_progress: Callable[[Progress], None]) -> None:
        """Train the stack and write what came out; afterwards nothing of the stack is left but its fits."""
        own = _stack_identity(self.members, self.races)
        folder = _stack_folder(self.members, self.races, self.run)
        write_vouched(folder / "members.json", {"members": list(self.members)})
        first = self.requests[0].config
        for request in self.requests:
            _say_targets(request, self.model)
        specs = [self._spec(request) for request in self.requests]
        watch = Watch(
            on_progress,
            [FitLog(self.run.fit(member)) for member in self.members],
            Checkpoints(folder / "checkpoints", own, first.train.checkpoint_steps),
            self.races.keep_going,
        )
        results = train(self.model, self.model.prompt(first.prompt), first.short_clips, specs, dev, watch)
        for member, request, record, result in zip(self.members, self.requests, self.records, results, strict=True):
            if self.races.is_over(member):
                continue
            if isinstance(result, FitResult) and result.was_dropped:
                self.races.note_dropped(member, result.history, record)
            else:
                _write_fit(self.run.fit(member), self.model, request, record, result)
        shutil.rmtree(folder)

    def _spec(self, request: FitRequest) -> FitSpec:
        config, parts = request.config, request.parts
        return FitSpec(
            request.name, config.lora, config.train, config.augment, config.seed, parts.clips[TRAIN], parts.banks[TRAIN]
        )


def _say_targets(request: FitRequest, model: AudioLanguageModel) -> None:
    lora = request.config.lora
    counts = count_by_half(model, find_targets(model, lora))
    shown = " and ".join(f"{count} modules of the {half.replace('_', ' ')}" for half, count in counts.items())
    print(f"fit '{request.name}': LoRA of rank {lora.rank} on {shown}", file=sys.stderr, flush=True)


def _write_fit(
    folder: Path, model: AudioLanguageModel, request: FitRequest, record: dict[str, Any], result: FitResult | FailedFit
) -> None:
    if isinstance(result, FailedFit):
        write_vouched(folder / "failed.json", {"reason": result.reason, "spec": record})
        return
    config = request.config
    listens = {
        "base_fingerprint": model.fingerprint,
        "base": config.model.name,
        "prompt": config.prompt.model_dump(mode="json"),
        "short_clips": config.short_clips.model_dump(mode="json"),
    }
    write_adapter(folder / "adapter", result.adapter, config.lora, config.model.name, listens)
    history = {
        "identity": folder.name,
        "seed": config.seed,
        "best_epoch": result.best_epoch,
        "n_steps": result.n_steps,
        "lora_modules": count_by_half(model, result.adapter.pairs),
        "history": result.history,
        "overfitting": describe_overfitting(result.history, result.best_epoch),
    }
    if history["overfitting"]:
        print(f"fit '{request.name}': {history['overfitting']}", file=sys.stderr, flush=True)
    write_vouched(folder / HISTORY, history)
    write_vouched(folder / SPEC, record, [*sorted((folder / "adapter").iterdir()), folder / HISTORY])


def _read_fit(folder: Path, model: AudioLanguageModel, request: FitRequest) -> FinishedFit | FailedFit:
    if (folder / "failed.json").is_file():
        return FailedFit(request.name, read_vouched(folder / "failed.json")["reason"])
    require_files(folder / SPEC, read_vouched(folder / SPEC))
    adapter, _ = read_adapter(folder / "adapter", model)
    return FinishedFit(folder, adapter, {"name": request.name, **read_vouched(folder / HISTORY)})


def hear_dev_set(config: Config, model: AudioLanguageModel, clips: list[Clip], bank: BackgroundBank) -> DevSet:
    """Dev clips under one fixed plan each, drawn from the training policy, on dev backgrounds.

    Without masks, and without babble: dev has too few speakers to mix some under the others.
    """
    left_out = {
        name: getattr(config.augment, name).model_copy(update={"probability": 0.0})
        for name in ("spec_augment", "babble")
    }
    policy = config.augment.model_copy(update=left_out)
    mels = []
    for clip in clips:
        samples = load_waveform(clip)
        plan = draw_plan(policy, clip, samples, bank.entries, 1, config.seed, DEV_EPOCH)
        mels.append(hear(model, apply_plan(samples, plan, bank.load), config.short_clips))
    return hear_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))
