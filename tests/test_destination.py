"""A command replaces nothing unless it may, and never what it reads."""

import os
import shutil
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.data.audio import SAMPLE_RATE_HZ
from listenwell.errors import ConfigError, ListenwellError
from listenwell.random_streams import stream
from listenwell.storage.atomic_files import atomic_folder, write_text
from listenwell.storage.destination import destinations

REFUSED = "give another name, or --overwrite to replace it"
SOUND = 0.1 * stream(0, "sound").normal(size=SAMPLE_RATE_HZ)


def write_file(path: Path, content: str = "ours", **options) -> None:
    with destinations([path], **options):
        write_text(path, content)


def write_folder(path: Path, content: str = "ours", **options) -> None:
    with destinations(folders=[path], **options), atomic_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_text(content)


def run(*arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_not_there_or_empty_is_written(tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    for name in ("new.txt", "empty.txt", "far/new.txt"):
        write_file(tmp_path / name)
        assert (tmp_path / name).read_text() == "ours"
    for name in ("new", "empty"):
        write_folder(tmp_path / name)
        assert content_of(tmp_path / name) == {"inner/weights": b"ours"}


def test_what_is_there_stays_unless_it_may_be_overwritten(tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=rf"a\.txt: is there already; {REFUSED}"):
        write_file(path)
    assert path.read_text() == "mine"
    assert capsys.readouterr().err == ""
    write_file(path, overwrite=True)
    assert path.read_text() == "ours"
    assert f"listenwell: {path}: is there already" in capsys.readouterr().err
    write_folder(tmp_path / "model")
    for name in "abc":
        (tmp_path / "model" / name).symlink_to(path)
    with pytest.raises(ConfigError, match=rf"model: holds a, b, c and 1 more; {REFUSED}"):
        write_folder(tmp_path / "model")
    assert (tmp_path / "model" / "a").is_symlink()


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_read_is_never_replaced(tmp_path, overwrite):
    table, sounds = tmp_path / "table.csv", tmp_path / "sounds"
    sounds.mkdir()
    for path in (table, sounds / "a.wav", sounds / "notes.txt"):
        path.write_text("mine")
    (tmp_path / "link.csv").symlink_to(table)
    os.link(table, tmp_path / "hard.csv")
    before = content_of(tmp_path)
    for name in ("table.csv", "link.csv", "hard.csv"):
        with pytest.raises(ConfigError, match=f"{name}: is read by this command and never written over"):
            write_file(tmp_path / name, inputs=[table], overwrite=overwrite)
    for inputs in ([sounds], [sounds / "a.wav"]):
        with pytest.raises(
            ConfigError, match=r"sounds: (is read by this command|holds .*, which must not be replaced)"
        ):
            write_folder(sounds, inputs=inputs, overwrite=overwrite)
    with pytest.raises(ConfigError, match=r"notes\.txt: lies in .*sounds, which this command reads"):
        write_file(sounds / "notes.txt", inputs=[sounds], overwrite=overwrite)
    assert content_of(tmp_path) == before
    write_file(sounds / "answer.txt", inputs=[sounds])
    with pytest.raises(ConfigError, match="is read by this command"):
        write_file(sounds / "answer.txt", inputs=[sounds / "answer.txt"], overwrite=overwrite)


@pytest.mark.parametrize("place", ["", "home", "home/project"])
def test_the_folder_one_works_in_and_the_home_are_never_replaced(tmp_path, monkeypatch, place):
    (tmp_path / "home" / "project").mkdir(parents=True)
    (tmp_path / "home" / "project" / "thesis.tex").write_text("mine")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home" / "project")
    with pytest.raises(ConfigError, match="which must not be replaced"):
        write_folder(tmp_path / place, overwrite=True)
    assert (tmp_path / "home" / "project" / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_somebody_makes_there_while_the_work_goes_on_stays(tmp_path, overwrite):
    def write_a_folder():
        with destinations(folders=[tmp_path / "det"], overwrite=overwrite), atomic_folder(tmp_path / "det") as folder:
            (folder / "own.txt").write_text("own")
            (tmp_path / "det").mkdir()
            (tmp_path / "det" / "thesis.txt").write_text("mine")

    with pytest.raises(ListenwellError, match=r"det: somebody else made it meanwhile; it stays"):
        write_a_folder()
    assert (tmp_path / "det" / "thesis.txt").read_text() == "mine"


def test_two_outputs_of_one_name_are_refused(tmp_path):
    for files, folders in (
        ([tmp_path / "a"] * 2, []),
        ([], [tmp_path / "a"] * 2),
        ([tmp_path / "a" / "b"], [tmp_path / "a"]),
    ):
        with pytest.raises(ConfigError, match="would be written twice"), destinations(files, folders):
            pass


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("file/a", "a file stands where a folder was expected"), ("loop", "is a symbolic link that leads back to itself")],
)
def test_a_place_that_cannot_be_is_refused_before_the_work(tmp_path, name, sentence):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    for places in ({"files": [tmp_path / name]}, {"folders": [tmp_path / name]}):
        with pytest.raises(ConfigError, match=sentence), destinations(**places):
            pytest.fail("the work began")
    with pytest.raises(ConfigError, match="is a folder, a file was expected"), destinations([tmp_path]):
        pytest.fail("the work began")
    with pytest.raises(ConfigError, match="a file stands"), destinations(folders=[tmp_path / "file"]):
        pytest.fail("the work began")


# the commands


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scores") / "dev.csv"
    rows = [f"c{i},g{i % 6},{'SPEECH' if i % 2 else 'NONSPEECH'},{i % 5 - 2 + 3 * (i % 2)}" for i in range(60)]
    path.write_text("\n".join(["clip_id,group,label,score", *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("calibrate", "SCORES", "--out", "OUT"),
        ("evaluate", "SCORES", "--out", "OUT"),
        ("compare", "SCORES", "OTHER", "--out", "OUT"),
    ],
    ids=lambda command: command[0],
)
def test_commands_on_scores_replace_no_file_unasked(tmp_path, scores, command):
    other = shutil.copyfile(scores, tmp_path / "other.csv")

    def ask(out: Path, *more: str):
        words = {"SCORES": str(scores), "OTHER": f"{other}@0.5", "OUT": str(out)}
        return run(*[words[word] if word in words else word for word in command], *more)

    out, before = tmp_path / "answer.json", scores.read_bytes()
    assert ask(out).exit_code == 0
    answer = out.read_text()
    refused = ask(out)
    assert (refused.exit_code, out.read_text()) == (2, answer)
    assert REFUSED in refused.stderr
    done = ask(out, "--overwrite")
    assert done.exit_code == 0
    assert "--overwrite replaces it" in done.stderr
    for read in (scores, *([other] if "OTHER" in command else [])):
        refused = ask(read, "--overwrite")
        assert (refused.exit_code, read.read_bytes()) == (2, before)
        assert "is read by this command and never written over" in refused.stderr


@pytest.fixture
def detect(made_detector, tmp_path):
    """Detect in two recordings, in this format."""
    for name in ("rec.wav", "other.wav"):
        soundfile.write(tmp_path / name, SOUND, SAMPLE_RATE_HZ)

    def detect(form: str, out: Path, *more: str):
        recordings = (tmp_path / "rec.wav", tmp_path / "other.wav")
        return run("detect", *recordings, "--detector", made_detector, "--format", form, "--out", out, *more)

    return detect


@pytest.mark.parametrize(("form", "name"), [("textgrid", "rec.TextGrid"), ("audacity", "rec.txt")])
def test_detect_does_not_write_over_labels_made_by_hand(detect, tmp_path, form, name):
    (tmp_path / name).write_text("made by hand")
    before = content_of(tmp_path)
    refused = detect(form, tmp_path)
    assert refused.exit_code == 2
    assert f"{name}: is there already; {REFUSED}" in refused.stderr
    assert content_of(tmp_path) == before
    assert detect(form, tmp_path / "answers").exit_code == 0
    assert len(content_of(tmp_path / "answers")) == 2
    assert detect(form, tmp_path, "--overwrite").exit_code == 0
    assert (tmp_path / name).read_text() != "made by hand"


def test_a_destination_is_checked_before_the_model_is_loaded(tmp_path):
    soundfile.write(tmp_path / "rec.wav", SOUND, SAMPLE_RATE_HZ)
    (tmp_path / "answer.txt").write_text("mine")
    nothing = tmp_path / "nothing"
    for out, sentence in (("answer.txt", REFUSED), (".", "is a folder"), ("answer.txt/x", "a file stands")):
        refused = run("detect", tmp_path / "rec.wav", "--detector", nothing, "--out", tmp_path / out)
        assert refused.exit_code == 2
        assert sentence in refused.stderr
    refused = run("export", nothing, "--out", tmp_path / "answer.txt")
    assert "a file stands where a folder was expected" in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"rec.wav", "answer.txt"}


@pytest.fixture
def finished(made_detector, tmp_path):
    """A copy of the run that the detector was made of, beside its corpus."""
    shutil.copytree(made_detector.parent, tmp_path / "study", ignore=shutil.ignore_patterns("cache"))
    return tmp_path / "study" / "run"


@pytest.mark.slow
def test_export_replaces_no_folder_unasked(finished, tmp_path):
    own, mine = tmp_path / "detector", tmp_path / "mine"
    for more in ((), ("--overwrite",)):
        done = run("export", finished, "--out", own, *more)
        assert done.exit_code == 0, done.output
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    before = content_of(tmp_path)
    refused = run("export", finished, "--out", mine)
    assert refused.exit_code == 2
    assert f"mine: holds thesis.tex; {REFUSED}" in refused.stderr
    assert REFUSED in run("export", finished, "--out", own).stderr
    for out in (finished, tmp_path, finished / "fits", finished / "scores"):
        refused = run("export", finished, "--out", out, "--overwrite")
        assert refused.exit_code == 2, out
    assert content_of(tmp_path) == before
