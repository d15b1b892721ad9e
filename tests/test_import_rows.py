"""A room imports only from its own folder or from rows below it; `__init__` files of rooms are empty."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "listenwell"
ROWS = (
    ("__main__",),
    ("cli",),
    ("study",),
    ("report",),
    ("detect",),
    ("config",),
    ("seal",),
    ("run_folder",),
    ("train",),
    ("model",),
    ("baselines",),
    ("evaluate",),
    ("augment",),
    ("data",),
    ("section", "cache", "atomic_files", "random_streams", "errors", "progress", "journal", "vouched_files"),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
BASE_ROW = len(ROWS) - 1
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(module: str) -> str:
    """listenwell.data.clip -> data; listenwell itself (the version) is in no room."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported_modules(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            found.append(node.module or "")
    return [module for module in found if module.split(".")[0] == "listenwell"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_from_its_room_and_the_rows_below(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert room in ROW_OF, f"{room} has no row; give it one in ROWS"
    for module in imported_modules(path):
        other = room_of(module)
        within_base = ROW_OF[room] == BASE_ROW and ROW_OF.get(other) == BASE_ROW
        assert other in ("", room) or within_base or ROW_OF[other] > ROW_OF[room], f"{room} imports {module}"


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if p.name == "__init__.py"],
    ids=lambda path: path.parent.relative_to(PACKAGE).as_posix(),
)
def test_the_init_file_of_a_room_is_empty(path):
    assert path.read_text(encoding="utf-8") == ""
