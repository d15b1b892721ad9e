"""Look at a folder of recordings and write what a study needs: clips.csv and a commented config.

Labels and groups come from folders (listenwell.data.corpora.folders). Where nothing names a group, every file is its
own group, with a warning: several clips of one speaker must not stand on both sides of a split.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from listenwell.atomic_files import write_text
from listenwell.baselines.extra import MODULES, installed_baselines
from listenwell.data.clip import Background, Clip
from listenwell.data.corpora.folders import read_folders
from listenwell.data.manifest import write_backgrounds, write_manifest
from listenwell.errors import ConfigError

CLIPS, BACKGROUNDS = "clips.csv", "backgrounds.csv"
FEWEST_GROUPS = 3
FEW_GROUPS = 12
"""Fewer leave dev and test two groups or one."""


@dataclass(frozen=True, slots=True)
class Started:
    """What `start_project` wrote, what it found, and what a user should know before trusting a study on it."""

    clips_csv: Path
    config: Path
    clips: list[Clip]
    backgrounds: list[Background]
    warnings: list[str]


def start_project(folder: Path, group_by: str = "folder", *, overwrite: bool = False) -> Started:
    """Write clips.csv, backgrounds.csv (when there is a folder of that name) and study.yaml into `folder`.

    group_by: "folder", "file", or a regular expression whose first group is the speaker or source in the file name.
    Raises ManifestError when no labelled recording is found, ConfigError when files are there already.
    """
    clips_csv, backgrounds_csv, config = (folder / name for name in (CLIPS, BACKGROUNDS, "study.yaml"))
    _require_free((clips_csv, config), overwrite=overwrite)
    found = read_folders(folder, group_by, quarantine_share=1.0)
    if found.backgrounds:
        _require_free((backgrounds_csv,), overwrite=overwrite)
    warnings = [*found.notes, *_group_warnings(found.clips, group_by)]
    write_manifest(clips_csv, found.clips)
    if found.backgrounds:
        write_backgrounds(backgrounds_csv, found.backgrounds)
    write_text(config, config_text(has_backgrounds=bool(found.backgrounds), baselines=installed_baselines()))
    return Started(clips_csv, config, found.clips, found.backgrounds, warnings)


def _require_free(paths: Sequence[Path], *, overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise ConfigError(f"{path}: is there already; use it, move it away, or give --overwrite.")


def _group_warnings(clips: Sequence[Clip], group_by: str) -> list[str]:
    warnings = []
    for label, what in (("SPEECH", "speaker"), ("NONSPEECH", "sound source")):
        sizes = Counter(clip.group for clip in clips if clip.label == label)
        if not sizes:
            warnings.append(f"no {label} recordings: a study needs both labels.")
            continue
        if len(sizes) < FEWEST_GROUPS:
            warnings.append(f"{label} has {len(sizes)} groups; train, dev and test need at least {FEWEST_GROUPS}.")
        elif len(sizes) < FEW_GROUPS:
            warnings.append(
                f"{label} has {len(sizes)} groups, of which dev and test take a quarter each: that says little about "
                f"a {what} nobody heard. The study runs, its intervals will be wide; 'listenwell power --half-width "
                "0.1' tells how many groups a claim needs."
            )
        if max(sizes.values()) == 1:
            warnings.append(
                f"every {label} file is its own group (--group {group_by}). If one {what} has several files, they will "
                "stand on both sides of the split and the result will look better than it is: put each "
                f"{what}'s files into a folder of its own, or give a pattern with --group."
            )
    return warnings


def config_text(*, has_backgrounds: bool, baselines: Sequence[str] = tuple(MODULES)) -> str:
    """The commented config of a study on the recordings of its own folder, judged beside these baselines."""
    noise = (
        f"  backgrounds: {BACKGROUNDS}\n"
        if has_backgrounds
        else "  # Noise makes the detector robust: put music and noise into backgrounds/ and run init again, or write\n"
        "  # starter here (fetches about 0.9 GB once) and remove the two settings marked (noise) below.\n"
        "  backgrounds: none\n"
    )
    augment, evaluation = "", ""
    if not has_backgrounds:
        augment = "\n# (noise) no backgrounds, so none are mixed in\naugment:\n  noise:\n    probability: 0.0\n"
        evaluation = (
            "  # (noise) no backgrounds, so no noisy versions of the test\n  conditions: [clean, 100ms, 200ms, 500ms]\n"
        )
    if missing := [name for name in MODULES if name not in baselines]:
        evaluation += (
            f"  # {' and '.join(missing)} would stand beside your model once the extra 'baselines' is installed\n"
            f"  baselines: [{', '.join(baselines)}]\n"
        )
    return (
        "# A study on your own recordings. Only what differs from the defaults stands here;\n"
        "# 'listenwell config study.yaml' prints every setting with its help.\n"
        "# Paths start at the folder of this file: it can be moved, or copied, with all that lies in it.\n"
        "relative_to: file\noutput: run\n\n"
        "# small runs on two CPU cores; Qwen/Qwen2-Audio-7B-Instruct needs a GPU.\n"
        "model:\n  name: small\nprompt:\n  layout: text_first\n\n"
        f"data:\n  manifest: {CLIPS}\n{noise}"
        "  # Groups (speakers, sources) are divided into train, dev and test; none stands in two.\n"
        "  dev_share: 0.25\n  test_share: 0.25\n\n"
        "lora:\n  rank: 8\n  alpha: 32\n"
        "train:\n  epochs: 10\n  batch: 8\n  learning_rate: 2e-4\n  projector: trained\n"
        f"{augment}" + (f"evaluation:\n{evaluation}" if evaluation else "")
    )
