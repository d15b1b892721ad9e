"""Every config in configs/ loads, and holds differences from the defaults only."""

from pathlib import Path

import pytest
import yaml

from listenwell.config import Config, load_config, settings

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))


def test_there_are_configs():
    assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_loads_and_says_nothing_twice(path):
    config = load_config(path)
    defaults = {setting.key: setting.value for setting in settings(Config())}
    changed = {setting.key for setting in settings(config) if setting.value != defaults[setting.key]}
    assert set(written_keys(yaml.safe_load(path.read_text(encoding="utf-8")))) == changed


def written_keys(values: dict, prefix: str = "") -> list[str]:
    keys = []
    for name, value in values.items():
        keys += written_keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return keys
