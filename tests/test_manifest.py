"""Tables of clips and backgrounds: they survive the round trip, and every fault is one sentence with its place."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from listenwell.data.clip import LABELS, Background, Clip
from listenwell.data.manifest import read_backgrounds, read_manifest, write_backgrounds, write_manifest
from listenwell.errors import ListenwellError, ManifestError

CLIP = Clip("c1", Path("a.wav"), 0.25, 1.5, "SPEECH", "anna", "a", "own", "CC0", "german", "train", "00ff")
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=12).map(str.strip)
NAME = TEXT.filter(lambda text: text.lower() not in ("", "nan", "<na>"))
SECONDS = st.floats(0, 1e6)


def table(folder: Path, *lines: str, name: str = "clips.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def fault(folder: Path, *lines: str) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(table(folder, *lines))
    return str(caught.value)


@given(
    clips=st.lists(
        st.builds(
            Clip, NAME, st.sampled_from([Path("x.wav"), Path("sub/y.wav"), Path("/elsewhere/z.wav")]), SECONDS,
            SECONDS.filter(bool), st.sampled_from(LABELS), NAME, NAME, TEXT, TEXT, TEXT, st.just("train"), TEXT,
        ),
        min_size=1, unique_by=lambda clip: clip.clip_id,
    )
)  # fmt: skip
def test_clips_survive_the_round_trip(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    clips = [replace(clip, path=folder / clip.path) for clip in clips]
    write_manifest(folder / "clips.csv", clips)
    assert read_manifest(folder / "clips.csv") == clips


def test_backgrounds_survive_the_round_trip(tmp_path):
    backgrounds = [Background("b1", tmp_path / "b.wav", 60.0, "music", "band", "own", "CC0", "train", "ab")]
    write_backgrounds(tmp_path / "backgrounds.csv", backgrounds)
    assert read_backgrounds(tmp_path / "backgrounds.csv") == backgrounds


def test_paths_below_the_table_are_written_relative_so_that_the_folder_can_move(tmp_path):
    (tmp_path / "old").mkdir()
    write_manifest(tmp_path / "old" / "clips.csv", [replace(CLIP, path=tmp_path / "old" / "audio" / "a.wav")])
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_manifest(tmp_path / "new" / "clips.csv")[0].path == tmp_path / "new" / "audio" / "a.wav"


def test_four_columns_are_enough(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000, np.float32), 8000)
    (clip,) = read_manifest(table(tmp_path, "clip_id,path,label,group", "c1,a.wav,speech,anna"))
    assert clip == Clip("c1", tmp_path / "a.wav", 0.0, 0.5, "SPEECH", "anna", "a.wav", "", "")


def test_an_empty_duration_is_the_rest_of_the_recording(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000, np.float32), 8000)
    lines = ("clip_id,path,label,group,start_s,duration_s", "c1,a.wav,SPEECH,anna,0.125,")
    assert read_manifest(table(tmp_path, *lines))[0].duration_s == 0.375


def test_spreadsheet_exports_are_read(tmp_path):
    path = tmp_path / "clips.csv"
    rows = "clip_id;path;label;group;duration_s\r\nc1;a.wav;NonSpeech;Hund, groß;1,5\r\n;;;;\r\n"
    path.write_text("\ufeff" + rows, encoding="utf-8")
    (clip,) = read_manifest(path)
    assert (clip.label, clip.group, clip.duration_s) == ("NONSPEECH", "Hund, groß", 1.5)


def test_a_path_with_dots_may_stay_inside(tmp_path):
    lines = ("clip_id,path,label,group,duration_s", "c1,sub/../a.wav,SPEECH,anna,1")
    assert read_manifest(table(tmp_path, *lines))[0].path == tmp_path / "a.wav"


HEADER = "clip_id,path,label,group,start_s,duration_s,split"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("c2,b.wav,MUSIC,bob,0,1,", "line 3: unknown label 'MUSIC'; expected SPEECH or NONSPEECH"),
        ("c1,b.wav,SPEECH,bob,0,1,", "line 3: the clip_id 'c1' already stands in line 2"),
        (",b.wav,SPEECH,bob,0,1,", "line 3: the clip_id is empty"),
        ("c2,b.wav,SPEECH,,0,1,", "line 3: the group is empty"),
        ("c2,b.wav,SPEECH,NaN,0,1,", "line 3: the group is 'NaN'"),
        ("c2,b.wav,SPEECH,bob,soon,1,", "line 3: start_s is 'soon'; expected a finite number"),
        ("c2,b.wav,SPEECH,bob,inf,1,", "line 3: start_s is 'inf'; expected a finite number"),
        ("c2,b.wav,SPEECH,bob,-1,1,", "line 3: start_s is -1; times are 0 or more"),
        ("c2,b.wav,SPEECH,bob,0,-0.5,", "line 3: duration_s is -0.5; times are 0 or more"),
        ("c2,b.wav,SPEECH,bob,0,0,", "line 3: duration_s is 0; give a length above 0"),
        ("c2,b.wav,SPEECH,bob,0,,", "duration_s is empty and .*b.wav does not exist"),
        ("c2,../b.wav,SPEECH,bob,0,1,", "line 3: the path '../b.wav' lies outside the table's folder"),
        ("c2,x/../../b.wav,SPEECH,bob,0,1,", "lies outside the table's folder"),
        ("c2,b.wav,SPEECH,anna,0,1,test", "line 3: group 'anna' is in split 'test' here and in 'train' in line 2"),
        ("c2,b.wav,SPEECH,bob,0", "line 3: 5 cells, expected 7"),
        ('c2,b.wav,SPEECH,"bob,0,1,', "is not valid CSV"),
    ],
)
def test_a_faulty_row_is_named_with_file_line_and_expectation(tmp_path, row, sentence):
    message = fault(tmp_path, HEADER, "c1,a.wav,SPEECH,anna,0,1,train", row)
    assert message.startswith(str(tmp_path / "clips.csv"))
    assert re.search(sentence, message), message


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("clip_id,path,label", "the required column group is missing, found clip_id, path, label"),
        ("path,duration_s", "the required columns clip_id, label, group are missing"),
        ("clip_id,path,label,group,license", "unknown column 'license', probably 'licence' was meant"),
        ("clip_id,path,label,group,label", "the column 'label' stands twice"),
        ("", "the file is empty"),
        ("clip_id,path,label,group", "has a header but no rows"),
    ],
)
def test_a_faulty_header_is_named(tmp_path, header, sentence):
    assert sentence in fault(tmp_path, header)


def test_unknown_columns_are_left_alone(tmp_path):
    lines = ("clip_id,path,label,group,duration_s,mood", "c1,a.wav,SPEECH,anna,1,happy")
    assert len(read_manifest(table(tmp_path, *lines))) == 1


def test_a_sound_that_cannot_be_read_is_named_when_its_length_is_needed(tmp_path):
    (tmp_path / "a.wav").write_text("this is text")
    message = fault(tmp_path, "clip_id,path,label,group", "c1,a.wav,SPEECH,anna")
    assert "cannot be read as sound" in message


def test_a_clip_that_starts_after_the_end_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000, np.float32), 8000)
    message = fault(tmp_path, "clip_id,path,label,group,start_s", "c1,a.wav,SPEECH,anna,2")
    assert "start_s is 2 but" in message
    assert "lasts 0.5 s" in message


def test_a_missing_a_binary_and_a_folder_table_are_named(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00clip")
    for path, sentence in (
        (tmp_path / "no.csv", "cannot be opened"),
        (tmp_path / "b.csv", "not UTF-8"),
        (tmp_path, "cannot"),
    ):
        with pytest.raises(ManifestError, match=sentence):
            read_manifest(path)


def test_a_background_of_unknown_kind_is_refused(tmp_path):
    path = table(tmp_path, "background_id,path,kind,group,duration_s", "b1,a.wav,hum,x,1")
    with pytest.raises(
        ManifestError, match="line 2: unknown kind 'hum'; expected music or vocal_music or noise or speech"
    ):
        read_backgrounds(path)


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "clips.csv"
    write_manifest(path, [CLIP])
    before = path.read_bytes()

    def broken_clips():
        yield CLIP
        raise ListenwellError("the source broke")

    with pytest.raises(ListenwellError, match="the source broke"):
        write_manifest(path, broken_clips())
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["clips.csv"]


def test_a_hundred_thousand_rows_are_read_in_linear_time(tmp_path):
    lines = [f"c{i},{i}.wav,SPEECH,g{i % 5000},0,1,train" for i in range(100_000)]
    assert len(read_manifest(table(tmp_path, HEADER, *lines))) == 100_000


def test_a_path_no_system_takes_is_named_with_its_line(tmp_path):
    (tmp_path / "clips.csv").write_text(f"clip_id,path,label,group\na,{'a' * 300},SPEECH,g\n")
    with pytest.raises(ManifestError, match=r"clips\.csv line 2: duration_s is empty and .*aaa does not exist"):
        read_manifest(tmp_path / "clips.csv")
