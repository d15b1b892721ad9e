"""One fit with the frozen base spread over two processes by PyTorch's FSDP2 equals the fit in one process.

Both processes run the same training loop on the same clips; each holds half of every linear layer and gathers a layer
while it is used (docs/engine.md). Layers are sharded one by one: the engine calls them, not the decoder layers.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_sounds import make_corpus
from safetensors.torch import load_file, save_file

from listenwell.augment.plan import AugmentConfig
from listenwell.data.audio import load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.manifest import read_manifest
from listenwell.model.loading import load_model
from listenwell.model.mel import ShortClipConfig, extract_features
from listenwell.model.prompt import PromptConfig
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.random_models import build_random_model
from listenwell.train.fit import train
from listenwell.train.fit_underway import FitSpec, embed_dev
from listenwell.train.settings import TrainConfig

N_PROCESSES = 2


def train_one(folder: Path, model: Qwen2Audio) -> dict[str, torch.Tensor]:
    """The factors of a short fit on both halves of the model, dropout and gradient checkpointing on."""
    clips, short_clips = read_manifest(folder / "clips.csv"), ShortClipConfig()
    silent = {"probability": 0.0}
    spec = FitSpec(
        "fit",
        LoraConfig(rank=4, dropout=0.1, scope="both"),
        TrainConfig(epochs=1, batch=4, learning_rate=1e-3, gradient_checkpointing=True),
        AugmentConfig.model_validate({"noise": silent}),
        1,
        clips,
        BackgroundBank([]),
    )
    mels = [extract_features(model.mel_filters, load_waveform(clip), short_clips) for clip in clips]
    dev = embed_dev(model, mels, np.array([clip.label == "SPEECH" for clip in clips]))
    (result,) = train(model, model.prompt(PromptConfig()), short_clips, [spec], [dev])
    return {f"{name}.{side}": getattr(pair, side) for name, pair in result.adapter.pairs.items() for side in "ab"}


def load(folder: Path) -> Qwen2Audio:
    return load_model(ModelConfig(name=str(folder / "model"), device="cpu"))


def train_sharded(folder: Path) -> None:
    """What each of the processes runs."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo", f"file://{folder / 'meet'}", rank=rank, world_size=N_PROCESSES)
    model = load(folder)
    linears = [
        module
        for half in (model.language_model, model.encoder)
        for module in half.layers.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    mesh = init_device_mesh("cpu", (N_PROCESSES,))
    for module in linears:
        whole = module.weight.numel()
        fully_shard(module, mesh=mesh)
        assert module.weight.to_local().numel() == whole // N_PROCESSES
    factors = train_one(folder, model)
    save_file({name: factor.contiguous() for name, factor in factors.items()}, folder / f"{rank}.safetensors")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_fit_over_a_base_in_two_halves_equals_the_fit_over_a_whole_one(tmp_path):
    build_random_model(tmp_path / "model", "qwen2_audio_7b")
    make_corpus(tmp_path)
    command = [sys.executable, "-W", "ignore", __file__, str(tmp_path)]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(command, env={**os.environ, **paths, "RANK": str(rank)}) for rank in range(N_PROCESSES)
    ]
    alone = train_one(tmp_path, load(tmp_path))
    assert [process.wait(timeout=120) for process in processes] == [0] * N_PROCESSES
    for rank in range(N_PROCESSES):
        together = load_file(tmp_path / f"{rank}.safetensors")
        assert together.keys() == alone.keys()
        assert any(float(factor.abs().max()) > 0 for name, factor in together.items() if name.endswith(".b"))
        for name, factor in alone.items():
            torch.testing.assert_close(together[name], factor, atol=1e-5, rtol=0, msg=name)


if __name__ == "__main__":
    train_sharded(Path(sys.argv[1]))
