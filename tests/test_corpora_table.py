"""Tables of clips in CSV, JSON Lines and Parquet: one meaning, columns by other names, every fault with its place."""

import json
import sys

import pytest

from listenwell.data.manifest import read_manifest
from listenwell.errors import ConfigError, ManifestError

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


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("group", ["", "<NA>", float("nan")])
def test_nan_and_empty_groups_are_refused(tmp_path, suffix, group):
    records = [RECORDS[0], {**RECORDS[1], "spk": group}]
    with pytest.raises(ManifestError, match=r"line \d: the group is"):
        read_manifest(write_table(tmp_path, records, suffix), COLUMNS)


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
        (["[" * 100_000], "line 1: is not valid JSON"),
        (['{"clip_id": ' + "9" * 5000 + "}"], "line 1: is not valid JSON"),
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
