"""Datasets of Hugging Face become clips: a folder that `save_to_disk` wrote, or hf:OWNER/NAME of the hub.

A row is a sound, whole, with its label and its group. Sounds that lie within the dataset become files, as they are;
the extra `datasets` gives their bytes, and this package alone decodes them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from listenwell.data.clip import Clip
from listenwell.data.corpora.corpus import Prepared, Unreadable, read_lengths
from listenwell.data.manifest import REQUIRED_CLIP_COLUMNS, obvious_columns, time_columns
from listenwell.data.sound_files import SUFFIXES
from listenwell.data.tables import Row
from listenwell.errors import ConfigError, ManifestError
from listenwell.progress import ignore_progress
from listenwell.storage.atomic_files import atomic_folder

HUB = "hf:"
_SPLITS = {"train": "train", "validation": "dev", "valid": "dev", "dev": "dev", "test": "test"}
_SAVED = ("dataset_dict.json", "dataset_info.json")
_TAKEN = (*REQUIRED_CLIP_COLUMNS, "category", "licence", "recording", "corpus", "origin")


def is_dataset(source: Path) -> bool:
    """Tell whether `source` is a dataset, saved or on the hub."""
    return str(source).startswith(HUB) or any((source / name).is_file() for name in _SAVED)


def read_dataset(source: Path, group: str, sounds: Path) -> Prepared:
    """Return a clip per row; sounds that are no files of their own become files of the folder `sounds`, replaced whole.

    group: the column of speakers and sources, where its name does not say so. Official splits are kept where they are
    train, dev (validation) and test, and no two share a group. Raises ConfigError for a column that cannot be told, and
    where datasets is not installed; ManifestError for what cannot be loaded, and for a row without label or group.
    """
    splits, clips = _load_splits(source), list[Clip]()
    columns = {name: _columns_of(f"{source} {name}".strip(), split, group) for name, split in splits.items()}
    with atomic_folder(sounds) as beside:
        for name, split in splits.items():
            clips += _clips_of(source, name, split, columns[name], beside)
        lengths_s, quarantine = read_lengths([clip.path for clip in clips], ignore_progress, 1.0)
        quarantine = [Unreadable(u.path, u.reason.replace(str(beside), str(sounds))) for u in quarantine]
        if not lengths_s:
            why = f"the first: {quarantine[0].reason}" if quarantine else "it has no rows"
            raise ManifestError(f"{source}: no sound of it can be read; {why}")
        read = [*lengths_s, *(Path(file["filename"]) for split in splits.values() for file in split.cache_files)]
        if inside := next((path for path in read if path.is_relative_to(sounds.absolute())), None):
            raise ConfigError(f"{sounds}: holds {inside}, which is read; give another folder with --out.")
    clips = [
        replace(clip, path=sounds / clip.path.name if clip.path.parent == beside else clip.path, duration_s=length_s)
        for clip in clips
        if (length_s := lengths_s.get(clip.path)) is not None
    ]
    notes = [f"{len(quarantine)} sounds cannot be read, the first: {quarantine[0].reason}"] if quarantine else []
    groups = {name: {clip.group for clip in clips if clip.split == name} for name in splits}
    are_apart = sum(map(len, groups.values())) == len(set().union(*groups.values()))
    keeps = are_apart and {_SPLITS.get(name) for name in splits} == {"train", "dev", "test"}
    if len(splits) > 1 and not keeps:
        why = "are not train, dev and test" if are_apart else "share groups"
        notes.append(f"the splits {', '.join(splits)} {why}; the study divides the groups anew.")
    clips = [replace(clip, split=_SPLITS[clip.split] if keeps else "") for clip in clips]
    return Prepared(clips, quarantine=quarantine, notes=notes, columns=_describe(columns, keeps=keeps))


def _clips_of(source: Path, name: str, split: Any, columns: Mapping[str, str], sounds: Path) -> Iterator[Clip]:
    """A clip per row of a split, its length still 0."""
    # other columns of sounds or pictures would be decoded
    for i, values in enumerate(split.select_columns(sorted(set(columns.values()))), start=1):
        row = Row(source, i, _texts(split, values, columns), decimal_comma=False)
        clip_id = f"{name or 'row'}_{i:06}"
        path = _file_of(values[columns["path"]], sounds / clip_id)
        yield Clip(
            clip_id, path, 0.0, 0.0, row.label(), row.required("group"), row.text("recording") or clip_id,
            row.text("corpus") or source.name, row.identifier("licence"), row.identifier("category"), name,
            row.text("origin"),
        )  # fmt: skip


def _describe(columns: Mapping[str, Mapping[str, str]], *, keeps: bool) -> str:
    """Which columns were read as what, and what becomes of the splits; columns: by split."""
    read = dict.fromkeys((role, name) for of_split in columns.values() for role, name in of_split.items())
    said = ", ".join(f"{'audio' if role == 'path' else role} is {name}" for role, name in read)
    return f"{said}; {'the dataset' if keeps else 'the study'} divides train, dev and test"


def _load_splits(source: Path) -> Mapping[str, Any]:
    """The dataset's splits by name, one called "" where it has none; their sounds as bytes and paths."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"{source}: reading it needs datasets, which is not installed; run pip install 'listenwell[datasets]'."
        ) from error
    datasets.disable_progress_bars()
    try:
        if str(source).startswith(HUB):
            owner, name, *config = str(source).removeprefix(HUB).split("/")
            loaded = datasets.load_dataset(f"{owner}/{name}", *config)
        else:
            loaded = datasets.load_from_disk(str(source))
    except Exception as error:  # what it raises for a broken or missing dataset is of many kinds
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise ManifestError(
            f"{source}: datasets cannot load it ({said}); give {HUB}OWNER/NAME, {HUB}OWNER/NAME/CONFIG, a folder that "
            "save_to_disk wrote, or the metadata.csv of a folder of sounds."
        ) from error
    splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    as_bytes = datasets.Audio(decode=False)
    for name, split in splits.items():
        for column in [c for c, feature in split.features.items() if isinstance(feature, datasets.Audio)]:
            splits[name] = splits[name].cast_column(column, as_bytes)
    return splits


def _columns_of(place: str, split: Any, group: str) -> dict[str, str]:
    """Column of a clip -> the dataset's; its one column of sounds is the path. Raises ConfigError."""
    sounds = [name for name, feature in split.features.items() if type(feature).__name__ == "Audio"]
    names = [name for name in split.column_names if name not in sounds]
    found = {**obvious_columns(names), "path": sounds}
    times = [name for role, name in time_columns(place, names, {}).items() if not role.startswith("duration")]
    if times:
        raise ConfigError(
            f"{place}: the columns {' and '.join(times)} look like times within a recording, which are not read from a "
            "dataset: a row is a whole sound. Cut the sounds first, or take the columns out with remove_columns."
        )
    if group:
        found["group"] = [name for name in names if name == group]
    for column in REQUIRED_CLIP_COLUMNS:
        if len(of_column := found.get(column, [])) != 1:
            what = "sounds (feature Audio)" if column == "path" else f"the {column}"
            raise ConfigError(
                f"{place}: {' and '.join(of_column) or 'no column'} may be {what}, one was expected among "
                f"{', '.join(split.column_names)}; make it so with rename_column, remove_columns or add_column of "
                "datasets" + (", or name it with --group." if column == "group" else ".")
            )
    return {column: names[0] for column, names in found.items() if column in _TAKEN and len(names) == 1}


def _texts(split: Any, values: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """The texts of a row, by column of a clip; a class has its name."""
    texts = dict.fromkeys(_TAKEN, "")
    for column, name in columns.items():
        value, feature = values[name], split.features[name]
        if value is None or (hasattr(feature, "int2str") and value < 0):  # -1 is the hub's "no label"
            continue
        texts[column] = str(feature.int2str(value) if hasattr(feature, "int2str") else value).strip()
    return texts


def _file_of(sound: Mapping[str, Any] | None, place: Path) -> Path:
    """The file of a sound, written to `place` with its own suffix where it lies within the dataset.

    Raises ManifestError for a row without a sound.
    """
    if sound is None or not (sound["bytes"] or sound["path"]):
        raise ManifestError(f"{place.name}: the row has no sound; remove it with filter of datasets.")
    if not sound["bytes"]:
        return Path(sound["path"]).absolute()
    suffix = Path(sound["path"] or "").suffix.lower()
    path = place.with_name(place.name + (suffix if suffix in SUFFIXES else ""))
    path.write_bytes(sound["bytes"])
    return path
