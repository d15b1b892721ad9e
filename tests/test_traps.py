"""The seven ways a good number is had for nothing: each warned of on a made example, none on a sound one."""

from dataclasses import replace

import numpy as np
from made_scores import make_scores, stack

from listenwell.evaluate.calibration import best_threshold, choose_threshold
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.traps import (
    find_traps,
    warn_best_of,
    warn_dropped_rows,
)


def test_a_sound_test_gives_no_warning():
    chosen = choose_threshold(make_scores(seed=1))
    assert find_traps(make_scores(), chosen.value, chosen) == []


def test_a_threshold_chosen_on_the_test_is_found_by_its_hash():
    table = make_scores()
    chosen = choose_threshold(table)
    assert "chosen on these very scores" in find_traps(table, chosen.value, chosen)[0]


def test_a_threshold_tuned_on_the_test_is_found_without_a_record():
    table = make_scores()
    best, _ = best_threshold(table.score, table.is_speech)
    for copied in (best, float(f"{best:.6g}"), float(f"{best:.3g}")):
        assert "the best one of these very scores" in find_traps(table, copied)[0]
    assert find_traps(table, best + 0.01) == []


def test_24_clips_are_few_even_when_all_are_right():
    warnings = find_traps(make_scores(n_groups=4, n_each=3, gap=50.0), 0.3)
    assert len(warnings) == 2
    assert "12 SPEECH clips of 4 groups are few: with all of them right, only 54%" in warnings[0]


def test_more_versions_of_the_same_clips_are_not_more_clips():
    few = make_scores(n_groups=4, n_each=3)
    versions = [replace(few, condition=np.full(len(few), f"snr_{snr}")) for snr in range(10)]
    assert "12 SPEECH clips of 4 groups are few" in " ".join(find_traps(stack(*versions), 0.3))


def test_one_speaker_speaks_for_nobody_else():
    table = make_scores()
    alone = replace(table, group=np.where(table.is_speech, "anna", table.group))
    assert "all SPEECH clips are of one group, 'anna'" in " ".join(find_traps(alone, 0.3))
    mostly = replace(table, group=np.where(table.is_speech & (np.arange(len(table)) > 40), "anna", table.group))
    assert "80% of the SPEECH clips are of one group, 'anna'" in " ".join(find_traps(mostly, 0.3))


def test_clips_counted_as_independent_are_named():
    table = make_scores()
    assert find_traps(replace(table, group=table.clip_id), 0.3)[0].startswith("every SPEECH clip is its own group")


def test_dropped_rows_are_counted_and_named():
    table = make_scores()
    noisy = replace(table, condition=np.full(len(table), "snr_0")).select(np.arange(len(table)) > 2)
    (warning,) = find_traps(stack(table, noisy), 0.3)
    assert "3 of 400 clips have no score under snr_0 (c0, c1, c2)" in warning
    (warning,) = warn_dropped_rows(table, [*table.clip_id.tolist(), "lost"])
    assert "1 of 401 clips have no score under clean (lost)" in warning


def test_a_mix_of_classes_that_flatters_accuracy_is_named():
    table = make_scores()
    rare = table.select(~table.is_speech | (np.arange(len(table)) < 50))
    assert "80% of the clips are NONSPEECH: calling everything NONSPEECH" in " ".join(find_traps(rare, 0.3))


def test_the_best_of_six_reads_too_high():
    metrics = {f"m{i}": Metric("balanced_accuracy", 0.85 + i / 100, 0.77, 0.92, 72, 36, "made") for i in range(6)}
    (warning,) = warn_best_of(metrics)
    assert "'m5' is the best of 6" in warning
    # Six equal methods with a standard error of 3.7 points: the best reads about 1.27 of it, 4.7 points, too high.
    assert "up to 0.047 too high" in warning
    assert warn_best_of({name: metrics[name] for name in ("m0", "m1")}) == []
