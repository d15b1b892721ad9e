"""The one config tree: sections from all over the package, loaded, overridden, checked, printed.

A YAML file holds only what differs from the defaults; `section.key=value` on the command line comes on top, the
value read as YAML. Unknown keys and wrong types are refused with their place (file, line, dotted key) and, where a
name is nearly right, the name that was probably meant; all faults are reported at once. Relative paths start at the
folder the command runs in; those in a file that says `relative_to: file` at the folder of that file, so that it can be
moved with what it names. Each section lives beside the code it configures and documents its own fields.
"""

import difflib
import functools
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from listenwell.augment.plan import AugmentConfig
from listenwell.errors import ConfigError
from listenwell.model.mel import ShortClipConfig
from listenwell.model.prompt import PromptConfig
from listenwell.model.settings import LoraConfig, ModelConfig, ScoringConfig
from listenwell.section import Section
from listenwell.storage.yaml_text import read_yaml, read_yaml_value, show_value, to_yaml_line
from listenwell.study_settings import (
    CalibrationConfig,
    DataConfig,
    EvaluationConfig,
    ExecutorConfig,
    LeaveOneOutConfig,
    SearchConfig,
)
from listenwell.train.settings import TrainConfig
from listenwell.train.tracking import TrackingConfig

CHANGES_NOTHING = ("output", "ledger", "relative_to")
"""Settings that say where things lie and change no result."""
PATHS = {"output": (), "ledger": (), "data.manifest": ("starter",), "data.backgrounds": ("starter", "none")}
"""Settings that are paths, and the words that stand for something else."""
OLD_KEYS = {"loso": "leave_one_out", "evaluation.least_loso": "evaluation.least_leave_one_out"}
"""Names that settings had before; they are read like the new ones."""
MODEL = "model.name"
WRITTEN_AS_PATH = re.compile(r"\.{1,2}([/\\]|$)")
"""A model's name that begins so is a path, as an absolute one is; others may be a hub's."""
UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""Zero bytes, and halves of surrogate pairs, which YAML and JSON can write and UTF-8 cannot."""


class Config(Section):
    """Everything a study needs to know."""

    seed: int = Field(42, ge=0)
    """Every random draw derives from this number and the name of what is drawn."""
    output: Path = Path("runs/study")
    """The folder that receives scores, results and report; changes no result."""
    ledger: Path | None = None
    """A folder of fits that studies share, such as another's output; null: the study's own. Changes no result."""
    relative_to: Literal["cwd", "file"] = "cwd"
    """Where relative paths in this file start: cwd, the folder the command runs in; or file, the folder of this file,
    so that it may be moved with what it names. They are output, ledger, data.manifest, data.backgrounds, and a
    model.name that begins with ./ or ../; paths given on the command line always start at the folder it runs in."""
    model: ModelConfig = ModelConfig()
    prompt: PromptConfig = PromptConfig()
    short_clips: ShortClipConfig = ShortClipConfig()
    data: DataConfig = DataConfig()
    lora: LoraConfig = LoraConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    scoring: ScoringConfig = ScoringConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seeds: tuple[int, ...] = ()
    """Seeds of the final fits and of every arm, the median one by dev delivered; empty takes seed alone."""
    arms: dict[str, dict[str, Any]] = Field({})
    """Named variants to compare, each a mapping of dotted settings; search.best: true adds what the search found."""
    search: SearchConfig = SearchConfig()
    leave_one_out: LeaveOneOutConfig = LeaveOneOutConfig()
    executor: ExecutorConfig = ExecutorConfig()
    tracking: TrackingConfig = TrackingConfig()


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of the resolved tree as YAML knows it. choices is empty unless the values are enumerated."""

    key: str
    value: Any
    default: Any
    help: str
    choices: tuple[str, ...] = ()


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Return the defaults changed by the YAML file at `path` (if any), then by `overrides` ("section.key=value").

    Its paths are resolved and relative_to is cwd, whatever the file says. Raises ConfigError listing every fault.
    """
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    if path is not None:
        values, places = read_yaml(path)
        _rename_old_keys(values)
        places = {_new_key(key): place for key, place in places.items()}
        if _starts_at_file(values, overrides):
            folder = os.path.realpath(path.parent)
            _change_paths(values, lambda written: os.path.abspath(Path(folder, written)))
    for override in overrides:
        _apply_override(values, places, override)
    faults, whole = list(_value_faults(Config, values, "")), "" if path is None else str(path)
    config = _validate(values, faults, lambda key: _place(places, key, whole))
    return config.model_copy(update={"relative_to": "cwd"})


def _validate(values: Mapping[str, Any], faults: list[tuple[str, str]], place: Callable[[str], str]) -> Config:
    """The config of nested `values`. Raises ConfigError with the place of every fault, those known already first."""
    config = Config()
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        faults = faults + [_explain(detail) for detail in error.errors(include_url=False)]
    if faults:
        lines = [f"{place(key)}: {sentence}" for key, sentence in faults]
        head = f"{len(lines)} faults in the config:\n  " if len(lines) > 1 else ""
        raise ConfigError(head + "\n  ".join(lines))
    return config


def _new_key(key: str) -> str:
    """The dotted key under its present name."""
    for old, new in OLD_KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def _rename_old_keys(values: dict[str, Any]) -> None:
    """Give nested `values` the present names of settings. Raises ConfigError where one stands under both."""
    for old, new in OLD_KEYS.items():
        section, name = _section_of(values, old)
        if name in section:
            present = new.rsplit(".", 1)[-1]
            if present in section:
                raise ConfigError(f"{old}: is the old name of {new}, which is given, too; keep one.")
            section[present] = section.pop(name)


def _section_of(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping in nested `values` that a dotted key stands in, an empty one where there is none, and its name."""
    *parents, name = key.split(".")
    section: Any = values
    for parent in parents:
        section = section.get(parent) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}, name


def _starts_at_file(values: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    """True when the paths in a file with these values start at its folder; the last word is the command line's."""
    wanted = values.get("relative_to")
    for key, _, text in (override.partition("=") for override in overrides):
        if key.strip() == "relative_to":
            wanted = read_yaml_value(text, f"override '{key}={text}'")
    return bool(wanted == "file")


def _change_paths(values: dict[str, Any], change: Callable[[str], str]) -> None:
    """Change every path in nested `values` that is text; words that stand for something else stay."""
    for key, words in {**PATHS, MODEL: ()}.items():
        section, name = _section_of(values, key)
        written = section.get(name)
        if not isinstance(written, str) or not written or written in words or "\0" in written:
            continue
        if key != MODEL or WRITTEN_AS_PATH.match(written) or os.path.isabs(written):
            changed = change(written)
            section[name] = f"./{changed}" if changed in words else changed


def config_beside(config: Config, folder: Path) -> Config:
    """Return `config` as a file in `folder` would hold it, such as that of a run in the run's folder.

    What lies at or below the folder around `folder` is named relative to the file, everything else absolute; so
    `folder` may be moved with what lies beside it. `load_config` gives back an equal config, its paths absolute.
    """
    folder = Path(os.path.realpath(folder))

    def name_beside(written: str) -> str:
        # a table that is a link names its recordings from where the link lies
        path = Path(os.path.abspath(written))
        path = Path(os.path.realpath(path.parent), path.name)
        return Path(os.path.relpath(path, folder)).as_posix() if path.is_relative_to(folder.parent) else str(path)

    values = config.model_dump()
    values |= {key: str(values[key]) for key in ("output", "ledger") if values[key] is not None}
    _change_paths(values, name_beside)
    name = values["model"]["name"]
    if name != config.model.name and not os.path.isabs(name) and not WRITTEN_AS_PATH.match(name):
        values["model"]["name"] = f"./{name}"
    return Config.model_validate({**values, "relative_to": "file"})


def change_config(config: Config, changes: Mapping[str, Any], place: str) -> Config:
    """Return `config` with dotted settings changed. Raises ConfigError, naming `place`, for every fault."""
    values, faults = config.model_dump(), []
    for key, value in changes.items():
        section, name = _section_of(values, _new_key(key))
        if name in section:
            section[name] = value
        else:
            faults.append((key, _unknown_key(tuple(key.split(".")))))
    return _validate(values, faults, lambda key: f"{place}, {key}")


def settings(section: Section, prefix: str = "") -> Iterator[Setting]:
    """Yield every field of the tree in order, the sections' fields with dotted keys, below `prefix`."""
    for name, field in type(section).model_fields.items():
        key, value, annotation = f"{prefix}{name}", getattr(section, name), field.annotation
        if isinstance(value, Section):
            yield from settings(value, f"{key}.")
            continue
        choices = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
        help_text = " ".join((field.description or "").split())
        yield Setting(key, _plain(value), _plain(field.default), help_text, tuple(map(str, choices)))


def _plain(value: Any) -> Any:
    """The value as YAML knows it."""
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def dump(config: Config, *, with_help: bool = False) -> str:
    """Return the whole resolved tree as YAML that `load_config` reads back to an equal config.

    with_help puts every field under its help text and marks the values that differ from the default.
    """
    lines, opened = [f"# {Config.__doc__}"] if with_help else [], [""]
    for setting in settings(config):
        *parents, name = setting.key.split(".")
        for depth in range(1, len(parents) + 1):
            section = ".".join(parents[:depth])
            if section not in opened:
                opened.append(section)
                indent = "  " * (depth - 1)
                if with_help:
                    inner = functools.reduce(getattr, parents[:depth], config)
                    lines += ["", f"{indent}# {type(inner).__doc__}"]
                lines.append(f"{indent}{parents[depth - 1]}:")
        indent = "  " * len(parents)
        if with_help:
            lines.append(f"{indent}# {setting.help}")
            lines += [f"{indent}# One of: {', '.join(setting.choices)}."] if setting.choices else []
        is_changed = with_help and setting.value != setting.default
        changed = f"  # default: {to_yaml_line(setting.default)}" if is_changed else ""
        lines.append(f"{indent}{name}: {to_yaml_line(setting.value)}{changed}")
    return "\n".join(lines) + "\n"


def _apply_override(values: dict[str, Any], places: dict[str, str], override: str) -> None:
    """Set one "section.key=value" in the nested `values`; sections on the way are made when missing."""
    place = f"override '{override}'"
    key, equals, text = override.partition("=")
    names = _new_key(key.strip()).split(".")
    if not equals or not all(names):
        raise ConfigError(f"{place}: expected section.key=value, for instance model.device=cpu.")
    value = read_yaml_value(text, place)
    for depth, name in enumerate(names[:-1], start=1):
        section, values = ".".join(names[:depth]), values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{place}: '{section}' is a single value and has no keys below it.")
        places.setdefault(section, place)
    values[names[-1]] = value
    places[".".join(names)] = place


def _value_faults(kind: Any, value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield what pydantic takes silently in a value of this type: true and false (YAML reads yes, no, on, off so too)
    as 1 and 0, and text that no file can hold or be called."""
    if isinstance(value, bool) and kind in (int, float):
        yield key, f"found {show_value(value)}, expected a number."
    elif isinstance(value, str) and UNWRITABLE.search(value):
        yield key, f"found {show_value(value)}, expected text without a zero byte or a lone surrogate."
    elif isinstance(value, list):
        for inner in value:
            yield from _value_faults(None, inner, key)
    elif isinstance(value, dict):
        fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, Section) else {}
        for name, inner in value.items():
            of_field = fields[name].annotation if name in fields else None
            yield from _value_faults(of_field, inner, f"{key}.{name}".lstrip("."))


def _explain(detail: ErrorDetails) -> tuple[str, str]:
    """Return the dotted key of one pydantic error and a sentence: found, expected, next step."""
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return key, _unknown_key(detail["loc"])
    found = f"found {show_value(detail['input'])}"
    if detail["type"] == "literal_error":
        return key, f"{found}, expected {detail['ctx']['expected']}."
    if detail["type"] == "string_type":
        return key, f"{found}, expected text; put it in quotes if text was meant."
    if detail["type"] == "model_type":
        return key, f"{found}, expected a section of settings below this key."
    if detail["type"] == "string_pattern_mismatch":
        return key, f"{found}, expected: {next(each.help for each in settings(Config()) if each.key == key)}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return key, f"{found}, but the value {message[0].lower()}{message[1:]}."


def _unknown_key(location: tuple[int | str, ...]) -> str:
    """Name the keys nearest to the unknown one: first in its own section, then anywhere in the tree."""
    *parents, name = (str(part) for part in location)
    every_key = [setting.key for setting in settings(Config())]
    prefix = "".join(f"{part}." for part in parents)
    siblings = sorted({key.removeprefix(prefix).split(".")[0] for key in every_key if key.startswith(prefix)})
    near = [prefix + match for match in difflib.get_close_matches(name, siblings, n=1)]
    near += [key for key in every_key if key.rsplit(".", 1)[-1] == name]
    return f"unknown key; did you mean '{near[0]}'?" if near else f"unknown key; expected one of {', '.join(siblings)}."


def _place(places: Mapping[str, str], key: str, whole: str) -> str:
    """Return the nearest known place of a dotted key: its own, that of the section around it, or the `whole` file."""
    names = key.split(".")
    for length in range(len(names), 0, -1):
        outer = ".".join(names[:length])
        if outer in places:
            return places[outer] if places[outer].startswith("override") else f"{places[outer]}, {key}"
    return ", ".join(part for part in (whole, key) if part)
