"""Dev clips as fits hear them: under one fixed plan each, once however many fits choose by them."""

from collections.abc import Sequence

import numpy as np

from listenwell.augment.plan import apply_plan, draw_plan
from listenwell.config import Config
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import Clip
from listenwell.model.audio_language_model import AudioLanguageModel
from listenwell.model.hearing import hear
from listenwell.model.parallel import numpy_on_one_thread
from listenwell.study.fit_request import FitRequest, dev_hearing
from listenwell.study.parts import DEV
from listenwell.train.fit import DevSet, hear_dev

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
