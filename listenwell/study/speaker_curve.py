"""Accuracy against the number of training speakers: the study's own config trained on nested shares of them.

A speaker is a training group with speech. Each seed puts the speakers into an order of its own and a share takes the
first of it, so a smaller share lies inside a larger one, and the mean over seeds is one over draws too. The other
training sounds, the backgrounds, dev and the tests stay as they are. The config itself, on all speakers, is the last
point. Every fit is decided at its own threshold of dev.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import floor
from typing import Any

import numpy as np

from listenwell.config import Config, change_config
from listenwell.data.backgrounds import BackgroundBank, clip_background_id
from listenwell.data.clip import LABELS, Clip
from listenwell.data.splits import order_groups
from listenwell.errors import ConfigError, ManifestError
from listenwell.evaluate.calibration import Threshold
from listenwell.evaluate.comparison import compare_balanced_accuracy
from listenwell.evaluate.metrics import Bools, balanced_accuracy
from listenwell.evaluate.scores import ScoreTable
from listenwell.study.arms import FINAL, Arm, seeds_of
from listenwell.study.ladder import Fits, decide_by_arm, describe_seeds, fits_by_arm
from listenwell.study.parts import TRAIN, Parts


def curve_arms(config: Config) -> list[Arm]:
    """The config on every share of speaker_curve with every seed. Raises ConfigError for a name that an arm has."""
    share_of = {f"speakers-{share:g}": share for share in config.speaker_curve.shares}
    for name in share_of:
        if name in config.arms:
            raise ConfigError(f"arms: '{name}' is what speaker_curve calls a share; give this arm another name.")
    return [
        Arm(name, seed, change_config(config, {"seed": seed}, name), share)
        for name, share in share_of.items()
        for seed in seeds_of(config)
    ]


def parts_of_arms(arms: Sequence[Arm], parts: Parts) -> list[Parts]:
    """What each arm trains on: the parts themselves, or with a speaker_share those with fewer speakers in train.

    Raises ManifestError or ConfigError where a share leaves too little, or as many speakers as another.
    """
    speakers = _speakers(parts.clips[TRAIN])
    share_of: dict[int, float] = {}
    for share in sorted({arm.speaker_share for arm in arms}):
        n_kept = _count_kept(share, speakers)
        if n_kept in share_of:
            raise ConfigError(
                f"speaker_curve.shares: {share_of[n_kept]:g} and {share:g} both keep {n_kept} of {len(speakers)} "
                "training speakers; leave one out."
            )
        share_of[n_kept] = share
    return [_keep_speakers(arm, speakers, parts) for arm in arms]


def _speakers(clips: Sequence[Clip]) -> list[str]:
    return sorted({clip.group for clip in clips if clip.label == "SPEECH"})


def _count_kept(share: float, speakers: Sequence[str]) -> int:
    n_kept = floor(share * len(speakers) + 1e-9)  # 0.3 of 10 is 3, whatever the last bit says
    if n_kept == 0:
        raise ConfigError(
            f"speaker_curve.shares: {share:g} of {len(speakers)} training speakers is less than one; raise it, or "
            "leave it out."
        )
    return n_kept


def _keep_speakers(arm: Arm, speakers: Sequence[str], parts: Parts) -> Parts:
    if arm.speaker_share == 1.0:
        return parts
    left_out = set(order_groups(speakers, arm.seed)[_count_kept(arm.speaker_share, speakers) :])
    kept = [clip for clip in parts.clips[TRAIN] if clip.group not in left_out]
    _require_clips(arm, len(speakers) - len(left_out), kept)
    bank = _keep_voices(parts, kept)
    _require_voices(arm, bank)
    return replace(parts, clips={**parts.clips, TRAIN: kept}, banks={**parts.banks, TRAIN: bank})


def _require_clips(arm: Arm, n_speakers: int, kept: Sequence[Clip]) -> None:
    """Both labels are left, and where epochs have a length, enough clips for it: then all points train equally long."""
    wanted = arm.config.train.clips_per_epoch
    for label in LABELS:
        n_clips = sum(clip.label == label for clip in kept)
        if n_clips == 0:
            raise ManifestError(
                f"speaker_curve.shares: with {n_speakers} training speakers no {label} clip is left to train; add "
                "groups of that class."
            )
        if wanted is not None and n_clips < wanted // 2:
            raise ConfigError(
                f"speaker_curve.shares: with {n_speakers} training speakers {n_clips} {label} clips are left, but an "
                f"epoch takes {wanted // 2} (half of train.clips_per_epoch); lower that, or take larger shares."
            )


def _require_voices(arm: Arm, bank: BackgroundBank) -> None:
    """Babble finds enough voices beside that of the clip."""
    babble = arm.config.augment.babble
    n_voices = len({entry.group for entry in bank.entries if entry.kind == "speech"})
    if babble.probability > 0 and n_voices <= babble.fewest_talkers:
        raise ConfigError(
            f"speaker_curve.shares: {arm.speaker_share:g} of the training speakers leaves {n_voices} voices, but "
            f"babble takes {babble.fewest_talkers} beside that of the clip; lower augment.babble.fewest_talkers, or "
            "take larger shares."
        )


def _keep_voices(parts: Parts, kept: Sequence[Clip]) -> BackgroundBank:
    """The training bank; where it holds voices for babble, those of the kept clips alone."""
    bank = parts.banks[TRAIN]
    voices = {clip_background_id(clip) for clip in parts.clips[TRAIN]}
    beds = [entry for entry in bank.entries if entry.background_id not in voices]
    return BackgroundBank(beds, talkers=kept if len(beds) < len(bank.entries) else (), stored=bank.stored)


def judge_speaker_curve(
    fits: Fits,
    tables: Mapping[str, Mapping[str, ScoreTable]],
    thresholds: Mapping[str, Threshold],
    method_of: Mapping[str, str],
    parts: Parts,
    seed: int,
) -> dict[str, Any] | None:
    """Return points (fewest speakers first) and rows (one per point, test set, condition); None without a curve.

    tables: part -> method -> scores; method_of: fit name -> method. A row has the measures of the ladder and the gain
    over the point before it.
    """
    of_curve = [(arm, fit) for arm, fit in fits if arm.name == FINAL or arm.speaker_share < 1.0]
    by_point = fits_by_arm(sorted(of_curve, key=lambda pair: pair[0].speaker_share))
    if len(by_point) < 2:
        return None
    points = [_describe_point(own, parts) for own in by_point.values()]
    rows = []
    for place, table, decided in decide_by_arm(by_point, tables, thresholds, method_of, parts.test_sets):
        for before, point, own in zip([None, *points[:-1]], points, by_point.values(), strict=True):
            described = {"arm": point["arm"], "n_speakers": point["n_speakers"], **place}
            measured = describe_seeds(own, decided[point["arm"]], table)
            rows.append({**described, **measured, "gain": _gain(before, point, decided, table, seed)})
    return {"points": points, "rows": rows}


def _describe_point(own: Fits, parts: Parts) -> dict[str, Any]:
    heard = parts_of_arms([arm for arm, _ in own], parts)
    trained = [each.clips[TRAIN] for each in heard]
    return {
        "arm": own[0][0].name,
        "share": own[0][0].speaker_share,
        "n_speakers": len(_speakers(trained[0])),
        "fits": [
            {
                "seed": arm.seed,
                "n_speech_clips": sum(clip.label == "SPEECH" for clip in clips),
                "n_nonspeech_clips": sum(clip.label == "NONSPEECH" for clip in clips),
                "n_steps": fit.record["n_steps"],
                "speakers": _speakers(clips),
            }
            for (arm, fit), clips in zip(own, trained, strict=True)
        ],
    }


def _gain(
    before: Mapping[str, Any] | None,
    point: Mapping[str, Any],
    decided: Mapping[str, Mapping[int, Bools]],
    table: ScoreTable,
    seed: int,
) -> dict[str, Any] | None:
    """Balanced accuracy of a point minus that of the one before, fits of one seed in pairs; None where there is none.

    The pairs are put together, each clip once per seed and in its group: the difference is the mean over seeds, and its
    interval counts the test's groups. How much the seeds differ stands in of_seeds.
    """
    if before is None:
        return None
    ours, theirs = decided[point["arm"]], decided[before["arm"]]
    seeds = [each for each in ours if each in theirs]
    if not seeds:
        return None
    values = [[balanced_accuracy(found[each], table.is_speech) for each in seeds] for found in (ours, theirs)]
    more, fewer = (np.concatenate([found[each] for each in seeds]) for found in (ours, theirs))
    is_speech, group = np.tile(table.is_speech, len(seeds)), np.tile(table.group, len(seeds))
    return {
        "over": before["n_speakers"],
        "of_seeds": [one - other for one, other in zip(*values, strict=True)],
        **asdict(compare_balanced_accuracy(more, fewer, is_speech, group, seed)),
    }
