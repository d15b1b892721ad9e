"""Find the clips and backgrounds a config names; the starter corpus is fetched and prepared in the cache first.

Read every recording of a study once: clips that cannot be used are set aside, the others learn their identity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from listenwell.config import Config
from listenwell.data.audio import measure_extent
from listenwell.data.clip import Background, Clip
from listenwell.data.corpora.starter import prepare_starter
from listenwell.data.manifest import read_backgrounds, read_manifest
from listenwell.data.sample_hashes import fill_backgrounds, sample_hashes
from listenwell.data.tables import NO_NAMES, write_rows
from listenwell.errors import AudioError, ConfigError, ManifestError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.divide import Splits, divide
from listenwell.storage.load_or_make import cache_root

STARTER, NONE = "starter", "none"


def prepare(config: Config, on_progress: OnProgress = ignore_progress) -> tuple[list[Clip], list[Background]]:
    """Return all clips and backgrounds of the config.

    Raises ConfigError when there are no backgrounds but noise is to be mixed in training or testing: that would
    silently be another study.
    """
    clips = choose_channels(read_manifest(find_manifest(config, on_progress), config.data.columns), config.data.channel)
    if config.data.backgrounds != NONE:
        return clips, read_backgrounds(_find_backgrounds(config, on_progress))
    noisy = [condition for condition in config.evaluation.conditions if condition.startswith("snr_")]
    if noisy or config.augment.noise.probability > 0:
        raise ConfigError(
            f"data.backgrounds is none, but noise is asked for (augment.noise.probability = "
            f"{config.augment.noise.probability:g}, conditions {', '.join(noisy) if noisy else 'without noise'}); give "
            "a backgrounds.csv, or set the probability to 0 and leave the snr_ conditions out."
        )
    return clips, []


def choose_channels(clips: Sequence[Clip], channel: int | Literal["mean", "each"]) -> list[Clip]:
    """Return the clips as `data.channel` says; those whose table names a channel stay. Raises AudioError."""
    if channel == "mean":
        return list(clips)
    if channel != "each":
        return [replace(clip, channel=channel) if clip.channel is None else clip for clip in clips]
    paths = dict.fromkeys(clip.path for clip in clips if clip.channel is None)
    n_channels = {path: measure_extent(path, must_be_whole=False).n_channels for path in paths}
    chosen = []
    for clip in clips:
        if clip.channel is not None or n_channels[clip.path] == 1:
            chosen.append(clip)
        else:
            chosen += [replace(clip, clip_id=f"{clip.clip_id}#{k}", channel=k) for k in range(n_channels[clip.path])]
    return chosen


def read_noise(config: Config, split: str, on_progress: OnProgress = ignore_progress) -> list[Background]:
    """Return the backgrounds of the same split as the clips they go under; all of them when none names a split."""
    if config.data.backgrounds == NONE:
        return []
    backgrounds = read_backgrounds(_find_backgrounds(config, on_progress))
    return [b for b in backgrounds if b.split in ("", split)] if split else backgrounds


def _find_backgrounds(config: Config, on_progress: OnProgress) -> Path:
    if config.data.backgrounds == STARTER:
        return prepare_starter(cache_root(), on_progress=on_progress).backgrounds_csv
    return Path(config.data.backgrounds)


def find_manifest(config: Config, on_progress: OnProgress = ignore_progress) -> Path:
    """Return the path of clips.csv, preparing the starter corpus when the config names it."""
    if config.data.manifest == STARTER:
        return prepare_starter(cache_root(), on_progress=on_progress).clips_csv
    return Path(config.data.manifest)


def read_split(manifest: Path, split: str, columns: Mapping[str, str] = NO_NAMES) -> list[Clip]:
    """Return the clips of one split of the table at `manifest`, all of them when `split` is "".

    columns: as in data.columns. Raises ManifestError, naming the splits there are, when none has this name.
    """
    clips = read_manifest(manifest, columns)
    chosen = [clip for clip in clips if split in ("", clip.split)]
    if not chosen:
        names = [f"'{name}'" if name else "clips without a split" for name in sorted({clip.split for clip in clips})]
        raise ManifestError(f"{manifest}: no clip is in split '{split}'; there are {', '.join(names)}.")
    return chosen


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A clip left out, and why."""

    clip_id: str
    path: Path
    reason: str


def read_splits(config: Config, on_progress: OnProgress = ignore_progress) -> tuple[Splits, list[Unreadable]]:
    """Return the splits of the readable clips of a study, and the clips that are not.

    Raises AudioError when more than data.quarantine_share of the clips, or any background, cannot be read.
    """
    clips, backgrounds = prepare(config, on_progress)
    readable, unreadable = set_aside_unreadable(clips, config.data.quarantine_share, on_progress)
    return divide(readable, fill_backgrounds(backgrounds, on_progress), config.data), unreadable


def set_aside_unreadable(
    clips: Sequence[Clip], quarantine_share: float, on_progress: OnProgress = ignore_progress
) -> tuple[list[Clip], list[Unreadable]]:
    """Return the clips that can be used, with the hashes of their samples, and the others with their reasons.

    Every recording is decoded, unless an earlier run did so and it has not changed since. Raises AudioError when more
    than quarantine_share of the clips cannot be read.
    """
    readable, unreadable = [], []
    with sample_hashes(clips) as hashes:
        for n_read, clip in enumerate(clips, start=1):
            try:
                readable.append(hashes.fill_clip(clip))
            except AudioError as error:
                unreadable.append(Unreadable(clip.clip_id, clip.path, str(error)))
                if len(unreadable) > quarantine_share * len(clips):
                    raise AudioError(
                        f"data: already {len(unreadable)} of {len(clips)} clips cannot be read, at most "
                        f"{quarantine_share:.1%} may (data.quarantine_share); the last: {error}"
                    ) from error
            on_progress("reading", n_read, len(clips))
    return readable, unreadable


def write_quarantine(path: Path, unreadable: Sequence[Unreadable]) -> None:
    """Write the clips left out and why, as CSV; also when there is none, so that an older list does not stay."""
    write_rows(path, ("clip_id", "path", "reason"), [(u.clip_id, str(u.path), u.reason) for u in unreadable])
