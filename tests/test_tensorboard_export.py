"""metrics.jsonl as TensorBoard event files, read back with TensorBoard's own reader."""

import json
import sys

import pytest
from made_sounds import make_study
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.errors import ListenwellError
from listenwell.study.run import fit_alone
from listenwell.tasks.runs import export_tensorboard


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = make_study(tmp_path_factory.mktemp("run"), "train.epochs=2")
    return config, fit_alone(config)


def test_every_figure_of_every_step_and_epoch_comes_back(finished, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    config, fit = finished
    (folder,) = export_tensorboard(config.output, tmp_path / "events")
    assert folder.name == fit.folder.name
    events = EventAccumulator(str(folder)).Reload()
    lines = [json.loads(line) for line in (fit.folder / "metrics.jsonl").read_text().splitlines()]
    expected = {
        (f"{axis}/{name}", line[axis]): value
        for line in lines
        for axis in ["epoch" if "epoch" in line else "step"]
        for name, value in line.items()
        if name not in ("epoch", "step")
    }
    found = {
        (tag, event.step): float(make_ndarray(event.tensor_proto))
        for tag in events.Tags()["tensors"]
        for event in events.Tensors(tag)
    }
    assert found == pytest.approx(expected, rel=1e-6)
    assert {"step/loss", "step/gradient_norm", "epoch/dev_loss", "epoch/gap"} <= {tag for tag, *_ in found}


def test_the_command_replaces_an_older_export_and_prints_the_folders(finished, tmp_path):
    config, fit = finished
    for _ in range(2):
        shown = CliRunner().invoke(app, ["runs", "tensorboard", str(config.output), "--out", str(tmp_path / "events")])
        assert (shown.exit_code, shown.stdout.strip()) == (0, str(tmp_path / "events" / fit.folder.name))
    assert len(list((tmp_path / "events").rglob("events.out.tfevents.*"))) == 1


def test_under_training_a_line_cut_at_the_end_is_passed_over_and_one_before_it_is_not(finished, tmp_path):
    config, fit = finished
    metrics, spec = fit.folder / "metrics.jsonl", fit.folder / "spec.json"
    whole, note = metrics.read_text(), spec.read_text()
    spec.unlink()
    try:
        metrics.write_text(whole + '{"step": 9, "lo')
        assert export_tensorboard(config.output, tmp_path / "events")
        metrics.write_text('{"step": 9, "lo\n' + whole)
        with pytest.raises(ListenwellError, match=r"metrics\.jsonl line 1: is no JSON"):
            export_tensorboard(config.output, tmp_path / "events")
    finally:
        metrics.write_text(whole)
        spec.write_text(note)


def test_a_missing_tensorboard_is_told_with_how_to_install_it(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ListenwellError, match=r"pip install 'listenwell\[tracking\]'"):
        export_tensorboard(finished[0].output, tmp_path / "events")
    assert not list(tmp_path.rglob("events.out*"))


def test_a_folder_without_a_run_or_without_metrics_is_told(tmp_path):
    with pytest.raises(ListenwellError, match="holds no run"):
        export_tensorboard(tmp_path, tmp_path / "events")
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ListenwellError, match=r"none of its fits has written a metrics\.jsonl yet"):
        export_tensorboard(tmp_path, tmp_path / "events")
