"""The commands that a page of the documentation shows, and running them as a reader would.

Commands stand in ```bash blocks and, as inline code, in the rows of tables. A block below the comment

    <!-- not run: needs a GPU -->

is not run; the reason stands there for the reader too. Runs happen in the folder the caller is in; config files there
are made quick first: a random model of the same shape, one epoch, two conditions (the 7 B's ten epochs stay).
"""

import glob
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import yaml
from made_sounds import make_backgrounds
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import Config, settings
from listenwell.data.clip import Clip
from listenwell.data.manifest import write_manifest
from listenwell.model.small.random_models import build_random_model
from listenwell.random_streams import stream

QUICK = {
    "model.device": "cpu",
    "model.dtype": "float32",
    "model.quantization": "none",
    "train.epochs": 1,
    "train.warmup_steps": None,
    "train.clips_per_epoch": None,
    "train.workers": 0,
    "evaluation.conditions": ["clean", "200ms"],
    "evaluation.baselines": ["webrtc"],
    "search.sampled.trials": 2,
    "search.sampled.space": {"lora.rank": [2, 4]},
    "leave_one_out.folds": 2,
}


def commands(text: str) -> list[str]:
    """Every command of a Markdown page that is to be run, in order."""
    shown = re.compile(
        r"(?P<skip><!-- not run: [^>]+ -->\n+)?```bash\n(?P<block>.*?)```|^\|(?P<row>[^\n]*)\|$",
        re.DOTALL | re.MULTILINE,
    )
    found = []
    for match in shown.finditer(text):
        if match["block"] is not None and not match["skip"]:
            found += block_commands(match["block"])
        elif match["row"] is not None:
            found += [code for code in re.findall(r"`([^`]+)`", match["row"]) if code.startswith("listenwell ")]
    return found


def block_commands(block: str) -> list[str]:
    """The lines of a shell block without comments; a line that ends in a backslash goes on."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def run_commands(lines: list[str]) -> str:
    """Run every line in the folder we are in and return what they printed; listenwell runs in this process."""
    printed = ""
    for line in lines:
        for path in Path().rglob("*.yaml"):
            if "run" not in path.parts and "runs" not in path.parts:
                make_quick(path)
        words = shlex.split(line, comments=True)
        if words[0] == "listenwell":
            result = CliRunner().invoke(app, [found for word in words[1:] for found in expand(word)])
            assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
            printed += result.output
        else:
            done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            printed += done.stdout
    return printed


def make_sounds(folder: Path, speakers: int, clips_each: int, sounds: int, takes: int) -> None:
    """Write clips.csv, backgrounds.csv and their recordings: noise for sounds, noise in syllables for speech."""
    clips = []
    for label, n_groups, n_each in (("SPEECH", speakers, clips_each), ("NONSPEECH", sounds, takes)):
        for i in range(n_groups * n_each):
            draws = stream(0, label, i)
            samples = 0.1 * draws.standard_normal(int(draws.integers(4_000, 12_000)))
            if label == "SPEECH":
                samples *= np.sin(2 * np.pi * draws.uniform(2, 5) * np.arange(samples.size) / 16_000) ** 2
            path = folder / f"{label.lower()}_{i}.wav"
            soundfile.write(path, samples, 16_000)
            group = f"{label.lower()}_group_{i % n_groups}"
            clips.append(Clip(path.stem, path, 0.0, samples.size / 16_000, label, group, path.name, "made", "CC0"))
    write_manifest(folder / "clips.csv", clips)
    make_backgrounds(folder)


def expand(word: str) -> list[str]:
    """The files of a pattern, as a shell finds them."""
    return (sorted(glob.glob(word)) or [word]) if "*" in word and not word.startswith("-") else [word]


def make_quick(path: Path) -> None:
    """Write QUICK and a random model into a config; a second time changes nothing."""
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    known = {setting.key for setting in settings(Config())}
    shape = "qwen2_audio_7b" if "7B" in str(values.get("model")) or "7b" in path.name else "small"
    model = Path("models") / shape
    if not model.is_dir():
        build_random_model(model, shape)
    data = values.setdefault("data", {})
    data.setdefault("manifest", "clips.csv")
    data.setdefault("backgrounds", "backgrounds.csv")
    changes = {"model.name": str(model)} | QUICK
    if shape == "qwen2_audio_7b":
        del changes["train.epochs"]  # pages name the recipe's ten again, and find the same fit
    for key, value in changes.items():
        assert key in known, key
        *sections, name = key.split(".")
        inside = values
        for section in sections:
            inside = inside.setdefault(section, {})
        if sections != ["search", "sampled"] or "trials" in inside:
            inside[name] = value
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
