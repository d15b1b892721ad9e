"""The rule of tests/conftest.py, checked on small test files of its own."""

from pathlib import Path

import pytest

SUITE = """
import pytest

pytestmark = pytest.mark.slow

@pytest.mark.network
def test_network(): pass

@pytest.mark.network
def test_network_that_skips(): pytest.skip("no route")

def test_plain_skip(): pytest.skip("fine")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in ("LISTENWELL_NETWORK", "LISTENWELL_REQUIRE_NETWORK"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\nmarkers =\n    network: needs the network")
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(SUITE)
    return pytester


def test_network_tests_are_skipped_by_default(suite):
    suite.runpytest_inprocess().assert_outcomes(skipped=3)


def test_network_tests_run_when_allowed(suite, monkeypatch):
    monkeypatch.setenv("LISTENWELL_NETWORK", "1")
    suite.runpytest_inprocess().assert_outcomes(passed=1, skipped=2)


def test_a_skipped_network_test_fails_when_the_network_is_required(suite, monkeypatch):
    monkeypatch.setenv("LISTENWELL_REQUIRE_NETWORK", "1")
    suite.runpytest_inprocess().assert_outcomes(passed=1, failed=1, skipped=1)
