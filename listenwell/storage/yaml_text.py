"""YAML as a config needs it: every key with its place, and nothing that explodes or sinks its reader.

Before values are built, their nodes are walked as they will be once every alias is written out: too many, and a key
that stands twice, are refused. All faults are ConfigErrors that name the file and the line.
"""

import types
from pathlib import Path
from typing import Any

import yaml

from listenwell.errors import ConfigError

MOST_VALUES = 100_000
"""A config that holds more is refused: a few aliases of aliases stand for more values than memory has room for."""


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the mapping in the file and, for every dotted key, its place ("study.yaml line 3")."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML config.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save the config in UTF-8.") from error
    values, places = _parse(text, str(path))
    if values is None:
        return {}, places
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else f"the single value {show_value(values)}"
        raise ConfigError(f"{path}: holds {kind}, a mapping of settings was expected; see 'listenwell config'.")
    return {str(key): value for key, value in values.items()}, places


def _key_places(text: str, place: str) -> dict[str, str]:
    """The place of every dotted key. Raises ConfigError for a key that stands twice and for what would explode."""
    places: dict[str, str] = {}
    n_values = 0

    def visit(node: yaml.Node | None, parent: str) -> None:
        nonlocal n_values
        n_values += 1
        if n_values > MOST_VALUES:
            raise ConfigError(
                f"{place}: holds more than {MOST_VALUES} values once its aliases (*name) are written out."
            )
        if isinstance(node, yaml.SequenceNode):
            for number, inner in enumerate(node.value):
                visit(inner, f"{parent}{number}.")
        if not isinstance(node, yaml.MappingNode):
            return
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = f"{parent}{key_node.value}", key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:null":
                raise ConfigError(f"{place} line {line}: a setting without a name; write it before the colon.")
            if key in lines:
                raise ConfigError(f"{place} line {line}: '{key}' already stands in line {lines[key]}; keep one.")
            lines[key] = line
            places[key] = f"{place} line {line}"
            visit(value_node, f"{key}.")

    visit(yaml.compose(text, Loader=yaml.SafeLoader), "")
    return places


def read_yaml_value(text: str, place: str) -> Any:
    """Return the value that one line of YAML stands for. Raises ConfigError naming `place`."""
    return _parse(text, place)[0]


def _parse(text: str, place: str) -> tuple[Any, dict[str, str]]:
    try:
        places = _key_places(text, place)
        return yaml.safe_load(text), places
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        line = f" line {mark.line + 1}" if mark else ""
        problem = (error.problem if isinstance(error, yaml.MarkedYAMLError) else None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{place}{line}: is not valid YAML ({problem}); put text with special signs in quotes."
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{place}: holds a value that YAML cannot read ({error}); put text in quotes.") from error


def to_yaml_line(value: Any) -> str:
    """Return `value` as YAML on one line."""
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.safe_dump(value, default_flow_style=True, default_style=style, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def show_value(value: Any) -> str:
    """Return `value` as a message shows it: as YAML where it has such a form, at most 60 signs."""
    is_yaml = isinstance(value, str | int | float | bool | list | dict | types.NoneType)
    text = to_yaml_line(value) if is_yaml else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
