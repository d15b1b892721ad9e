"""A detector on a hub, and back from there: a server of this machine speaks the few requests that are made.

Large files travel by Git LFS, since the server knows no Xet.
"""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from commands import invoke, succeed
from huggingface_hub import ModelCard, RepoCard
from huggingface_hub.utils import validate_repo_id
from made_results import make_results

from listenwell.detect.bundle import MODEL_CARD, read_bundle
from listenwell.errors import ConfigError, ListenwellError
from listenwell.model.loading import describe_base
from listenwell.model.settings import ModelConfig
from listenwell.report.results import Results
from listenwell.report.write import front_matter
from listenwell.tasks.push import push_detector, require_access

REPO = "anna/detector"
# huggingface_hub 2.4 hands its HTTP client the parts of a large file by an older name
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


class Hub(ThreadingHTTPServer):
    """Repositories by name: whether private, and their files; large files by hash; the faults it finds in a card.

    Tokens may be `good`, or `reading` alone.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repos: dict[str, dict[str, Any]] = {}
        self.commits: list[str] = []
        self.large: dict[str, bytes] = {}
        self.faults: list[str] = []


class Answer(BaseHTTPRequestHandler):
    """As https://huggingface.co/docs/hub/api tells."""

    server: Hub

    def do_GET(self) -> None:
        if self.path == "/api/whoami-v2":
            return self.reply(200 if self.token in ("good", "reading") else 401, {"name": "anna"})
        name = self.path.removeprefix("/api/models/")
        if name not in self.server.repos:
            return self.reply(404, {"error": "Repository not found"}, "RepoNotFound")
        repo = self.server.repos[name]
        siblings = [{"rfilename": file} for file in repo["files"]]
        card = RepoCard(repo["files"].get("README.md", b"").decode(), ignore_metadata_errors=True).data.to_dict()
        return self.reply(200, {"id": name, "private": repo["private"], "siblings": siblings, "cardData": card})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        lines = [json.loads(line) for line in content.decode().splitlines()]
        if self.path == "/api/validate-yaml":
            found = [{"message": fault} for fault in self.server.faults]
            return self.reply(400 if found else 200, {"errors": found, "warnings": []})
        if self.token != "good":
            return self.reply(403, {"error": "You don't have the rights"})
        if self.path == "/api/repos/create":
            name, is_private = f"anna/{lines[0]['name']}", lines[0].get("visibility") == "private"
            repo = self.server.repos.setdefault(name, {"private": is_private, "files": {}})
            return self.reply(409 if repo["files"] else 200, {"url": f"{self.url}/{name}", "error": "exists"})
        if "/preupload/" in self.path:
            names = [file["path"] for file in lines[0]["files"]]
            modes = ["lfs" if name.endswith(".safetensors") else "regular" for name in names]
            shown = [
                {"path": n, "uploadMode": mode, "shouldIgnore": False} for n, mode in zip(names, modes, strict=True)
            ]
            return self.reply(200, {"files": shown})
        if self.path.endswith("/info/lfs/objects/batch"):
            actions = {"upload": {"href": f"{self.url}/large/{lines[0]['objects'][0]['oid']}"}}
            return self.reply(200, {"transfer": "basic", "objects": [{**lines[0]["objects"][0], "actions": actions}]})
        name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        self.server.commits.append(lines[0]["value"]["summary"])
        for line in lines[1:]:
            file = line["value"]
            content = self.server.large[file["oid"]] if line["key"] == "lfsFile" else base64.b64decode(file["content"])
            self.server.repos[name]["files"][file["path"]] = content
        return self.reply(200, {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "1" * 40, "success": True})

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(200, {})

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def reply(self, status: int, answer: Any, error_code: str = "") -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        if error_code:
            self.send_header("X-Error-Code", error_code)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "good")
        yield server
        server.shutdown()


def test_what_is_pushed_is_the_detector_and_its_card_is_the_repository_s(hub, made_detector, tmp_path):
    require_access(REPO)
    address = push_detector(made_detector, REPO, private=True)
    assert address.endswith(f"/{REPO}")
    repo = hub.repos[REPO]
    assert repo["private"] is True
    for name, content in repo["files"].items():
        (tmp_path / "back" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "back" / name).write_bytes(content)
    assert read_bundle(tmp_path / "back") == read_bundle(made_detector)
    card = ModelCard(repo["files"]["README.md"].decode())
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "audio-classification")
    assert card.data.eval_results
    assert len(hub.large) == 1
    push_detector(made_detector, REPO)  # a new version of it
    assert len(hub.commits) == 2


def test_other_work_and_a_public_repository_are_left_alone(hub, made_detector):
    hub.repos[REPO] = {"private": False, "files": {"README.md": b"mine", ".gitattributes": b""}}
    with pytest.raises(ListenwellError, match=r"anna/detector: holds other work than a detector"):
        push_detector(made_detector, REPO)
    with pytest.raises(ListenwellError, match="is there already and public"):
        push_detector(made_detector, REPO, private=True, overwrite=True)
    assert hub.repos[REPO]["files"]["README.md"] == b"mine"
    push_detector(made_detector, REPO, overwrite=True)
    assert hub.repos[REPO]["files"]["README.md"] == (made_detector / MODEL_CARD).read_bytes()
    for written in (b"# mine", b"---\ntags: [mine]\n---\n", b"---\nlicense: mit\n---\n"):
        hub.repos[REPO]["files"]["README.md"] = written
        with pytest.raises(ListenwellError, match=r"its README\.md is none that listenwell wrote"):
            push_detector(made_detector, REPO)
        assert hub.repos[REPO]["files"]["README.md"] == written


def test_a_card_that_is_missing_or_that_no_hub_would_take_is_said_before_anything_is_sent(hub, made_detector, tmp_path):
    folder = shutil.copytree(made_detector, tmp_path / "copy")
    (folder / MODEL_CARD).write_text("---\nmodel-index: [{name: x, results: [{task: 3}]}]\n---\n")
    with pytest.raises(ListenwellError, match="the hub would refuse its metadata"):
        push_detector(folder, REPO)
    (folder / MODEL_CARD).unlink()
    with pytest.raises(ListenwellError, match=r"has no MODEL_CARD\.md"):
        push_detector(folder, REPO)
    assert hub.repos == {}
    hub.faults.append('"base_model" is no model')
    with pytest.raises(ListenwellError, match=r'the hub did not take it .*"base_model" is no model'):
        push_detector(made_detector, REPO)
    assert hub.commits == []


def test_no_token_a_wrong_one_no_right_and_no_network_are_one_sentence_each(hub, made_detector, monkeypatch):
    with pytest.raises(ConfigError, match="no name of a repository"):
        require_access("a/b/c")
    monkeypatch.setenv("HF_TOKEN", "reading")
    require_access(REPO)
    with pytest.raises(ListenwellError, match=r"answers 403 \(.*the rights.*may not write there"):
        push_detector(made_detector, REPO)
    monkeypatch.setenv("HF_TOKEN", "stolen")
    with pytest.raises(ListenwellError, match=r"answers 401 .*knows no such token"):
        require_access(REPO)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ListenwellError, match="the hub cannot be reached"):
        require_access(REPO)
    monkeypatch.delenv("HF_TOKEN")
    refused = invoke("export", made_detector.parent / "run", "--push", REPO)
    assert (refused.exit_code, "no token for the hub; run 'hf auth login'" in refused.stderr) == (1, True)
    refused = invoke("export", "run", "--private")
    assert (refused.exit_code, "give --push OWNER/NAME too" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_export_pushes_what_it_wrote(hub, made_detector, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run = next(made_detector.parent.glob("*/results.json")).parent
    done = succeed("export", run, "--out", out, "--push", REPO)
    assert done.stdout.splitlines()[-1].endswith(REPO)
    assert hub.repos[REPO]["files"]["detector.json"] == (out / "detector.json").read_bytes()


@pytest.mark.parametrize("hub_ids", [[], ["Qwen/Qwen2-Audio-7B-Instruct"], ["openai/whisper-base", "a/b"]])
def test_the_card_names_the_models_of_the_hub_that_the_base_is_made_of(hub_ids):
    record = make_results()
    record["model"]["hub_ids"] = hub_ids
    data = RepoCard(f"---\n{front_matter(Results.model_validate(record))}---\n").data.to_dict()
    assert data.get("base_model") == ((hub_ids[0] if len(hub_ids) == 1 else hub_ids) or None)
    assert data.get("base_model_relation") == ("adapter" if hub_ids else None)


def test_a_random_base_has_no_models_on_the_hub_and_the_starter_base_has_two():
    assert describe_base(ModelConfig(name="random"))["hub_ids"] == []
    from listenwell.model.small.assembly import SMOLLM2_135M_INSTRUCT, WHISPER_BASE

    for weights in (WHISPER_BASE[0], SMOLLM2_135M_INSTRUCT):
        validate_repo_id(weights.hub_id)
        assert "/" in weights.hub_id
