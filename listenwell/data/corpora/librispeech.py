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
    cut_clips,
    find_folders,
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
    clips = [clip for path, length_s in lengths_s.items() for clip in cut_clips(_describe(path, length_s), settings)]
    return Prepared(clips, quarantine=quarantine)


def find_subsets(root: Path, wanted: tuple[str, ...]) -> dict[str, Path]:
    """Return the folder of each subset that holds utterances of known readers, of all of them when none is wanted.

    Raises ManifestError when a subset is missing or there twice, or a reader is not in SPEAKERS.TXT.
    """
    subsets: dict[str, Path] = {}
    for corpus in find_folders(root, LANDMARK, TITLE):
        lines = (corpus / LANDMARK).read_text(encoding="utf-8", errors="replace").splitlines()
        readers = {line.split("|")[0].strip() for line in lines if "|" in line and not line.startswith(";")}
        for folder in sorted(corpus.glob("*/")):
            speakers = sorted({path.parent.parent.name for path in folder.glob("*/*/*.flac")})
            if not speakers:
                continue
            unknown = [speaker for speaker in speakers if speaker not in readers]
            if unknown:
                raise ManifestError(
                    f"{folder}: reader {unknown[0]} is not in {LANDMARK}, so nobody knows who that is; every folder of "
                    "a subset was expected to be a reader's number, remove it or unpack the archive again."
                )
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


def _describe(path: Path, length_s: float) -> Clip:
    subset, speaker, chapter = path.parts[-4:-1]
    return Clip(
        clip_id=path.stem,
        path=path,
        start_s=0.0,
        duration_s=length_s,
        label="SPEECH",
        group=f"{NAME}_{speaker}",
        recording=f"{subset}/{speaker}/{chapter}/{path.stem}",
        corpus=NAME,
        licence=LICENCE,
        category="english",
        origin=f"librivox:{speaker}",
    )


CORPUS = Corpus(
    name=NAME,
    title=TITLE,
    purpose="SPEECH of speakers known across all recordings",
    citation="Panayotov, Chen, Povey & Khudanpur 2015, LibriSpeech: an ASR corpus based on public domain audio books",
    licence=LICENCE,
    home_page="https://www.openslr.org/12/",
    hours=15.9,
    archives=tuple(
        RemoteFile(f"{name}.tar.gz", f"{URL}/{name}.tar.gz", n_bytes, f"sha256:{sha256}")
        for name, n_bytes, sha256 in (
            ("dev-clean", 337_926_286, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3"),
            ("test-clean", 346_663_984, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23"),
            ("test-other", 328_757_843, "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29"),
        )
    ),
    layout="SPEAKERS.TXT, <subset>/<speaker>/<chapter>/*.flac",
    draws_on=("librivox",),
    prepare=prepare,
)
