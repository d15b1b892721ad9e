"""docs/architecture.md names modules and functions that are there, and every room of the package."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import listenwell

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS = sorted(
    path.stem for path in Path(listenwell.__file__).parent.iterdir() if path.suffix == ".py" or path.is_dir()
)
NAMES = sorted(
    {
        name
        for name in re.findall(r"`([a-z_]+(?:\.\w+)+)`", PAGE)
        if name.split(".")[0] in ROOMS and not name.endswith((".py", ".html", ".md"))
    }
)


def resolve(name: str) -> object:
    """The module, or what lies in one, that the dotted name below listenwell stands for."""
    module, *rest = name.split(".")
    found: object = import_module(f"listenwell.{module}")
    for part in rest:
        try:
            module = f"{module}.{part}"
            found = import_module(f"listenwell.{module}")
        except ModuleNotFoundError:
            found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_is_there(name):
    field = name.split(".")[-1]
    settings = import_module("listenwell.config").settings(import_module("listenwell.config").Config())
    if name not in {setting.key for setting in settings}:
        assert resolve(name) is not None, field


def test_every_room_is_in_the_table():
    table = PAGE.split("## Rooms")[1]
    assert [room for room in ROOMS if not room.startswith("__") and f"`{room}`" not in table] == []
