"""Predictions of other programs: their columns, their scales, and every fault named."""

import numpy as np
import pytest
from scipy.special import expit

from listenwell.errors import ConfigError, ManifestError
from listenwell.evaluate.predictions import (
    Question,
    judge_predictions,
    parse_columns,
    read_conditions,
    read_predictions,
)

DURATIONS_MS, SNRS_DB = (20, 40, 60, 80, 100, 200, 500, 1000), (-10, -5, 0, 5, 10, 20)
NAMES = parse_columns("id=path,label=y,score=prob,group=spk")


def write(folder, *rows, header="path,y,prob,spk"):
    path = folder / "p.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def refusal(folder, *rows, **options) -> str:
    with pytest.raises(ManifestError) as caught:
        read_predictions(write(folder, *rows), NAMES, **options)
    return str(caught.value)


def test_foreign_columns_and_labels_are_understood(tmp_path):
    found = read_predictions(write(tmp_path, "a.wav,1,0.9,s1", "b.wav,0,0.2,n1", "c.wav,Non-Speech,0.5,n1"), NAMES)
    assert found.table.clip_id.tolist() == ["a.wav", "b.wav", "c.wav"]
    assert found.table.is_speech.tolist() == [True, False, False]
    assert (found.scale, found.default_threshold) == ("probability", 0.5)
    assert "read as probabilities" in found.note
    assert found.to_probability(found.table.score).tolist() == [0.9, 0.2, 0.5]
    assert found.to_logit(np.array([0.0, expit(2.0)])) == pytest.approx([-13.8, 2.0], abs=0.1)


def test_scores_beyond_0_and_1_are_log_odds(tmp_path):
    names = parse_columns("id=path,label=y,score=out,group=spk")
    path = write(tmp_path, "a,1,2.5,s", "b,0,-1,n", header="path,y,out,spk")
    found = read_predictions(path, names)
    assert (found.scale, found.default_threshold, found.note) == ("log-odds", 0.0, "")
    assert found.to_probability(np.array([0.0])).tolist() == [0.5]


def test_percent_signs_become_probabilities(tmp_path):
    found = read_predictions(write(tmp_path, "a,1,97.5 %,s", "b,0,3%,n"), NAMES)
    assert found.table.score.tolist() == [0.975, 0.03]
    assert (found.scale, "percentages" in found.note) == ("probability", True)


def test_percentages_without_signs_are_refused_until_they_are_called_so(tmp_path):
    rows = ("a,1,97.5,s", "b,0,3,n")
    assert "score of clip 'a' is 97.5; probabilities (by its name) from 0 to 1 were expected" in refusal(
        tmp_path, *rows
    )
    found = read_predictions(write(tmp_path, *rows), NAMES, "percent")
    assert found.table.score.tolist() == [0.975, 0.03]
    assert read_predictions(write(tmp_path, *rows), NAMES, "log-odds").table.score.tolist() == [97.5, 3.0]


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (("a,1,97%,s", "b,0,0.3,n"), {}, "line 3: score '0.3' is a number, others are a percent sign"),
        (("a,1,120%,s", "b,0,3%,n"), {}, "is 120; percentages from 0 to 100"),
        (("a,1,1.2,s",), {"scale": "probability"}, "is 1.2; probabilities from 0 to 1"),
        (("a,1,nan,s",), {}, "line 2: the score is 'nan'"),
        (("a,1,inf,s",), {}, "line 2: score is 'inf'; expected a finite number"),
        (("a,1,%,s",), {}, "line 2: the score is empty"),
        (("a,,0.5,s",), {}, "line 2: the label is empty"),
        (("a,1,0.5,",), {}, "line 2: the group is empty"),
        (("a,1,0.5,s", "a,1,0.6,s"), {}, "line 3: clip 'a' already stands in line 2"),
        ((), {}, "header but no rows"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path, rows, options, sentence):
    assert sentence in refusal(tmp_path, *rows, **options)


def test_a_missing_group_column_is_refused_and_every_clip_is_its_own_group_only_when_told(tmp_path):
    path = write(tmp_path, "a,1,0.5", "b,0,0.4", header="path,y,prob")
    with pytest.raises(ManifestError, match="required column group is missing"):
        read_predictions(path, parse_columns("id=path,label=y,score=prob"))
    found = read_predictions(path, parse_columns("id=path,label=y,score=prob,group=path"))
    assert found.table.group.tolist() == ["a", "b"]


def test_decisions_are_told_from_scores(tmp_path):
    found = read_predictions(write(tmp_path, "a,1,1,s", "b,0,0,n"), NAMES)
    assert "decisions rather than scores" in found.note


@pytest.mark.parametrize("text", ["id", "id=", "name=path", "id=a,id=b", "id=a,clip_id=b"])
def test_a_wrong_column_mapping_is_refused(text):
    with pytest.raises(ConfigError, match="--columns: cannot use"):
        parse_columns(text)


def test_category_and_corpus_are_read_where_they_are_given(tmp_path):
    path = write(tmp_path, "a,1,0.5,s,voice,x", header="path,y,prob,spk,kind,corpus")
    found = read_predictions(path, {**NAMES, "category": "kind"})
    assert (found.table.category.tolist(), found.table.corpus.tolist()) == (["voice"], ["x"])


def test_a_column_name_may_hold_an_equals_sign():
    assert parse_columns("score = p=1 ,group=spk") == {"score": "p=1", "group": "spk"}


def foreign_study():
    """The shape of a published table: 970 clips under 22 conditions, decisions in words, groups in the file names."""
    rng = np.random.default_rng(0)
    conditions = [
        *(f"dur_{ms}ms" for ms in (20, 40, 60, 80, 100, 200, 500, 1000)),
        *(f"snr_{db}dB" for db in (-10, -5, 0, 5, 10, 20)),
        *(f"reverb_{rt}" for rt in ("none", "0.3", "1.0", "2.5")),
        *(f"filter_{kind}" for kind in ("none", "bp", "lp", "hp")),
    ]
    for i in range(970):
        label = "SPEECH" if i % 2 else "NONSPEECH"
        ease = rng.normal() + (i // 20 % 7) / 5
        for condition in conditions:
            right = rng.normal() < 1.3 + ease
            word = ("speech", "non-speech")[(label == "SPEECH") != right]
            yield (
                f"{'vox' if i % 2 else 'esc'}{i // 20}_{i}.wav",
                label,
                f"{'s' if i % 2 else 'n'}{i // 20}",
                condition,
                word,
            )


@pytest.mark.slow
def test_decisions_in_words_under_conditions_of_their_own_names_are_judged(tmp_path):
    rows = [",".join(cells) for cells in foreign_study()]
    assert len(rows) == 21_340
    path = write(tmp_path, *rows, header="path,y,spk,condition,prediction")
    names = tmp_path / "conditions.csv"
    lines = [f"dur_{ms}ms,{ms}ms" for ms in DURATIONS_MS]
    lines += [f"snr_{db}dB,snr_{db}" for db in SNRS_DB]
    names.write_text("condition,as\n" + "\n".join([*lines, "filter_none,clean"]) + "\n")
    columns = parse_columns("id=path,label=y,decision=prediction,group=spk")
    found = read_predictions(path, columns, conditions=read_conditions(names))
    assert (found.scale, found.default_threshold) == ("decision", 0.5)
    judged = judge_predictions(found, Question(0.5), seed=0)
    pooled = {"noisy": 6, "duration: all 8": 8, "reverb: all 4": 4, "filter: all 3": 3, "all": 22}
    assert {name: metrics[0].n / 970 for name, metrics in judged.metrics.items() if name in pooled} == pooled
    assert {metric.name for metrics in judged.metrics.values() for metric in metrics} == {
        "balanced_accuracy", "recall", "specificity", "accuracy",
    }  # fmt: skip
    assert judged.reliability == []
    assert not any("best one of these very scores" in warning for warning in judged.warnings)
    assert sum("decisions rather than scores" in warning for warning in judged.warnings) == 1
    assert {(curve.over, curve.measure) for curve in judged.curves} >= {("snr_db", "recall"), ("duration_ms", "recall")}


def test_words_beside_numbers_and_a_condition_that_is_not_there_are_named(tmp_path):
    columns = parse_columns("id=path,label=y,score=prob,group=spk")
    path = write(tmp_path, "a,1,speech,s", "b,0,0.5,n")
    with pytest.raises(ManifestError, match=r"score '0\.5' is a number, others are a word"):
        read_predictions(path, columns)
    path = write(tmp_path, "a,1,speech,s", "b,0,no speech,n")
    with pytest.raises(ManifestError, match="no condition 'dur_20ms'"):
        read_predictions(path, columns, conditions={"dur_20ms": "20ms"})
