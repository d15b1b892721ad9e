"""Everything of this project that reads files of others, each with small valid files to begin from.

A target is a reader of a folder and a few valid folders, which it reads without an error. Where a file is JSON (or
YAML, or the header of safetensors) its fields can be changed too; a hash over them is made again, as whoever means harm
would.
"""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile
import yaml
import zstandard
from broken_files import to_json

from listenwell.config import load_config
from listenwell.data.audio import load_recording
from listenwell.data.backgrounds import BackgroundFile, build_background_file
from listenwell.data.clip import Background
from listenwell.data.corpora.voxconverse import read_rttm
from listenwell.data.exchange import Unsaid, read_lhotse, read_lhotse_cuts
from listenwell.data.fetch.archives import Limits, unpack
from listenwell.data.fetch.deb_archive import iterate_files
from listenwell.data.fetch.download import FetchedFile
from listenwell.data.manifest import read_backgrounds, read_manifest, read_table
from listenwell.detect.bundle import read_bundle
from listenwell.detect.recordings import open_blocks
from listenwell.evaluate.calibration import BALANCED_ACCURACY, calibrate, read_platt, read_threshold, write_calibration
from listenwell.evaluate.predictions import read_predictions
from listenwell.fits.ledger import open_ledger
from listenwell.model.small.assembly import read_ctranslate2
from listenwell.storage.atomic_files import companion
from listenwell.storage.journal import Journal
from listenwell.storage.load_or_make import ENVELOPE, read_vouched, require_files, with_own_hash, write_vouched
from listenwell.storage.run_folder import RunFolder
from listenwell.storage.run_lock import holder_of
from listenwell.storage.seal import FIRST, Seal, hash_entry, judge_seal

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Fields:
    """How a file's fields are taken from its bytes, and put back into them."""

    parse: Callable[[bytes], Any]
    pack: Callable[[Any, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """read: the reader of a folder; wholes: valid folders; fields: the files whose fields can be changed.

    share: of the examples asked for, where one takes long. left_whole: files that are another target's.
    """

    read: Callable[[Path], object]
    wholes: Callable[[Path], Sequence[Files]]
    fields: Mapping[str, Fields] = field(default_factory=dict)
    share: float = 1.0
    left_whole: frozenset[str] = frozenset({"a.wav"})


JSON = Fields(json.loads, lambda content, _: to_json(content))
JSON_LINES = Fields(
    lambda whole: [json.loads(line) for line in whole.splitlines() if line],
    lambda content, _: b"\n".join(map(to_json, content if isinstance(content, list) else [content])),
)
PACKED_LINES = Fields(
    lambda whole: JSON_LINES.parse(gzip.decompress(whole)),
    lambda content, _: gzip.compress(JSON_LINES.pack(content, b"")),
)
NO_FIELDS: Mapping[str, Fields] = {}
YAML = Fields(yaml.safe_load, lambda content, _: yaml.safe_dump(content).encode())


def _vouch_again(content: Any, _: bytes) -> bytes:
    if not isinstance(content, dict):
        return to_json(content)
    return to_json(with_own_hash({key: value for key, value in content.items() if key not in ENVELOPE}))


VOUCHED = Fields(json.loads, _vouch_again)


def _read_header(whole: bytes) -> Any:
    return json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]])


def _write_header(content: Any, whole: bytes) -> bytes:
    header = to_json(content)
    return struct.pack("<Q", len(header)) + header + whole[8 + struct.unpack("<Q", whole[:8])[0] :]


SAFETENSORS = Fields(_read_header, _write_header)


def files_of(folder: Path) -> Files:
    """Every file below `folder` by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


# Tables


def make_sound(form: str = "WAV", subtype: str = "PCM_16", n_channels: int = 1, rate_hz: int = 16_000) -> bytes:
    """A tone of 50 ms."""
    samples = 0.1 * np.sin(np.arange(rate_hz // 20) / 5)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([samples] * n_channels, axis=1), rate_hz, format=form, subtype=subtype)
    return buffer.getvalue()


CLIPS = (
    b"clip_id,path,start_s,duration_s,label,group,split,category\n"
    b'a,a.wav,0,0.05,SPEECH,anna,train,\nb,a.wav,0.01,,NONSPEECH,"rain, ""hard""",,rain\n'
)
GERMAN_CLIPS = "\ufeffclip_id;path;start_s;label;group\r\nä;a.wav;0,01;1;ö\r\n\r\nb;a.wav;;0;h\r\n".encode()
BEDS = b"background_id\tpath\tduration_s\tkind\tgroup\na\ta.wav\t\tnoise\tg\nb\ta.wav\t2.5\tmusic\th\n"
SCORES = b"clip_id,group,label,score,condition,duration_ms\na,g,SPEECH,1.5,clean,50\nb,h,0,-2e3,snr_0,\na,g,1,.7,,\n"
SHARES = b"clip_id,group,label,score\na,g,SPEECH,97 %\nb,h,0,1%\n"
TABLE_LINES = b"""{"clip_id": "a", "path": "a.wav", "label": true, "group": 3, "start_s": 0.01}
{"clip_id": "b", "path": "a.wav", "label": 0, "group": "x", "duration_s": null}
"""
RTTM = b"""SPEAKER talk 1 0.5 1.25 <NA> <NA> anna <NA> <NA>
SPEAKER talk 1 2 1e3 <NA> <NA> bob <NA> <NA>
"""


def make_parquet() -> bytes:
    columns = {
        "clip_id": ["a", "b"],
        "path": ["a.wav"] * 2,
        "label": ["speech", "0"],
        "group": ["g", "h"],
        "start_s": [0.0, None],
    }
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


# Lhotse

SOUND_RECORD = {
    "id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
    "sampling_rate": 16000, "num_samples": 800, "duration": 0.05, "channel_ids": [0],
}  # fmt: skip
SUPERVISION = {
    "id": "s", "recording_id": "r", "start": 0.0, "duration": 0.05, "channel": 0, "speaker": "anna",
    "custom": {"label": "SPEECH", "group": "anna", "split": "dev"},
}  # fmt: skip
CUT = {
    "id": "c",
    "start": 0.0,
    "duration": 0.05,
    "channel": 0,
    "type": "MonoCut",
    "supervisions": [SUPERVISION],
    "recording": SOUND_RECORD,
}


def _lhotse(_: Path) -> list[Files]:
    return [{"recordings.jsonl": to_json(SOUND_RECORD), "supervisions.jsonl": to_json(SUPERVISION) + b"\n"}]


def _cuts(_: Path) -> list[Files]:
    return [{"cuts.jsonl.gz": gzip.compress(to_json(CUT) + b"\n" + to_json(CUT | {"supervisions": [], "id": "d"}))}]


def _read_cuts(folder: Path) -> object:
    return read_lhotse_cuts(folder / "cuts.jsonl.gz", Unsaid("SPEECH", group_by="recording", audio_root=folder))


def _read_config(folder: Path) -> object:
    return load_config(folder / "study.yaml")


def _read_ctranslate2(folder: Path) -> object:
    return read_ctranslate2(folder / "model.bin")


def _read_lhotse(folder: Path) -> object:
    return read_lhotse(folder / "recordings.jsonl", folder / "supervisions.jsonl", Unsaid(audio_root=folder))


# Sounds

SOUNDS = (
    ("WAV", "PCM_16", 1, 16_000), ("WAV", "FLOAT", 2, 44_100), ("WAV", "IMA_ADPCM", 1, 8_000),
    ("WAV", "GSM610", 1, 8_000), ("WAVEX", "PCM_24", 2, 16_000), ("FLAC", "PCM_16", 1, 16_000),
    ("OGG", "VORBIS", 1, 16_000), ("OGG", "OPUS", 1, 48_000), ("MP3", "MPEG_LAYER_III", 1, 16_000),
    ("AIFF", "PCM_16", 1, 16_000), ("AU", "ULAW", 1, 8_000), ("CAF", "ALAC_16", 1, 16_000),
    ("W64", "PCM_16", 1, 16_000), ("RF64", "PCM_16", 1, 16_000), ("SVX", "PCM_16", 1, 16_000),
    ("NIST", "PCM_16", 1, 16_000),
)  # fmt: skip


def _sounds(_: Path) -> list[Files]:
    return [{"clip.wav": make_sound(*each)} for each in SOUNDS]


def _read_sound(folder: Path) -> None:
    samples = load_recording(folder / "clip.wav")
    assert samples.ndim == 1
    assert np.isfinite(samples).all()


def _read_long_sound(folder: Path) -> None:
    with open_blocks(folder / "clip.wav") as blocks:
        for block in blocks:
            assert np.isfinite(block).all()


# Archives

CORPUS = {"corpus/a.wav": b"RIFF" + bytes(700), "corpus/README": b"read me" * 9}


def _tar(kind: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=kind) as archive:  # type: ignore[call-overload]
        for name, content in CORPUS.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in CORPUS.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _archives(_: Path) -> list[Files]:
    return [{"corpus.archive": content} for content in (_tar("w"), _tar("w:gz"), _tar("w:xz"), _zip())]


def _unpack(folder: Path) -> None:
    archive = FetchedFile(folder / "corpus.archive", "0" * 64)
    try:
        unpack(archive, folder / "out", limits=Limits(n_members=50, n_bytes=10**6))
    finally:
        left = {path.name for path in folder.iterdir()}
        assert left <= {"corpus.archive", "out", companion(folder / "out", ".lock").name}
        if (folder / "out").is_dir():
            for path in (folder / "out").rglob("*"):
                assert not path.is_symlink()


def _unpacked(folder: Path) -> list[Files]:
    (folder / "corpus.archive").write_bytes(_zip())
    _unpack(folder)
    return [files_of(folder)]


def _ar(name: str, content: bytes) -> bytes:
    return (
        f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        + content
        + b"\n" * (len(content) % 2)
    )


def _debs(_: Path) -> list[Files]:
    start = b"!<arch>\n" + _ar("debian-binary", b"2.0\n") + _ar("control.tar.gz", b"")
    members = {
        "": _tar("w"),
        ".gz": _tar("w:gz"),
        ".xz": _tar("w:xz"),
        ".zst": zstandard.ZstdCompressor().compress(_tar("w")),
    }
    return [{"a.deb": start + _ar(f"data.tar{ending}", content)} for ending, content in members.items()]


def _read_deb(folder: Path) -> int:
    return sum(len(content) for _, content in iterate_files(folder / "a.deb", {".wav"}))


# Weights, adapters, detectors


def _ctranslate2(_: Path) -> list[Files]:
    tensors = {"a/weight": np.ones((2, 3), "<f4"), "b": np.ones(4, "<i1"), "c": np.ones((1, 2), "<f2")}
    content = struct.pack("<I", 6) + struct.pack("<H", 2) + b"w\0" + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        kind = {"<f4": 0, "|i1": 1, "<f2": 4}[tensor.dtype.str]
        content += struct.pack("<H", len(name) + 1) + name.encode() + b"\0"
        content += struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape) + struct.pack(
            "<BI", kind, tensor.nbytes
        )
        content += tensor.tobytes()
    return [{"model.bin": content}]


def _states() -> Any:
    import torch

    from listenwell.train.checkpoint import FitState

    return [FitState({"epoch": 1, "rng": [1, 2]}, {"w": torch.ones(4), "b/x": torch.ones(1)}), FitState({}, {})]


def _checkpoints(folder: Path) -> list[Files]:
    from listenwell.train.checkpoint import Checkpoints

    kept = Checkpoints(folder, "mine", 1)
    kept.save(1, _states())
    kept.save(2, _states())
    return [files_of(folder)]


def _hash_state_again(content: Any, _: bytes) -> bytes:
    from listenwell.train.checkpoint import _content_sha256

    if not isinstance(content, dict):
        return to_json(content)
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return to_json(rest | {"sha256": _content_sha256(rest)})


HASHED_STATE = Fields(json.loads, _hash_state_again)


def _read_checkpoints(folder: Path) -> None:
    from listenwell.train.checkpoint import Checkpoints

    found = Checkpoints(folder, "mine", 1).newest()
    assert found is None or isinstance(found[0], int)


def random_base(folder: Path) -> Path:
    """The folder of a random model, built once."""
    from listenwell.model.small.random_models import build_random_model

    return folder if folder.is_dir() else build_random_model(folder, "small")


class Adapters:
    """Reads adapters of one random model, which is built when it is first needed."""

    def __init__(self) -> None:
        self.model: Any = None

    def wholes(self, folder: Path) -> list[Files]:
        from listenwell.model.adapter_files import write_adapter
        from listenwell.model.loading import load_model
        from listenwell.model.lora import new_adapter
        from listenwell.model.settings import LoraConfig, ModelConfig

        base = random_base(folder.parent / "base")
        self.model = load_model(ModelConfig(name=str(base), device="cpu"))
        config = LoraConfig(rank=2, alpha=4, scope="both", targets="attention")
        made = new_adapter(config, self.model.network, self.model.lora_targets(config.scope, config.targets), seed=5)
        made.projector = self.model.own_projector()
        write_adapter(folder / "adapter", made, config, str(base), {"base_fingerprint": self.model.fingerprint})
        return [files_of(folder / "adapter")]

    def read(self, folder: Path) -> None:
        from listenwell.model.adapter_files import read_adapter

        read_adapter(folder, self.model)


ADAPTERS = Adapters()


def _alignments(folder: Path) -> list[Files]:
    import torch

    from listenwell.model.lora import Adapter, LoraPair
    from listenwell.model.small.assembly import Alignment, write_alignment

    pairs = {"model.layers.0.q": LoraPair(torch.ones(2, 4), torch.ones(4, 2))}
    write_alignment(
        folder / "a.safetensors", Alignment(torch.ones(4, 4), torch.ones(4), torch.ones(3, 4), Adapter(0.5, pairs))
    )
    return [files_of(folder)]


def _read_alignment(folder: Path) -> None:
    from listenwell.model.small.assembly import read_alignment

    read_alignment(folder / "a.safetensors")


def _models(folder: Path) -> list[Files]:
    return [files_of(random_base(folder / "base"))]


def _load_model(folder: Path) -> None:
    from listenwell.model.loading import load_model
    from listenwell.model.settings import ModelConfig

    load_model(ModelConfig(name=str(folder), device="cpu", dtype="float32"))


def _bundles(folder: Path) -> list[Files]:
    from listenwell.detect.bundle import Bundle, write_bundle
    from listenwell.detect.segmentation import SegmentRule
    from listenwell.evaluate.probabilities import ProbabilityMap
    from listenwell.model.mel import ShortClipConfig
    from listenwell.model.prompt import PromptConfig

    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    bundle = Bundle(
        "random", "0" * 64, "0" * 64, PromptConfig(), ShortClipConfig(), {"balanced_accuracy": 0.5},
        ProbabilityMap(1.0, 0.0), SegmentRule(), [{"metrics": [{"name": "accuracy", "value": 0.5}]}], {"run": "made"},
    )  # fmt: skip
    write_bundle(folder / "bundle", bundle, folder / "adapter")
    return [files_of(folder / "bundle")]


# Configs and what runs keep

CONFIG = b"""seed: 7
train: {epochs: 3, learning_rate: 1e-4}
lora:
  rank: 4
seeds: [1, 2]
arms:
  quiet: &a {augment.noise.probability: 0.0}
  same: *a
search: {grid: [{lora.rank: 4}], sampled: {space: {lora.rank: [1, 2]}}}
data: {manifest: clips.csv, columns: {clip_id: id}}
"""


def _thresholds(folder: Path) -> list[Files]:
    from made_scores import make_scores

    write_calibration(folder / "t.json", calibrate(make_scores(), BALANCED_ACCURACY, seed=0))
    return [files_of(folder)]


def _read_threshold(folder: Path) -> None:
    threshold = read_threshold(folder / "t.json")
    assert np.isfinite(threshold.value)
    read_platt(folder / "t.json")


def _journals(folder: Path) -> list[Files]:
    journal = Journal(folder / "j", "me")
    journal.keep("a", {"fine-tuned": [0.25, -1.5]})
    journal.keep("b", [1])
    return [files_of(folder)]


def _lines_vouched(content: Any, _: bytes) -> bytes:
    return b"\n".join(_vouch_again(each, b"") for each in (content if isinstance(content, list) else [content]))


VOUCHED_LINES = Fields(JSON_LINES.parse, _lines_vouched)


def _read_journal(folder: Path) -> None:
    journal = Journal(folder / "j", "me")
    _ = [journal.known(key) for key in ("a", "b", *journal.keys())]
    journal.keep("more", 1)


def _seals(folder: Path) -> list[Files]:
    seal = Seal(folder / "seal.jsonl")
    for thresholds in ({"m": "aa"}, {"m": "bb"}):
        seal.commit(thresholds, "fit")
        seal.look("test", "00", thresholds)
    return [{"seal.jsonl": (folder / "seal.jsonl").read_bytes()}]


def _chain_again(content: Any, _: bytes) -> bytes:
    lines, previous = [], FIRST
    for number, entry in enumerate(content if isinstance(content, list) else [content], start=1):
        if isinstance(entry, dict):
            rest = {key: value for key, value in entry.items() if key != "hash"} | {
                "number": number,
                "previous": previous,
            }
            entry = rest | {"hash": hash_entry(rest)}
            previous = entry["hash"]
        lines.append(to_json(entry))
    return b"\n".join(lines)


CHAIN = Fields(JSON_LINES.parse, _chain_again)


def _read_seal(folder: Path) -> None:
    seal = Seal(folder / "seal.jsonl")
    assert judge_seal(seal.path, "0" * 64, ["test"]).verdict in ("sealed", "reopened", "unsealed")
    seal.commit({"m": "cc"}, "fit")
    seal.look("test", "00", {"m": "cc"})


def _notes(folder: Path) -> list[Files]:
    (folder / "table.csv").write_text("a\n1\n")
    write_vouched(folder / "note.json", {"made_from": "x", "n": 3}, [folder / "table.csv"])
    return [files_of(folder)]


def _read_note(folder: Path) -> None:
    read_vouched(folder / "note.json")
    require_files(folder / "note.json")


def _runs(folder: Path) -> list[Files]:
    run = RunFolder(folder)
    (folder / "config.yaml").write_text("seed: 3\n")
    open_ledger(run, ["0" * 64])
    holder = {"host": "x", "pid": 3, "since": "2026-01-01T00:00:00+00:00", "beat": 1}
    row = {"method": "fine-tuned", "threshold": "calibrated", "condition": "clean", "test_set": "test"}
    row["metrics"] = [{"name": "balanced_accuracy", "value": 0.5, "low": 0.4, "high": 0.6}]  # type: ignore[assignment]
    results = {"config": load_config(folder / "config.yaml").model_dump(mode="json"), "rows": [row]}
    run.holder.write_bytes(to_json(holder))
    write_vouched(run.results, results)
    return [files_of(folder)]


def _read_run(folder: Path) -> None:
    from listenwell.tasks.runs import find_waste, list_runs

    holder_of(RunFolder(folder))
    list_runs(folder)
    find_waste(folder)
    open_ledger(RunFolder(folder), ["1" * 64])


BED = Background("bed", Path("bed.wav"), 0.05, "noise", "g", "made", "CC0", pcm_sha256="0" * 64)


def _banks(folder: Path) -> list[Files]:
    (folder / "bed.wav").write_bytes(make_sound())
    build_background_file(folder / "bank", [replace(BED, path=folder / "bed.wav")])
    return [files_of(folder / "bank")]


def _read_bank(folder: Path) -> None:
    samples = BackgroundFile(folder, [BED]).read("bed", 100, 50)
    assert samples.size <= 50


def table(
    read: Callable[[Path], object], name: str, *contents: bytes, fields: Mapping[str, Fields] = NO_FIELDS
) -> Target:
    """A table of clips or scores; a recording lies beside it."""
    return Target(
        lambda folder: read(folder / name), lambda _: [{name: each, "a.wav": make_sound()} for each in contents], fields
    )


TARGETS: Mapping[str, Target] = {
    "clips": table(read_manifest, "t.csv", CLIPS, GERMAN_CLIPS),
    "backgrounds": table(read_backgrounds, "t.csv", BEDS),
    "predictions": table(read_predictions, "t.csv", SCORES, SHARES),
    "table of lines": table(read_table, "t.jsonl", TABLE_LINES, fields={"t.jsonl": JSON_LINES}),
    "table of columns": table(read_table, "t.parquet", make_parquet()),
    "RTTM": table(read_rttm, "t.rttm", RTTM),
    "lhotse": Target(_read_lhotse, _lhotse, {"recordings.jsonl": JSON_LINES, "supervisions.jsonl": JSON_LINES}),
    "cuts": Target(_read_cuts, _cuts, {"cuts.jsonl.gz": PACKED_LINES}),
    "config": Target(_read_config, lambda _: [{"study.yaml": CONFIG}], {"study.yaml": YAML}),
    "sounds": Target(_read_sound, _sounds),
    "long sounds": Target(_read_long_sound, _sounds),
    "archives": Target(_unpack, _archives),
    "unpacked": Target(_unpack, _unpacked, {"out/.listenwell-unpacked.json": JSON}),
    "Debian packages": Target(_read_deb, _debs),
    "CTranslate2": Target(_read_ctranslate2, _ctranslate2),
    "checkpoints": Target(
        _read_checkpoints, _checkpoints,
        {"step-00000002/state.json": HASHED_STATE, "step-00000002/tensors.safetensors": SAFETENSORS},
    ),
    "adapters": Target(
        ADAPTERS.read, ADAPTERS.wholes,
        {"adapter_config.json": JSON, "listenwell.json": JSON, "adapter_model.safetensors": SAFETENSORS},
    ),
    "alignments": Target(_read_alignment, _alignments, {"a.safetensors": SAFETENSORS}),
    "models": Target(
        _load_model, _models, {
            "config.json": JSON, "processor_config.json": JSON, "tokenizer.json": JSON, "tokenizer_config.json": JSON,
            "model.safetensors": SAFETENSORS,
        }, share=0.2,
    ),
    "detectors": Target(read_bundle, _bundles, {"detector.json": VOUCHED}),
    "thresholds": Target(_read_threshold, _thresholds, {"t.json": VOUCHED}),
    "journals": Target(_read_journal, _journals, {"j": VOUCHED_LINES}),
    "seals": Target(_read_seal, _seals, {"seal.jsonl": CHAIN}),
    "notes": Target(_read_note, _notes, {"note.json": VOUCHED}),
    "runs": Target(_read_run, _runs, {
        "config.yaml": YAML, "ledger.json": VOUCHED, "used_fits.json": JSON, "holder.json": JSON,
        "results.json": VOUCHED,
    }),
    "stored backgrounds": Target(_read_bank, _banks, {"index.json": JSON}),
}  # fmt: skip
