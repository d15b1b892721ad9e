"""The real starter corpus: what its rendering hides, measured on the recordings themselves."""

import pytest

from listenwell.data.corpora.starter import read_members
from listenwell.data.manifest import read_manifest


@pytest.mark.network
@pytest.mark.slow
def test_the_real_corpus_hides_how_it_was_recorded(starter_corpus) -> None:
    assert all(found["passed"] for found in starter_corpus.summary["shortcuts"] if found["part"] == "study_pool")
    clips = read_manifest(starter_corpus.clips_csv)
    assert len(clips) == sum(member.clips for member in read_members())
