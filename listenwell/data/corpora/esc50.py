"""ESC-50: 2,000 five-second sounds of 50 classes, 44.1 kHz (Piczak 2015, doi:10.1145/2733373.2806390).

    meta/esc50.csv      filename,fold,target,category,esc10,src_file,take
    audio/*.wav         <fold>-<src_file>-<take>-<target>.wav

src_file is the Freesound id of the recording that a clip was cut from: clips that share it are one group and one
origin ("freesound:<id>"), and the official folds keep them together. Everything is NONSPEECH; what people utter is a
hard subset, told by its category.
"""

from pathlib import Path

from listenwell.data.clip import Clip
from listenwell.data.corpora.corpus import Corpus, Prepared, PrepareSettings, cut_clips, find_folder, read_lengths
from listenwell.data.fetch.download import RemoteFile
from listenwell.data.tables import read_rows
from listenwell.progress import OnProgress, ignore_progress

NAME, TITLE, LANDMARK = "esc50", "ESC-50", "meta/esc50.csv"
LICENCE = "CC-BY-NC-3.0"
COLUMNS = ("filename", "category", "src_file")


def prepare(root: Path, settings: PrepareSettings, on_progress: OnProgress = ignore_progress) -> Prepared:
    """Return one NONSPEECH clip per file, or several where clip_s is below 5 s (`Corpus.prepare`)."""
    folder = find_folder(root, LANDMARK, TITLE)
    rows = {
        folder / "audio" / row.required("filename"): (row.required("category"), row.required("src_file"))
        for row in read_rows(folder / LANDMARK, COLUMNS, COLUMNS)
    }
    lengths_s, quarantine = read_lengths(list(rows), on_progress)
    clips: list[Clip] = []
    for path, length_s in lengths_s.items():
        category, source = rows[path]
        whole = Clip(
            clip_id=path.stem,
            path=path,
            start_s=0.0,
            duration_s=length_s,
            label="NONSPEECH",
            group=f"{NAME}_{source}",
            recording=path.stem,
            corpus=NAME,
            licence=LICENCE,
            category=category,
            origin=f"freesound:{source}",
        )
        clips += cut_clips(whole, settings)
    return Prepared(clips, quarantine=quarantine)


CORPUS = Corpus(
    name=NAME,
    title=TITLE,
    purpose="NONSPEECH of 50 classes, human sounds among them",
    citation="Piczak 2015, ESC: dataset for environmental sound classification, doi:10.1145/2733373.2806390",
    licence=LICENCE,
    home_page="https://github.com/karolpiczak/ESC-50",
    hours=2.8,
    archives=(RemoteFile("ESC-50-master.zip", "https://github.com/karolpiczak/ESC-50/archive/master.zip"),),
    layout="audio/*.wav, meta/esc50.csv",
    draws_on=("freesound",),
    prepare=prepare,
)
