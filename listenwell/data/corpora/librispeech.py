"""LibriSpeech: audio books read for LibriVox, 16 kHz (Panayotov, Chen, Povey & Khudanpur 2015, ICASSP).

    SPEAKERS.TXT                                   ; comments, then  84   | F | dev-clean        |  8.02 | Name
    <subset>/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac

A speaker's number is the reader's in LibriVox, the same in all subsets, and so the group and the origin
("librivox:<number>"). The official archives repeat SPEAKERS.TXT; subsets may lie in folders of their own.
"""

from pathlib import Path

from listenwell.data.clip import Clip
from listenwell.data.corpora.corpus import (
    Corpus,
    Prepared,
    PrepareSettings,
    cut_stretches,
    find_folders,
    name_clip,
    read_lengths,
)
from listenwell.data.fetch.download import RemoteFile
from listenwell.errors import ManifestError
from listenwell.progress import OnProgress, ignore_progress

NAME, TITLE, LANDMARK = "librispeech", "LibriSpeech", "SPEAKERS.TXT"
LICENCE = "CC-BY-4.0"
URL = "https://www.openslr.org/resources/12"


def prepare(root: Path, settings: PrepareSettings, on_progress: OnProgress = ignore_progress) -> Prepared:
    """Return SPEECH clips of the wanted subsets (`Corpus.prepare`)."""
    subsets = find_subsets(root, settings.parts)
    paths = [path for _, folder in sorted(subsets.items()) for path in sorted(folder.glob("*/*/*.flac"))]
    lengths_s, quarantine = read_lengths(paths, settings.quarantine_share, on_progress)
    clips = [clip for path, length_s in lengths_s.items() for clip in _cut_utterance(path, length_s, settings)]
    return Prepared(clips, quarantine=quarantine)


def find_subsets(root: Path, wanted: tuple[str, ...]) -> dict[str, Path]:
    """Return the folder of each subset that holds utterances of known readers, of all of them when none is wanted.

    Raises ManifestError when a subset is missing or there twice, or a reader is not in SPEAKERS.TXT.
    """
    subsets: dict[str, Path] = {}
    for corpus in find_folders(root, LANDMARK, TITLE):
        readers = _read_readers(corpus / LANDMARK)
        for folder in sorted(corpus.glob("*/")):
            speakers = sorted({path.parent.parent.name for path in folder.glob("*/*/*.flac")})
            if not speakers:
                continue
            _check_readers(folder, speakers, readers)
            if folder.name in subsets:
                raise ManifestError(f"{root}: {folder.name} is there twice; give the folder of one copy of {TITLE}.")
            subsets[folder.name] = folder
    missing = [name for name in wanted if name not in subsets]
    if missing or not subsets:
        raise ManifestError(
            f"{root}: no utterances <speaker>/<chapter>/*.flac of {missing[0] if missing else TITLE}, found subsets: "
            f"{', '.join(subsets) if subsets else 'none'}; fetch it with 'listenwell corpus download {NAME}'."
        )
    return {name: folder for name, folder in subsets.items() if not wanted or name in wanted}


def _read_readers(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {line.split("|")[0].strip() for line in lines if "|" in line and not line.startswith(";")}


def _check_readers(folder: Path, speakers: list[str], readers: set[str]) -> None:
    unknown = [speaker for speaker in speakers if speaker not in readers]
    if unknown:
        raise ManifestError(
            f"{folder}: reader {unknown[0]} is not in {LANDMARK}, so nobody knows who that is; every folder of a "
            "subset was expected to be a reader's number, remove it or unpack the archive again."
        )


def _cut_utterance(path: Path, length_s: float, settings: PrepareSettings) -> list[Clip]:
    subset, speaker, chapter = path.parts[-4:-1]
    return [
        Clip(
            clip_id=name_clip(NAME, path.stem, start_s),
            path=path,
            start_s=start_s,
            duration_s=duration_s,
            label="SPEECH",
            group=f"{NAME}_{speaker}",
            recording=f"{subset}/{speaker}/{chapter}/{path.stem}",
            corpus=NAME,
            licence=LICENCE,
            category="english",
            origin=f"librivox:{speaker}",
        )
        for start_s, duration_s in cut_stretches(0.0, length_s, settings)
    ]


CORPUS = Corpus(
    name=NAME,
    title=TITLE,
    purpose="SPEECH of speakers known across all recordings",
    citation="Panayotov, Chen, Povey & Khudanpur 2015, LibriSpeech: an ASR corpus based on public domain audio books",
    licence=LICENCE,
    home_page="https://www.openslr.org/12/",
    hours=15.9,
    archives=(
        RemoteFile(
            "dev-clean.tar.gz",
            f"{URL}/dev-clean.tar.gz",
            337_926_286,
            "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        ),
        RemoteFile(
            "test-clean.tar.gz",
            f"{URL}/test-clean.tar.gz",
            346_663_984,
            "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
        ),
        RemoteFile(
            "test-other.tar.gz",
            f"{URL}/test-other.tar.gz",
            328_757_843,
            "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
        ),
    ),
    layout="SPEAKERS.TXT, <subset>/<speaker>/<chapter>/*.flac",
    draws_on=("librivox",),
    prepare=prepare,
)
