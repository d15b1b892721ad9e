"""Label files of other tools become clips, and what detect writes comes back as it was."""

from pathlib import Path

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import load_config
from listenwell.data.corpora.labels import read_label_files, read_textgrid, read_track
from listenwell.data.corpora.voxconverse import read_rttm
from listenwell.data.manifest import read_manifest
from listenwell.detect.files import Detection
from listenwell.detect.formats import write_audacity, write_rttm, write_textgrid
from listenwell.detect.segmentation import Segment
from listenwell.errors import ConfigError, ManifestError
from listenwell.random_streams import stream
from listenwell.tasks.init import start, start_project

SHORT_FORM = '''File type = "ooTextFile"
"TextGrid"

0
9.5
<exists>
2
"IntervalTier"
"speech"
0
9.5
3
0
1.5
""
1.5
2.25
"anna says ""2 [x]"""
2.25
9.5
""
"TextTier"
"clicks"
0
9.5
1
3.5
"click"
'''


def record(path: Path, seconds: float = 9.5, rate_hz: int = 8_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * stream(8, str(path)).standard_normal(round(seconds * rate_hz)), rate_hz)
    return path


spans = st.lists(st.integers(0, 9_000), min_size=0, max_size=12, unique=True).map(sorted)


@given(spans)
def test_what_detect_writes_is_read_back(tmp_path_factory, edges):
    folder = tmp_path_factory.mktemp("labels")
    segments = [Segment(a / 1000, b / 1000, 0.9) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    one = [Detection(Path("talk.wav"), 9.5, segments=tuple(segments))]
    expected = [(s.start_s, s.end_s) for s in segments]
    for name, text, read in (
        ("talk.txt", write_audacity(one), read_track), ("talk.TextGrid", write_textgrid(one), read_textgrid)
    ):  # fmt: skip
        (folder / name).write_text(text)
        assert [(start, end) for start, end, *_ in read(folder / name)] == expected
    (folder / "talk.rttm").write_text(write_rttm(one))
    turns = [(turn.start_s, round(turn.end_s, 6)) for turn in read_rttm(folder / "talk.rttm")]
    assert turns == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_textgrid_in_the_short_form_gives_intervals_and_no_points(tmp_path, encoding):
    (tmp_path / "a.TextGrid").write_text(SHORT_FORM, encoding=encoding)
    assert list(read_textgrid(tmp_path / "a.TextGrid")) == [(1.5, 2.25, 'anna says "2 [x]"', "speech")]


@pytest.mark.parametrize("text", ["", "notes of the talk", SHORT_FORM[:90]])
def test_a_textgrid_that_is_none_or_ends_early_is_one_sentence(tmp_path, text):
    (tmp_path / "a.TextGrid").write_text(text)
    with pytest.raises(ManifestError, match=r"a\.TextGrid: cannot be read as a TextGrid"):
        list(read_textgrid(tmp_path / "a.TextGrid"))


def test_texts_and_tiers_say_the_label_and_a_recording_is_one_group(tmp_path):
    record(tmp_path / "anna" / "one.wav")
    (tmp_path / "anna" / "one.txt").write_text("0\t2\tspeech\n\\\t0\t4000\n1.5\t4\tno speech\n5,5\t6\thm\n")
    record(tmp_path / "anna" / "two.wav")
    (tmp_path / "anna" / "two.TextGrid").write_text(SHORT_FORM)
    record(tmp_path / "three.wav")
    (tmp_path / "all.rttm").write_text("SPEAKER three 1 0.5 8.5 <NA> <NA> s1 <NA> <NA>\n")
    record(tmp_path / "four.wav")
    (tmp_path / "four.txt").write_text("What was said, in words.")
    found = read_label_files(tmp_path, "folder")
    clips = [(clip.recording, clip.label, clip.start_s, clip.duration_s, clip.group) for clip in found.clips]
    assert clips == [
        ("anna/one", "SPEECH", 0.0, 2.0, "anna"),
        ("anna/one", "NONSPEECH", 2.0, 2.0, "anna"),
        ("anna/two", "SPEECH", 1.5, 0.75, "anna"),
        ("three", "SPEECH", 2.25, 5.0, "three"),
    ]
    assert "1 stretches name no label and were left out, most often 'hm' (1)." in found.notes
    (tmp_path / "anna" / "one.txt").write_text("0\t2\tspeech\nsome words\n")
    with pytest.raises(ManifestError, match=r"one\.txt: 'some words' is no label"):
        read_label_files(tmp_path, "folder")


def test_endings_may_have_any_case_and_labels_without_length_are_counted(tmp_path):
    for name, ending, text in (
        ("one", "TXT", "1\t1\tspeech\n2\t3\tspeech\n20\t21\tspeech\n"), ("two", "textgrid", SHORT_FORM),
        ("three", "TEXTGRID", SHORT_FORM), ("four", "RTTM", "SPEAKER four 1 0.5 1.0 <NA> <NA> s1 <NA> <NA>\n"),
    ):  # fmt: skip
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.{ending}").write_text(text)
    found = read_label_files(tmp_path, "folder")
    assert {clip.recording: clip.start_s for clip in found.clips} == {"one": 2.0, "two": 1.5, "three": 1.5, "four": 0.5}
    assert "2 labels have no length within their recording and were left out." in found.notes


def test_a_name_in_label_files_and_in_folders_is_one_group(tmp_path):
    record(tmp_path / "anna" / "talk.wav")
    (tmp_path / "anna" / "talk.txt").write_text("0\t2\tspeech\n3\t4\tnoise\n")
    for path in ("speech/anna/a.wav", "speech/ben/b.wav", "nonspeech/door/d.wav", "nonspeech/anna/n.wav"):
        record(tmp_path / path, 0.5)
    groups = {clip.recording: clip.group for clip in start_project(tmp_path).clips}
    assert groups == {
        "anna/talk": "anna", "speech/anna/a": "anna", "speech/ben/b": "speech/ben", "nonspeech/door/d":
        "nonspeech/door", "nonspeech/anna/n": "anna",
    }  # fmt: skip


@pytest.mark.slow
def test_init_makes_a_study_of_label_files_beside_folders_of_sounds(tmp_path):
    for i in range(4):
        record(tmp_path / f"talk{i}.wav")
        (tmp_path / f"talk{i}.txt").write_text("0.5\t2.5\tspeech\n3\t3.4\tspeech\n5\t6\tnoise\n")
        record(tmp_path / "nonspeech" / f"door{i}" / "a.wav", 0.5)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "broken.txt").write_text("0\t1\tspeech\n")
    done = CliRunner().invoke(app, ["init", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "4 recordings have label files" in done.stderr
    assert "1 others with label files cannot be read" in done.stderr
    assert "1 recordings lie in no folder named speech" in done.stderr
    clips = read_manifest(tmp_path / "clips.csv")
    assert [sum(clip.label == label for clip in clips) for label in ("SPEECH", "NONSPEECH")] == [8, 8]
    assert {clip.group for clip in clips if clip.label == "SPEECH"} == {f"talk{i}" for i in range(4)}
    quick = ["model.name=random", "train.epochs=1", "evaluation.baselines=[]", "evaluation.conditions=[clean]"]
    checked = CliRunner().invoke(app, ["check", str(tmp_path / "study.yaml"), *quick])
    assert checked.exit_code == 0, checked.output
    ran = CliRunner().invoke(app, ["study", str(tmp_path / "study.yaml"), *quick])
    assert ran.exit_code == 0, ran.output


def test_a_table_of_common_voice_is_speech_of_its_clients(tmp_path):
    for i in range(6):
        record(tmp_path / "clips" / f"cv_{i}.mp3", 1.0, 16_000)
    rows = [f'client{i % 3}\tcv_{i}.mp3\tHe said "no {i}\ta{i % 2}' for i in range(7)]
    (tmp_path / "dev.tsv").write_text("\n".join(["client_id\tpath\tsentence\taccent", *rows]))
    done = CliRunner().invoke(app, ["init", str(tmp_path / "dev.tsv")])
    assert done.exit_code == 0, done.output
    clips = read_manifest(Path(load_config(tmp_path / "study.yaml").data.manifest))
    assert [(clip.clip_id, clip.group) for clip in clips[:2]] == [("cv_0", "client0"), ("cv_1", "client1")]
    assert {clip.label for clip in clips} == {"SPEECH"}
    assert "1 of its recordings are missing or broken" in done.stderr
    assert "no NONSPEECH recordings" in done.stderr
    by_accent = start(tmp_path / "dev.tsv", "accent", overwrite=True)
    assert [clip.group for clip in by_accent.clips[:3]] == ["a0", "a1", "a0"]
    with pytest.raises(
        ConfigError, match=r"--group who: .* has no such column; it has client_id, path, sentence, accent"
    ):
        start(tmp_path / "dev.tsv", "who", overwrite=True)


def test_an_rttm_of_two_recordings_of_one_name_is_refused(tmp_path):
    for folder in ("a", "b"):
        record(tmp_path / folder / "talk.wav")
    (tmp_path / "a" / "talk.rttm").write_text("SPEAKER talk 1 0.1 0.5 <NA> <NA> anna <NA> <NA>\n")
    with pytest.raises(ManifestError, match="names 'talk', and both are called so"):
        read_label_files(tmp_path, "folder")


def test_backgrounds_beside_labelled_recordings_are_taken(tmp_path):
    record(tmp_path / "talk.wav")
    (tmp_path / "talk.txt").write_text("0.1\t0.5\tspeech\n0.6\t0.9\tnonspeech\n")
    record(tmp_path / "backgrounds" / "rain.wav")
    started = start_project(tmp_path)
    assert [background.background_id for background in started.backgrounds] == ["rain"]
    assert {clip.label for clip in started.clips} == {"SPEECH", "NONSPEECH"}
