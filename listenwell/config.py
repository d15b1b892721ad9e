"""The one config tree: sections from all over the package, loaded, overridden, checked, printed, hashed.

A YAML file holds only what differs from the defaults; `section.key=value` on the command line comes on top, the
value read as YAML. Unknown keys and wrong types are refused with their place (file, line, dotted key) and, where a
name is nearly right, the name that was probably meant; all faults are reported at once. Relative paths count from
the folder the command runs in. Each section lives beside the code it configures and documents its own fields.
"""

import difflib
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from listenwell.augment.plan import AugmentConfig
from listenwell.data.settings import DataConfig
from listenwell.errors import ConfigError
from listenwell.evaluate.settings import EvaluationConfig
from listenwell.model.prompt import PromptConfig
from listenwell.model.settings import LoraConfig, ModelConfig, ScoringConfig
from listenwell.model.short_clips import ShortClipConfig
from listenwell.section import Section
from listenwell.train.settings import TrainConfig

Choice = bool | int | float | str | None
MOST_VALUES, DEEPEST = 100_000, 50
"""A config that holds more is refused: a few aliases of aliases stand for more values than memory has room for."""


class SampledConfig(Section):
    """Points drawn from a space: each generation learns from those before it (tree-structured Parzen estimator)."""

    trials: int = Field(0, ge=0)
    """Different points to try; 0: none are drawn."""
    generation: int = Field(6, ge=1)
    """Points drawn at once and trained together; more are faster, fewer learn more often."""
    rungs: tuple[int, ...] = (2, 5)
    """Epochs after which the worse trials of a stack end, by their dev loss so far; []: every trial is trained whole.
    The learning rates of those that go on are not changed by it."""
    keep_share: float = Field(0.5, gt=0, lt=1)
    """Share of a stack's trials that goes on after each rung, rounded up."""
    space: dict[str, tuple[Choice, ...]] = Field(
        {
            "lora.rank": (4, 8, 16, 32),
            "lora.alpha": (16, 32, 64),
            "lora.dropout": (0.0, 0.05, 0.1),
            "train.learning_rate": (5e-5, 1e-4, 2e-4),
            "train.warmup_steps": (100, 150, 200),
        }
    )
    """The choices of every dotted setting; a space replaces this one whole."""

    @field_validator("rungs")
    @classmethod
    def _ascending(cls, rungs: tuple[int, ...]) -> tuple[int, ...]:
        if any(rung < 1 for rung in rungs) or list(rungs) != sorted(set(rungs)):
            raise ValueError("must be different epochs from 1 on, the earliest first")
        return rungs


class SearchConfig(Section):
    """Which settings are tried before the final fits; dev alone judges. Give a grid or trials, not both."""

    grid: tuple[dict[str, Any], ...] = ()
    """Points to try, each a mapping of dotted settings, such as {lora.rank: 16, train.learning_rate: 2e-4}."""
    sampled: SampledConfig = SampledConfig()
    most_points: int = Field(1000, ge=1)
    """A search of more points is refused as a mistake; raise it where it is meant."""

    @property
    def is_wanted(self) -> bool:
        """True when there is something to try."""
        return bool(self.grid) or self.sampled.trials > 0

    def may_change(self, key: str) -> bool:
        """True when a point may set this dotted setting."""
        return any(key in point for point in self.grid) or (self.sampled.trials > 0 and key in self.sampled.space)

    @model_validator(mode="after")
    def _one_kind(self) -> "SearchConfig":
        if self.grid and self.sampled.trials:
            raise ValueError("grid and sampled.trials are both given; keep one")
        return self


class LosoConfig(Section):
    """Leave one speaker out: every speaker of the study pool is held out once, with a share of the other sounds."""

    arms: tuple[str, ...] = ()
    """Which arms run it; final is the config itself. Empty: none."""
    mode: Literal["fixed", "nested"] = "fixed"
    """fixed takes what search.best found on all speakers; nested searches again inside every fold, on its own training
    groups alone, which multiplies the fits by the points of the search."""
    folds: int | None = Field(None, ge=2)
    """Folds that hold out several speakers each, where speakers are many; null: one fold per speaker."""
    dev_speakers: int = Field(2, ge=1)
    """Speakers of each fold's training groups that choose its epoch and threshold instead of training."""
    changes: dict[str, Any] = Field({})
    """Dotted settings of every fold's fit, such as {train.epochs: 3}: folds are many."""


class SpeakerCurveConfig(Section):
    """Accuracy against the number of training speakers: the study's own fit on nested shares of them."""

    shares: tuple[float, ...] = ()
    """Shares of the training speakers, such as [0.25, 0.5], the smallest first; each is one more fit per seed, on the
    same other sounds. All speakers are the study's own fit. Empty: no curve."""

    @field_validator("shares")
    @classmethod
    def _ascending(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < share < 1 for share in shares) or list(shares) != sorted(set(shares)):
            raise ValueError("must be different shares between 0 and 1, the smallest first")
        return shares


class ExecutorConfig(Section):
    """Where stacks train. Changes no result."""

    kind: Literal["local", "ray"] = "local"
    """local trains one stack after another in this process; ray gives each to a worker, and needs listenwell[ray]."""
    address: str | None = None
    """The Ray cluster (HOST:PORT or auto); null starts one on this machine. All must see the same files."""
    cpus: int = Field(1, ge=1)
    """CPU cores that Ray sets aside for a stack."""
    gpus: float = Field(0.0, ge=0)
    """GPUs that Ray sets aside for a stack; 0.5 lets two share one."""
    retries: int = Field(3, ge=0)
    """How often a stack goes on elsewhere, from its newest checkpoint, after its worker died."""


class Config(Section):
    """Everything a study needs to know."""

    seed: int = Field(42, ge=0)
    """Every random draw derives from this number and the name of what is drawn."""
    output: Path = Path("runs/study")
    """The folder that receives scores, results and report; not part of the fingerprint."""
    ledger: Path | None = None
    """A folder of fits that studies share, such as another's output; null: the study's own. Changes no result."""
    model: ModelConfig = ModelConfig()
    prompt: PromptConfig = PromptConfig()
    short_clips: ShortClipConfig = ShortClipConfig()
    data: DataConfig = DataConfig()
    lora: LoraConfig = LoraConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    scoring: ScoringConfig = ScoringConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seeds: tuple[int, ...] = ()
    """Seeds of the final fits and of every arm, the median one by dev delivered; empty takes seed alone."""
    arms: dict[str, dict[str, Any]] = Field({})
    """Named variants to compare, each a mapping of dotted settings; search.best: true adds what the search found."""
    search: SearchConfig = SearchConfig()
    loso: LosoConfig = LosoConfig()
    speaker_curve: SpeakerCurveConfig = SpeakerCurveConfig()
    executor: ExecutorConfig = ExecutorConfig()


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of the resolved tree, ready to be shown. choices is empty unless the values are enumerated."""

    key: str
    value: Any
    default: Any
    help: str
    choices: tuple[str, ...] = ()


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Return the defaults changed by the YAML file at `path` (if any), then by `overrides` ("section.key=value").

    Raises ConfigError listing every fault.
    """
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    if path is not None:
        values, places = _read_yaml(path)
    for override in overrides:
        _apply_override(values, places, override)
    faults = list(_boolean_faults(Config, values, ""))
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        faults += [_explain(detail) for detail in error.errors(include_url=False)]
    if faults:
        lines = [f"{_place(places, key)}: {sentence}" for key, sentence in faults]
        found = f"{len(lines)} faults in the config:\n  " if len(lines) > 1 else ""
        raise ConfigError(found + "\n  ".join(lines))
    return config


def change_config(config: Config, changes: Mapping[str, Any], place: str) -> Config:
    """Return `config` with dotted settings changed. Raises ConfigError, naming `place`, for every fault."""
    values = config.model_dump()
    faults: list[tuple[str, str]] = []
    for key, value in changes.items():
        *parents, name = key.split(".")
        inner: Any = values
        for parent in parents:
            inner = inner[parent] if isinstance(inner, dict) and parent in inner else None
        if not isinstance(inner, dict) or name not in inner:
            faults.append((key, _unknown_key(tuple(key.split(".")))))
        else:
            inner[name] = value
    try:
        changed = Config.model_validate(values)
    except ValidationError as error:
        faults += [_explain(detail) for detail in error.errors(include_url=False)]
    if faults:
        raise ConfigError("\n  ".join(f"{place}, {key}: {sentence}" for key, sentence in faults))
    return changed


def settings(config: Config) -> Iterator[Setting]:
    """Yield every field of the tree in order, the sections' fields with dotted keys."""
    yield from _section_settings(config, "")


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
                lines += _section_head(config, parents[:depth], with_help=with_help)
        indent = "  " * len(parents)
        if with_help:
            lines.append(f"{indent}# {setting.help}")
            lines += [f"{indent}# One of: {', '.join(setting.choices)}."] if setting.choices else []
        changed = f"  # default: {_flow(setting.default)}" if with_help and setting.value != setting.default else ""
        lines.append(f"{indent}{name}: {_flow(setting.value)}{changed}")
    return "\n".join(lines) + "\n"


def _section_head(config: Config, names: Sequence[str], *, with_help: bool) -> list[str]:
    """The lines that open the section of these names."""
    indent = "  " * (len(names) - 1)
    section = functools.reduce(getattr, names, config)
    return [*(["", f"{indent}# {type(section).__doc__}"] if with_help else []), f"{indent}{names[-1]}:"]


def fingerprint(config: Config) -> str:
    """Return the sha256 of the tree as canonical JSON; `output` and `ledger`, which change no result, are left out."""
    content = config.model_dump(mode="json", exclude={"output", "ledger"})
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of the config file, for editors that complete and check YAML."""
    return Config.model_json_schema()


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the mapping in the file and, for every dotted key, its place ("study.yaml line 3")."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        root = _compose(text, str(path))
        places = dict(_key_places(path, root, ""))
        values = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML config.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save the config in UTF-8.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_yaml_line(error)}: is not valid YAML ({_yaml_problem(error)}).") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path}: holds a value that YAML cannot read ({error}); put text in quotes.") from error
    if values is None:
        return {}, places
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: holds {_kind(values)}, a mapping of settings was expected, such as 'seed: 42'; "
            "'listenwell config' prints every setting."
        )
    return {str(key): value for key, value in values.items()}, places


def _compose(text: str, place: str) -> yaml.Node | None:
    """The nodes of a YAML text. Raises ConfigError for more values or deeper ones than a config can hold."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"{place}: its values lie {depth} deep in each other, at most {DEEPEST} are read.")
    root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    n_values = _count_values(root, {}) if root is not None else 0
    if n_values > MOST_VALUES:
        shown = f"{n_values:.3g}" if n_values < math.inf else "endlessly many"
        raise ConfigError(
            f"{place}: its aliases (*name) stand for {shown} values, at most {MOST_VALUES} are read; write out what is "
            "meant."
        )
    return root


def _count_values(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values `node` holds once every alias is written out; infinite when it lies in itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted: met again, it lies in itself
        inner = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_count_values(each, known) for each in inner)
    return known[id(node)]


def _key_places(
    path: Path, node: yaml.Node | None, parent: str, around: tuple[yaml.Node, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, place) of every key below `node`. Raises ConfigError for a key that stands twice.

    around: the nodes `node` lies in; an alias may make a mapping contain itself.
    """
    if not isinstance(node, yaml.MappingNode) or node in around:
        return
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = f"{parent}{key_node.value}", key_node.start_mark.line + 1
        if key in lines:
            raise ConfigError(f"{path} line {line}: '{key}' already stands in line {lines[key]}; keep one of them.")
        lines[key] = line
        yield key, f"{path} line {line}"
        yield from _key_places(path, value_node, f"{key}.", (*around, node))


def _apply_override(values: dict[str, Any], places: dict[str, str], override: str) -> None:
    """Set one "section.key=value" in the nested `values`; sections on the way are made when missing."""
    place = f"override '{override}'"
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"{place}: expected section.key=value, for instance model.device=cpu.")
    try:
        _compose(text, place)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{place}: the value is not valid YAML ({_yaml_problem(error)}); put text with special signs in quotes."
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{place}: the value cannot be read as YAML ({error}); put text in quotes.") from error
    for depth, name in enumerate(names[:-1], start=1):
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{place}: '{'.'.join(names[:depth])}' is a single value and has no keys below it.")
        values = inner
        places.setdefault(".".join(names[:depth]), place)
    values[names[-1]] = value
    places[".".join(names)] = place


def _boolean_faults(section: type[Section], values: Mapping[str, Any], parent: str) -> Iterator[tuple[str, str]]:
    """Yield a fault for every true or false (YAML also reads yes, no, on, off so) that would silently become 1 or 0."""
    for name, value in values.items():
        if name not in section.model_fields:
            continue
        kind = section.model_fields[name].annotation
        if isinstance(value, bool) and kind in (int, float):
            yield f"{parent}{name}", f"found {_show(value)}, expected a number."
        elif isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, Section):
            yield from _boolean_faults(kind, value, f"{parent}{name}.")


def _explain(detail: ErrorDetails) -> tuple[str, str]:
    """Return the dotted key of one pydantic error and a sentence: found, expected, next step."""
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return key, _unknown_key(detail["loc"])
    found = f"found {_show(detail['input'])}"
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
    sections = [field for field, info in Config.model_fields.items() if isinstance(info.default, Section)]
    prefix = "".join(f"{part}." for part in parents)
    siblings = [key.removeprefix(prefix) for key in every_key if key.startswith(prefix)] if parents else sections
    own = sorted({key.split(".")[0] for key in siblings + (every_key if not parents else [])})
    near = [prefix + match for match in difflib.get_close_matches(name, own, n=1)]
    elsewhere = [key for key in every_key if key.rsplit(".", 1)[-1] == name]
    if near or elsewhere:
        return f"unknown key; did you mean '{(near or elsewhere)[0]}'?"
    return f"unknown key; expected one of {', '.join(own)}."


def _place(places: Mapping[str, str], key: str) -> str:
    """Return the nearest known place of a dotted key: its own, else that of the section around it."""
    names = key.split(".")
    for length in range(len(names), 0, -1):
        outer = ".".join(names[:length])
        if outer in places:
            return places[outer] if places[outer].startswith("override") else f"{places[outer]}, {key}"
    return key


def _section_settings(section: Section, prefix: str) -> Iterator[Setting]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _section_settings(value, f"{prefix}{name}.")
        else:
            yield Setting(
                f"{prefix}{name}",
                _plain(value),
                _plain(field.default),
                " ".join((field.description or "").split()),
                _choices(field.annotation),
            )


def _plain(value: Any) -> Any:
    """The value as YAML knows it."""
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def _choices(annotation: Any) -> tuple[str, ...]:
    is_literal = typing.get_origin(annotation) is typing.Literal
    return tuple(str(choice) for choice in typing.get_args(annotation)) if is_literal else ()


def _flow(value: Any) -> str:
    """Return `value` as YAML on one line."""
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(value, default_flow_style=True, default_style=style, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _show(value: Any) -> str:
    text = _flow(value) if isinstance(value, str | int | float | bool | list | dict | types.NoneType) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"the single value {_show(value)}"


def _yaml_line(error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f" line {mark.line + 1}" if mark else ""


def _yaml_problem(error: yaml.YAMLError) -> str:
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
    return problem or str(error).splitlines()[0]
