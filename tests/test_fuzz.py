"""Broken and hostile files of every kind that is read: a value or one of our errors comes back, soon, in little memory.

A reader has a few small valid files; their bytes are changed, and where a JSON object holds its own hash, that is made
again. LISTENWELL_FUZZ_EXAMPLES sets the files tried per reader: 25 by default, always the same
ones; in `make soak` more, and other ones each time. A reader that takes more than MOST_S of processor time or
MOST_BYTES of new memory fails; so does an error that does not name the file or its folder.
"""

import io
import json
import os
import resource
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from made_scores import make_scores
from test_debian_packages import build_deb

from listenwell.config import load_config
from listenwell.data.audio import load_recording
from listenwell.data.corpora.voxconverse import read_rttm
from listenwell.data.fetch.packages import read_package
from listenwell.data.manifest import read_backgrounds, read_manifest
from listenwell.detect.bundle import read_bundle
from listenwell.errors import ListenwellError
from listenwell.evaluate.calibration import BALANCED_ACCURACY, calibrate, read_threshold, write_calibration
from listenwell.evaluate.predictions import read_predictions
from listenwell.model.loading import load_model
from listenwell.model.settings import ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.storage.load_or_make import OWN, with_own_hash
from listenwell.storage.seal import commit, judge_seal, look
from listenwell.tasks.runs import list_runs

ASKED = os.environ.get("LISTENWELL_FUZZ_EXAMPLES")
N_EXAMPLES = int(ASKED) if ASKED else 25
MOST_S = 5.0
MOST_BYTES = 2**30
Files = dict[str, bytes]

# Valid files


def sound(form: str = "WAV", subtype: str = "PCM_16", n_channels: int = 1, rate_hz: int = 16_000) -> bytes:
    """A tone of 50 ms."""
    samples = 0.1 * np.sin(np.arange(rate_hz // 20) / 5)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([samples] * n_channels, axis=1), rate_hz, format=form, subtype=subtype)
    return buffer.getvalue()


SOUNDS = (
    ("WAV", "PCM_16", 1, 16_000), ("WAV", "FLOAT", 2, 44_100), ("WAV", "IMA_ADPCM", 1, 8_000),
    ("WAV", "GSM610", 1, 8_000), ("FLAC", "PCM_16", 1, 16_000), ("OGG", "VORBIS", 1, 16_000),
    ("OGG", "OPUS", 1, 48_000), ("MP3", "MPEG_LAYER_III", 1, 16_000), ("AIFF", "PCM_16", 1, 16_000),
    ("AU", "ULAW", 1, 8_000), ("CAF", "ALAC_16", 1, 16_000), ("W64", "PCM_16", 1, 16_000),
)  # fmt: skip
CLIPS = (
    b"clip_id,path,start_s,duration_s,label,group,split,category\n"
    b'a,a.wav,0,0.05,SPEECH,anna,train,\nb,a.wav,0.01,,NONSPEECH,"rain, ""hard""",,rain\n'
)
GERMAN_CLIPS = "\ufeffclip_id;path;start_s;label;group\r\nä;a.wav;0,01;1;ö\r\n\r\nb;a.wav;;0;h\r\n".encode()
BACKGROUNDS = b"background_id\tpath\tduration_s\tkind\tgroup\na\ta.wav\t\tnoise\tg\nb\ta.wav\t2.5\tmusic\th\n"
SCORES = b"clip_id,group,label,score,condition,duration_ms\na,g,SPEECH,1.5,clean,50\nb,h,0,-2e3,snr_0,\na,g,1,.7,,\n"
TABLE_LINES = (
    b'{"clip_id": "a", "path": "a.wav", "label": true, "group": 3, "start_s": 0.01}\n'
    b'{"clip_id": "b", "path": "a.wav", "label": 0, "group": "x", "duration_s": null}\n'
)
RTTM = b"SPEAKER talk 1 0.5 1.25 <NA> <NA> anna <NA> <NA>\nSPEAKER talk 1 2 1e3 <NA> <NA> bob <NA> <NA>\n"
CONFIG = b"""seed: 7
train: {epochs: 3, learning_rate: 1e-4}
arms: {quiet: &a {augment.noise.probability: 0.0}, same: *a}
search: {grid: [{lora.rank: 4}], sampled: {space: {lora.rank: [1, 2]}}}
data: {manifest: clips.csv, columns: {clip_id: id}}
"""


def parquet() -> bytes:
    columns: dict[str, list[Any]] = {"clip_id": ["a", "b"], "path": ["a.wav"] * 2, "label": ["speech", "0"]}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns | {"group": ["g", "h"], "start_s": [0.0, 0.01]}), buffer)
    return buffer.getvalue()


def left_by(write: Callable[[Path], object]) -> Callable[[Path], list[Files]]:
    """What `write` leaves in a folder."""

    def make(folder: Path) -> list[Files]:
        write(folder)
        return [{str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}]

    return make


def write_seal(folder: Path) -> None:
    commit(folder / "seal.jsonl", {"m": "aa"}, "fit")
    look(folder / "seal.jsonl", "test", "00", {"m": "aa"})


# Readers


def read_sound(folder: Path) -> None:
    assert np.isfinite(load_recording(folder / "a.wav")).all()


def read_seal(folder: Path) -> None:
    assert judge_seal(folder / "seal.jsonl", "0" * 64, ["test"]).verdict in ("sealed", "reopened", "unsealed")


def load(folder: Path) -> None:
    load_model(ModelConfig(name=str(folder), device="cpu", dtype="float32"))


def one(name: str, read: Callable[[Path], object], *contents: bytes) -> Any:
    """A reader of one file; a recording lies beside it."""
    return lambda folder: read(folder / name), lambda _: [{"a.wav": sound(), name: content} for content in contents]


READERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], list[Files]]]] = {
    "clips": one("t.csv", read_manifest, CLIPS, GERMAN_CLIPS),
    "backgrounds": one("t.csv", read_backgrounds, BACKGROUNDS),
    "predictions": one("t.csv", read_predictions, SCORES, b"clip_id,group,label,score\na,g,SPEECH,97 %\nb,h,0,1%\n"),
    "table of lines": one("t.jsonl", read_manifest, TABLE_LINES),
    "table of columns": one("t.parquet", read_manifest, parquet()),
    "RTTM": one("t.rttm", read_rttm, RTTM),
    "config": one("study.yaml", load_config, CONFIG),
    "sounds": (read_sound, lambda _: [{"a.wav": sound(*form)} for form in SOUNDS]),
    "packages": one(
        "a.deb", lambda path: list(read_package(path, {".wav"})),
        *(build_deb({"./a.wav": bytes(700)}, kind) for kind in ("", "gz", "xz")),
    ),
    "models": (load, left_by(lambda folder: build_random_model(folder))),
    "thresholds": (
        lambda folder: read_threshold(folder / "t.json"),
        left_by(
            lambda folder: write_calibration(folder / "t.json", calibrate(make_scores(), BALANCED_ACCURACY, seed=0))
        ),
    ),
    "seals": (read_seal, left_by(write_seal)),
    "runs": (list_runs, left_by(lambda folder: [(folder / f).write_text("{}") for f in ("config.yaml", "run.lock")])),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@pytest.mark.timeout(120 + N_EXAMPLES)
def test_a_broken_file_gives_a_value_or_one_of_our_errors(tmp_path_factory, name):
    read, make = READERS[name]
    require_safe(tmp_path_factory.mktemp("fuzz"), read, make, n_examples=N_EXAMPLES if name != "models" else 5)


def test_a_broken_detector_gives_a_value_or_one_of_our_errors(tmp_path_factory, made_detector):
    copied = left_by(lambda folder: shutil.copytree(made_detector, folder, dirs_exist_ok=True))
    require_safe(tmp_path_factory.mktemp("fuzz"), read_bundle, copied, N_EXAMPLES, only="detector.json")


def require_safe(
    place: Path, read: Callable[[Path], object], make: Callable[[Path], list[Files]], n_examples: int, only: str = ""
) -> None:
    (place / "made").mkdir()
    wholes = make(place / "made")
    for whole in wholes:
        read(lay_out(place / "folder", whole))

    @settings(
        max_examples=n_examples, derandomize=ASKED is None, suppress_health_check=list(HealthCheck), print_blob=True
    )
    @given(broken=st.sampled_from(wholes).flatmap(lambda whole: broken_file(whole, only)))
    def no_other_error(broken: tuple[str, Files]) -> None:
        folder = lay_out(place / "folder", broken[1])
        note(f"{broken[0]}: {broken[1][broken[0]][:300]!r}")
        with little_time(), little_memory():
            complaint = complaint_of(read, folder)
        assert not complaint or str(folder) in complaint

    no_other_error()


def complaint_of(read: Callable[[Path], object], folder: Path) -> str:
    """What one of our errors says, "" where a value comes back."""
    try:
        read(folder)
    except ListenwellError as error:
        return str(error)
    return ""


# Changes

TIPPING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
"""Numbers at which lengths, counts and signs tip over."""
WORDS = (
    b"", b"nan", b"inf", b"-1", b"1e308", b"9" * 5000, b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b'"', b",", b";", b"\t",
    b"\n", b"\r\n\r\n", b"../../x", b"/etc/passwd", b"[" * 2000, b"{}", b"null", b"\xe2\x80\xa8", b"&a [*a]", b"<<: *a",
)  # fmt: skip
NUMBERS = st.builds(
    lambda value, kind: struct.pack(kind, value & (256 ** struct.calcsize(kind) - 1)),
    st.sampled_from(TIPPING),
    st.sampled_from([f"{order}{size}" for order in "<>" for size in "BHIQ"]),
)
PLACES = st.integers(0, 48) | st.integers(0, 1000) | st.integers(0, 2**20)
"""Near the start more often: that is where headers are."""
EDITS = st.tuples(PLACES, st.integers(0, 8) | st.integers(0, 300), NUMBERS | st.sampled_from(WORDS) | st.binary())


def broken_file(whole: Files, only: str) -> st.SearchStrategy[tuple[str, Files]]:
    """One of the files with its bytes changed, and all files; a JSON object gets the hash of what it holds then."""
    names = [only] if only else [name for name in whole if name != "a.wav" or len(whole) == 1]
    edits = st.lists(EDITS, min_size=1, max_size=4)
    return st.one_of(
        edits.map(lambda chosen, name=name: (name, whole | {name: rehash(edit(whole[name], chosen))}))
        | st.binary(max_size=64).map(lambda content, name=name: (name, whole | {name: content}))
        for name in names
    )


def edit(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Put a piece in the place of so many bytes; an empty one for none of them cuts the rest off."""
    for place, n_replaced, piece in edits:
        at = place % (len(content) + 1)
        rest = content[at + n_replaced :] if piece or n_replaced else b""
        content = content[:at] + piece + rest
    return content


def rehash(content: bytes) -> bytes:
    """A JSON object that holds its own hash, with the hash made again."""
    try:
        record = json.loads(content)
        own = {key: record[key] for key in record if key != OWN}
    except (ValueError, TypeError, RecursionError):
        return content
    return json.dumps(with_own_hash(own)).encode() if OWN in record else content


def lay_out(folder: Path, files: Files) -> Path:
    """Write the files into `folder`, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@contextmanager
def little_time() -> Iterator[None]:
    """Fail when the block takes more than MOST_S of this process's time; one that never ends meets pytest's timeout."""
    began = time.process_time()
    yield
    assert time.process_time() - began < MOST_S


@contextmanager
def little_memory() -> Iterator[None]:
    """Let the block take no more than MOST_BYTES of memory: MemoryError is none of our errors."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
