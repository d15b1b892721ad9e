"""From a waveform to the spectrogram the model gets: the one road of training, scoring and detection.

    samples -> lengthen (short-clip policy) -> log-mel -> masks (training only)
Waveforms: mono float32 (n_samples,), 16 kHz. Knows nothing of torch, so that processes which prepare clips start fast.
"""

from typing import Protocol

from listenwell.augment.spec_augment import Masks, apply_masks
from listenwell.data.audio import Waveform
from listenwell.model.mel import HOP_LENGTH, LogMel
from listenwell.model.short_clips import ShortClipConfig, first_sample, lengthen


class MakesSpectrograms(Protocol):
    """A model, or its mel filters alone."""

    def log_mel(self, samples: Waveform) -> LogMel:
        """Spectrogram of one waveform (n_samples,)."""


def hear(
    model: MakesSpectrograms, samples: Waveform, short_clips: ShortClipConfig, masks: Masks | None = None
) -> LogMel:
    """The spectrogram the model gets of a clip; masks lie on the clip's own frames, not on what lengthened it."""
    mel = model.log_mel(lengthen(samples, short_clips))
    if masks is None:
        return mel
    first_frame = first_sample(samples.size, short_clips) // HOP_LENGTH
    fill = mel.floor if masks.fill == "floor" else float(mel.features[:, : mel.n_frames].mean())
    return LogMel(apply_masks(mel.features, masks, first_frame, fill), mel.n_frames)
