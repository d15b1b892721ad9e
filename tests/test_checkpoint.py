"""What a fit leaves while it runs: checkpoints, verified, the newest good one wins; logs; and what its epochs show."""

import json

import pytest
import torch

from listenwell.augment.plan import Plan
from listenwell.errors import CheckpointError
from listenwell.storage.load_or_make import write_checksummed
from listenwell.train.checkpoint import STATE, TENSORS, Checkpoints, FitState
from listenwell.train.fit_log import METRICS, PLANS, FitLog, describe_overfitting


def states(value: float) -> list[FitState]:
    return [
        FitState({"step": value, "name": name}, {"parameter.0": torch.full((3, 2), value), "a.b": torch.arange(4)})
        for name in ("one", "two")
    ]


def checkpoints(folder, identity="mine") -> Checkpoints:
    return Checkpoints(folder, identity, every_steps=5)


def test_what_is_saved_comes_back_fit_by_fit(tmp_path):
    checkpoints(tmp_path).save(7, states(0.5))
    step, (one, two) = checkpoints(tmp_path).newest()
    assert step == 7
    assert (one.record, two.record["name"]) == ({"step": 0.5, "name": "one"}, "two")
    assert torch.equal(two.tensors["parameter.0"], torch.full((3, 2), 0.5))
    assert torch.equal(one.tensors["a.b"], torch.arange(4))


def test_only_the_newest_are_kept(tmp_path):
    for step in (5, 10, 15):
        checkpoints(tmp_path).save(step, states(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]


def flip_a_bit(folder):
    content = bytearray((folder / TENSORS).read_bytes())
    content[-3] ^= 1
    (folder / TENSORS).write_bytes(content)


def change_the_state(folder):
    content = json.loads((folder / STATE).read_text())
    content["fits"][0]["step"] = 99
    (folder / STATE).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "harm",
    [
        flip_a_bit,
        change_the_state,
        lambda folder: (folder / STATE).unlink(),
        lambda folder: (folder / TENSORS).unlink(),
        lambda folder: (folder / STATE).write_text("{"),
    ],
    ids=["flipped bit", "changed state", "no state", "no tensors", "not JSON"],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, capsys, harm):
    for step in (5, 10):
        newest = checkpoints(tmp_path).save(step, states(step))
    harm(newest)
    step, (one, _) = checkpoints(tmp_path).newest()
    assert (step, one.record["step"]) == (5, 5)
    assert "checkpoint step-00000010 is damaged and passed over" in capsys.readouterr().err
    harm(tmp_path / "step-00000005")
    assert checkpoints(tmp_path).newest() is None


def test_a_checkpoint_of_other_fits_or_another_format_is_refused(tmp_path):
    theirs = checkpoints(tmp_path, "theirs").save(5, states(1.0))
    with pytest.raises(CheckpointError, match="belongs to fits theirs, not mine"):
        checkpoints(tmp_path).newest()
    write_checksummed(theirs / STATE, {"format": 0})
    with pytest.raises(CheckpointError, match="format 0, this version reads format 4"):
        checkpoints(tmp_path).newest()


def test_a_log_is_cut_back_to_where_the_checkpoint_stands(tmp_path):
    log = FitLog(tmp_path)
    log.rewind(0, 0)
    log.add_plans([Plan("a\n1", 1), Plan("b", 1)])
    log.add_metrics({"step": 1})
    log.add_plans([Plan("c", 1)])
    log.add_metrics({"step": 2})
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 3')  # a kill in the middle of a line
    again = FitLog(tmp_path)
    again.rewind(2, 1)
    again.add_metrics({"step": 2})
    assert [json.loads(line)["clip_id"] for line in (tmp_path / PLANS).read_text().splitlines()] == ["a\n1", "b"]
    assert (tmp_path / METRICS).read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("left", ["", '{"step": 1}\n', '{"step": 1}\n{"step"'])
def test_a_log_with_fewer_lines_than_its_checkpoint_counts_is_named(tmp_path, left):
    (tmp_path / METRICS).write_text(left)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: was cut or damaged: its checkpoint counts 2 lines"):
        FitLog(tmp_path).rewind(0, 2)


def history(*losses: tuple[float, float]) -> list[dict]:
    return [{"epoch": i, "train_loss": train, "dev_loss": dev} for i, (train, dev) in enumerate(losses, start=1)]


def test_dev_loss_that_rises_for_two_epochs_while_train_loss_falls_is_named_overfitting():
    losses = (0.6, 0.5), (0.4, 0.3), (0.5, 0.35), (0.3, 0.4), (0.2, 0.5), (0.6, 0.4)
    sentence = describe_overfitting(history(*losses), best_epoch=2)
    assert sentence.startswith("Overfitting: over epochs 4 to 5 dev loss rose from 0.350 to 0.500")
    assert "train loss fell from 0.500 to 0.200; the adapter of epoch 2, with the lowest dev loss (0.300)" in sentence


@pytest.mark.parametrize(
    "losses",
    [
        [(0.6, 0.5), (0.4, 0.3)],  # the best epoch is the last
        [(0.6, 0.5), (0.4, 0.3), (0.3, 0.4)],  # one epoch may be chance
        [(0.6, 0.5), (0.4, 0.3), (0.3, 0.4), (0.2, 0.35), (0.1, 0.4)],  # not in a row
        [(0.6, 0.5), (0.4, 0.3), (0.45, 0.4), (0.5, 0.5)],  # train loss rises too: the fit is unstable, not overfitted
    ],
)
def test_nothing_else_is(losses):
    best = min(range(len(losses)), key=lambda i: losses[i][1]) + 1
    assert describe_overfitting(history(*losses), best) == ""
