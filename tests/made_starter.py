"""A small list in the form of the starter corpus's, and the Debian packages that hold its files."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from listenwell.data.corpora import starter
from listenwell.data.corpora.starter import PARTS
from listenwell.data.fetch.packages import FolderSource
from listenwell.random_streams import stream
from tests.test_debian_packages import build_deb

COLUMNS = ("package", "member", "sha256", "label", "group", "category", "kind", "part", "clips", "licence", "edition")
N_GROUPS = 6


def make_starter(folder: Path, monkeypatch: pytest.MonkeyPatch, n_editions: int = 1) -> FolderSource:
    """Write list and packages below `folder` and let the starter corpus be made from them.

    n_editions: every further one brings as many groups into the study pool, all of 22 kHz.
    """
    rows, files = [",".join(COLUMNS)], {}
    for part in PARTS:
        for label in ("SPEECH", "NONSPEECH", "BACKGROUND"):
            for group in range(2 if label == "BACKGROUND" else N_GROUPS):
                rate_hz = 8000 if label == "SPEECH" and group < 2 else 22_050
                name = f"{part}-{label}-{group}"
                content = made_recording(label, name, rate_hz, 0.7 if group == 1 else 2.5)
                package = "toys-foreign" if part == "out_of_corpus" else "toys"
                files[package, f"usr/{name}.wav"] = content
                kind = {"BACKGROUND": "noise", "NONSPEECH": "drums"}.get(label, "")
                digest = hashlib.sha256(content).hexdigest()
                clips = 0 if label == "BACKGROUND" else 3
                rows.append(f"{package},usr/{name}.wav,{digest},{label},{name},made,{kind},{part},{clips},CC0-1.0,1")
    for edition in range(2, n_editions + 1):
        for label in ("SPEECH", "NONSPEECH"):
            for group in range(N_GROUPS):
                name = f"edition{edition}-{label}-{group}"
                content = files["toys", f"usr/{name}.wav"] = made_recording(label, name, 22_050, 2.5)
                digest = hashlib.sha256(content).hexdigest()
                rows.append(f"toys,usr/{name}.wav,{digest},{label},{name},made,,study_pool,3,CC0-1.0,{edition}")
    path = folder / "list.csv"
    path.write_text("\n".join(rows) + "\n")
    (folder / "debs").mkdir()
    for package in ("toys", "toys-foreign"):
        held = {f"./{file}": content for (owner, file), content in files.items() if owner == package}
        (folder / "debs" / f"{package}_1_all.deb").write_bytes(build_deb(held))
    monkeypatch.setattr(starter, "LIST_PATH", path)
    return FolderSource(folder / "debs")


def made_recording(label: str, name: str, rate_hz: int, duration_s: float) -> bytes:
    """A buzz in syllables for SPEECH, steady noise for the rest: enough to render, nothing to learn."""
    generator = stream(1, "made", name)
    time_s = np.arange(int(rate_hz * duration_s)) / rate_hz
    if label == "SPEECH":
        samples = np.sign(np.sin(2 * np.pi * generator.uniform(90, 250) * time_s)) * np.sin(2 * np.pi * 3 * time_s) ** 2
    else:
        samples = generator.standard_normal(len(time_s))
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.2 * samples / np.abs(samples).max(), rate_hz, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
