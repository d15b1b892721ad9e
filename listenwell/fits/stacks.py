"""Train fits in stacks and keep what came out; the same function for every executor.

Who trains with whom is decided once and written to stacks/<identity>/members.json before the first step, so a stack
that was stopped or killed goes on as it was, from the newest good checkpoint beside that file. What lies in a fit's
folder afterwards: listenwell.fits.ledger.

Dev clips are augmented once, under one fixed plan each, however many fits choose by them.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from listenwell.augment.plan import apply_plan, draw_plan
from listenwell.config import Config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.fits.ledger import hold_fits, rungs_of_dropped
from listenwell.fits.request import FAILED, HISTORY, SPEC, FitRequest, Planned, PlannedFit, dev_identity, judging_clips
from listenwell.model.adapter_files import write_adapter
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.lora import interpolate
from listenwell.model.mel import extract_features
from listenwell.model.parallel import numpy_on_one_thread
from listenwell.splits.divide import DEV, TRAIN
from listenwell.storage.atomic_files import remove_left_over
from listenwell.storage.load_or_make import read_checksummed, write_checksummed
from listenwell.storage.run_folder import RunFolder, identity
from listenwell.train.checkpoint import Checkpoints
from listenwell.train.fit import FailedFit, FitResult, Watch, train
from listenwell.train.fit_log import LOGS, FitLog, describe_overfitting
from listenwell.train.fit_underway import DevSet, FitSpec, Progress, embed_dev
from listenwell.train.tracking import TrackedLog, open_trackers

DEV_EPOCH = "dev"
MEMBERS = "members.json"


@dataclass(frozen=True, slots=True)
class PlannedStack:
    """Fits that train together: members of `planned`, which holds their rivals too."""

    members: Sequence[PlannedFit]
    planned: Planned
    run: RunFolder

    @property
    def identity(self) -> str:
        """Of the members and their bracket."""
        identities = [fit.identity for fit in self.members]
        bracket = self.members[0].bracket
        return identity(members=identities, bracket=bracket) if bracket else identity(members=identities)

    @property
    def folder(self) -> Path:
        """Where its members and checkpoints lie while it is trained."""
        return self.run.stacks / self.identity[:16]


def plan_stacks(planned: Planned, run: RunFolder) -> list[PlannedStack]:
    """The stacks to train: first those that were begun, then the other fits, at most train.stack together.

    What a kill left between a stack's last fit and the end of its removal is removed; stacks of other fits stay.
    """
    pending = {key: fit for key, fit in planned.items() if not fit.is_over}
    stacks = []
    for folder in sorted(run.stacks.glob("[0-9a-f]" * 16)):
        path = folder / MEMBERS
        members: list[str] = read_checksummed(path)["members"] if path.is_file() else []
        if not set(members) <= set(planned):
            continue
        if all(planned[member].is_over for member in members):
            shutil.rmtree(folder)
            continue
        stack = PlannedStack([planned[member] for member in members], planned, run)
        if set(members) & set(pending) and folder == stack.folder:
            stacks.append(stack)
            pending = {key: fit for key, fit in pending.items() if key not in members}
    alike: dict[str, list[PlannedFit]] = {}
    for fit in pending.values():
        shared = fit.request.config.model_dump(mode="json", include={"prompt", "short_clips"})
        alike.setdefault(identity(**shared, bracket=fit.bracket), []).append(fit)
    for fits in alike.values():
        size = fits[0].request.config.train.stack
        stacks += [PlannedStack(fits[first : first + size], planned, run) for first in range(0, len(fits), size)]
    return stacks


def train_stack(
    stack: PlannedStack, dev_sets: "DevSets", on_step: Callable[[Progress], None] = lambda progress: None
) -> None:
    """Train the fits of the stack together and write what came out, unless another study has by now.

    A stack that was begun goes on whole. Afterwards nothing of the stack is left but its fits.
    """
    with hold_fits(stack.run, [fit.identity for fit in stack.members]):
        left = [fit for fit in stack.members if not fit.is_over]
        if left and not stack.folder.is_dir():
            stack = PlannedStack(left, stack.planned, stack.run)
        if left:
            _train(stack, dev_sets, on_step)
        shutil.rmtree(stack.folder, ignore_errors=True)


def _train(stack: PlannedStack, dev_sets: "DevSets", on_step: Callable[[Progress], None]) -> None:
    model, members, folder = dev_sets.model, stack.members, stack.folder
    write_checksummed(folder / MEMBERS, {"members": [fit.identity for fit in members]})
    by_name = {fit.request.name: fit for fit in members}
    specs = []
    for request in (fit.request for fit in members):
        config = request.config
        counts = model.count_by_half(model.find_targets(config.lora))
        shown = " and ".join(f"{count} modules of the {half.replace('_', ' ')}" for half, count in counts.items())
        print(f"fit '{request.name}': LoRA of rank {config.lora.rank} on {shown}", file=sys.stderr, flush=True)
        clips, bank = request.splits.clips[TRAIN], request.splits.banks[TRAIN]
        specs.append(FitSpec(request.name, config.lora, config.train, config.augment, config.seed, clips, bank))
    first = members[0].request.config
    settings = {"base": first.model.name, "fits": ", ".join(by_name)}
    with open_trackers(first.tracking, stack.run.tracking, settings) as trackers:
        watch = Watch(
            on_step,
            [TrackedLog(fit.folder, fit.request.name, trackers) for fit in members],
            Checkpoints(folder / "checkpoints", stack.identity, first.train.checkpoint_steps),
            lambda name, now: by_name[name].identity not in rungs_of_dropped(by_name[name], stack.planned, now),
        )
        dev = [dev_sets.of(fit.request) for fit in members]
        results = train(model, model.prompt(first.prompt), first.short_clips, specs, dev, watch)
    for fit, result in zip(members, results, strict=True):
        if fit.is_over:
            continue
        if isinstance(result, FitResult) and result.was_dropped:
            write_checksummed(fit.dropped, {"history": list(result.history), "spec": dict(fit.spec)})
        else:
            _write_fit(fit, model, result)


class DevSets:
    """Every dev clip of the requests encoded once, however many fits choose by it."""

    def __init__(self, model: AudioLanguageModel, requests: Sequence[FitRequest]) -> None:
        self.model, self.requests = model, requests
        self.encoded: dict[str, tuple[dict[str, int], DevSet]] = {}

    def of(self, request: FitRequest) -> DevSet:
        """The dev clips of one of the requests."""
        key = dev_identity(request)
        if key not in self.encoded:
            alike = [other for other in self.requests if dev_identity(other) == key]
            clips = list({clip.clip_id: clip for other in alike for clip in judging_clips(other)}.values())
            config = request.dev_config.model_copy(update={"short_clips": request.config.short_clips})
            dev = encode_dev(config, self.model, clips, request.splits.banks[DEV])
            self.encoded[key] = {clip.clip_id: i for i, clip in enumerate(clips)}, dev
        index, dev = self.encoded[key]
        rows = [index[clip.clip_id] for clip in judging_clips(request)]
        return DevSet([dev.mels[i] for i in rows], [dev.audio[i] for i in rows], dev.is_speech[rows])


def encode_dev(config: Config, model: AudioLanguageModel, clips: list[Clip], bank: BackgroundBank) -> DevSet:
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
            mels.append(extract_features(model.mel_filters, apply_plan(samples, plan, bank.load), config.short_clips))
    return embed_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))


def _write_fit(fit: PlannedFit, model: AudioLanguageModel, result: FitResult | FailedFit) -> None:
    folder, config = fit.folder, fit.request.config
    remove_left_over(folder)
    FitLog(folder).flush()
    logs = [folder / name for name in LOGS]
    if isinstance(result, FailedFit):
        write_checksummed(folder / FAILED, {"reason": result.reason, "spec": dict(fit.spec)}, logs)
        return
    listens = {
        "base_fingerprint": model.fingerprint,
        "base": config.model.name,
        "prompt": config.prompt.model_dump(mode="json"),
        "short_clips": config.short_clips.model_dump(mode="json"),
    }
    adapter = interpolate(result.adapter, model.own_projector(), config.train.interpolation)
    write_adapter(folder / "adapter", adapter, config.lora, config.model.name, listens)
    history = {
        "identity": folder.name,
        "seed": config.seed,
        "best_epoch": result.best_epoch,
        "n_steps": result.n_steps,
        "lora_modules": model.count_by_half(result.adapter.pairs),
        "history": result.history,
        "overfitting": describe_overfitting(result.history, result.best_epoch),
    }
    if history["overfitting"]:
        print(f"fit '{fit.request.name}': {history['overfitting']}", file=sys.stderr, flush=True)
    write_checksummed(folder / HISTORY, history)
    write_checksummed(folder / SPEC, fit.spec, [*sorted((folder / "adapter").iterdir()), folder / HISTORY, *logs])
