"""Score tables survive the round trip to the last bit, and no NaN, unknown label or double clip gets in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.errors import ManifestError
from listenwell.evaluate.scores import COLUMNS, ScoreTable, read_scores, write_scores


def table(**changes) -> ScoreTable:
    columns = {
        "clip_id": ["a", "b", "a"],
        "group": ["g", "h", "g"],
        "label": ["SPEECH", "NONSPEECH", "SPEECH"],
        "score": [1.5, -0.25, 0.1],
        "duration_ms": [1000.0, 40.0, np.nan],
        "snr_db": [np.nan, np.nan, -5.0],
        "condition": ["", "", "snr_-5"],
    }
    return ScoreTable(**{name: np.array(values) for name, values in (columns | changes).items()})


def refusal(**changes) -> str:
    with pytest.raises(ManifestError) as caught:
        table(**changes)
    return str(caught.value)


@given(scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_tables_survive_the_round_trip_to_the_last_bit(scores, tmp_path_factory):
    n = len(scores)
    names = [f"c{i}" for i in range(n)]
    written = ScoreTable(names, names, ["SPEECH"] * n, scores, [np.nan] * n, scores, ["x, y"] * n)
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    write_scores(path, written)
    read = read_scores(path)
    for column in COLUMNS:
        assert np.array_equal(getattr(read, column), getattr(written, column), equal_nan=column == "duration_ms")


def test_four_columns_from_another_program_are_enough(tmp_path):
    (tmp_path / "s.csv").write_text("clip_id,group,label,score\na,g,speech,1e-3\n")
    read = read_scores(tmp_path / "s.csv")
    assert (read.score[0], read.is_speech[0], read.condition[0]) == (1e-3, True, "")
    assert np.isnan(read.snr_db[0])


def test_faulty_columns_are_refused():
    assert "the score of clip 'b' is nan" in refusal(score=[1.0, np.nan, 0.0])
    assert "clip 'b' has the label 'MUSIC'" in refusal(label=["SPEECH", "MUSIC", "SPEECH"])
    assert "clip 'a' stands twice" in refusal(condition=["", "", ""])
    assert "clip 'a' has no group" in refusal(group=["", "h", "g"])
    assert "columns of unequal length" in refusal(score=[1.0, 2.0])
    assert "no rows" in refusal(**{column: [] for column in COLUMNS})


def test_category_and_corpus_are_written_only_where_they_are_known(tmp_path):
    path = tmp_path / "s.csv"
    write_scores(path, table())
    assert "category" not in path.read_text()
    write_scores(path, table(category=["", "rain", ""]))
    assert read_scores(path).category.tolist() == ["", "rain", ""]
    assert "corpus" not in path.read_text()
