"""The real starter corpus: what its rendering hides, measured on the recordings themselves."""

import os
from pathlib import Path

import pytest

from listenwell.data.corpora.starter import prepare_starter
from listenwell.data.corpora.starter_list import read_members
from listenwell.data.manifest import read_manifest


@pytest.mark.network
@pytest.mark.slow
def test_the_real_corpus_hides_how_it_was_recorded() -> None:
    """Downloads 0.9 GB the first time, into the cache that LISTENWELL_CACHE names."""
    corpus = prepare_starter(Path(os.environ["LISTENWELL_CACHE"]))
    assert all(found["passed"] for found in corpus.summary["shortcuts"] if found["part"] == "study_pool")
    clips = read_manifest(corpus.clips_csv)
    assert len(clips) == sum(member.clips for member in read_members())
