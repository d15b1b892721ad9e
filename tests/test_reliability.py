"""What docs/reliability.md promises of the whole package, where no single room owns the promise."""

import ast
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sounds import make_corpus, make_study

from listenwell.config import dump
from listenwell.data.audio import load_waveform, pcm_sha256
from listenwell.splits.clips import set_aside_unreadable

PACKAGE = Path(__file__).parents[1] / "listenwell"
MODULES = sorted(PACKAGE.rglob("*.py"))
RUNS_DATA = {"eval", "exec", "compile", "__import__"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
UNSAFE_CALLS = {"torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"}


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_can_run_what_is_in_data(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not UNSAFE_MODULES & {name.split(".")[0] for name in names}, ast.unparse(node)
        if isinstance(node, ast.Call):
            called = name_of(node.func)
            assert called not in RUNS_DATA | UNSAFE_CALLS, ast.unparse(node)
            for keyword in node.keywords:
                assert keyword.arg not in ("trust_remote_code", "allow_pickle"), ast.unparse(node)
                is_true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                assert not (keyword.arg == "shell" and is_true), ast.unparse(node)


OFFLINE = """
import socket, sys
def refuse(*_, **__):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
sys.argv = ["listenwell", "study", sys.argv[1]]
from listenwell.cli.main import main
main()
"""


@pytest.mark.slow
def test_a_study_opens_no_connection(tmp_path):
    (tmp_path / "study.yaml").write_text(dump(make_study(tmp_path)), encoding="utf-8")
    command = [sys.executable, "-c", OFFLINE, str(tmp_path / "study.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)  # the guard above guards something


def test_a_recording_that_changed_since_its_manifest_is_set_aside_by_name(tmp_path):
    clips = [replace(clip, pcm_sha256=pcm_sha256(load_waveform(clip))) for clip in make_corpus(tmp_path, n_groups=4)]
    samples, rate_hz = soundfile.read(clips[0].path, dtype="int16")
    samples[samples.size // 2] ^= 1
    soundfile.write(clips[0].path, samples.astype(np.int16), rate_hz)
    readable, unreadable = set_aside_unreadable(clips, quarantine_share=0.5)
    assert [each.clip_id for each in unreadable] == [clips[0].clip_id]
    assert "was changed since its manifest was written" in unreadable[0].reason
    assert readable == clips[1:]
