"""How torch's threads wait for each other: set before torch is loaded, and never against the user."""

import os
import subprocess
import sys

import pytest

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "None PASSIVE"),
    ],
)
def test_the_package_sets_the_policy_where_the_environment_does_not(given, expected):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | given
    code = f"import os, listenwell; print(*(os.environ.get(name) for name in {VARIABLES}))"
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == expected
