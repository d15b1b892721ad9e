"""Room impulse responses, OpenSLR 28 (Ko, Peddinti, Povey, Seltzer & Khudanpur 2017, ICASSP).

    real_rirs_isotropic_noises/rir_list         --rir-id 00001 --room-id RVB2014_largeroom1 ... RIRS_NOISES/.../x.wav
    simulated_rirs/{small,medium,large}room/rir_list

Paths in the lists begin with RIRS_NOISES, whatever the folder is called here. The noises are left alone: most
are copies of MUSAN's.
"""

import re
from pathlib import Path

from listenwell.data.clip import ROOM, Background
from listenwell.data.corpora.corpus import Corpus, Prepared, PrepareSettings, find_folder, read_lengths
from listenwell.data.fetch.download import RemoteFile
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress

NAME, TITLE, REAL = "rirs", "RIRS_NOISES", "real_rirs_isotropic_noises"
LICENCE = "Apache-2.0"
_LINE = re.compile(r"(?:--\S+ \S+ )*?--room-id (\S+) (?:--\S+ \S+ )*(?!--)(\S.*)")


def prepare(root: Path, settings: PrepareSettings, on_progress: OnProgress = ignore_progress) -> Prepared:
    """Return the rooms, as backgrounds, where those are wanted (`Corpus.prepare`)."""
    folder = find_folder(root, f"{REAL}/rir_list", TITLE)
    room_of = _read_lists(folder) if ROOM in settings.background_kinds else {}
    lengths_s, quarantine = read_lengths(list(room_of), on_progress)
    backgrounds = [
        Background(
            background_id=f"{NAME}/{path.relative_to(folder).with_suffix('').as_posix()}",
            path=path,
            duration_s=length_s,
            kind=ROOM,
            group=f"{NAME}_{room_of[path]}",
            corpus=NAME,
            licence=LICENCE,
        )
        for path, length_s in lengths_s.items()
    ]
    return Prepared(backgrounds=backgrounds, quarantine=quarantine)


def _read_lists(folder: Path) -> dict[Path, str]:
    """Return the room of every response that a list names, by its path. Raises ManifestError."""
    room_of = {}
    for listing in sorted([*folder.glob("*/rir_list"), *folder.glob("*/*/rir_list")]):
        size = "" if listing.parent.name == REAL else f"{listing.parent.name}_"
        for line, text in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
            if not text.strip():
                continue
            if (named := _LINE.fullmatch(text.strip())) is None:
                raise ManifestError(
                    f"{listing} line {line}: '{text}' names no room-id or no file; '--room-id ROOM RIRS_NOISES/...wav' "
                    "was expected, unpack the archive again."
                )
            room_of[folder.joinpath(*Path(named[2]).parts[1:])] = size + named[1]
    return room_of


CORPUS = Corpus(
    name=NAME,
    title=TITLE,
    purpose="impulse responses of real and simulated rooms",
    citation="Ko, Peddinti, Povey, Seltzer & Khudanpur 2017, A study on data augmentation of reverberant speech",
    licence=LICENCE,
    home_page="https://www.openslr.org/28/",
    hours=0.0,
    archives=(
        RemoteFile(
            "rirs_noises.zip",
            "https://www.openslr.org/resources/28/rirs_noises.zip",
            1_311_166_223,
            "md5:e6f48e257286e05de56413b4779d8ffb",
        ),
    ),
    layout="real_rirs_isotropic_noises, simulated_rirs with rir_list",
    draws_on=(),
    prepare=prepare,
)
