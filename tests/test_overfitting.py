import pytest

from listenwell.train.fit_log import describe_overfitting


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
