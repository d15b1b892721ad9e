"""A folder of labelled folders: your own recordings.

    speech/<speaker>/*.wav      nonspeech/<source>/*.wav      backgrounds/**/*.wav

The label comes from a folder's name on the way to the file ("speech", "nonspeech" and their like), the group from the
folder below it (speech/alice/03.wav -> alice), or from the file name by a pattern. Every recording is one clip. What
counts as a recording: listenwell.data.sound_files.
"""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from listenwell.data.clip import Background, Clip, Label
from listenwell.data.corpora.corpus import QUARANTINE_SHARE, Corpus, Prepared, PrepareSettings, read_lengths
from listenwell.data.sound_files import find_sound_files
from listenwell.errors import ConfigError, ManifestError
from listenwell.progress import OnProgress, ignore_progress

LABEL_FOLDERS: dict[str, Label] = {
    **dict.fromkeys(("speech", "voice", "voices", "speakers", "talking"), "SPEECH"),
    **dict.fromkeys(("nonspeech", "non-speech", "non_speech", "no_speech", "noise", "sounds", "other"), "NONSPEECH"),
}
BACKGROUND_FOLDER = "backgrounds"
BY_FOLDER, BY_FILE = "folder", "file"
CORPUS_NAME = "own"


def prepare(root: Path, settings: PrepareSettings, on_progress: OnProgress = ignore_progress) -> Prepared:
    """Return a clip per labelled recording, grouped by folder, and the backgrounds (`Corpus.prepare`)."""
    return read_folders(root, BY_FOLDER, QUARANTINE_SHARE, on_progress)


def read_folders(
    root: Path,
    group_by: str,
    quarantine_share: float,
    on_progress: OnProgress = ignore_progress,
    labelled_otherwise: Collection[Path] = (),
) -> Prepared:
    """Return a clip per labelled recording below `root`, and a background per recording below backgrounds/.

    group_by: "folder", "file", or a regular expression whose first group is the speaker or source in the file name.
    labelled_otherwise: recordings that need no such folder. Raises ManifestError when none is labelled here or
    otherwise, ConfigError when the expression does not work, AudioError when more than quarantine_share of the
    recordings cannot be read.
    """
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; give the folder that holds your recordings.")
    files = find_sound_files(root)
    # a name whose bytes are no UTF-8 is read with surrogates, which do not give the bytes back
    recordings = [path for path in files.paths if str(path).encode(errors="replace") == os.fsencode(path)]
    background_paths = [path for path in recordings if path.relative_to(root).parts[0] == BACKGROUND_FOLDER]
    others = [path for path in recordings if path.relative_to(root).parts[0] != BACKGROUND_FOLDER]
    labelled = {path: at for path in others if (at := label_at(root, path)) is not None}
    lengths_s, quarantine = read_lengths([*labelled, *background_paths], on_progress, quarantine_share)
    clips, backgrounds = list[Clip](), list[Background]()
    for path, length_s in lengths_s.items():
        if path in labelled:
            name, names = path.relative_to(root).with_suffix("").as_posix(), path.relative_to(root).parts
            label = LABEL_FOLDERS[names[labelled[path]].lower()]
            group = f"{label.lower()}/{group_of(names, labelled[path], group_by)}"
            clips.append(Clip(name, path, 0.0, length_s, label, group, name, CORPUS_NAME, ""))
        else:
            name = path.relative_to(root / BACKGROUND_FOLDER).with_suffix("").as_posix()
            backgrounds.append(Background(name, path, length_s, "noise", name, CORPUS_NAME, ""))
    if not clips and not labelled_otherwise:
        raise ManifestError(
            f"{root}: {len(recordings)} recordings found, but none lies in a folder named speech or nonspeech; sort "
            "them into speech/<speaker>/ and nonspeech/<source>/, or write clips.csv yourself "
            "(columns clip_id, path, label, group)."
        )
    notes = list(files.left_out)
    if n_unnamed := len(files.paths) - len(recordings):
        notes.append(f"{n_unnamed} recordings have names that are no UTF-8, which no table holds, and were left out.")
    if n_unlabelled := len({*others} - labelled.keys() - {*labelled_otherwise}):
        notes.append(f"{n_unlabelled} recordings lie in no folder named speech or nonspeech and were left out.")
    if quarantine:
        first = quarantine[0].path.relative_to(root)
        notes.append(f"{len(quarantine)} files cannot be read and were left out, the first: {first}.")
    return Prepared(clips, backgrounds, quarantine=quarantine, notes=notes)


def label_at(root: Path, path: Path) -> int | None:
    """Return which folder on the way to the file names the label, the innermost one, or None.

    Raises ManifestError where two name different ones.
    """
    names = path.relative_to(root).parts[:-1]
    places = [i for i, name in enumerate(names) if name.lower() in LABEL_FOLDERS]
    if len({LABEL_FOLDERS[names[i].lower()] for i in places}) > 1:
        lies = " and in ".join(f"'{names[i]}'" for i in places)
        raise ManifestError(
            f"{path.relative_to(root)}: lies in {lies}, which name different labels; move it, or rename a folder."
        )
    return places[-1] if places else None


def group_of(names: Sequence[str], at: int, group_by: str) -> str:
    """The group of one file: the folder below that of number `at`, the file itself, or what the pattern finds."""
    stem = Path(names[-1]).stem
    if group_by == BY_FILE:
        return stem
    if group_by == BY_FOLDER:
        return names[at + 1] if at + 1 < len(names) - 1 else stem
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


CORPUS = Corpus(
    name="folders",
    title="a folder of labelled folders",
    purpose="your own recordings, one clip each",
    citation="",
    licence="yours",
    home_page="",
    hours=0.0,
    archives=(),
    layout="speech/<speaker>/*, nonspeech/<source>/*, backgrounds/*",
    draws_on=(),
    prepare=prepare,
)
