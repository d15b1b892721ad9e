"""The benchmark of the 7 B model: every line runs on a tiny model; without a card it says so and writes nothing."""

import json
import math
import sys

import gpu_7b
import pytest
import torch


@pytest.mark.slow
def test_every_line_runs_on_a_tiny_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_7b.py", "--tiny", "--out", str(tmp_path / "gpu.json")])
    gpu_7b.main()
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["equality"]["unpadded_from_padded"] < 1e-4
    assert set(report["training_step"]) == {"fits 1", "fits 2", "fits 6", "usual"}
    assert all(step["step_s"] > 0 and step["failure"] is None for step in report["training_step"].values())
    assert 0 < report["share_of_the_matrix_rate"] < 1
    assert all(math.isfinite(value) and value > 0 for value in report["scoring"].values())
    assert 25 < report["prompt_tokens"] < 60
    assert "ratio_of_steps" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_card_it_says_so_and_writes_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["gpu_7b.py", "--out", str(tmp_path / "gpu.json")])
    gpu_7b.main()
    assert "no CUDA device" in capsys.readouterr().out
    assert not (tmp_path / "gpu.json").exists()
