"""What the formats say of a recording: who it is, what was detections, and that it was not read."""

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import invoke
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import Result

from listenwell.cli.use import JOURNAL
from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.detect import bundle as bundles
from listenwell.detect.bundle import read_bundle, write_bundle
from listenwell.detect.detector import Decision
from listenwell.detect.files import Detection
from listenwell.detect.formats import (
    FORMATS,
    ONE_EACH,
    name_recordings,
    name_tokens,
    write_audacity,
    write_csv,
    write_json_records,
    write_rttm,
    write_srt,
    write_table,
    write_textgrid,
    write_vtt,
)
from listenwell.detect.segmentation import Segment
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import companion

SPEECH = (Segment(1.0, 2.5, 0.9),)
LATIN_1 = Path(os.fsdecode(b"caf\xe9.wav"))


@pytest.fixture
def detect(made_detector):
    def run(*arguments: str | Path) -> Result:
        return invoke("detect", "--detector", made_detector, "--device", "cpu", "--dtype", "float32", *arguments)

    return run


def record(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * stream(4, str(path)).standard_normal(round(seconds * SAMPLE_RATE_HZ))
    with path.open("wb") as file:
        soundfile.write(file, samples.astype(np.float32), SAMPLE_RATE_HZ, format="WAV")
    return path


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["day1/rec.wav", "day2/rec.wav"], ["day1_rec", "day2_rec"]),
        (["1/a/rec.wav", "2/a/rec.wav", "2/b/rec.wav"], ["1_a_rec", "2_a_rec", "2_b_rec"]),
        (["a/b.wav", "c/b.wav", "a_b.wav"], ["a_b_2", "c_b", "a_b"]),
        (["027.30M.wav", "027.31M.wav"], ["027.30M", "027.31M"]),
        ([" .wav", "two\nlines.wav", '"said".wav'], ["_", "two_lines", "_said_"]),
        ([str(LATIN_1)], [r"caf\udce9"]),
    ],
)
def test_recordings_that_share_a_name_are_told_apart_by_no_more_than_it_takes(paths, names):
    assert list(name_tokens([Path(path) for path in paths]).values()) == names


PATHS = st.lists(
    st.builds(
        lambda folders, stem, suffix: Path("asked", *folders, stem + suffix),
        st.lists(st.sampled_from(["a", "a_b", "b", "A"]), max_size=2),
        st.sampled_from(["b", "a b", "a_b", "a_b_2", "B", "b.wav", " ", "é" * 120]),
        st.sampled_from([".wav", ".mp3", ""]),
    ),
    unique=True,
    max_size=8,
)


@given(paths=PATHS)
def test_no_two_recordings_are_called_the_same_and_every_name_can_be_written(paths):
    for names in (name_recordings(paths), name_tokens(paths)):
        assert list(names) == paths
        assert len({name.casefold() for name in names.values()}) == len(paths)
        assert all(0 < len(name.encode()) <= 210 for name in names.values())
    assert all(name.split() == [name] for name in name_tokens(paths).values())


def test_every_format_says_the_same():
    detections = [Detection(Path("=a b.wav"), 9.0, segments=(Segment(1.0, 2.5, 0.9), Segment(4.0, 9.0, 0.8)))]
    (record,) = json.loads(write_json_records(detections))
    assert [s["start_s"] for s in record["segments"]] == [1.0, 4.0]
    rows = write_csv(detections).splitlines()
    assert rows[1].startswith("'=a b.wav,1.000,2.500,SPEECH")
    assert write_rttm(detections).splitlines()[0] == "SPEAKER =a_b 1 1.000 1.500 <NA> <NA> speech <NA> <NA>"
    assert write_audacity(detections).splitlines()[1] == "4.000000\t9.000000\tspeech"
    assert "6.5 of 9.0 s" in write_table(detections)
    assert write_textgrid(detections).count("intervals [") == 4
    assert write_srt(detections).splitlines()[4:7] == ["2", "00:00:04,000 --> 00:00:09,000", "speech"]
    late = [Detection(Path("a.wav"), 9000.0, segments=(Segment(3599.9996, 3661.25, 0.9),))]
    assert write_vtt(late) == "WEBVTT\n\n01:00:00.000 --> 01:01:01.250\nspeech\n\n"
    assert 'text = ""' in write_textgrid(detections)


def test_rttm_tells_no_speech_from_not_read():
    detections = [Detection(Path("a.wav"), 9.0, segments=SPEECH), Detection(Path("b.wav"), 9.0)]
    detections += [Detection(Path("c.wav"), 1.0, decision=Decision(-2.0, 0.1, is_speech=False))]
    detections += [Detection(Path("d.wav"), 0.0, problem="d.wav: cannot be decoded.")]
    words = [line.split() for line in write_rttm(detections).splitlines()]
    assert [(line[0], line[1]) for line in words] == [("SPEAKER", "a"), ("SPKR-INFO", "b"), ("SPKR-INFO", "c")]
    assert {len(line) for line in words} == {10}


def test_a_note_and_a_channel_stand_in_json_and_csv():
    detections = [
        Detection(Path("a.wav"), 9.0, segments=SPEECH, note="broken off at 9.0 s", channel=1),
        Detection(Path("b"), 1.0),
    ]
    first, second = json.loads(write_json_records(detections))
    assert (first["note"], first["channel"]) == ("broken off at 9.0 s", 1)
    assert not {"note", "channel"} & set(second)
    rows = list(csv.DictReader(io.StringIO(write_csv(detections))))
    assert list(rows[0])[-1] == "note"
    assert [(row["note"], row["channel"]) for row in rows] == [("broken off at 9.0 s", "1"), ("", "")]
    assert write_rttm(detections).split()[:3] == ["SPEAKER", "a", "2"]
    assert "a.wav channel 1" in write_table(detections)


def test_a_name_that_is_no_utf_8_is_written_and_json_gives_it_back():
    detections = [Detection(LATIN_1, 9.0, segments=SPEECH), Detection(Path("two\nlines.wav"), 9.0)]
    for form in FORMATS.keys() - ONE_EACH.keys() - {"csv"}:
        FORMATS[form](detections).encode()
    assert json.loads(write_json_records(detections))[0]["path"] == str(LATIN_1)
    assert write_table(detections).splitlines()[-1].startswith(r"two\nlines.wav ")


def test_two_recordings_of_one_name_have_two_ids_and_two_files(detect, tmp_path):
    folder = tmp_path / "calls"
    for day in ("day1", "day2"):
        record(folder / day / "rec.wav")
    found = detect(folder, "--format", "rttm", "--threshold", "-99")
    assert [line.split()[1] for line in found.stdout.splitlines()] == ["day1_rec", "day2_rec"]
    assert f"{folder}/day2/rec.wav: is called day2_rec in the answer" in found.stderr
    assert detect(folder / "day1" / "rec.wav", "--format", "vtt", "--out", tmp_path / "one.vtt").exit_code == 0
    assert (tmp_path / "one.vtt").read_text().startswith("WEBVTT")
    found = detect(folder, "--format", "audacity", "--out", tmp_path / "labels")
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["day1_rec.txt", "day2_rec.txt"]
    assert "is called day1_rec in the answer" in found.stderr


@pytest.mark.parametrize("form", ["csv", "rttm"])
def test_a_recording_that_cannot_be_read_leaves_a_line_and_the_status_and_no_answer(detect, tmp_path, form):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF....WAVE")
    found = detect(broken, "--format", form)
    assert found.exit_code == 1
    assert sum(line.startswith(f"listenwell: {broken}: ") for line in found.stderr.splitlines()) == 1
    assert found.stdout == "" or form == "csv"
    assert "NONSPEECH" not in found.stdout


def test_the_answer_of_an_earlier_run_goes_when_its_recording_cannot_be_read_any_more(detect, tmp_path):
    recording, out = record(tmp_path / "calls" / "a.wav"), tmp_path / "out"
    record(tmp_path / "calls" / "b.wav")
    assert detect(recording.parent, "--format", "textgrid", "--out", out).exit_code == 0
    recording.write_bytes(b"")
    assert detect(recording.parent, "--format", "textgrid", "--out", out, "--overwrite").exit_code == 1
    assert [path.name for path in out.iterdir()] == ["b.TextGrid"]


@pytest.mark.parametrize("form", FORMATS)
def test_files_of_any_name_are_answered_in_every_format(detect, tmp_path, form):
    names = ["čeština.wav", "录音.wav", "😀.wav", "[bold]x.wav", "two\nlines.wav", str(LATIN_1)]
    for name in names:
        record(tmp_path / "calls" / name)
    (tmp_path / "calls" / os.fsdecode(b"bro\xe9ken.wav")).write_bytes(b"RIFF....WAVE")
    out = tmp_path / "out"
    found = detect(tmp_path / "calls", "--format", form, "--out", out)
    assert found.exit_code == 1, found.output
    assert r"bro\udce9ken.wav" in found.stderr
    if form in ONE_EACH:
        assert len(list(out.iterdir())) == len(names)
    else:
        out.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--longest-clip", "nan"), "--longest-clip"),
        (("--device", "gpu"), "device gpu: is no device (did you mean 'cuda'?)"),
        (("--dtype", "float16"), "--dtype"),
        (("--workers", "0"), "--workers"),
        (("--channel", "each", "--format", "audacity"), "--channel each"),
        (("--skip-existing",), "--skip-existing: needs --cut alone"),
        (("-", "--cut", "c"), "--cut: stdin can be decoded once only"),
        (("--skip-existing", "--cut", "c", "--out", "all.json", "--format", "json"), "--skip-existing: needs --cut"),
    ],
    ids=" ".join,
)
def test_an_option_that_can_never_be_used_is_one_sentence(tmp_path, arguments, says):
    found = invoke("detect", record(tmp_path / "a.wav"), *arguments)
    assert found.exit_code == 2
    assert says in found.stderr
    assert "Traceback" not in found.output


def test_without_a_detector_that_is_shipped_one_sentence_says_what_to_give(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "READY", tmp_path / "nothing")
    found = invoke("detect", record(tmp_path / "a.wav"))
    assert found.exit_code == 1
    assert "ships no detector; give the folder of one that 'listenwell export RUN' wrote" in found.stderr


def test_the_detector_that_is_shipped_is_whole_and_small():
    shipped = read_bundle(bundles.ready_detector())
    assert shipped.base == "small"
    assert {"balanced_accuracy", "eer"} <= shipped.thresholds.keys()
    assert sum(path.stat().st_size for path in bundles.READY.rglob("*")) < 12e6


@pytest.mark.slow
def test_the_speech_of_a_recording_is_cut_out_at_its_own_rate_channel_by_channel(detect, tmp_path):
    rng = stream(4, "stereo")
    sound = (0.3 * rng.standard_normal((12 * 8_000, 2))).astype(np.float32)
    sound[3 * 8_000 : 6 * 8_000, 1] = 0  # digital silence is never speech
    soundfile.write(tmp_path / "call.wav", sound, 8_000, subtype="PCM_16")
    stored, _ = soundfile.read(tmp_path / "call.wav", dtype="int16")
    call = (tmp_path / "call.wav", "--threshold", "-99", "--longest-speech", "5", "--format", "json")
    found = detect(*call, "--channel", "each", "--cut", tmp_path / "cut")
    assert found.exit_code == 0, found.output
    written = sorted(path.name for path in (tmp_path / "cut" / "call").iterdir())
    expected = [
        f"channel{one['channel']}_{s['start_s']:.3f}-{s['end_s']:.3f}.wav"
        for one in json.loads(found.stdout)
        for s in one["segments"]
    ]
    assert written == sorted(expected)
    assert len(expected) >= 5
    for name in written:
        channel, _, times = name.removesuffix(".wav").partition("_")
        first, last = (round(float(time) * 8_000) for time in times.split("-"))
        samples, rate_hz = soundfile.read(tmp_path / "cut" / "call" / name, dtype="int16")
        assert rate_hz == 8_000
        assert last - first <= 5 * 8_000
        np.testing.assert_array_equal(samples, stored[first:last, int(channel[-1])])
    assert detect(*call, "--cut", tmp_path / "both").exit_code == 0
    first_cut = sorted((tmp_path / "both" / "call").iterdir())[0]
    assert soundfile.info(first_cut).channels == 2


@pytest.mark.slow
def test_recordings_that_have_their_answer_are_left_out_when_asked(detect, tmp_path):
    for name in ("a", "b"):
        record(tmp_path / "calls" / f"{name}.wav")
    call = (tmp_path / "calls", "--format", "srt", "--out", tmp_path / "out", "--skip-existing")
    assert detect(*call).exit_code == 0
    (tmp_path / "out" / "a.srt").write_text("corrected by hand")
    (tmp_path / "out" / "b.srt").unlink()
    again = detect(*call)
    assert "of 2 recordings have their answers already" in again.stderr
    assert "1 recording, 0.5 s of audio" in again.stderr
    assert (tmp_path / "out" / "a.srt").read_text() == "corrected by hand"
    assert (tmp_path / "out" / "b.srt").is_file()
    journal = companion((tmp_path / "out" / JOURNAL).resolve(), JOURNAL)
    journal.write_text("what a run keeps that is killed when all is written\n")
    assert detect(*call).exit_code == 0  # nothing is left to do
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.srt", "b.srt"]


def test_a_target_recall_that_finds_less_speech_says_so(made_detector, tmp_path):
    recording, bundle = record(tmp_path / "a.wav"), read_bundle(made_detector)
    for target, is_less in ((1.0, True), (-1.0, False)):
        folder = tmp_path / f"detector{target}"
        thresholds = {**bundle.thresholds, "balanced_accuracy": 0.0, "target_recall=0.95": target}
        write_bundle(folder, replace(bundle, thresholds=thresholds), made_detector / "adapter")
        call = ["detect", recording, "--detector", folder, "--device", "cpu"]
        said = invoke(*call, "--criterion", "target_recall=0.95").stderr
        assert f"decides at {target:+.3f}, balanced_accuracy at +0.000" in said
        assert ("finds less speech than the other" in said) == is_less
        assert "--criterion" not in invoke(*call).stderr
