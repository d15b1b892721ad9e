"""Write the table of packages and their licences into docs/licences.md, from the metadata of the installed ones.

make lock && make env && .venv/bin/python tools/list_licences.py
"""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE, LOCK = ROOT / "docs" / "licences.md", ROOT / "requirements.lock"
START = "| package | licence |\n|---|---|\n"
LONGEST = 60
NOT_NEEDED = "not needed by Python 3.11 on Linux"
REMARKS = {
    "av": "; the wheels hold FFmpeg (LGPL) and x264, x265 (GPL), "
    "see [decision 12](decisions/0012-pyav-beside-libsndfile.md)"
}
"""What a package's metadata does not say of its files."""


def main() -> None:
    """Replace the table, which ends the page. Run it with Python 3.11, whose packages it lists."""
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(START)
    names = sorted({*locked_packages(LOCK), "torch"})
    rows = [f"| {name} | {licence_of(name)}{REMARKS.get(name, '')} |" for name in names]
    PAGE.write_text(before + START + "\n".join(rows) + "\n", encoding="utf-8")


def locked_packages(lock: Path) -> set[str]:
    """Names of the packages in a lock, as they stand there."""
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", lock.read_text(encoding="utf-8"), flags=re.MULTILINE))


def licence_of(name: str) -> str:
    """What a package says of its licence: the expression, else its classifiers, else its own words if they are few."""
    try:
        said = metadata(name)
    except PackageNotFoundError:
        return NOT_NEEDED
    if said["License-Expression"]:
        return said["License-Expression"]
    classified = [each.split(" :: ")[-1] for each in said.get_all("Classifier") or [] if each.startswith("License ::")]
    if classified:
        return ", ".join(classified)
    words = (said["License"] or "").strip().splitlines()
    return words[0][:LONGEST] if words else "not said in its metadata"


if __name__ == "__main__":
    main()
