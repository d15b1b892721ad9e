"""Without a terminal, progress is a line now and then, never a flood."""

import pytest

from listenwell.progress import PlainLines, StageClock, shown_progress


def test_plain_lines_come_every_ten_seconds_and_at_the_end(capsys):
    seconds = iter([0.0, 4.0, 11.0, 12.0, 20.0])
    lines = PlainLines(clock=lambda: next(seconds))
    for done in (0, 20, 50, 60, 100):
        lines.report("scoring", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 50 of 100, 4.5/s, 11 s left",
        "scoring: 100 of 100, 5.0/s",
    ]


def test_what_stands_behind_a_stage_may_change_and_begins_no_other(capsys):
    with shown_progress() as report:
        for done, says in ((1, "loss 0.7"), (2, "loss 0.6"), (3, "loss 0.5, dev loss 0.6 after epoch 1")):
            report(f"training a: {says}", done, 3)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "training a: 3 of 3, loss 0.5, dev loss 0.6 after epoch 1"


def test_what_is_done_at_once_has_no_rate(capsys):
    seconds = iter([0.0, 0.0, 1e-5])
    lines = PlainLines(clock=lambda: next(seconds))
    for done in (1, 2, 3):
        lines.report("scoring", done, 3)
    assert capsys.readouterr().err == "scoring: 3 of 3\n"


def test_stages_that_take_turns_are_all_heard_of(capsys):
    seconds = iter([0.0, 0.0, 6.0, 6.0, 12.0, 12.0, 18.0, 18.0])
    lines = PlainLines(clock=lambda: next(seconds))
    for done in (0, 1, 2, 3):
        for stage in ("training a", "training b"):
            lines.report(stage, done, 3)
    assert capsys.readouterr().err.splitlines() == [
        "training a: 2 of 3, 0.2/s, 6 s left",
        "training a: 3 of 3, 0.2/s",
        "training b: 3 of 3, 0.2/s",
    ]


def test_the_time_between_reports_is_that_of_the_stage_that_reports():
    seconds = iter([0.0, 2.0, 5.0, 6.0, 10.0])
    heard = []
    clock = StageClock(lambda *report: heard.append(report), clock=lambda: next(seconds))
    clock.report("scoring dev", 1, 2)
    clock.report("scoring test", 1, 1)
    clock.report("judging", 1, 1)
    clock.count("writing")
    assert clock.seconds == {"scoring": 5.0, "judging": 1.0, "writing": 4.0}
    assert heard[0] == ("scoring dev", 1, 2)


@pytest.mark.parametrize(("done", "total"), [(0, 0), (0, 5)])
def test_nothing_done_is_no_division_by_zero(done, total):
    PlainLines(clock=lambda: 0.0).report("scoring", done, total)
