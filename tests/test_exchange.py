"""Datasets of Hugging Face, cuts of lhotse and data folders of Kaldi become studies; sounds are decoded here alone."""

import io
import shlex
import sys
from pathlib import Path

import datasets
import lhotse
import numpy as np
import pytest
import soundfile
from commands import succeed

from listenwell.config import load_config
from listenwell.data.audio import load_waveform
from listenwell.data.corpora.utterances import read_kaldi
from listenwell.data.manifest import read_manifest
from listenwell.errors import ConfigError, ManifestError
from listenwell.random_streams import stream
from listenwell.splits.clips import prepare
from listenwell.splits.divide import divide
from listenwell.tasks.init import start

RATE_HZ = 8_000


def sound(name: str, seconds: float = 3.0, n_channels: int = 1) -> np.ndarray:
    return 0.1 * stream(31, name).standard_normal((round(seconds * RATE_HZ), n_channels))


def record(path: Path, seconds: float = 3.0, n_channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(path.stem, seconds, n_channels), RATE_HZ)
    return path


def stretches(clips) -> list[tuple]:
    return [(c.recording, c.channel, round(c.start_s, 3), round(c.duration_s, 3), c.label, c.group) for c in clips]


def kaldi_folder(folder: Path, **files: str) -> Path:
    for i in range(3):
        record(folder / f"r{i}.wav")
    written = {
        "wav.scp": "".join(f"r{i} r{i}.wav\n" for i in range(3)),
        "segments": "a-0 r0 0.0 1.0\nb-0 r0 0.8 2.0\nb-1 r0 2.0 2.5\nn-0 r1 0.5 1.5\nt-0 r1 2.0 2.5\nx-0 gone 0 1\n",
        "utt2spk": "a-0 anna\nb-0 ben\nb-1 ben\nt-0 anna\nx-0 anna\n",
        "text": "a-0 good morning\nb-0 well\nb-1 [laughter] yes\nn-0 <noise>\nt-0 [laughter]\nx-0 gone\n",
        **files,
    }
    for name, content in written.items():
        (folder / name).write_text(content)
    return folder


def test_utterances_of_kaldi_are_clips_where_nobody_else_speaks(tmp_path):
    found = read_kaldi(kaldi_folder(tmp_path))
    assert stretches(found.clips) == [
        ("r0", None, 0.0, 0.8, "SPEECH", "anna"),
        ("r0", None, 1.0, 1.5, "SPEECH", "ben"),
        ("r1", None, 0.5, 1.0, "NONSPEECH", "r1"),
    ]
    assert sorted(found.notes) == [
        "0.4 s of utterances overlap others' and were left out.",
        "1 utterances are in no line of wav.scp and were left out.",
        "1 utterances are not in utt2spk; their recording is the group.",
        "1 utterances name no label and were left out.",
    ]  # fmt: skip


def test_a_data_folder_without_segments_and_with_labels_is_its_recordings(tmp_path):
    folder = kaldi_folder(tmp_path, labels="r0 speech\nr1 nonspeech\nr2 hm\n", utt2spk="r0 anna\n")
    (folder / "segments").unlink()
    assert stretches(read_kaldi(folder).clips) == [
        ("r0", None, 0.0, 3.0, "SPEECH", "anna"), ("r1", None, 0.0, 3.0, "NONSPEECH", "r1"),
    ]  # fmt: skip


def test_a_data_folder_is_read_line_by_line_and_no_id_stands_twice(tmp_path):
    folder = kaldi_folder(tmp_path, text="\ufeffa-0 good\u2028b-1 day\r\nn-0 <noise>\r\n")
    assert [clip.label for clip in read_kaldi(folder).clips] == ["SPEECH", "NONSPEECH"]
    for name in ("text", "wav.scp", "utt2spk", "segments"):
        content = (folder / name).read_text()
        (folder / name).write_text(content + content.splitlines()[-1] + "\n")
        with pytest.raises(ManifestError, match=rf"{name} line \d: '.+' already stands above"):
            read_kaldi(folder)
        (folder / name).write_text(content)
    for speaker in ("", "NA", "-"):
        (folder / "utt2spk").write_text(f"a-0 {speaker}\n")
        with pytest.raises(ManifestError, match=f"utt2spk: the speaker of 'a-0' is '{speaker}'"):
            read_kaldi(folder)


def test_bare_words_are_speech_in_text_and_labels_in_labels(tmp_path):
    said = ("noise", "<noise> [noise]", "<noise> [laughter]", "SIL", "!SIL", "silence", "(noise)")
    rows = "".join(f"u{i} {text}\n" for i, text in enumerate(said))
    times = "".join(f"u{i} r{i // 3} {i % 3} {i % 3 + 0.9}\n" for i in range(len(said)))
    folder = kaldi_folder(tmp_path, text=rows, segments=times, utt2spk="")
    found = read_kaldi(folder)
    assert [clip.label for clip in found.clips] == ["SPEECH", "NONSPEECH", "NONSPEECH"]
    assert "4 utterances name no label and were left out." in found.notes
    (folder / "labels").write_text("u0 Voice\nu1 not speech\nu2 hm\nu3 no\n")
    assert [clip.label for clip in read_kaldi(folder).clips] == ["SPEECH", "NONSPEECH", "NONSPEECH"]


def test_segments_name_channels_and_the_end_and_those_beyond_it_are_counted(tmp_path):
    times = "a r0 0 1 0\nb r0 0 1 1\nc r1 1 -1\nd r2 5 6\n"
    folder = kaldi_folder(tmp_path, segments=times, text="a x\nb <noise>\nc x\nd x\n", utt2spk="")
    record(folder / "r0.wav", n_channels=2)
    found = read_kaldi(folder)
    assert stretches(found.clips) == [
        ("r0", 0, 0.0, 1.0, "SPEECH", "r0"), ("r0", 1, 0.0, 1.0, "NONSPEECH", "r0"),
        ("r1", None, 1.0, 2.0, "SPEECH", "r1"),
    ]  # fmt: skip
    assert found.notes == ["1 utterances begin after the end of their recording and were left out."]
    (folder / "segments").write_text("a r0 0 1 left\n")
    with pytest.raises(ManifestError, match="is not UTTERANCE RECORDING START END"):
        read_kaldi(folder)


def test_segments_too_short_for_a_clip_are_named_and_left_out_and_nobody_else_gets_their_time(tmp_path):
    times = "a r0 0 2\nb r0 1 1.05\nc r1 1 1\nd r1 2.95 9\ne r2 1 1.1\n"
    said = {"text": "a x\nb x\nc x\nd x\ne x\n", "utt2spk": "b ben\n"}
    found = read_kaldi(kaldi_folder(tmp_path, segments=times, **said))
    assert stretches(found.clips) == [
        ("r0", None, 0.0, 1.0, "SPEECH", "r0"), ("r0", None, 1.05, 0.95, "SPEECH", "r0"),
        ("r2", None, 1.0, 0.1, "SPEECH", "r2"),
    ]  # fmt: skip
    assert "3 utterances are shorter than 0.1 s and were left out: b, c, d." in found.notes
    (tmp_path / "segments").write_text("".join(f"{name} r0 1 1\n" for name in "abcdefg"))
    (tmp_path / "text").write_text("".join(f"{name} x\n" for name in "abcdefg"))
    with pytest.raises(ManifestError, match=r"no utterance can be used; .*7 utterances .*: a, b, c, d, e, \.\.\.\."):
        read_kaldi(tmp_path)


def test_one_file_under_two_recordings_is_one_signal(tmp_path):
    scp = {"wav.scp": "r0 r0.wav\nr1 r0.wav\n", "segments": "a r0 0 2\nb r1 1 3\n"}
    found = read_kaldi(kaldi_folder(tmp_path, **scp, text="a well\nb <noise>\n", utt2spk="a anna\nb ben\n"))
    assert stretches(found.clips) == [
        ("r0", None, 0.0, 1.0, "SPEECH", "anna"), ("r0", None, 2.0, 1.0, "NONSPEECH", "ben"),
    ]  # fmt: skip


def test_a_command_in_a_data_folder_is_not_run_and_one_without_labels_is_refused(tmp_path):
    folder = kaldi_folder(tmp_path, **{"wav.scp": f"r0 touch {tmp_path / 'ran'} |\n"})
    with pytest.raises(ManifestError, match=r"wav\.scp: 'r0' is what a command prints, and none is run"):
        read_kaldi(folder)
    assert not (tmp_path / "ran").exists()
    for place in ("sounds.ark:123", "sounds.1.ark:7[0:99]"):
        (folder / "wav.scp").write_text(f"r0 {place}\n")
        with pytest.raises(ManifestError) as refused:
            read_kaldi(folder)
        assert f"'r0' is in an archive, and none is opened ({place}); write it as a file" in str(refused.value)
        assert f"(Kaldi: wav-copy {shlex.quote(place)} r0.wav) and name that file there" in str(refused.value)
    (folder / "wav.scp").write_text("r0 r0.wav\n")
    for line in ("a-0 r0 0.0", "a-0 r0 1.0 0.5", "a-0 r0 nan 1", "a-0 r0 zero 1"):
        (folder / "segments").write_text(line + "\n")
        with pytest.raises(ManifestError, match=f"segments: '{line}' is not UTTERANCE RECORDING START END"):
            read_kaldi(folder)
    (folder / "segments").write_text("a-0 r0 0.0 1.0\n")
    (folder / "text").unlink()
    with pytest.raises(ManifestError, match=r"has no file 'labels' .* and no 'text'"):
        read_kaldi(folder)
    (folder / "text").write_text("a-0 [laughter]\n")
    with pytest.raises(ManifestError, match="no utterance can be used; 1 utterances name no label"):
        read_kaldi(folder)


def test_init_makes_a_study_of_a_data_folder(tmp_path):
    folder = kaldi_folder(tmp_path / "data")
    succeed("init", folder, "--out", tmp_path / "study")
    clips = read_manifest(Path(load_config(tmp_path / "study" / "study.yaml").data.manifest))
    assert len(clips) == 3
    assert load_waveform(clips[0]).size == 0.8 * 16_000
    with pytest.raises(ConfigError, match="says itself who speaks"):
        start(folder, "anna")
    with pytest.raises(ConfigError, match="lies beside it"):
        start(tmp_path / "study", out=tmp_path)


def test_what_needs_an_extra_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "lhotse", None)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_info.json").write_text("{}")
    (tmp_path / "cuts.jsonl").write_text(
        '{"id": "a", "type": "MonoCut", "start": 0, "duration": 1, "supervisions": []}'
    )
    for source, extra in (("saved", "datasets"), ("cuts.jsonl", "lhotse")):
        with pytest.raises(ConfigError, match=rf"needs {extra}, which is not installed; run pip install 'listenwell\["):
            start(tmp_path / source)
    with pytest.raises(ConfigError, match="say with --out FOLDER"):
        start(Path("hf:anna/sounds"))


def test_cuts_of_lhotse_keep_times_channels_speakers_and_labels(tmp_path):
    paths = [record(tmp_path / "a.wav"), record(tmp_path / "stereo.wav", n_channels=2)]
    recordings = [lhotse.Recording.from_file(path) for path in paths]
    said = (
        ("a", 0.5, 0.75, 0, "anna", "good morning", None), ("a", 1.5, 0.5, 0, None, "noise", None),
        ("a", 2.0, 0.5, 0, "ben", "[laughter]", None), ("stereo", 0.25, 1.0, 1, "ben", None, None),
        ("stereo", 1.5, 1.0, 0, None, None, {"label": "non-speech"}),
    )  # fmt: skip
    supervisions = [
        lhotse.SupervisionSegment(f"s{i}", rec, start_s, s, channel, text, speaker=who, custom=custom)
        for i, (rec, start_s, s, channel, who, text, custom) in enumerate(said)
    ]
    cuts = lhotse.CutSet.from_manifests(
        recordings=lhotse.RecordingSet.from_recordings(recordings),
        supervisions=lhotse.SupervisionSet.from_segments(supervisions),
    )
    expected = [
        ("a", None, 0.5, 0.75, "SPEECH", "anna"), ("a", None, 1.5, 0.5, "NONSPEECH", "a"),
        ("stereo", 0, 1.5, 1.0, "NONSPEECH", "stereo"), ("stereo", 1, 0.25, 1.0, "SPEECH", "ben"),
    ]  # fmt: skip
    for name, written in (
        ("cuts.jsonl.gz", cuts),
        ("trimmed.jsonl", cuts.trim_to_supervisions(keep_overlapping=False)),
    ):
        written.to_file(tmp_path / name)
        started = start(tmp_path / name, out=tmp_path / f"study {name}")
        assert sorted(stretches(started.clips), key=str) == sorted(expected, key=str)
        assert "1 supervisions name no label and were left out." in started.warnings
    (right,) = [clip for clip in read_manifest(started.clips_csv) if clip.channel == 1]
    there = sound("stereo", n_channels=2)[2_000:10_000, 1]
    assert np.corrcoef(load_waveform(right)[::2], there)[0, 1] > 0.9
    (tmp_path / "broken.jsonl").write_text(
        '{"id": "a", "type": "MonoCut", "start": 0, "duration": 1, "supervisions": [{}]}'
    )
    with pytest.raises(ManifestError, match=r"broken\.jsonl: lhotse cannot read it"):
        start(tmp_path / "broken.jsonl")
    faster = cuts.perturb_speed(1.1)
    faster.to_file(tmp_path / "faster.jsonl")
    with pytest.raises(ManifestError, match=r"no utterance can be used; 2 cuts are mixed.* with CutSet\.save_audios"):
        start(tmp_path / "faster.jsonl", out=tmp_path / "faster")


def test_a_manifest_that_begins_with_a_mixed_cut_is_cuts_and_what_to_do_with_those_is_said(tmp_path):
    recording = lhotse.Recording.from_file(record(tmp_path / "a.wav"))
    said = lhotse.SupervisionSegment("s", "a", 0.5, 1.0, speaker="anna")
    cut = lhotse.MonoCut("a", 0.0, 3.0, 0, [said], recording=recording)
    cuts = lhotse.CutSet.from_cuts([cut.pad(duration=4.0).with_id("padded"), cut])
    cuts.to_file(tmp_path / "cuts.jsonl")
    started = start(tmp_path / "cuts.jsonl", out=tmp_path / "study")
    assert stretches(started.clips) == [("a", None, 0.5, 1.0, "SPEECH", "anna")]
    assert any(note.startswith("1 cuts are mixed, padded") for note in started.warnings)
    cuts.save_audios(tmp_path / "written").to_file(tmp_path / "again.jsonl")
    clips = start(tmp_path / "again.jsonl", out=tmp_path / "again").clips
    assert {(clip.start_s, clip.duration_s, clip.group) for clip in clips} == {(0.5, 1.0, "anna")}
    assert len(clips) == 2


def make_dataset(n_groups: int = 3, first: int = 0):
    """Rows with sounds, all of one name, two of each group."""
    rows = []
    for i in range(first, first + 2 * n_groups):
        content = io.BytesIO()
        soundfile.write(content, sound(f"row {i}", 0.5), RATE_HZ, format="FLAC")
        audio = {"bytes": content.getvalue(), "path": "same name.flac"}
        rows.append({"audio": audio, "label": i // 2 % 2, "speaker_id": i // 2, "text": "x"})
    made = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    return made.cast_column("label", datasets.ClassLabel(names=["speech", "no speech"]))


def test_a_dataset_of_hugging_face_becomes_a_study_without_its_decoders(tmp_path):
    make_dataset().save_to_disk(str(tmp_path / "saved"))
    done = succeed("init", tmp_path / "saved", "--out", tmp_path / "study")
    read = "columns: label is label, group is speaker_id, audio is audio; the study divides train, dev and test"
    assert done.stdout.splitlines()[0] == read
    clips, _ = prepare(load_config(tmp_path / "study" / "study.yaml"))
    assert [(clip.label, clip.group) for clip in clips[::2]] == [("SPEECH", "0"), ("NONSPEECH", "1"), ("SPEECH", "2")]
    assert [clip.path.name for clip in clips[:2]] == ["row_000001.flac", "row_000002.flac"]
    for i, clip in enumerate(clips):
        assert np.corrcoef(load_waveform(clip)[::2], sound(f"row {i}", 0.5)[:, 0])[0, 1] > 0.9
    assert not {"torchcodec", "torchaudio"} & sys.modules.keys()
    with pytest.raises(ConfigError, match=r"sounds: holds row_000001\.flac.*--overwrite"):
        start(tmp_path / "saved", out=tmp_path / "study")
    again = start(tmp_path / "saved", "text", tmp_path / "study", overwrite=True)
    assert {clip.group for clip in again.clips} == {"x"}


def test_every_row_has_its_own_clip_and_file_whatever_splits_and_sounds_are_called(tmp_path, monkeypatch):
    splits = {name: make_dataset() for name in ("train.clean.100", "train.clean.360")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "dots"))
    clips = read_manifest(start(tmp_path / "dots").clips_csv)
    assert len({clip.path for clip in clips}) == len({clip.clip_id for clip in clips}) == 12
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    paths = [record(tmp_path / folder / "same.wav") for folder in "ab"]
    outside = datasets.Dataset.from_dict({"audio": list(map(str, paths)), "label": [1, 0], "speaker": ["anna", "ben"]})
    (tmp_path / "anna" / "outside").mkdir(parents=True)
    outside.cast_column("audio", datasets.Audio()).to_parquet(tmp_path / "anna" / "outside" / "train-0.parquet")
    clips = read_manifest(start(Path("hf:anna/outside"), out=tmp_path / "study").clips_csv)
    assert [clip.clip_id for clip in clips] == [clip.recording for clip in clips] == ["train_000001", "train_000002"]


def test_official_splits_are_kept_where_no_group_stands_in_two(tmp_path):
    names, n = ("train", "validation", "test"), 4
    apart = {name: make_dataset(n, 2 * n * i) for i, name in enumerate(names)}
    datasets.DatasetDict(apart).save_to_disk(str(tmp_path / "apart"))
    assert start(tmp_path / "apart").columns.endswith("; the dataset divides train, dev and test")
    config = load_config(tmp_path / "apart" / "study.yaml")
    divided = divide(*prepare(config), config.data).clips
    assert {name: {clip.group for clip in clips} for name, clips in divided.items()} == {
        "train": set("0123"), "dev": set("4567"), "test": {"8", "9", "10", "11"},
    }  # fmt: skip
    datasets.DatasetDict(apart | {"test": apart["train"]}).save_to_disk(str(tmp_path / "mixed"))
    started = start(tmp_path / "mixed")
    assert {clip.split for clip in started.clips} == {""}
    assert "the splits train, validation, test share groups; the study divides the groups anew." in started.warnings


def test_a_dataset_whose_columns_cannot_be_told_is_one_sentence(tmp_path):
    made = make_dataset()
    for name, changed, sentence in (
        ("unlabelled", made.remove_columns("label"), "no column may be the label, one was expected among audio"),
        ("silent", made.remove_columns("audio"), r"no column may be sounds \(feature Audio\)"),
        ("nobody", made.rename_column("speaker_id", "x"), "no column may be the group.*name it with --group"),
        ("cut", made.add_column("start", [0.0] * len(made)), "start look like times within a recording"),
    ):
        changed.save_to_disk(str(tmp_path / name))
        with pytest.raises(ConfigError, match=sentence):
            start(tmp_path / name)
        assert not (tmp_path / name / "clips.csv").exists()
    made.map(lambda row, i: {"label": None if i == 3 else 1}, with_indices=True).save_to_disk(str(tmp_path / "holes"))
    with pytest.raises(ManifestError, match="line 4: the label is empty"):
        start(tmp_path / "holes")
    noise = {"audio": [{"bytes": b"no sound", "path": "a.wav"}], "label": [1], "group": ["a"]}
    broken = datasets.Dataset.from_dict(noise).cast_column("audio", datasets.Audio())
    broken.save_to_disk(str(tmp_path / "broken"))
    with pytest.raises(ManifestError, match=rf"can be read; the first: {tmp_path}/broken/sounds/row_000001"):
        start(tmp_path / "broken")
    for name in ("holes", "broken"):
        left = {path.name for path in (tmp_path / name).iterdir() if path.suffix != ".arrow"}
        assert left == {"dataset_info.json", "state.json"}
    datasets.DatasetDict({"sounds": made}).save_to_disk(str(tmp_path / "named"))
    with pytest.raises(ConfigError, match=r"sounds: holds .*\.arrow, which is read; give another folder with --out"):
        start(tmp_path / "named", overwrite=True)
    assert len(datasets.load_from_disk(str(tmp_path / "named"))["sounds"]) == len(made)
    (tmp_path / "silent" / "state.json").unlink()
    with pytest.raises(ManifestError, match="datasets cannot load it"):
        start(tmp_path / "silent")


def test_a_dataset_is_named_as_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)  # datasets looks for a folder of that name first
    (tmp_path / "anna" / "sounds").mkdir(parents=True)
    make_dataset().to_parquet(tmp_path / "anna" / "sounds" / "train-0.parquet")
    started = start(Path("hf:anna/sounds"), out=tmp_path / "study")
    assert [clip.clip_id for clip in started.clips][::5] == ["train_000001", "train_000006"]
    assert started.clips[0].path == tmp_path / "study" / "sounds" / "train_000001.flac"
    with pytest.raises(ManifestError, match=r"hf:anna/none: datasets cannot load it .* give hf:OWNER/NAME"):
        start(Path("hf:anna/none"), out=tmp_path / "none")
    # a folder of sounds, which datasets reads with torchcodec alone, is a table here
    record(tmp_path / "bare" / "folder" / "one.wav")
    with pytest.raises(ManifestError, match=r"'torchcodec'.*or the metadata\.csv of a folder of sounds"):
        start(Path("hf:bare/folder"), out=tmp_path / "none")
    (tmp_path / "bare" / "folder" / "metadata.csv").write_text("file_name,label,speaker\none.wav,1,a\n")
    assert len(start(tmp_path / "bare" / "folder" / "metadata.csv").clips) == 1
