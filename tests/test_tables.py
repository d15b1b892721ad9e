"""Tables of clips and backgrounds: they survive the round trip; columns by other names; every fault with its place."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from listenwell.data.clip import LABELS, Clip
from listenwell.data.manifest import read_backgrounds, read_manifest, write_manifest
from listenwell.data.tables import LABEL_WORDS, MISSING_VALUES
from listenwell.errors import ConfigError, ManifestError

CLIP = Clip("c1", Path("a.wav"), 0.25, 1.5, "SPEECH", "anna", "a", "own", "CC0", "german", "train", "00ff")
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=12).map(str.strip)
NAME = TEXT.filter(lambda text: text.lower() not in MISSING_VALUES)
SECONDS = st.floats(0, 1e6)


def table(folder: Path, *lines: str, name: str = "clips.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def fault(folder: Path, *lines: str) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(table(folder, *lines))
    return str(caught.value)


@pytest.mark.slow
@given(
    clips=st.lists(
        st.builds(
            Clip, NAME, st.sampled_from([Path("x.wav"), Path("sub/y.wav"), Path("/elsewhere/z.wav")]), SECONDS,
            SECONDS.filter(bool), st.sampled_from(LABELS), NAME, NAME, TEXT, TEXT, TEXT, st.just("train"),
            NAME | st.just(""),
        ),
        min_size=1, unique_by=lambda clip: clip.clip_id,
    )
)  # fmt: skip
def test_clips_survive_the_round_trip(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    clips = [replace(clip, path=folder / clip.path) for clip in clips]
    write_manifest(folder / "clips.csv", clips)
    assert read_manifest(folder / "clips.csv") == clips


def test_paths_below_the_table_are_written_relative_so_that_the_folder_can_move(tmp_path):
    (tmp_path / "old").mkdir()
    write_manifest(tmp_path / "old" / "clips.csv", [replace(CLIP, path=tmp_path / "old" / "audio" / "a.wav")])
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_manifest(tmp_path / "new" / "clips.csv")[0].path == tmp_path / "new" / "audio" / "a.wav"


HEADER = "clip_id,path,label,group,start_s,duration_s,split"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("c2,b.wav,MUSIC,bob,0,1,", "line 3: unknown label 'MUSIC'; expected SPEECH or NONSPEECH"),
        ("c1,b.wav,SPEECH,bob,0,1,", "line 3: the clip_id 'c1' already stands in line 2"),
        ("c2,b.wav,SPEECH,N/A,0,1,", "line 3: the group is 'N/A', which stands for a missing value"),
        ("c2,b.wav,SPEECH,bob,soon,1,", "line 3: start_s is 'soon'; expected a finite number"),
        ("c2,b.wav,SPEECH,bob,-1,1,", "line 3: start_s is -1; times are 0 or more"),
        ("c2,b.wav,SPEECH,bob,0,0,", "line 3: duration_s is 0; give a length above 0"),
        ("c2,b.wav,SPEECH,bob,0,,", "duration_s is empty and .*b.wav does not exist"),
        ("c2,../b.wav,SPEECH,bob,0,1,", "line 3: the path '../b.wav' lies outside the table's folder"),
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
        ("path,duration_s", "the required columns label, group are missing"),
        ("clip_id,path,label,group,license", "unknown column 'license', probably 'licence' was meant"),
        ("clip_id,path,label,group,label", "the column 'label' stands twice"),
        ("", "the file is empty"),
        ("clip_id,path,label,group", "has a header but no rows"),
    ],
)
def test_a_faulty_header_is_named(tmp_path, header, sentence):
    assert sentence in fault(tmp_path, header)


def test_a_clip_that_starts_after_the_end_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000, np.float32), 8000)
    message = fault(tmp_path, "clip_id,path,label,group,start_s", "c1,a.wav,SPEECH,anna,2")
    assert "start_s is 2 but" in message
    assert "lasts 0.5 s" in message


def test_a_missing_a_binary_and_a_folder_table_are_named(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"clip\xff")
    for path, sentence in (
        (tmp_path / "no.csv", "cannot be opened"),
        (tmp_path / "b.csv", r"not UTF-8 text \(found the byte 0xff\)"),
        (tmp_path, "cannot"),
    ):
        with pytest.raises(ManifestError, match=sentence):
            read_manifest(path)


ROWS_OF_TEXT = [
    "path\tlabel\tgroup\ttext",
    'a.wav\tspeech\tanna\t"hi',
    "b.wav\tspeech\tben\tyes",
    'c.wav\t0\train\tbye"',
]


def audio(folder: Path, names: str = "abc") -> Path:
    for name in names:
        soundfile.write(folder / f"{name}.wav", np.zeros(16_000, np.float32), 8_000)
    return folder


def test_a_lone_quote_in_a_table_with_tabs_is_a_sign_like_others(tmp_path):
    path = table(audio(tmp_path), *ROWS_OF_TEXT, 'a.wav\t1\tanna\t"in ""quotes"" of its own"')
    with pytest.raises(ManifestError, match=r"line 5: the same stretch of 'a.wav' already stands in line 2"):
        read_manifest(path)  # so all five lines were read
    assert [clip.clip_id for clip in read_manifest(table(tmp_path, *ROWS_OF_TEXT))] == ["a.wav", "b.wav", "c.wav"]


@pytest.mark.parametrize("delimiter", ",;")
def test_a_lone_quote_elsewhere_swallows_no_row_but_is_named(tmp_path, delimiter):
    lines = [line.replace("\t", delimiter) for line in ROWS_OF_TEXT]
    for n, problem in ((3, "unexpected end of data"), (4, "a quote opens that takes in a line which looks like a row")):
        assert f"line 2: is not valid CSV ({problem})" in fault(audio(tmp_path), *lines[:n])


@pytest.mark.parametrize("delimiter", ",;")
def test_a_quoted_cell_may_hold_lines_that_are_no_rows(tmp_path, delimiter):
    lines = ["path,label,group,text", 'a.wav,1,anna,"hi,', 'you ""there"""', 'b.wav,0,"rain', 'and ""hail""",x']
    path = table(audio(tmp_path), *(line.replace(",", delimiter) for line in lines))
    assert [(clip.path.name, clip.group) for clip in read_manifest(path)] == [
        ("a.wav", "anna"),
        ("b.wav", 'rain\nand "hail"'),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("start", ["", "sep=;\n", '"SEP=;"\n'])
def test_what_spreadsheets_write_is_read(tmp_path, end, encoding, start):
    text = start + "path;label;group;start;end\na.wav;1,0;Jörg;0,5;1,5\n\nb.wav;0,0;rain;;\n"
    (audio(tmp_path) / "t.csv").write_bytes(text.replace("\n", end).encode(encoding))
    assert [(clip.label, clip.group, clip.start_s, clip.duration_s) for clip in read_manifest(tmp_path / "t.csv")] == [
        ("SPEECH", "Jörg", 0.5, 1.0),
        ("NONSPEECH", "rain", 0.0, 2.0),
    ]


def test_utf_16_without_its_mark_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "t.csv").write_bytes("path,label,group\na.wav,1,g\n".encode("utf-16-le"))
    with pytest.raises(ManifestError, match=r"line 1: holds a zero byte, .*in UTF-8"):
        read_manifest(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("names", "cells", "stretch"),
    [
        ("onset,offset", "0.5,1.25", (0.5, 0.75)),
        ("offset,duration", "0.5,0.75", (0.5, 0.75)),
        ("startMs,durationMs", "500,750", (0.5, 0.75)),
        ("Begin Time (s),End Time (s)", "0.5,1.25", (0.5, 0.75)),
        ("start,end,duration", "0.5,1.25,0.751", (0.5, 0.751)),
        ("start,end,length", "0.5,1.25,9999", (0.5, 0.75)),
        ("sample_rate,num_samples,second_speaker", "8000,16000,ben", (0.0, 2.0)),
        ("start", "0.5", (0.5, 1.5)),
    ],
)
def test_times_are_understood_by_the_names_others_give_them(tmp_path, names, cells, stretch):
    path = table(audio(tmp_path), f"path,label,group,{names}", f"a.wav,1,g,{cells}")
    assert [(clip.start_s, clip.duration_s) for clip in read_manifest(path)] == [stretch]


@pytest.mark.parametrize(
    ("names", "cells", "sentence"),
    [
        ("offset", "0.5", "line 1: the column 'offset' looks like a time of the clips"),
        ("start_sample,end_sample", "8000,9000", "line 1: the column 'start_sample' looks like a time"),
        ("Dauer", "1", "line 1: the column 'Dauer' looks like a time"),
        ("start_s,num_samples", "1,8000", "line 1: the column 'num_samples' looks like a time"),
        ("end,end_time", "1,1", "line 1: the columns 'end' and 'end_time' both say the end"),
        ("start,end", "1,0.5", "line 2: the clip ends at 0.5 s but starts at 1 s"),
        ("start,end,duration", "0.5,1,30", "line 2: start 0.5 s and end 1 s are 0.5 s apart, but the duration is 30 s"),
    ],
)
def test_times_that_are_not_understood_or_contradict_each_other_are_refused(tmp_path, names, cells, sentence):
    assert sentence in fault(audio(tmp_path), f"path,label,group,{names}", f"a.wav,1,g,{cells}")


def test_clips_without_an_id_are_called_by_path_and_start_whatever_stands_beside_them(tmp_path):
    header, rows = "path,label,group,start,end", ["sub/../a.wav,1,g,0,1", "a.wav,1,g,1.5,2", "a.wav,1,g,1.5,1.7501"]
    audio(tmp_path)
    ids = [clip.clip_id for clip in read_manifest(table(tmp_path, header, *rows))]
    assert ids == ["sub/../a.wav", "a.wav@1500", "a.wav@1500-1750.1"]
    assert [clip.clip_id for clip in read_manifest(table(tmp_path, header, rows[1]))] == [ids[1]]
    assert "line 5: the same stretch of 'a.wav' already stands in line 3" in fault(tmp_path, header, *rows, rows[1])


@pytest.mark.parametrize("word", [*LABEL_WORDS, "1", "0.0", "Non-Speech", "not_speech"])
def test_a_label_may_be_said_in_words_that_mean_one_thing(tmp_path, word):
    (clip,) = read_manifest(table(audio(tmp_path), "path,label,group", f"a.wav,{word},g"))
    assert clip.label == ("NONSPEECH" if word.lower().startswith(("n", "0", "f")) else "SPEECH")


@pytest.mark.parametrize("word", ["noise", "unvoiced", "-1", "0.5", "speech, music"])
def test_a_label_that_may_mean_two_things_is_refused_with_the_words_that_do_not(tmp_path, word):
    message = fault(audio(tmp_path), "path,label,group", f'a.wav,"{word}",g')
    assert f"line 2: unknown label '{word}'; expected SPEECH or NONSPEECH (also voice, no speech" in message


def test_na_is_a_value_where_a_text_is_free_and_none_where_it_says_who_or_which(tmp_path):
    header = "clip_id,path,label,group,category,corpus,recording,split,origin"
    (clip,) = read_manifest(table(audio(tmp_path), header, "NA,a.wav,1,g,NA,NA,NA,NA,NA"))
    assert (clip.clip_id, clip.category, clip.corpus) == ("a.wav", "NA", "NA")
    assert (clip.recording, clip.split, clip.origin) == ("a.wav", "", "")


def test_a_path_that_windows_wrote_is_found_unless_a_file_has_that_very_name(tmp_path):
    (tmp_path / "sub").mkdir()
    audio(tmp_path / "sub")
    path = table(tmp_path, "path,label,group", "sub\\a.wav,1,g")
    assert read_manifest(path)[0].path == tmp_path / "sub" / "a.wav"
    (tmp_path / "sub" / "a.wav").rename(tmp_path / "sub\\a.wav")
    assert read_manifest(path)[0].path == tmp_path / "sub\\a.wav"
    assert "'../a.wav' lies outside" in fault(tmp_path, "path,label,group", "..\\a.wav,1,g")


def test_a_background_is_a_recording_from_its_beginning(tmp_path):
    lines = ("background_id,path,kind,group,start,end", "b1,a.wav,noise,x,0,1", "b2,a.wav,noise,x,1,2")
    with pytest.raises(ManifestError, match=r"line 3: the background starts at 1 s"):
        read_backgrounds(table(audio(tmp_path), *lines))


COLUMNS = {"clip_id": "utt", "path": "wav", "label": "is_speech", "group": "spk"}
RECORDS = [
    {"utt": "c1", "wav": "a.wav", "is_speech": 1, "spk": "anna", "duration_s": 1.5, "label": "happy"},
    {"utt": "c2", "wav": "b c.wav", "is_speech": 0, "spk": 17, "duration_s": 2, "label": "sad"},
]


def write_table(folder, records, suffix):
    path = folder / f"clips{suffix}"
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist([{**each, "spk": str(each["spk"])} for each in records]), path
        )
    elif suffix == ".jsonl":
        path.write_text("\ufeff" + "\n\n".join(json.dumps(each) for each in records) + "\n", encoding="utf-8")
    else:
        lines = [";".join(records[0]), *(";".join(str(value) for value in each.values()) for each in records)]
        path.write_text("\ufeff" + "\n".join(lines).replace("1.5", "1,5") + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_columns_are_read_under_their_own_names(tmp_path, suffix):
    clips = read_manifest(write_table(tmp_path, RECORDS, suffix), COLUMNS)
    assert [(clip.clip_id, clip.label, clip.group, clip.duration_s) for clip in clips] == [
        ("c1", "SPEECH", "anna", 1.5),
        ("c2", "NONSPEECH", "17", 2.0),
    ]
    assert clips[1].path == tmp_path / "b c.wav"


def test_recordings_inside_a_parquet_table_are_not_read(tmp_path):
    import pyarrow
    import pyarrow.parquet

    audio = {"audio": pyarrow.array([{"bytes": b"RIFF"}]), "raw": pyarrow.array([b"RIFF"])}
    columns = {"clip_id": ["a"], "path": ["a.wav"], "label": ["speech"], "group": ["x"], "duration_s": [1.0]}
    pyarrow.parquet.write_table(pyarrow.table({**columns, **audio}), tmp_path / "t.parquet")
    assert [clip.clip_id for clip in read_manifest(tmp_path / "t.parquet")] == ["a"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_mapped_column_that_is_not_there_is_named(tmp_path, suffix):
    path = write_table(tmp_path, RECORDS, suffix)
    with pytest.raises(
        ManifestError, match=r"line 1: the column 'speaker', to be read as group, is missing, found utt"
    ):
        read_manifest(path, {**COLUMNS, "group": "speaker"})
    with pytest.raises(ConfigError, match=r"data.columns: a clip has no column 'utt'"):
        read_manifest(path, {"utt": "clip_id"})
    with pytest.raises(ConfigError, match=r"data.columns: 'spk' is named twice"):
        read_manifest(path, {"group": "spk", "recording": "spk"})


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["{"], "line 1: is not valid JSON"),
        (['{"clip_id": "a", "path": "\\ud800", "label": "1", "group": "g"}'], "line 1: path holds a lone surrogate"),
        (["[1]"], r"line 1: found \[1\] where an object in braces was expected"),
        ([""], "has no rows"),
        (['{"clip_id": "a"}'], "line 1: the required columns path, label, group are missing, found clip_id; say which"),
        (['{"clip_id": ["a"], "path": "a", "label": "speech", "group": "g"}'], "line 1: clip_id holds a list"),
        (['{"clip_id": "a", "path": "a", "label": "speech", "group": "g", "license": ""}'], "unknown column 'license'"),
    ],
)
def test_faulty_json_lines_are_named(tmp_path, lines, sentence):
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=sentence):
        read_manifest(tmp_path / "t.jsonl")


def test_a_manifest_of_nemo_is_read_by_the_names_it_has(tmp_path):
    lines = [
        '{"audio_filepath": "talk.wav", "offset": 1.5, "duration": 2, "label": "speech", "speaker": "anna"}',
        '{"audio_filepath": "talk.wav", "duration": 1.5, "label": 0.0, "speaker": "rain", "text": null}',
    ]
    for suffix, encoding in ((".json", "utf-8"), (".jsonl", "utf-16")):
        (tmp_path / f"m{suffix}").write_text("\n".join(lines), encoding=encoding)
        clips = read_manifest(tmp_path / f"m{suffix}", {"path": "audio_filepath", "group": "speaker"})
        assert [(clip.clip_id, clip.start_s, clip.duration_s, clip.label) for clip in clips] == [
            ("talk.wav@1500", 1.5, 2.0, "SPEECH"),
            ("talk.wav", 0.0, 1.5, "NONSPEECH"),
        ]


def test_times_are_those_that_data_columns_names(tmp_path):
    (tmp_path / "t.csv").write_text("path,label,group,t,u,duration\na.wav,1,g,500,1250,9\n")
    (clip,) = read_manifest(tmp_path / "t.csv", {"start_ms": "t", "end_ms": "u"})
    assert (clip.start_s, clip.duration_s) == (0.5, 0.75)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install listenwell\[parquet\]"):
        read_manifest(tmp_path / "t.parquet")
