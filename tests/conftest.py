"""Shared by all tests: when `network` and `browser` tests run, and that a required one may not be skipped.

LISTENWELL_NETWORK=1 runs network tests; browser tests run where a Chromium is found. LISTENWELL_REQUIRE_NETWORK=1
and LISTENWELL_REQUIRE_BROWSER=1 turn a skipped one into a failure, so that continuous integration cannot pass by
skipping.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Two loaded cores say nothing about a property: no deadline. A landing is judged on the same examples every time; new
# ones are drawn by LISTENWELL_EXAMPLES=wide (`make soak`), and what they find is written down with @example.
hypothesis.settings.register_profile("listenwell", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("wide", deadline=None, print_blob=True, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("LISTENWELL_EXAMPLES", "listenwell"))


def is_required(marker: str) -> bool:
    return os.environ.get(f"LISTENWELL_REQUIRE_{marker.upper()}") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if is_required("network") or os.environ.get("LISTENWELL_NETWORK") == "1":
        return
    for item in items:
        if item.get_closest_marker("network"):
            item.add_marker(pytest.mark.skip(reason="needs the network; set LISTENWELL_NETWORK=1"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for marker in ("network", "browser"):
        if (
            report.skipped
            and is_required(marker)
            and item.get_closest_marker(marker)
            and not hasattr(report, "wasxfail")
        ):
            report.outcome = "failed"
            variable = f"LISTENWELL_REQUIRE_{marker.upper()}"
            report.longrepr = f"{item.nodeid}: skipped, but {variable}=1 wants it to run ({report.longrepr})"
    return report


@pytest.fixture(autouse=True, scope="session")
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """No test or fixture writes into the user's cache; network tests share the cache the caller names."""
    with pytest.MonkeyPatch.context() as patched:
        if "LISTENWELL_CACHE" not in os.environ:
            patched.setenv("LISTENWELL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def starter_corpus(private_cache: None) -> Any:
    """The real starter corpus, prepared in the cache where it is not there yet: 1.3 GB to download."""
    from listenwell.data.corpora.starter import prepare_starter
    from listenwell.storage.load_or_make import cache_root

    return prepare_starter(cache_root())


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small study with arms, seeds, a search, fewer speakers, one left out at a time: its config and its results."""
    from made_sounds import make_study, study_record

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LISTENWELL_CACHE", str(folder / "cache"))
        config = make_study(
            folder,
            "seeds=[1, 2]",
            "arms={quiet: {augment.noise.probability: 0.0}}",
            "search.grid=[{lora.rank: 4}, {lora.rank: 2}]",
            "loso.arms=[final]",
            "loso.dev_speakers=1",
            "loso.changes={train.epochs: 1}",
            "evaluation.conditions=[clean, snr_0, snr_10, 200ms, 500ms]",
        )
        return config, study_record(config)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny models are slower on several threads, above all on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def made_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of a small study; its study (`run`) and corpus lie beside its folder."""
    from made_sounds import make_study, study_record

    from listenwell.tasks.export import export_detector

    folder = tmp_path_factory.mktemp("detector")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LISTENWELL_CACHE", str(folder / "cache"))
        config = make_study(folder)
        study_record(config)
        export_detector(config.output, folder / "bundle", n_recordings=1, recording_s=6.0)
    return folder / "bundle"
