"""The whole path on the random two-layer model and a made corpus: divide, fit, score, calibrate, judge, report."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sounds import make_corpus, make_study, study_record
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.data.clip import LABELS, Background, Clip
from listenwell.data.manifest import read_manifest, write_manifest
from listenwell.errors import ConfigError, LeakageError, ListenwellError, ManifestError
from listenwell.evaluate.scores import read_scores
from listenwell.splits.divide import divide, warnings_of
from listenwell.splits.sealing import describe_seal, note_opening
from listenwell.storage.run_folder import RunFolder, read_kept_results
from listenwell.study.run import fit_alone
from listenwell.study_settings import DataConfig
from listenwell.tasks.trace import trace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    config = make_study(folder)
    return config, study_record(config), folder


def score_files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "scores").glob("*.csv"))}


def test_a_study_leaves_everything_it_found(finished):
    config, results, _ = finished
    for name in ("results.json", "report.html", "report.md", "config.yaml", "allocation.json"):
        assert (config.output / name).stat().st_size > 0
    assert read_kept_results(RunFolder(config.output)) == json.loads(json.dumps(results))
    assert set(results["thresholds"]) == {"zero-shot", "fine-tuned", "webrtc"}
    assert {row["condition"] for row in results["rows"]} == {"clean", "snr_0", "200ms", "noisy"}
    assert {c["opponent"] for c in results["comparisons"]} == {"zero-shot", "webrtc"}


def test_the_same_study_elsewhere_gives_the_same_bits_with_other_workers(finished, tmp_path):
    config, results, folder = finished
    alone = config.train.model_copy(update={"workers": 2})
    moved = config.model_copy(update={"output": tmp_path / "run", "train": alone})
    again = study_record(moved)
    assert score_files(tmp_path / "run") == score_files(folder / "run")
    assert again["rows"] == results["rows"]


def test_the_threshold_comes_from_dev_alone(finished):
    config, results, _ = finished
    dev = read_scores(config.output / "scores" / "fine-tuned-dev.csv")
    assert results["thresholds"]["fine-tuned"]["n"] == len(dev)
    dev_groups = {group for r in results["allocation"] if r["part"] == "dev" for group in r["groups"]}
    assert set(dev.group) == dev_groups


def test_a_clip_can_be_walked_from_the_manifest_to_its_decision(finished):
    config, results, _ = finished
    test_clip = read_scores(config.output / "scores" / "fine-tuned-test.csv").clip_id[0]
    walked = trace(str(test_clip), config.output)
    noisy = walked["conditions"]["snr_0"]
    assert noisy["achieved_snr_db"] == pytest.approx(0.0, abs=0.05)
    assert noisy["methods"]["fine-tuned"]["threshold"] == results["thresholds"]["fine-tuned"]["value"]
    assert noisy["methods"]["fine-tuned"]["decision"] in ("SPEECH", "NONSPEECH")
    assert walked["part"] == "test"
    heard = json.loads((next((config.output / "fits").iterdir()) / "plans.jsonl").read_text().splitlines()[0])
    training = trace(heard["clip_id"], config.output)
    assert training["part"] == "train"
    assert heard in [entry["plan"] for entry in training["plans"]]


def test_a_broken_log_of_plans_without_a_checksum_is_named(finished, tmp_path):
    output = finished[0].output
    run = shutil.copytree(output.parent, tmp_path / "project", ignore=shutil.ignore_patterns("cache")) / output.name
    path = next(run.glob("fits/*/plans.jsonl"))
    whole = path.read_text()
    path.write_text(whole + "[" * 100_000)
    path.with_name("spec.json").unlink()
    with pytest.raises(ListenwellError, match=r"plans\.jsonl: is no log of plans"):
        trace(json.loads(whole.splitlines()[0])["clip_id"], run)


def test_an_unknown_clip_or_run_is_named(finished, tmp_path):
    config, _, _ = finished
    with pytest.raises(ManifestError, match="not in this run"):
        trace("nobody", config.output)
    with pytest.raises(ListenwellError, match="holds no run"):
        trace("nobody", tmp_path)


def test_noise_without_backgrounds_is_refused_not_skipped(tmp_path):
    config = make_study(tmp_path, "data.backgrounds=none")
    with pytest.raises(ConfigError, match="noise is asked for"):
        study_record(config)


def test_a_clip_full_of_nan_is_quarantined_and_named(tmp_path):
    config = make_study(tmp_path, "data.quarantine_share=0.5", "evaluation.baselines=[]", "train.epochs=1")
    clips = make_corpus(tmp_path, n_groups=8)
    lost = divide(clips, [], config.data).clips["test"][0]
    samples, rate = soundfile.read(lost.path)
    soundfile.write(lost.path, samples * np.nan, rate, subtype="FLOAT")
    results = study_record(config)
    assert [entry["clip_id"] for entry in results["quarantine"]] == [lost.clip_id]
    assert lost.clip_id in (config.output / "quarantine" / "study.csv").read_text()


def corpus(**groups_of: int) -> list[Clip]:
    """Two clips of each group, as many groups of each label as named; "undivided" clips have no split."""
    return [
        Clip(f"{split}-{label}-{i}-{j}", Path("a.wav"), 0.0, 1.0, label, f"{split}-{label}-{i}", "r", "made", "CC0",
             split="" if split == "undivided" else split)
        for split, n_groups in groups_of.items() for label in LABELS for i in range(n_groups) for j in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "named", [{}, {"train": 2}, {"test": 3}, {"train": 1, "test": 2}, {"train": 2, "dev": 1, "foreign": 1}], ids=str
)
def test_no_clip_is_lost_whatever_is_named_and_clips_named_train_only_train(named):
    clips = corpus(undivided=6, **named)
    splits = divide(clips, [], DataConfig())
    assert sorted(c.clip_id for split in splits.clips.values() for c in split) == sorted(c.clip_id for c in clips)
    for split in named:
        assert {c.clip_id for c in clips if c.split == split} <= {c.clip_id for c in splits.clips[split]}
    shuffled = divide(clips[::-1], [], DataConfig()).clips
    assert {n: {c.clip_id for c in of} for n, of in splits.clips.items()} == {
        n: {c.clip_id for c in of} for n, of in shuffled.items()
    }


def test_too_few_groups_that_choose_are_said():
    few = warnings_of(divide(corpus(undivided=16), [], DataConfig()))
    assert [line for line in few if "SPEECH" in line] == [
        f"dev has 4 groups of {label}: an epoch and a threshold chosen by so few may suit them alone; 6 or more are "
        "advised (add groups, or raise data.dev_share)."
        for label in LABELS
    ]
    assert warnings_of(divide(corpus(undivided=24), [], DataConfig())) == []


BED = Background("b", Path("b.wav"), 1.0, "noise", "b", "made", "CC0")


@pytest.mark.parametrize(
    ("clips", "backgrounds", "message"),
    [
        ([c for c in corpus(train=3, dev=3, test=3) if (c.split, c.label) != ("dev", "SPEECH")], [], "none is SPEECH"),
        (corpus(train=3, test=3), [], "no split 'dev'"),
        (corpus(train=3, dev=3), [], "no test split"),
        (corpus(undivided=2), [], "need at least 3"),
        (corpus(undivided=8), [BED], "too few"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(clips, backgrounds, message):
    with pytest.raises(ManifestError, match=message):
        divide(clips, backgrounds, DataConfig())


def test_rooms_are_used_in_training_alone_and_are_no_background_of_a_test():
    noises = [replace(BED, background_id=f"b{i}", group=f"b{i}") for i in range(6)]
    rooms = [replace(BED, background_id=f"r{i}", group=f"r{i}", kind="room") for i in range(6)]
    banks = divide(corpus(undivided=16), [*noises, *rooms], DataConfig()).banks
    rooms_of = {split: [e.background_id for e in bank.entries if e.kind == "room"] for split, bank in banks.items()}
    assert rooms_of == {"train": [f"r{i}" for i in range(6)], "dev": [], "test": []}
    assert all(any(entry.kind == "noise" for entry in bank.entries) for bank in banks.values())


def copied(config, folder):
    shutil.copytree(config.output, folder / "run")
    return config.model_copy(update={"output": folder / "run"})


def with_a_planted_leak(folder, *overrides):
    """A test clip stands in training too, under another name, group and file."""
    config = make_study(folder, "train.epochs=1", "evaluation.conditions=[clean]", *overrides)
    clips = read_manifest(folder / "clips.csv")
    parts = divide(clips, [], config.data).clips
    stolen = max(parts["test"], key=lambda clip: clip.duration_s)
    shutil.copy(stolen.path, folder / "renamed.wav")
    copy = replace(
        stolen, clip_id="renamed", path=folder / "renamed.wav", group="another", recording="renamed.wav", split="train"
    )
    named = [replace(clip, split=split) for split, of in parts.items() for clip in of]
    write_manifest(folder / "clips.csv", [*named, copy])
    return config, stolen.clip_id


def test_a_planted_leak_stops_the_study_before_training(tmp_path):
    config, stolen = with_a_planted_leak(tmp_path)
    for command in (study_record, fit_alone):
        with pytest.raises(LeakageError, match=rf"(renamed.*{stolen}|{stolen}.*renamed)"):
            command(config)
    assert not (config.output / "fits").exists()


def test_a_leak_that_is_only_reported_is_on_the_page(tmp_path):
    config, stolen = with_a_planted_leak(tmp_path, "data.on_leak=report")
    results = study_record(config)
    assert results["leaks"]["verdict"] == "leaks"
    page = (config.output / "report.html").read_text()
    assert "Leaks found." in page
    assert stolen in page


def test_a_study_shows_its_verdict_its_sheets_and_its_seal(finished):
    config, results, _ = finished
    assert results["leaks"]["verdict"] == "clean"
    assert results["seal"]["verdict"] == "sealed"
    assert [entry["event"] for entry in results["seal"]["entries"]] == ["commit", "look"]
    assert results["test_sets"][0]["licences"] == {"CC0": 8}
    for text in ("No leak found.", "Sealed.", "Licences of the tests", results["seal"]["head"][:16]):
        assert text in (config.output / "report.html").read_text()
        assert text in (config.output / "report.md").read_text()


def test_other_thresholds_after_a_look_reopen_the_test(finished, tmp_path):
    config = copied(finished[0], tmp_path)
    results = study_record(config.model_copy(update={"seed": 7}))
    assert results["seal"]["verdict"] == "reopened"
    assert "Reopened." in (config.output / "report.html").read_text()


def test_what_opened_the_test_later_is_not_counted_as_earlier(finished, tmp_path):
    config = copied(finished[0], tmp_path)  # a moved run: the machine's log knows another folder
    run = RunFolder(config.output)
    sets = finished[1]["seal"]["test_sets"]
    before = describe_seal(run, sets)["earlier"]
    later = f"later-{time.time_ns()}"  # the cache may remember those of earlier tests
    time.sleep(1.1)  # the logs count seconds
    for name, content in sets.items():
        note_opening(name, content, tmp_path / later)
    assert describe_seal(run, sets)["earlier"] == before
    assert later not in [opening["run"] for opening in before]


def test_a_changed_log_shows_as_unsealed(finished, tmp_path):
    config = copied(finished[0], tmp_path)
    sound = CliRunner().invoke(app, ["seal", "show", str(config.output)])
    assert sound.exit_code == 0
    assert "sealed: " in sound.stdout
    log = config.output / "seal.jsonl"
    log.write_text(log.read_text().replace('"event": "look"', '"event": "peek"'))
    broken = CliRunner().invoke(app, ["seal", "show", str(config.output)])
    assert broken.exit_code == 1
    assert "unsealed: " in broken.stdout
    assert CliRunner().invoke(app, ["report", str(config.output)]).exit_code == 0
    assert "Unsealed." in (config.output / "report.html").read_text()
