"""YAML as a config needs it: every key with its place, and nothing that explodes or sinks its reader.

Aliases are counted before they are written out, nesting before it is followed, and a key that stands twice is refused.
All faults are ConfigErrors that name the file and the line. Knows nothing of what the keys mean.
"""

import math
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from listenwell.errors import ConfigError

MOST_VALUES, DEEPEST = 100_000, 50
"""A config that holds more is refused: a few aliases of aliases stand for more values than memory has room for."""


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
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
        if key_node.tag == "tag:yaml.org,2002:null":
            raise ConfigError(f"{path} line {line}: a setting without a name; write it before the colon.")
        if key in lines:
            raise ConfigError(f"{path} line {line}: '{key}' already stands in line {lines[key]}; keep one of them.")
        lines[key] = line
        yield key, f"{path} line {line}"
        yield from _key_places(path, value_node, f"{key}.", (*around, node))


def read_yaml_value(text: str, place: str) -> Any:
    """Return the value that one line of YAML stands for. Raises ConfigError naming `place`."""
    try:
        _compose(text, place)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{place}: the value is not valid YAML ({_yaml_problem(error)}); put text with special signs in quotes."
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{place}: the value cannot be read as YAML ({error}); put text in quotes.") from error


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


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"the single value {show_value(value)}"


def _yaml_line(error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f" line {mark.line + 1}" if mark else ""


def _yaml_problem(error: yaml.YAMLError) -> str:
    problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else None
    return problem or str(error).splitlines()[0]
