"""A stack of fits: one forward and one backward pass for all, row k of the packed batch being fit k's clips.

Each fit has its own clips, order, plans, dropout stream, optimiser and schedule, and leaves when it ends; a stack of
one is the ordinary case. Out of memory splits the fits in two groups, for good: the groups take turns, which changes
results within rounding only.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from listenwell.errors import TrainingError
from listenwell.model.audio_language_model import AudioLanguageModel, answer_scores, embed_clips
from listenwell.model.prompt import Prompt
from listenwell.train.checkpoint import FitState
from listenwell.train.fit_underway import DEV_BATCH_SECONDS, FitUnderway
from listenwell.train.loader import ClipLoader, PreparedClip

BATCHES_AHEAD = 2
"""Batches of every fit that workers prepare while the model computes."""

Batch = Sequence[PreparedClip]
Fits = Sequence[FitUnderway]


class Stack:
    """groups: the fits that go through the model together; one group until memory runs out."""

    def __init__(self, model: AudioLanguageModel, prompt: Prompt, loader: ClipLoader, fits: Fits) -> None:
        self.model, self.prompt, self.loader, self.fits = model, prompt, loader, fits
        self.groups: list[Fits] = [fits]

    def take_round(self) -> None:
        """One batch of every fit that is not done, and the end of its epoch where that was the last batch.

        Raises TrainingError when the batch of one fit alone does not fit into memory.
        """
        self.groups = [left for group in self.groups if (left := [fit for fit in group if not fit.is_done])]
        for fits in tuple(self.groups):
            requests = [fit.next_batch() for fit in fits]
            ahead = [request for fit in self.fits for request in fit.look_ahead(BATCHES_AHEAD)]
            prepared = iter(self.loader.load([request for batch in requests for request in batch], ahead))
            batches = [[next(prepared) for _ in batch] for batch in requests]
            for fit, batch in zip(fits, batches, strict=True):
                fit.log.add_plans(item.plan for item in batch)
            self._learn(fits, batches)
            for fit in fits:
                if not fit.upcoming and fit.position.failure is None:
                    fit.end_epoch(self._dev_scores(fit))

    def _learn(self, fits: Fits, batches: Sequence[Batch]) -> None:
        """Forward, backward and steps of the fits together; in two groups where memory does not hold all."""
        try:
            losses, gradients = self._losses_and_gradients(fits, batches)
        except torch.OutOfMemoryError as error:
            if len(fits) == 1:
                raise TrainingError(
                    f"fit '{fits[0].spec.name}': one batch of {len(batches[0])} clips does not fit into memory; lower "
                    "train.batch and raise train.accumulation, or set train.gradient_checkpointing."
                ) from error
        else:
            for fit, batch, loss, gradient in zip(fits, batches, losses, gradients, strict=True):
                fit.learn(batch, loss, gradient)
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half, at = len(fits) // 2, self.groups.index(fits)
        self.groups[at : at + 1] = first, second = fits[:half], fits[half:]
        self._learn(first, batches[:half])
        self._learn(second, batches[half:])

    def _losses_and_gradients(
        self, fits: Fits, batches: Sequence[Batch]
    ) -> tuple[list[float], list[list[torch.Tensor]]]:
        """The loss of each fit's batch, and its gradients for that fit's parameters; nothing is changed."""
        whole = [fit.spec.train.loss == "vocabulary" for fit in fits]
        logits = self.model.answer_logits(
            self._embed(fits, batches),
            self.prompt,
            [fit.adapter for fit in fits],
            whole_vocabulary=any(whole),
            recompute=any(fit.spec.train.gradient_checkpointing for fit in fits),
        )
        answers = [self.prompt.speech_id, self.prompt.nonspeech_id]
        rows = [
            row[:, answers] if any(whole) and not is_whole else row
            for row, is_whole in zip(torch.split(logits, [len(batch) for batch in batches]), whole, strict=True)
        ]
        losses = [fit.loss(row, batch, self.prompt) for fit, row, batch in zip(fits, rows, batches, strict=True)]
        parameters = [parameter for fit in fits for parameter in fit.optimizer.parameters]
        gradients = iter(torch.autograd.grad(torch.stack(losses).sum(), parameters))
        return [loss.item() for loss in losses], [[next(gradients) for _ in fit.optimizer.parameters] for fit in fits]

    def _embed(self, fits: Fits, batches: Sequence[Batch]) -> list[list[torch.Tensor]]:
        """Audio tokens of every row's clips.

        A clip that several fits get under the same plan goes through the frozen audio encoder once, without gradients;
        a fit that trains the encoder runs it on its own clips.
        """
        embed = self.model.embed_audio
        mels = {(item.clip.clip_id, item.plan): item.mel for batch in batches for item in batch}
        keys = [[(item.clip.clip_id, item.plan) for item in batch] for batch in batches]
        alone = [self.model.changes_encoder(fit.adapter) for fit in fits]
        shared = {key: mels[key] for row, is_alone in zip(keys, alone, strict=True) if not is_alone for key in row}
        with torch.no_grad():
            tokens = embed(list(shared.values())) if shared else []
        frozen = dict(zip(shared, tokens, strict=True))
        return [
            embed([mels[key] for key in row], fit.adapter) if is_alone else [frozen[key] for key in row]
            for row, fit, is_alone in zip(keys, fits, alone, strict=True)
        ]

    def _dev_scores(self, fit: FitUnderway) -> NDArray[np.float64]:
        with fit.adapter.without_dropout():
            audio = fit.dev.audio
            if self.model.changes_encoder(fit.adapter):
                audio = embed_clips(self.model, fit.dev.mels, DEV_BATCH_SECONDS, fit.adapter)
            return answer_scores(self.model, audio, self.prompt, fit.adapter)

    def states(self) -> list[FitState]:
        """What each fit needs to go on, and the number of its group."""
        states = [fit.state() for fit in self.fits]
        for fit, state in zip(self.fits, states, strict=True):
            state.record["stack"] = next((number for number, group in enumerate(self.groups) if fit in group), 0)
        return states

    def restore(self, states: Sequence[FitState]) -> None:
        """Go on from what `states` returned."""
        groups: dict[int, list[FitUnderway]] = {}
        for fit, state in zip(self.fits, states, strict=True):
            fit.restore(state)
            groups.setdefault(state.record["stack"], []).append(fit)
        self.groups = [groups[number] for number in sorted(groups)]
