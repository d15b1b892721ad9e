"""The examples of docs/augmentation.md run on plain arrays, without torch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "augmentation.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_three():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("example", EXAMPLES, ids=["mixing", "sounds", "masks"])
def test_an_example_runs_without_torch(example):
    check = "\nimport sys\nassert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    subprocess.run([sys.executable, "-W", "error", "-c", example + check], check=True, timeout=60)
