"""Score tables are kept method by method: what is new is scored alone, and the bits are those of one pass.

Counted are waveforms at the detectors of real studies on the random model, by method.
"""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from made_sounds import make_study

from listenwell.config import load_config
from listenwell.judge.detectors import BaselineDetector, LanguageModelDetector
from listenwell.progress import ignore_progress
from listenwell.splits.clips import prepare
from listenwell.splits.divide import divide
from listenwell.study.run import run_study

pytestmark = pytest.mark.slow

QUIET, WHOLE, LONG = "quiet: {augment.noise.probability: 0.0}", "whole: {lora.scope: both}", "long: {lora.rank: 2}"
PADDED = "padded: {short_clips.minimum_s: 0.9}"
MAIN = {"zero-shot", "fine-tuned"}
ALL_FORMS = {f"webrtc: mode {i}" for i in range(4)}


def study_of(folder, *overrides, arms=(QUIET,)):
    tables = [f"data.manifest={folder / 'clips.csv'}", f"data.backgrounds={folder / 'backgrounds.csv'}"]
    kept = [f"output={folder / 'run'}", f"ledger={folder / 'ledger'}", "model.name=random", "train.learning_rate=0.005"]
    short = ["train.epochs=1", "evaluation.conditions=[clean, snr_0]", "evaluation.baselines=[webrtc]"]
    return load_config(None, [*tables, *kept, *short, f"arms={{{', '.join(arms)}}}", *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished study of one arm."""
    folder = tmp_path_factory.mktemp("project")
    make_study(folder)
    run_study(study_of(folder))
    return folder


@pytest.fixture
def project(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "project"))


@pytest.fixture
def run_counted(monkeypatch):
    """Runs a study and returns how many waveforms each method, or form of a baseline, scored."""
    counts = Counter()
    for kind in (LanguageModelDetector, BaselineDetector):

        def scores(self, waveforms, scored=kind.scores):
            found = scored(self, waveforms)
            counts.update(dict.fromkeys(found, len(waveforms)))
            return found

        monkeypatch.setattr(kind, "scores", scores)

    def run(config, on_progress=ignore_progress):
        counts.clear()
        run_study(config, on_progress)
        return dict(counts)

    return run


def n_versions(config):
    """Clips times conditions of dev, and of the test."""
    clips = divide(*prepare(config), config.data).clips
    return [len(clips[split]) * len(config.evaluation.conditions) for split in ("dev", "test")]


def tables_of(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "run" / "scores").glob("*.csv"))}


def test_what_a_study_adds_is_scored_alone_to_the_bits_of_one_pass(project, tmp_path, run_counted, capsys):
    arms = (QUIET, WHOLE, PADDED)
    config = study_of(project, arms=arms)
    before, n = tables_of(project), sum(n_versions(config))
    capsys.readouterr()
    assert run_counted(config) == {"whole-seed42": n, "padded-seed42": n}
    assert [line for line in capsys.readouterr().err.splitlines() if "/scores/" in line] == [
        f"listenwell: {project / 'run' / 'scores' / split}.json is made again: "
        "changed since: methods.whole-seed42, methods.padded-seed42."
        for split in ("dev", "test")
    ]
    after = tables_of(project)
    assert {name: after[name] for name in before} == before
    fresh = study_of(project, f"output={tmp_path / 'fresh' / 'run'}", arms=arms)
    assert set(run_counted(fresh)) == {*MAIN, "quiet-seed42", "whole-seed42", "padded-seed42", *ALL_FORMS}
    assert tables_of(tmp_path / "fresh") == after
    assert run_counted(study_of(project)) == {}


def test_a_baseline_that_is_added_is_scored_alone_in_all_forms_on_dev_and_in_those_chosen_on_the_test(
    project, tmp_path, run_counted
):
    without = study_of(project, "evaluation.baselines=[]", f"output={tmp_path / 'other' / 'run'}")
    run_counted(without)
    config = without.model_copy(update={"evaluation": study_of(project).evaluation})
    on_dev, on_test = n_versions(config)
    counted = run_counted(config)
    assert set(counted) == ALL_FORMS
    assert set(counted.values()) <= {on_dev, on_dev + on_test}
    assert tables_of(tmp_path / "other") == tables_of(project)


def test_a_fit_that_changed_is_scored_anew_alone(project, run_counted):
    config = study_of(project, arms=["quiet: {lora.rank: 1}"])
    assert run_counted(config) == {"quiet-seed42": sum(n_versions(config))}


def test_other_conditions_are_scored_by_all(project, run_counted, capsys):
    config = study_of(project, "evaluation.conditions=[clean, snr_0, 200ms]")
    capsys.readouterr()
    counted = run_counted(config)
    assert set(counted) == {*MAIN, "quiet-seed42", *ALL_FORMS}
    assert {counted[name] for name in (*MAIN, "quiet-seed42")} == {sum(n_versions(config))}
    assert "fine-tuned-dev.json and 4 more are made again: changed since: conditions." in capsys.readouterr().err


def test_batches_follow_from_the_padding_of_the_study_so_that_decides_every_table(project, run_counted):
    changed = run_counted(study_of(project, "short_clips.minimum_s=0.8", arms=["quiet: {short_clips.minimum_s: 0.6}"]))
    assert set(changed) >= ALL_FORMS


def test_a_killed_scoring_loses_the_set_under_way_alone(project, run_counted):
    def stop_in_the_test(stage, done, total):
        if stage == "scoring test" and done:
            raise KeyboardInterrupt

    config = study_of(project, arms=[QUIET, LONG])
    with pytest.raises(KeyboardInterrupt):
        run_counted(config, stop_in_the_test)
    assert run_counted(config) == {"long-seed42": n_versions(config)[1]}
