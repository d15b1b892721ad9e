"""Write requirements.lock: the tested CPU environment, every package with its version and the hashes of its files.

uv resolves pyproject.toml with the extras of `make env`, and what builds the project, for Python 3.11 and later. Left
out are torch and the CUDA libraries that PyPI's torch asks for: which build of torch an installer finds depends on its
index, so constraints.txt pins its version alone.

    make lock
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
BUILD = ("hatchling>=1.27", "editables")
"""What `pip install --no-build-isolation -e .` needs beside pip."""
LEFT_OUT = re.compile(r"^(torch==|triton==|nvidia-|cuda-)")
HEADER = """\
# Written by `make lock` (tools/write_lock.py); do not edit. The tested CPU environment but torch.
"""


def main() -> None:
    """Resolve, leave torch and CUDA out, and write."""
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder) / "build.in"
        build.write_text("\n".join(BUILD) + "\n", encoding="utf-8")
        command = [
            sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", str(build), "-c", "constraints.txt",
            *(f"--extra={extra}" for extra in ("test", "docs", "baselines")),
            "--universal", "--python-version=3.11", "--generate-hashes", "--no-header", "--no-annotate", "--quiet",
        ]  # fmt: skip
        resolved = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    blocks = [block for block in re.split(r"\n(?=\S)", resolved.strip()) if not LEFT_OUT.match(block)]
    LOCK.write_text(HEADER + "\n".join(blocks) + "\n", encoding="utf-8")
    print(f"{LOCK}: {len(blocks)} packages")


if __name__ == "__main__":
    main()
