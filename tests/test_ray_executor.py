"""Stacks on Ray: the same fits to the bit as trained here, also when a worker is killed in the middle."""

import json
import threading
import time

import pytest
from made_sounds import make_study, search_record

from listenwell.errors import ConfigError, TrainingError
from listenwell.fits.ray_executor import requests_from_json, requests_to_json, train_task
from listenwell.fits.request import Bracket, FitRequest, spec_record
from listenwell.splits.clips import read_splits
from listenwell.splits.divide import with_speakers
from listenwell.storage.run_folder import RunFolder

pytestmark = pytest.mark.slow

SETTINGS = (
    "search.grid=[{lora.rank: 2}, {lora.rank: 3}, {lora.rank: 4}, {lora.rank: 5}]",
    "train.stack=2",
    "train.epochs=6",
    "train.checkpoint_steps=1",
    "evaluation.conditions=[clean]",
)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    ray = pytest.importorskip("ray", reason="Ray is not installed; pip install 'listenwell[ray]'")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LISTENWELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
        yield ray
        ray.shutdown()


def fit_files(config):
    return {
        (path.parent.parent.name, path.name): path.read_bytes()
        for path in sorted(config.output.glob("fits/*/adapter/*.safetensors"))
    } | {(p.parent.name, p.name): p.read_bytes() for p in sorted(config.output.glob("fits/*/*.json*"))}


def kill_a_worker_in_the_middle(output, killed):
    """SIGKILL the first worker of ours that has written a checkpoint."""
    import psutil

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        if list(output.glob("stacks/*/checkpoints/step-*")):
            workers = [p for p in psutil.Process().children(recursive=True) if "train_task" in " ".join(p.cmdline())]
            for worker in workers[:1]:
                worker.kill()
                killed.append(worker.pid)
        time.sleep(0.005)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_ray_gives_the_same_tables_and_fits_as_one_process_although_a_worker_is_killed(two_workers, tmp_path):
    config = make_study(tmp_path, *SETTINGS)
    local = search_record(config)
    spread = config.model_copy(
        update={"output": tmp_path / "ray", "executor": config.executor.model_copy(update={"kind": "ray"})}
    )
    killed = []
    killer = threading.Thread(target=kill_a_worker_in_the_middle, args=(spread.output, killed))
    killer.start()
    found = search_record(spread)
    killer.join()
    assert killed
    assert json.dumps(found) == json.dumps(local)
    assert fit_files(spread) == fit_files(config)
    assert not list(spread.output.glob("stacks/*"))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_what_stops_a_worker_is_told_in_its_own_words(two_workers, tmp_path, monkeypatch):
    # a search says so before it trains; here the worker shall
    monkeypatch.setattr("listenwell.study.search._require_short_warmups", lambda config, n_clips: None)
    config = make_study(tmp_path, *SETTINGS, "executor.kind=ray", "train.warmup_steps=999")
    with pytest.raises(TrainingError, match=r"train\.warmup_steps is 999, but the fit has only"):
        search_record(config)


def test_a_missing_ray_is_told_with_the_next_step(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed; run pip install 'listenwell\[ray\]'"):
        search_record(make_study(tmp_path, *SETTINGS, "executor.kind=ray"))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_an_unreachable_ray_is_told_with_its_address(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed; pip install 'listenwell[ray]'")
    # with grpcio installed Ray tries three times, twice as long each time: 5 s at first, here less
    monkeypatch.setattr("ray.util.client.worker.INITIAL_TIMEOUT_SEC", 0.2)
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(ConfigError, match=r"Ray cannot be reached at 'ray://127\.0\.0\.1:9'"):
        search_record(make_study(tmp_path, *SETTINGS, "executor.kind=ray", "executor.address=ray://127.0.0.1:9"))


def test_a_worker_of_another_version_is_told_and_trains_nothing(tmp_path):
    config = make_study(tmp_path)
    parts = read_splits(config)[0]
    content = requests_to_json([FitRequest("a", config, parts, config)], RunFolder(config.output))
    (tmp_path / "task.json").write_text(json.dumps(content))
    told = train_task(str(tmp_path / "task.json"), ["the identity that another version computed"])
    assert "install the same version on every machine" in told
    assert not (config.output / "fits").exists()


def test_requests_survive_json_speakers_for_babble_included(tmp_path):
    config = make_study(tmp_path, "augment.babble.probability=1.0")
    parts = with_speakers(read_splits(config)[0])
    bracket = Bracket("first", (1, 3), 0.5)
    before = [FitRequest("a", config, parts, config, bracket), FitRequest("b", config, parts, config)]
    content = json.loads(json.dumps(requests_to_json(before, RunFolder(config.output))))
    after, run = requests_from_json(content)
    assert run == RunFolder(config.output)
    assert [request.bracket for request in after] == [bracket, None]
    assert len(content["parts"]) == 1
    assert [spec_record(each, "base") for each in after] == [spec_record(each, "base") for each in before]
    for own, other in zip(parts.banks["train"].entries, after[0].splits.banks["train"].entries, strict=True):
        assert own == other
        heard = (
            bank.load(own.background_id, 0.0, 0.1) for bank in (parts.banks["train"], after[0].splits.banks["train"])
        )
        assert len({samples.tobytes() for samples in heard}) == 1
