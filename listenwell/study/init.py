"""Look at a folder of recordings and write what a study needs: clips.csv and a commented config.

The label comes from a folder's name on the way to the file ("speech", "nonspeech" and their like), the group from
the folder below it (speech/alice/03.wav -> alice) or from the file name by a pattern. Where nothing names a group,
every file is its own group, with a warning: several clips of one speaker must not stand on both sides of a split.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import soundfile

from listenwell.atomic_files import write_text
from listenwell.data.clip import Background, Clip, Label
from listenwell.data.manifest import write_backgrounds, write_manifest
from listenwell.errors import ConfigError, ManifestError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus"})
LABEL_FOLDERS: dict[str, Label] = {
    **dict.fromkeys(("speech", "voice", "voices", "speakers", "talking"), "SPEECH"),
    **dict.fromkeys(("nonspeech", "non-speech", "non_speech", "no_speech", "noise", "sounds", "other"), "NONSPEECH"),
}
BACKGROUND_FOLDER = "backgrounds"
FEWEST_GROUPS = 3
GroupBy = Literal["folder", "file"]


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
    clips_csv, config = folder / "clips.csv", folder / "study.yaml"
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder; give the folder that holds your recordings.")
    for path in (clips_csv, config):
        if path.exists() and not overwrite:
            raise ConfigError(f"{path}: is there already; use it, move it away, or give --overwrite.")
    recordings = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    beds = [path for path in recordings if path.relative_to(folder).parts[0] == BACKGROUND_FOLDER]
    clips, skipped = _read_clips(folder, [path for path in recordings if path not in set(beds)], group_by)
    warnings = [*skipped, *_group_warnings(clips, group_by)]
    backgrounds = [_background(folder, path) for path in beds]
    write_manifest(clips_csv, clips)
    if backgrounds:
        write_backgrounds(folder / "backgrounds.csv", backgrounds)
    write_text(config, config_text(folder, has_backgrounds=bool(backgrounds)))
    return Started(clips_csv, config, clips, backgrounds, warnings)


def _read_clips(folder: Path, recordings: Sequence[Path], group_by: str) -> tuple[list[Clip], list[str]]:
    clips, unlabelled, unreadable = [], 0, []
    for path in recordings:
        names = path.relative_to(folder).parts
        labelled = [i for i, name in enumerate(names[:-1]) if name.lower() in LABEL_FOLDERS]
        if not labelled:
            unlabelled += 1
            continue
        try:
            info = soundfile.info(path)
        except (soundfile.LibsndfileError, RuntimeError):
            unreadable.append(str(path.relative_to(folder)))
            continue
        label = LABEL_FOLDERS[names[labelled[0]].lower()]
        group = _group(names, labelled[0], group_by)
        clip_id = path.relative_to(folder).with_suffix("").as_posix()
        clips.append(
            Clip(
                clip_id, path, 0.0, info.frames / info.samplerate, label, f"{label.lower()}/{group}", clip_id, "own", ""
            )
        )
    if not clips:
        raise ManifestError(
            f"{folder}: {len(recordings)} recordings found, but none lies in a folder named speech or nonspeech; sort "
            "them into speech/<speaker>/ and nonspeech/<source>/, or write clips.csv yourself "
            "(columns clip_id, path, label, group)."
        )
    notes = (
        [f"{unlabelled} recordings lie in no folder named speech or nonspeech and were left out."] if unlabelled else []
    )
    if unreadable:
        notes.append(f"{len(unreadable)} files cannot be read and were left out, the first: {unreadable[0]}.")
    return clips, notes


def _group(names: Sequence[str], label_at: int, group_by: str) -> str:
    """The group of one file: the folder below the label's, the file itself, or what the pattern finds."""
    stem = Path(names[-1]).stem
    if group_by == "file":
        return stem
    if group_by == "folder":
        return names[label_at + 1] if label_at + 1 < len(names) - 1 else stem
    try:
        match = re.search(group_by, names[-1])
    except re.error as error:
        raise ConfigError(f"--group '{group_by}': not a regular expression ({error}).") from error
    if match is None or not match.groups():
        raise ConfigError(
            f"--group '{group_by}': finds no group in '{names[-1]}'; give an expression with one pair of parentheses "
            "around the speaker, such as '^([a-z]+)_', or 'folder' or 'file'."
        )
    return match.group(1)


def _group_warnings(clips: Sequence[Clip], group_by: str) -> list[str]:
    warnings = []
    for label in ("SPEECH", "NONSPEECH"):
        sizes = Counter(clip.group for clip in clips if clip.label == label)
        if not sizes:
            warnings.append(f"no {label} recordings: a study needs both labels.")
        elif len(sizes) < FEWEST_GROUPS:
            warnings.append(f"{label} has {len(sizes)} groups; train, dev and test need at least {FEWEST_GROUPS}.")
        elif max(sizes.values()) == 1:
            what = "speaker" if label == "SPEECH" else "sound source"
            warnings.append(
                f"every {label} file is its own group (--group {group_by}). If one {what} has several files, they will "
                "stand on both sides of the split and the result will look better than it is: put each "
                f"{what}'s files into a folder of its own, or give a pattern with --group."
            )
    return warnings


def _background(folder: Path, path: Path) -> Background:
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ManifestError(f"{path}: cannot be read as a background ({error}); convert or remove it.") from error
    name = path.relative_to(folder / BACKGROUND_FOLDER).with_suffix("").as_posix()
    return Background(name, path, info.frames / info.samplerate, "noise", name, "own", "")


def config_text(folder: Path, *, has_backgrounds: bool) -> str:
    """The commented config of a study on the folder's recordings."""
    noise = (
        f"  backgrounds: {folder.resolve() / 'backgrounds.csv'}\n"
        if has_backgrounds
        else "  # Noise makes the detector robust: put music and noise into backgrounds/ and run init again, or write\n"
        "  # starter here (fetches about 0.9 GB once) and remove the two settings marked (noise) below.\n"
        "  backgrounds: none\n"
    )
    without = (
        ""
        if has_backgrounds
        else "\n# (noise) no backgrounds, so none are mixed in\naugment:\n  noise:\n    probability: 0.0\n"
        "# (noise) no backgrounds, so no noisy versions of the test\n"
        "evaluation:\n  conditions: [clean, 100ms, 200ms, 500ms]\n"
    )
    return (
        "# A study on your own recordings. Only what differs from the defaults stands here;\n"
        "# 'listenwell config study.yaml' prints every setting with its help.\n"
        f"output: {folder.resolve() / 'run'}\n\n"
        "# small runs on two CPU cores; Qwen/Qwen2-Audio-7B-Instruct needs a GPU.\n"
        "model:\n  name: small\nprompt:\n  layout: text_first\n\n"
        f"data:\n  manifest: {folder.resolve() / 'clips.csv'}\n{noise}"
        "  # Groups (speakers, sources) are divided into train, dev and test; none stands in two.\n"
        "  dev_share: 0.25\n  test_share: 0.25\n\n"
        "lora:\n  rank: 8\n  alpha: 32\n"
        "train:\n  epochs: 10\n  batch: 8\n  learning_rate: 2e-4\n  projector: trained\n"
        f"{without}"
    )
