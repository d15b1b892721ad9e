"""Draw a test set from a table of clips and write it down: test_set.csv, data_sheet.json.

Every chosen clip is read: its samples are hashed, and must have the hash the table gives. No audio is copied.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from listenwell.config import Config
from listenwell.data.audio import load_waveform, pcm_sha256
from listenwell.data.clip import Clip
from listenwell.data.manifest import read_manifest, write_manifest
from listenwell.data.test_set import (
    DataSheet,
    SetSize,
    draw_test_set,
    leave_out_related,
    sheet_to_json,
)
from listenwell.errors import ManifestError
from listenwell.evaluate.power import expect_precision
from listenwell.progress import OnProgress, ignore_progress
from listenwell.splits.clips import find_manifest, read_split
from listenwell.storage.atomic_files import write_json

FILES = TEST_SET, SHEET_JSON = "test_set.csv", "data_sheet.json"


@dataclass(frozen=True, slots=True)
class Draw:
    """What is asked for: how many, of which split ("" = of all), and unrelated to the clips of which tables.

    With a split, a clip is also left out when it is related to a clip of another split.
    """

    size: SetSize
    from_split: str = ""
    exclude: tuple[Path, ...] = ()


def make_test_set(config: Config, draw: Draw, out: Path, on_progress: OnProgress = ignore_progress) -> DataSheet:
    """Draw from the config's clips with its seed, write the files into `out`, return the data sheet.

    Files of these names are replaced: `storage.destination` asks before. Raises ManifestError when the clips are too
    few, AudioError when a chosen clip cannot be used.
    """
    manifest = find_manifest(config, on_progress)
    chosen = _draw(manifest, draw, config.seed)
    checked = []
    for n_read, clip in enumerate(chosen, start=1):
        checked.append(replace(clip, pcm_sha256=pcm_sha256(load_waveform(clip))))
        on_progress("reading", n_read, len(chosen))
    asked = {
        "clips": config.data.manifest, "seed": config.seed, **asdict(draw.size), "from_split": draw.from_split,
        "exclude": [str(path) for path in draw.exclude],
    }  # fmt: skip
    sheet = DataSheet(asked, checked, expect_precision(checked))
    write_json(out / SHEET_JSON, sheet_to_json(sheet))
    # last: where the table is, everything is
    write_manifest(out / TEST_SET, sheet.clips)
    return sheet


def _draw(manifest: Path, draw: Draw, seed: int) -> list[Clip]:
    pool = read_split(manifest, draw.from_split)
    used = [clip for path in draw.exclude for clip in read_manifest(path)]
    if draw.from_split:
        used += [clip for clip in read_manifest(manifest) if clip.split != draw.from_split]
    free = leave_out_related(pool, used)
    try:
        return draw_test_set(free, draw.size, seed)
    except ManifestError as error:
        n_related = len(pool) - len(free)
        left_out = f"{n_related} clips left out as related to clips used elsewhere, " if n_related else ""
        raise ManifestError(f"{manifest}: {left_out}{error}") from error
