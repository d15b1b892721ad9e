"""Train fits in stacks and keep what came out; the same function for every executor.

What lies in a fit's folder afterwards: listenwell.fits.request.

Who trains with whom is decided once and written to stacks/<identity>/members.json before the first step, so a stack
that was stopped or killed goes on as it was, from the newest good checkpoint beside that file.

Dev clips as fits hear them: under one fixed plan each, once however many fits choose by them.
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
from listenwell.fits.halving import Races, Runner
from listenwell.fits.ledger import hold_fits
from listenwell.fits.request import FAILED, HISTORY, SPEC, FitRequest, dev_hearing, spec_record
from listenwell.model.adapter_files import write_adapter
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.mel import hear
from listenwell.model.parallel import numpy_on_one_thread
from listenwell.model.settings import count_by_half, find_targets
from listenwell.splits.divide import DEV, TRAIN
from listenwell.storage.atomic_files import remove_left_over
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.run_folder import RunFolder, identity
from listenwell.train.checkpoint import Checkpoints
from listenwell.train.fit import DevSet, FailedFit, FitResult, Watch, hear_dev, train
from listenwell.train.fit_log import LOGS, FitLog, describe_overfitting
from listenwell.train.fit_underway import FitSpec, Progress

DEV_EPOCH = "dev"


class DevSets:
    """Every dev clip of the requests heard once, however many fits choose by it."""

    def __init__(self, model: AudioLanguageModel, requests: Sequence[FitRequest]) -> None:
        self.model, self.requests = model, requests
        self.heard: dict[str, tuple[dict[str, int], DevSet]] = {}

    def of(self, request: FitRequest) -> DevSet:
        """The dev clips of one of the requests as it hears them."""
        hearing = dev_hearing(request)
        if hearing not in self.heard:
            alike = [each for each in self.requests if dev_hearing(each) == hearing]
            clips = list({clip.clip_id: clip for each in alike for clip in each.parts.clips[DEV]}.values())
            config = request.dev_config.model_copy(update={"short_clips": request.config.short_clips})
            dev = hear_dev_set(config, self.model, clips, request.parts.banks[DEV])
            self.heard[hearing] = {clip.clip_id: i for i, clip in enumerate(clips)}, dev
        index, dev = self.heard[hearing]
        rows = [index[clip.clip_id] for clip in request.parts.clips[DEV]]
        return DevSet([dev.mels[i] for i in rows], [dev.audio[i] for i in rows], dev.is_speech[rows])


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
    with numpy_on_one_thread():
        for clip in clips:
            samples = load_waveform(clip)
            plan = draw_plan(policy, clip, samples, bank.entries, 1, config.seed, DEV_EPOCH)
            mels.append(hear(model, apply_plan(samples, plan, bank.load), config.short_clips))
    return hear_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))


def races_of(by_identity: Mapping[str, int], requests: Sequence[FitRequest], run: RunFolder) -> Races:
    """The races that these fits run, whose state lies in their folders."""
    return Races([Runner(fit, requests[i].name, requests[i].race) for fit, i in by_identity.items()], run.fit)


def plan_stacks(
    by_identity: Mapping[str, int], requests: Sequence[FitRequest], races: Races, run: RunFolder
) -> Iterator[Sequence[str]]:
    """Identities of each stack to train: first those that were begun, then the rest, at most train.stack together."""
    pending = [each for each in by_identity if not races.is_over(each)]
    for path in sorted(run.stacks.glob("*/members.json")):
        members: list[str] = read_checksummed(path)["members"]
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


def remove_ended_stacks(by_identity: Mapping[str, int], races: Races, run: RunFolder) -> None:
    """Remove what a kill left between a stack's last fit and the end of its removal: nothing goes on from there.

    by_identity, races: what is asked for now; stacks of other fits stay.
    """
    for folder in sorted(run.stacks.glob("[0-9a-f]" * 16)):
        path = folder / "members.json"
        members = read_checksummed(path)["members"] if path.is_file() else []
        if set(members) <= set(by_identity) and all(races.is_over(member) for member in members):
            shutil.rmtree(folder)


def train_stack(
    planned: Sequence[str],
    requests: Sequence[FitRequest],
    heard: DevSets,
    run: RunFolder,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train the fits of these identities together, all of them among `requests`, unless another study has by now."""
    model = heard.model
    records = [spec_record(request, model.fingerprint) for request in requests]
    by_identity = {identity(**record): i for i, record in enumerate(records)}
    races = races_of(by_identity, requests, run)
    with hold_fits(run, planned):
        members = _still_to_train(planned, races, run)
        chosen = [by_identity[member] for member in members]
        if chosen:
            stack = _Stack(model, run, members, [requests[i] for i in chosen], [records[i] for i in chosen], races)
            stack.train([heard.of(requests[i]) for i in chosen], on_progress)


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
        write_checksummed(folder / "members.json", {"members": list(self.members)})
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
    remove_left_over(folder)
    FitLog(folder).flush()
    logs = [folder / name for name in LOGS]
    if isinstance(result, FailedFit):
        write_checksummed(folder / FAILED, {"reason": result.reason, "spec": record}, logs)
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
    write_checksummed(folder / HISTORY, history)
    write_checksummed(folder / SPEC, record, [*sorted((folder / "adapter").iterdir()), folder / HISTORY, *logs])
