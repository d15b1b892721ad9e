"""A run opened by its folder: its ledger and the adapter it delivers."""

import pytest
from made_sounds import make_study, study_record
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.detect.detector import read_bundle
from listenwell.errors import CheckpointError, ListenwellError
from listenwell.evaluate.scores import read_scores
from listenwell.storage.load_or_make import hash_file
from listenwell.tasks.export import export_detector, export_merged
from listenwell.tasks.runs import delivered_adapter, find_adapter, open_run


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study whose fits lie in the folder of a ledger."""
    folder = tmp_path_factory.mktemp("opened")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LISTENWELL_CACHE", str(folder / "cache"))
        config = make_study(folder, "train.epochs=1", "evaluation.conditions=[clean]", f"ledger={folder / 'shared'}")
        study_record(config)
        yield config


def test_the_adapter_of_a_study_is_found_in_its_ledger(study):
    run, config = open_run(study.output)
    assert config == study
    assert delivered_adapter(run).parents[2] == study.ledger
    assert find_adapter(study.output) == delivered_adapter(run) == find_adapter(delivered_adapter(run))


def test_a_study_with_a_ledger_is_exported(study, tmp_path):
    export_detector(study.output, tmp_path / "detector", n_recordings=1, recording_s=6.0)
    weights = find_adapter(study.output) / "adapter_model.safetensors"
    assert read_bundle(tmp_path / "detector").adapter_sha256 == hash_file(weights)
    export_merged(study.output, tmp_path / "merged")
    assert (tmp_path / "merged" / "config.json").is_file()


def test_scoring_takes_a_study_for_the_adapter_it_delivers(study, tmp_path):
    clips = str(study.output.parent / "clips.csv")
    tables = []
    for adapter in (study.output, find_adapter(study.output)):
        arguments = ["--clips", clips, "--model", "random", "--adapter", str(adapter), "--out", str(tmp_path / "out")]
        done = CliRunner().invoke(app, ["score", *arguments])
        assert done.exit_code == 0, done.output
        tables.append(read_scores(tmp_path / "out" / "scores" / "all.csv"))
    assert tables[0].score.tolist() == tables[1].score.tolist()
    with pytest.raises(ListenwellError, match="was scored, not trained"):
        find_adapter(tmp_path / "out")


def test_what_is_no_finished_study_is_named(study, tmp_path):
    with pytest.raises(ListenwellError, match=r"holds no run \(no config\.yaml\)"):
        open_run(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ListenwellError, match=r"holds no finished study \(no results\.json\)"):
        find_adapter(tmp_path)
    history = find_adapter(study.output).parent / "history.json"
    whole = history.read_bytes()
    history.write_bytes(whole.replace(b"1", b"2", 1))
    with pytest.raises(CheckpointError, match=r"history\.json: was changed"):
        find_adapter(study.output)
    history.write_bytes(whole)
