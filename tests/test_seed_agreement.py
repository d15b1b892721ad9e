"""How far the seeds of the delivered config agree: counted by hand, and from the score tables of a study."""

import json

import numpy as np
import pytest
from made_pages import Page

from listenwell.evaluate.metrics import decide
from listenwell.evaluate.scores import ScoreTable, read_scores
from listenwell.report.results import read_results
from listenwell.report.training import seed_agreement_tables
from listenwell.study.seed_agreement import N_LISTED, describe_agreement


def made_table(n_speech: int, n_other: int) -> ScoreTable:
    """Clips c0, c1, ... of two groups a class: s0, s1 and n0, n1 in turn."""
    names = [f"s{i % 2}" for i in range(n_speech)] + [f"n{i % 2}" for i in range(n_other)]
    n = len(names)
    return ScoreTable(
        np.array([f"c{i}" for i in range(n)]),
        np.array(names),
        np.array(["SPEECH" if name[0] == "s" else "NONSPEECH" for name in names]),
        np.zeros(n),
        np.full(n, 1000.0),
        np.full(n, np.nan),
        np.full(n, "clean"),
    )


def test_three_seeds_by_hand():
    table = made_table(4, 2)  # c0 to c3 speech, c4 and c5 not
    decided = {
        1: np.array([False, True, False, True, False, True]),  # wrong: c0, c2, c5
        2: np.array([False, True, True, True, False, True]),  # wrong: c0, c5
        3: np.array([False, False, True, True, False, False]),  # wrong: c0, c1
    }
    found = describe_agreement(decided, table)
    assert found["seeds"] == [1, 2, 3]
    assert found["n_wrong"] == [3, 2, 2]
    assert found["agreement"]["value"] == pytest.approx(3 / 6)  # c0, c3, c4
    assert (found["agreement"]["n"], found["agreement"]["n_groups"]) == (6, 4)
    assert found["wrong_by"] == [
        {"n_seeds": 1, "n": 2, "n_groups": 2},  # c1 of s1, c2 of s0
        {"n_seeds": 2, "n": 1, "n_groups": 1},  # c5
        {"n_seeds": 3, "n": 1, "n_groups": 1},  # c0
    ]
    assert found["wrong_by_all"] == [{"clip_id": "c0", "group": "s0", "label": "SPEECH", "condition": "clean"}]


def test_what_all_seeds_get_right_is_agreement_too_and_a_long_list_is_cut():
    table = made_table(2 * N_LISTED, 2)
    right = describe_agreement({1: table.is_speech, 2: table.is_speech}, table)
    assert right["agreement"]["value"] == 1.0
    assert [each["n"] for each in right["wrong_by"]] == [0, 0]
    wrong = describe_agreement({1: ~table.is_speech, 2: ~table.is_speech}, table)
    assert wrong["agreement"]["value"] == 1.0
    assert wrong["wrong_by"][-1] == {"n_seeds": 2, "n": 2 * N_LISTED + 2, "n_groups": 4}
    assert len(wrong["wrong_by_all"]) == N_LISTED


def test_a_study_counts_from_its_score_tables(finished_study):
    config, results = finished_study
    delivered, other = (fit["seed"] for fit in results["fits"])
    is_wrong = {}
    for seed, method in ((delivered, "fine-tuned"), (other, f"final-seed{other}")):
        table = read_scores(config.output / "scores" / f"{method}-test.csv")
        threshold = json.loads((config.output / "thresholds" / f"{method}.json").read_text())["value"]
        clean = table.select(table.condition == "clean")
        wrong = decide(clean.score, threshold) != clean.is_speech
        is_wrong[seed] = dict(zip(clean.clip_id.tolist(), wrong.tolist(), strict=True))
    assert [(r["test_set"], r["condition"]) for r in results["seed_agreement"]] == [
        ("test", "clean"),
        ("test", "noisy"),
    ]
    record = results["seed_agreement"][0]
    clips = list(is_wrong[delivered])
    n_wrong = [sum(is_wrong[seed][clip] for seed in is_wrong) for clip in clips]
    assert record["agreement"]["value"] == pytest.approx(np.mean([n != 1 for n in n_wrong]))
    assert [each["n"] for each in record["wrong_by"]] == [n_wrong.count(1), n_wrong.count(2)]
    assert [each["clip_id"] for each in record["wrong_by_all"]] == [
        clip for clip, n in zip(clips, n_wrong, strict=True) if n == 2
    ]
    assert dict(zip(record["seeds"], record["n_wrong"], strict=True)) == {
        seed: sum(wrong.values()) for seed, wrong in is_wrong.items()
    }


def test_the_errors_of_the_report_tell_it(finished_study):
    config, results = finished_study
    page = (config.output / "report.html").read_text(encoding="utf-8")
    (table,) = [table for table in Page(page).tables if table.caption == "Test: how far the seeds agree"]
    assert [row[0][0] for row in table.rows] == ["clean", "noisy"]
    assert page.index('id="errors"') < page.index("how far the seeds agree") < page.index('id="conditions"')
    by_one, by_all = results["seed_agreement"][0]["wrong_by"]
    assert [cell[0].split()[0] for cell in table.rows[0][3:]] == [str(by_all["n"]), str(by_one["n"])]
    assert "### Test: how far the seeds agree" in (config.output / "report.md").read_text(encoding="utf-8")


def test_a_cut_list_says_so_and_a_study_of_one_seed_has_none(finished_study):
    results = json.loads(json.dumps(finished_study[1]))
    clip = {"clip_id": "c", "group": "g", "label": "SPEECH", "condition": "clean"}
    results["seed_agreement"][0] |= {"wrong_by_all": [clip] * N_LISTED}
    results["seed_agreement"][0]["wrong_by"][-1]["n"] = 33
    _, listed = seed_agreement_tables(read_results(results))
    assert listed.caption == "Test: clean clips wrong under every seed, the first 20 of 33"
    del results["seed_agreement"]
    assert seed_agreement_tables(read_results(results)) == []
