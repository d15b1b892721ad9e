"""A room imports only from its own folder or from rows below it, no modules import each other in a circle, and
`__init__` files of rooms are empty.

Imports inside functions count too: a circle that is closed when a function runs is one all the same. Those under `if
TYPE_CHECKING:` count for the rows as well, but run never, so they close no circle.
"""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "listenwell"
ROWS = (
    ("__main__",),
    ("cli",),
    ("tasks",),
    ("study",),
    ("judge",),
    ("fits",),
    ("splits",),
    ("report",),
    ("detect",),
    ("config",),
    ("study_settings",),
    ("train",),
    ("model",),
    ("baselines",),
    ("evaluate",),
    ("augment",),
    ("data",),
    ("storage",),
    ("section", "random_streams", "errors", "progress"),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
BASE_ROW = len(ROWS) - 1
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(module: str) -> str:
    """listenwell.data.clip -> data; listenwell itself (the version) is in no room."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported_modules(path: Path) -> list[str]:
    return _imports_in(ast.parse(path.read_text(encoding="utf-8")), path)


def _imports_in(tree: ast.AST, path: Path) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            found.append(node.module or "")
    return [module for module in found if module.split(".")[0] == "listenwell"]


class _WithoutTypeChecking(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_for_types else self.generic_visit(node)


def modules_run_by(path: Path) -> list[str]:
    """The modules that running this one imports, at once or when a function is called."""
    return _imports_in(_WithoutTypeChecking().visit(ast.parse(path.read_text(encoding="utf-8"))), path)


def circle_among(imports: dict[str, list[str]]) -> list[str]:
    """The modules of one circle, each importing the next, the first again at the end; [] where there is none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_from_its_room_and_the_rows_below(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    assert room in ROW_OF, f"{room} has no row; give it one in ROWS"
    for module in imported_modules(path):
        other = room_of(module)
        within_base = ROW_OF[room] == BASE_ROW and ROW_OF.get(other) == BASE_ROW
        assert other in ("", room) or within_base or ROW_OF[other] > ROW_OF[room], f"{room} imports {module}"


def test_no_modules_import_each_other_in_a_circle():
    imports = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in MODULES}
    circle = circle_among({module: modules_run_by(path) for module, path in imports.items()})
    assert not circle, f"{' imports '.join(circle)}; move what they share into a module that both import"


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if p.name == "__init__.py"],
    ids=lambda path: path.parent.relative_to(PACKAGE).as_posix(),
)
def test_the_init_file_of_a_room_is_empty(path):
    assert path.read_text(encoding="utf-8") == ""
