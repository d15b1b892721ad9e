"""What a fresh interpreter loads: counted in modules, since time differs from machine to machine."""

import subprocess
import sys

import pytest

import listenwell

HEAVY = ("torch", "transformers", "pandas", "sklearn", "scipy.stats", "matplotlib", "peft")


def modules_loaded_by(code: str) -> set[str]:
    ending = "\nimport sys; print(); print(*sorted(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True, check=True)
    return set(answer.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy():
    run = "import sys; sys.argv = ['listenwell', '--help']; from listenwell.cli.main import main"
    code = run + "\ntry: main()\nexcept SystemExit: pass"
    assert modules_loaded_by(code).isdisjoint({*HEAVY, "numpy", "pydantic", "soundfile"})


def test_evaluation_never_loads_torch():
    rooms = "comparison, intervals, metrics, scores"
    loaded = modules_loaded_by(f"from listenwell.evaluate import {rooms}")
    assert loaded.isdisjoint({*HEAVY, "soundfile", "pydantic"})


def test_the_config_loads_without_torch():
    assert modules_loaded_by("import listenwell.config").isdisjoint(HEAVY)


def test_import_listenwell_loads_no_part_of_itself():
    loaded = modules_loaded_by("import listenwell")
    assert {name for name in loaded if name.startswith("listenwell.")} == set()


@pytest.mark.parametrize("name", listenwell.__all__)
def test_every_public_name_is_there(name):
    assert getattr(listenwell, name) is not None
    assert name in dir(listenwell)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        listenwell.nothing  # noqa: B018
