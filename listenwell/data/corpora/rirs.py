"""Room impulse responses and noises, OpenSLR 28 (Ko, Peddinti, Povey, Seltzer & Khudanpur 2017, ICASSP).

    real_rirs_isotropic_noises/rir_list         --rir-id 00001 --room-id RVB2014_largeroom1 ... RIRS_NOISES/.../x.wav
    simulated_rirs/{small,medium,large}room/rir_list
    real_rirs_isotropic_noises/noise_list       --noise-id 00001 --noise-type isotropic --room-linkage ROOM ...
    pointsource_noises/noise_list               --noise-id ... --noise-type point-source --bg-fg-type foreground ...

Paths in the lists begin with RIRS_NOISES, whatever the folder is called here. The point-source noises are copies of
MUSAN's Freesound noises under the same names, which their origin "musan:<track>" says.
"""

from pathlib import Path

from listenwell.data.clip import ROOM, Background
from listenwell.data.corpora.corpus import Corpus, Prepared, PrepareSettings, find_folder, read_lengths
from listenwell.data.fetch.download import RemoteFile
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress

NAME, TITLE, LANDMARK = "rirs", "RIRS_NOISES", "pointsource_noises/noise_list"
LICENCE = "Apache-2.0"
REAL = "real_rirs_isotropic_noises"


def prepare(root: Path, settings: PrepareSettings, on_progress: OnProgress = ignore_progress) -> Prepared:
    """Return backgrounds: rooms and noises, where those are wanted (`Corpus.prepare`)."""
    folder = find_folder(root, LANDMARK, TITLE)
    rooms = _read_lists(folder, "rir_list") if ROOM in settings.background_kinds else {}
    noises = _read_lists(folder, "noise_list") if "noise" in settings.background_kinds else {}
    lengths_s, quarantine = read_lengths([*rooms, *noises], on_progress)
    backgrounds = []
    for path, length_s in lengths_s.items():
        relative, options = path.relative_to(folder).with_suffix(""), (rooms | noises)[path]
        name, origin = path.stem, ""
        if path in rooms:
            name = relative.as_posix()
            group = options["room-id"] if relative.parts[0] == REAL else f"{relative.parts[1]}_{options['room-id']}"
        elif "room-linkage" in options:
            group = options["room-linkage"]
        else:
            group, origin = path.stem, f"musan:{path.stem}"
        backgrounds.append(
            Background(
                background_id=f"{NAME}/{name}",
                path=path,
                duration_s=length_s,
                kind=ROOM if path in rooms else "noise",
                group=f"{NAME}_{group}",
                corpus=NAME,
                licence=LICENCE,
                origin=origin,
            )
        )
    return Prepared(backgrounds=backgrounds, quarantine=quarantine)


def _read_lists(folder: Path, name: str) -> dict[Path, dict[str, str]]:
    """Return the options of every file that the lists called `name` name, by its path."""
    options_of = {}
    for listing in sorted([*folder.glob(f"*/{name}"), *folder.glob(f"*/*/{name}")]):
        for line, text in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
            if text.strip():
                options = _read_options(listing, line, text)
                options_of[folder.joinpath(*Path(options["path"]).parts[1:])] = options
    return options_of


def _read_options(listing: Path, line: int, text: str) -> dict[str, str]:
    """Return "--key value" pairs and the path after them, which may hold spaces. Raises ManifestError."""
    options, rest = {}, text.strip()
    while rest.startswith("--"):
        words = rest.split(maxsplit=2)
        if len(words) < 3:
            break
        options[words[0].removeprefix("--")], rest = words[1:]
    room = "room-linkage" if "noise-type" in options and options["noise-type"] == "isotropic" else "room-id"
    if rest.startswith("--") or (("noise-id" not in options or room == "room-linkage") and room not in options):
        raise ManifestError(
            f"{listing} line {line}: '{text}' names no {room} or no file; '--key value ... RIRS_NOISES/<file>.wav' was "
            "expected, unpack the archive again."
        )
    return {**options, "path": rest}


CORPUS = Corpus(
    name=NAME,
    title=TITLE,
    purpose="impulse responses of real and simulated rooms; noises",
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
    layout="real_rirs_isotropic_noises, simulated_rirs, pointsource_noises with rir_list and noise_list",
    draws_on=("musan", "freesound"),
    prepare=prepare,
)
