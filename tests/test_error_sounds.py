"""Errors can be heard: the samples that were scored, under the condition in which they were decided wrongly."""

import base64
import io
import json
import shutil

import pytest
import soundfile
from made_pages import Page
from typer.testing import CliRunner

from listenwell.augment.conditions import plan_condition
from listenwell.augment.plan import apply_plan
from listenwell.cli.main import app
from listenwell.data.audio import load_waveform, pcm_sha256
from listenwell.errors import ListenwellError
from listenwell.evaluate.scores import read_scores
from listenwell.judge.errors import write_error_sounds
from listenwell.model.loading import load_model
from listenwell.report.errors import NOT_THERE, read_error_sounds
from listenwell.report.results import Results
from listenwell.report.write import write_report
from listenwell.splits.clips import prepare
from listenwell.splits.divide import divide
from listenwell.storage.run_folder import RunFolder


@pytest.fixture(scope="module")
def heard(finished_study):
    config, results = finished_study
    return config, results, json.loads((config.output / "errors" / "errors.json").read_text())


@pytest.fixture
def moved(finished_study, tmp_path):
    """A copy of the run that the report is written in again."""
    config, results = finished_study
    shutil.copytree(config.output, tmp_path / "run")
    return tmp_path / "run", results


def test_every_error_to_listen_to_has_its_sound_and_no_other(heard):
    config, results, index = heard
    named = [(name, e["clip_id"], e["condition"]) for name, f in results["evidence"]["errors"].items()
             for e in f["heard"]]  # fmt: skip
    assert named
    assert [(each["test_set"], each["clip_id"], each["condition"]) for each in index] == named
    files = {path.name for path in (config.output / "errors").iterdir()}
    assert files == {"errors.json", *(f"{each['number']:02d}{end}" for each in index for end in (".wav", ".png"))}


def test_the_sound_is_what_was_scored(heard):
    config, _, index = heard
    parts = divide(*prepare(config), config.data)
    clips = {clip.clip_id: clip for clip in parts.clips["test"]}
    table = read_scores(config.output / "scores" / "fine-tuned-test.csv")
    for each in index:
        samples = load_waveform(clips[each["clip_id"]])
        plan = plan_condition(each["condition"], clips[each["clip_id"]], samples, parts.banks["test"], config.seed)
        scored = apply_plan(samples, plan, parts.banks["test"].load)
        stored, rate_hz = soundfile.read(config.output / "errors" / f"{each['number']:02d}.wav", dtype="float32")
        assert rate_hz == 16_000
        assert each["sha256"] == pcm_sha256(scored)
        assert stored == pytest.approx(scored, abs=1 / 32768)
        row = (table.clip_id == each["clip_id"]) & (table.condition == each["condition"])
        assert table.score[row] == [each["score"]]


def test_what_somebody_put_beside_the_sounds_stays_and_sounds_of_the_time_before_go(finished_study, tmp_path):
    config, results = finished_study
    run, parts = RunFolder(tmp_path), divide(*prepare(config), config.data)
    errors = Results.model_validate(results).evidence.errors
    fewer = {name: found.model_copy(update={"heard": found.heard[:1]}) for name, found in errors.items()}
    theirs = [run.error_sound(1), run.error_sound(99), run.errors / "notes.txt"]
    run.errors.mkdir()
    for path in theirs:
        path.write_text("mine")
    for wanted in (errors, fewer):
        write_error_sounds(wanted, parts, load_model(config.model), config.short_clips, config.seed, run)
    numbers = [each["number"] for each in json.loads(run.error_index.read_text())]
    assert numbers == [*range(2, len(fewer) + 2)]
    ours = {path for number in numbers for path in (run.error_sound(number), run.error_picture(number))}
    assert set(run.errors.iterdir()) == {*ours, *theirs, run.error_index}
    assert {path.read_text() for path in theirs} == {"mine"}


def test_the_page_carries_sounds_and_pictures_and_results_json_does_not(heard):
    config, _, index = heard
    page = Page((config.output / "report.html").read_text(encoding="utf-8"))
    sounds, pictures = page.all("audio"), page.all("img")
    assert len(sounds) == len(pictures) == len(index)
    for sound, each in zip(sounds, index, strict=True):
        content = base64.b64decode((sound["src"] or "").removeprefix("data:audio/wav;base64,"))
        assert content == (config.output / "errors" / f"{each['number']:02d}.wav").read_bytes()
        assert soundfile.info(io.BytesIO(content)).subtype == "PCM_16"
        assert each["clip_id"] in (sound["aria-label"] or "")
    assert all(picture["alt"] for picture in pictures)
    assert "base64" not in (config.output / "results.json").read_text()
    assert "base64" not in (config.output / "report.md").read_text()


def test_a_run_without_its_sounds_still_has_its_report_and_says_so(moved):
    run, results = moved
    shutil.rmtree(run / "errors")
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert page.all("audio") == []
    assert NOT_THERE in page.text
    for error in results["evidence"]["errors"]["test"]["heard"]:
        assert error["clip_id"] in page.text


def test_the_sound_of_another_score_is_not_taken(moved):
    run, results = moved
    index = json.loads((run / "errors" / "errors.json").read_text())
    index[0]["score"] += 1.0
    (run / "errors" / "errors.json").write_text(json.dumps(index))
    (sounds,) = read_error_sounds(Results.model_validate(results), run)
    assert [bool(sound.uri) for sound in sounds.sounds] == [False, *(True for _ in index[1:])]
    assert sounds.note.endswith(NOT_THERE)


def test_what_does_not_fit_on_a_page_is_named_with_its_file(moved):
    run, results = moved
    first = sum((run / "errors" / f"01{end}").stat().st_size for end in (".wav", ".png"))
    write_report(Results.model_validate(results), run, most_bytes=first)
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert len(page.all("audio")) == 1
    assert "Too long for the page, but in the run folder: errors/02.wav" in page.text


@pytest.mark.parametrize("broken", ["a path for a number", "[1]", "nothing"])
def test_an_index_that_no_study_wrote_is_refused_and_reads_no_file(moved, broken):
    run, results = moved
    path = run / "errors" / "errors.json"
    outside = [{**each, "number": "../secret"} for each in json.loads(path.read_text())]
    path.write_text(json.dumps(outside) if broken == "a path for a number" else broken)
    with pytest.raises(ListenwellError, match=r"errors\.json: .*run the study again"):
        read_error_sounds(Results.model_validate(results), run)
