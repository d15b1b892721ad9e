"""Every config in configs/ loads, holds differences from the defaults only, and runs on a random model of its shape."""

from pathlib import Path

import pytest
import yaml
from made_sounds import make_study, name_sites, study_record

from listenwell.config import Config, load_config, settings
from listenwell.model.small.random_models import build_random_model

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))


def test_there_are_configs():
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_loads_and_says_nothing_twice(path):
    config = load_config(path)
    defaults = {setting.key: setting.value for setting in settings(Config())}
    changed = {setting.key for setting in settings(config) if setting.value != defaults[setting.key]}
    assert set(written_keys(yaml.safe_load(path.read_text(encoding="utf-8")), set(defaults))) == changed


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_runs_on_a_random_model_of_its_shape(path, tmp_path):
    shape = next((s for s in ("qwen2_5_omni", "qwen2_audio_7b") if path.stem.startswith(s)), "small")
    model = build_random_model(tmp_path / "model", shape)
    quick = [
        "train.epochs=1",
        "train.batch=4",
        "model.device=cpu",
        "model.quantization=none",
        "train.warmup_steps=null",
        "train.clips_per_epoch=null",
    ]
    config = make_study(tmp_path, f"model.name={model}", *quick, base=path)
    name_sites(tmp_path / "clips.csv")
    results = study_record(config)
    assert (config.output / "report.html").is_file()
    assert {row["method"] for row in results["rows"]} == {"zero-shot", "fine-tuned", "webrtc"}


def written_keys(values: dict, known: set[str], prefix: str = "") -> list[str]:
    keys = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        keys += [key] if key in known or not isinstance(value, dict) else written_keys(value, known, f"{key}.")
    return keys
