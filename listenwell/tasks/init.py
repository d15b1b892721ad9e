"""Look at recordings, a table of them, or data of another tool, and write what a study needs: config and clips.csv.

Labels and groups come from folders (listenwell.data.corpora.folders) and label files beside the recordings
(listenwell.data.corpora.labels), or from a dataset, cuts or a data folder (`hugging_face`, `utterances` there). Where
nothing names a group, every file is its own group, with a warning: several clips of one speaker must not stand on both
sides of a split. A table stays as it is: the config says which of its columns are read as what
(listenwell.data.manifest).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from listenwell.baselines.vad import MODULES, installed_baselines
from listenwell.data.clip import LABELS, Background, Clip
from listenwell.data.corpora.corpus import Prepared
from listenwell.data.corpora.folders import read_folders
from listenwell.data.corpora.hugging_face import HUB, is_dataset, read_dataset
from listenwell.data.corpora.labels import COMMON_VOICE, read_common_voice, read_label_files
from listenwell.data.corpora.utterances import WAV_SCP, is_cuts, read_cuts, read_kaldi
from listenwell.data.manifest import (
    REQUIRED_CLIP_COLUMNS,
    TIME_COLUMNS,
    obvious_columns,
    read_manifest,
    time_columns,
    write_backgrounds,
    write_manifest,
)
from listenwell.data.tables import NO_NAMES, table_records
from listenwell.errors import ConfigError
from listenwell.fits.request import FINAL
from listenwell.report.results import LEAVE_ONE_OUT
from listenwell.storage.atomic_files import write_text
from listenwell.storage.destination import destinations
from listenwell.storage.yaml_text import to_yaml_line

CLIPS, BACKGROUNDS, SOUNDS = "clips.csv", "backgrounds.csv", "sounds"
FEWEST_GROUPS = 3
FEW_GROUPS = 12
"""Fewer leave dev and test two groups or one."""
FEW_SPEAKERS = 20
"""Of fewer, a quarter says too little: leave-one-out tests every one of them."""
MOST_FOLDS, DEV_SPEAKERS = 10, 2
MEANINGS = {"path": "path of the recording", "label": "label (speech or not)", "group": "group (speaker or source)"}


class Grouping(NamedTuple):
    """Where groups come from, and what helps where every file (unit) is its own; {what} is a speaker or a source."""

    unit: str
    source: str
    remedy: str


def _by_column(column: str) -> Grouping:
    return Grouping("clip", f"column {column}", "name the column that says who it is with --group COLUMN")


_BY_SPEAKER = Grouping("clip", "the speakers named there", "name the {what} of every utterance there")


@dataclass(frozen=True, slots=True)
class Started:
    """What was written, what was found, and what a user should know before trusting a study on it.

    taken: column of a clip -> the table's column that is read as it. left: the other columns of the table. columns: the
    same of a dataset, as a sentence.
    """

    clips_csv: Path
    config: Path
    clips: list[Clip]
    backgrounds: list[Background]
    warnings: list[str]
    taken: Mapping[str, str] = field(default_factory=dict)
    left: Sequence[str] = ()
    columns: str = ""


def start(source: Path, group: str = "", out: Path | None = None, *, overwrite: bool = False) -> Started:
    """Write a study on whatever `source` is into its folder, or into `out` where it is data of another tool.

    group: as in `start_project` and `start_from_table`. Raises ConfigError and ManifestError as they do.
    """
    if is_dataset(source):
        if out is None and str(source).startswith(HUB):
            raise ConfigError(f"{source}: say with --out FOLDER where its sounds and the study shall lie.")
        folder = out or source
        read = partial(read_dataset, source, group, folder / SOUNDS)
        with destinations(folders=[folder / SOUNDS], overwrite=overwrite):
            return _write_project(folder, read, _by_column(group or "of the group"), overwrite=overwrite)
    if is_cuts(source) or (source / WAV_SCP).is_file():
        if group:
            raise ConfigError(f"--group: {source} says itself who speaks; leave the option out.")
        folder, reader = (source, read_kaldi) if source.is_dir() else (source.parent, read_cuts)
        return _write_project(out or folder, partial(reader, source), _BY_SPEAKER, overwrite=overwrite)
    if out is not None:
        raise ConfigError(
            f"--out: a study on {source} lies beside it; only data of another tool lets it lie elsewhere."
        )
    if source.is_file():
        return start_from_table(source, group, overwrite=overwrite)
    return start_project(source, group or "folder", overwrite=overwrite)


def start_project(folder: Path, group_by: str = "folder", *, overwrite: bool = False) -> Started:
    """Write clips.csv, backgrounds.csv (when there is a folder of that name) and study.yaml into `folder`.

    group_by: "folder", "file", or a regular expression whose first group is the speaker or source in the file name.
    Raises ManifestError when no labelled recording is found, ConfigError when files are there already.
    """
    remedy = "put each {what}'s files into a folder of its own, or give a pattern with --group"
    by_names = Grouping("file", f"--group {group_by}", remedy)
    return _write_project(folder, partial(_read_recordings, folder, group_by), by_names, overwrite=overwrite)


def _write_project(folder: Path, read: Callable[[], Prepared], grouping: Grouping, *, overwrite: bool) -> Started:
    """The files of a project in `folder`; what is there already is found before the recordings are read."""
    clips_csv, backgrounds_csv, config = (folder / name for name in (CLIPS, BACKGROUNDS, "study.yaml"))
    _require_free((clips_csv, config), overwrite=overwrite)
    recordings = read()
    if recordings.backgrounds:
        _require_free((backgrounds_csv,), overwrite=overwrite)
    warnings = [*recordings.notes, *_group_warnings(recordings.clips, grouping)]
    write_manifest(clips_csv, recordings.clips)
    if recordings.backgrounds:
        write_backgrounds(backgrounds_csv, recordings.backgrounds)
    write_text(config, _config_text(recordings.clips, has_backgrounds=bool(recordings.backgrounds)))
    found = (recordings.clips, recordings.backgrounds, warnings)
    return Started(clips_csv, config, *found, columns=recordings.columns)


def _read_recordings(folder: Path, group_by: str) -> Prepared:
    """What label files and the names of folders say of the recordings; of both where both are there.

    A name that stands in both is one group: "anna" and "speech/anna" are "anna".
    """
    by_files = read_label_files(folder, group_by)
    by_folders = read_folders(folder, group_by, 1.0, labelled_otherwise=[clip.path for clip in by_files.clips])
    known = {clip.group for clip in by_files.clips}
    named = [(clip, clip.group.split("/", 1)[1]) for clip in by_folders.clips]
    joined = [replace(clip, group=name) if name in known else clip for clip, name in named]
    return replace(by_folders, clips=[*joined, *by_files.clips], notes=[*by_files.notes, *by_folders.notes])


def start_from_table(table: Path, group: str = "", *, overwrite: bool = False) -> Started:
    """Write study.yaml beside a table of clips, with the columns of the table that are obvious by their names.

    group: the column of speakers and sources, where its name does not say so. Raises ConfigError for a column that
    cannot be told, and ManifestError for the first fault of the table.
    """
    config = table.parent / "study.yaml"
    _require_free((config,), overwrite=overwrite)
    header = next((record.names for record in table_records(table)), ())
    if set(header) >= COMMON_VOICE:
        column = group or "client_id"
        read = partial(read_common_voice, table, column)
        return _write_project(table.parent, read, _by_column(column), overwrite=overwrite)
    taken = _take_columns(table, header, group)
    if "clip_id" in taken and not _is_unique(table, taken["clip_id"]):
        del taken["clip_id"]
    columns = {column: name for column, name in taken.items() if column != name}
    clips = read_manifest(table, columns)
    write_text(config, _config_text(clips, has_backgrounds=False, manifest=table.name, columns=columns))
    left = [name for name in header if name and name not in taken.values()]
    return Started(table, config, clips, [], _group_warnings(clips, _by_column(taken["group"])), taken, left)


def _take_columns(table: Path, header: Sequence[str], group: str) -> dict[str, str]:
    """Return column of a clip -> the table's column. Raises ConfigError where a required one cannot be told."""
    columns = {column: list(names) for column, names in obvious_columns(header).items()}
    if group:
        columns["group"] = [name for name in header if name == group]
    for column in REQUIRED_CLIP_COLUMNS:
        names = columns.setdefault(column, [])
        if len(names) != 1:
            what = f"both {' and '.join(names)} may be" if names else "no column is clearly"
            how = "name it with --group COLUMN" if column == "group" else f"call it '{column}' in the table"
            raise ConfigError(
                f"{table}: {what} the {MEANINGS[column]}, found {', '.join(header) or 'nothing'}; {how}, or write "
                f"data.columns: {{{column}: COLUMN}} into a config."
            )
    taken = {column: names[0] for column, names in columns.items() if len(names) == 1}
    times = time_columns(f"{table} line 1", header, taken)
    return taken | {column: name for column, name in times.items() if column in TIME_COLUMNS}


def _is_unique(table: Path, name: str) -> bool:
    """Tell whether every row has another value in this column."""
    rows = [row for row in table_records(table) if row.cells is not None and name in row.names]
    return len({row.cells[row.names.index(name)] for row in rows if row.cells is not None}) == len(rows)


def _require_free(paths: Sequence[Path], *, overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise ConfigError(f"{path}: is there already; use it, move it away, or give --overwrite.")


def describe_speakers(clips: Sequence[Clip], *, has_folds: bool) -> str:
    """What to know where speakers are few, otherwise "". has_folds: whether the config leaves one out at a time."""
    n_speakers, tests = len(_groups_of(clips, "SPEECH")), "leave-one-out is their test, each tested once. "
    if n_speakers >= FEW_SPEAKERS:
        return ""
    if not has_folds:
        may_be = "leave-one-out would be their test (leave_one_out.arms=[final] leave_one_out.over=all). "
        tests = may_be if leave_one_out_settings(clips) else ""
    return f"{n_speakers} speakers are few: {tests}'listenwell power --half-width 0.1' tells how many a claim needs."


def leave_one_out_settings(clips: Sequence[Clip]) -> dict[str, Any]:
    """The section leave_one_out of a config on few speakers; {} where they are many, or too few to leave one out."""
    speakers, sources = (_groups_of(clips, label) for label in LABELS)
    n_speakers, n_folds = len(speakers), min(len(speakers), len(sources - speakers), MOST_FOLDS)
    if not FEWEST_GROUPS <= n_speakers < FEW_SPEAKERS or n_folds < FEWEST_GROUPS:
        return {}
    # somebody is held out, somebody chooses, and at least as many train
    n_dev = min(DEV_SPEAKERS, (n_speakers - ceil(n_speakers / n_folds)) // 2)
    folds = {} if n_folds == n_speakers else {"folds": n_folds}
    return {"arms": [FINAL], "over": "all", "dev_speakers": n_dev, **folds}


def _groups_of(clips: Sequence[Clip], label: str) -> set[str]:
    return {clip.group for clip in clips if clip.label == label}


def _group_warnings(clips: Sequence[Clip], grouping: Grouping) -> list[str]:
    """What a user should know about the groups."""
    warnings = []
    for label, what in (("SPEECH", "speaker"), ("NONSPEECH", "sound source")):
        sizes = Counter(clip.group for clip in clips if clip.label == label)
        if not sizes:
            warnings.append(f"no {label} recordings: a study needs both labels.")
            continue
        if len(sizes) < FEWEST_GROUPS:
            warnings.append(f"{label} has {len(sizes)} groups; train, dev and test need at least {FEWEST_GROUPS}.")
        elif label == "NONSPEECH" and len(sizes) < FEW_GROUPS:
            warnings.append(f"{label} has {len(sizes)} groups: that says little about a {what} nobody heard.")
        elif label == "SPEECH" and (few := describe_speakers(clips, has_folds=bool(leave_one_out_settings(clips)))):
            warnings.append(few)
        if max(sizes.values()) == 1:
            warnings.append(
                f"every {label} {grouping.unit} is its own group ({grouping.source}). If one {what} has several, they "
                "will stand on both sides of the split and the result will look better than it is: "
                f"{grouping.remedy.format(what=what)}."
            )
    return warnings


def _config_text(
    clips: Sequence[Clip], *, has_backgrounds: bool, manifest: str = CLIPS, columns: Mapping[str, str] = NO_NAMES
) -> str:
    """The commented config of a study on these clips of its own folder, judged beside the baselines installed."""
    baselines, folds = installed_baselines(), leave_one_out_settings(clips)
    table = f"  manifest: {to_yaml_line(manifest)}\n"
    table += f"  columns: {to_yaml_line(dict(columns))}\n" if columns else ""
    noise, augment, evaluation = f"  backgrounds: {BACKGROUNDS}\n", "", ""
    if not has_backgrounds:
        more = "name a backgrounds.csv here" if columns else "put music and noise into backgrounds/ and run init again"
        noise = (
            f"  # Noise makes the detector robust: {more}, or write\n"
            "  # starter here (fetches about 1.3 GB once) and remove the two settings marked (noise) below.\n"
            "  backgrounds: none\n"
        )
        augment = "\n# (noise) no backgrounds, so none are mixed in\naugment:\n  noise:\n    probability: 0.0\n"
        evaluation = (
            "  # (noise) no backgrounds, so no noisy versions of the test\n  conditions: [clean, 100ms, 200ms, 500ms]\n"
        )
    if missing := [name for name in MODULES if name not in baselines]:
        evaluation += (
            f"  # {', '.join(missing)} would stand beside your model once the extra 'baselines' is installed\n"
            f"  baselines: [{', '.join(baselines)}]\n"
        )
    left_out = ""
    if folds:
        evaluation += f"  primary:\n    test_sets: [{LEAVE_ONE_OUT.format('group')}]\n"
        left_out = (
            "\n# So few speakers are tested one after another, each by a model that trained and chose on others.\n"
            "leave_one_out:\n" + "".join(f"  {key}: {to_yaml_line(value)}\n" for key, value in folds.items())
        )
    return (
        "# A study on your own recordings. Only what differs from the defaults stands here;\n"
        "# 'listenwell config study.yaml' prints every setting with its help.\n"
        "# Paths start at the folder of this file: it can be moved, or copied, with all that lies in it.\n"
        "relative_to: file\noutput: run\n\n"
        "# small runs on two CPU cores; Qwen/Qwen2-Audio-7B-Instruct needs a GPU.\n"
        "model:\n  name: small\nprompt:\n  layout: text_first\n\n"
        f"data:\n{table}{noise}"
        "  # Groups (speakers, sources) are divided into train, dev and test; none stands in two.\n"
        "  dev_share: 0.25\n  test_share: 0.25\n\n"
        "lora:\n  rank: 8\n  alpha: 32\n"
        "train:\n  epochs: 10\n  batch: 8\n  learning_rate: 2e-4\n  projector: trained\n"
        f"{augment}" + (f"evaluation:\n{evaluation}" if evaluation else "") + left_out
    )
