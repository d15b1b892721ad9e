"""The starter corpus: what its frozen list promises; rendering is reproducible; preparing is all or nothing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import starter_list

from listenwell.data.audio import load_waveform
from listenwell.data.check.audio_checks import check_audio, measure_conditions
from listenwell.data.corpora import starter
from listenwell.data.corpora.starter import PARTS, SOUND_KINDS, StarterCorpus, prepare_starter, read_members
from listenwell.data.fetch.packages import FolderSource, fetch_members
from listenwell.data.manifest import read_backgrounds, read_manifest
from listenwell.errors import DownloadError, ListenwellError, ManifestError
from tests.made_starter import N_GROUPS, make_starter

MEMBERS = read_members()


def n_clips(part: str, label: str, key: str) -> Counter[str]:
    """How many clips a part of the list gives of one label, by group or category."""
    counts: Counter[str] = Counter()
    for member in MEMBERS:
        if (member.part, member.label) == (part, label):
            counts[getattr(member, key)] += member.clips
    return counts


def test_the_sealed_test_is_ten_speakers_by_five_and_twenty_sounds_by_three() -> None:
    speakers = n_clips("sealed_test", "SPEECH", "group")
    assert sorted(speakers.values()) == [5] * 10
    assert sorted(n_clips("sealed_test", "NONSPEECH", "category").values()) == [3] * 20
    assert all(sum(member.group == group for member in MEMBERS) >= 10 for group in speakers)


def test_a_group_has_one_label_and_one_part_and_packages_of_out_of_corpus_give_nothing_else() -> None:
    for key, value in (("group", "label"), ("group", "part"), ("sha256", "part")):
        pairs = {(getattr(member, key), getattr(member, value)) for member in MEMBERS}
        assert len(pairs) == len({name for name, _ in pairs})
    outside = {member.package for member in MEMBERS if member.part == "out_of_corpus"}
    assert {member.part for member in MEMBERS if member.package in outside} == {"out_of_corpus"}


def test_eighteen_of_the_twenty_classes_of_the_sealed_test_are_new_to_the_study_pool() -> None:
    known = n_clips("study_pool", "NONSPEECH", "category").keys() | n_clips("train", "NONSPEECH", "category").keys()
    assert known & n_clips("sealed_test", "NONSPEECH", "category").keys() == {"bells", "rocket"}


def test_every_sound_class_belongs_to_one_kind_and_no_kind_outweighs_the_pool() -> None:
    sounds = [member for member in MEMBERS if member.label == "NONSPEECH"]
    kinds = {(member.category, member.kind) for member in sounds}
    assert len(kinds) == len({category for category, _ in kinds})
    assert {member.kind for member in sounds} == set(SOUND_KINDS)
    assert {member.kind for member in MEMBERS if member.label == "SPEECH"} == {""}
    n_sources = Counter({(m.group, m.kind): 1 for m in sounds if m.part == "study_pool"})
    by_kind = Counter(kind for _, kind in n_sources)
    assert min(by_kind.values()) >= 5
    assert max(by_kind.values()) <= sum(by_kind.values()) / 5


# before `made_list`, which replaces the list of the corpus until the end of this file
@pytest.mark.network
@pytest.mark.slow
def test_the_real_corpus_hides_how_it_was_recorded(starter_corpus: StarterCorpus) -> None:
    clips = read_manifest(starter_corpus.clips_csv)
    assert len(clips) == sum(member.clips for member in MEMBERS)
    assert check_audio([clip for clip in clips if clip.split == "study_pool"], 0).shortcuts.passed


@pytest.fixture(scope="module")
def made_list(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderSource]:
    with pytest.MonkeyPatch.context() as patch:
        yield make_starter(tmp_path_factory.mktemp("made"), patch)


@pytest.fixture(scope="module")
def prepared(made_list: FolderSource, tmp_path_factory: pytest.TempPathFactory) -> StarterCorpus:
    return prepare_starter(tmp_path_factory.mktemp("cache"), made_list)


@pytest.mark.slow
def test_preparing_gives_tables_audio_and_figures(prepared: StarterCorpus) -> None:
    clips, backgrounds = read_manifest(prepared.clips_csv), read_backgrounds(prepared.backgrounds_csv)
    assert Counter(clip.split for clip in clips) == dict.fromkeys(PARTS, 2 * N_GROUPS * 3)
    assert {bed.split for bed in backgrounds} == set(PARTS)
    kinds = {(clip.label, clip.category.rpartition("/")[0]) for clip in clips}
    assert kinds == {("SPEECH", ""), ("NONSPEECH", "drums")}
    for clip in clips:
        info = soundfile.info(clip.path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert 1.0 <= clip.duration_s <= 2.0
    assert "study_pool" in prepared.summary["text"]
    assert prepared.summary["fingerprint"][:16] == prepared.folder.name


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bits(
    prepared: StarterCorpus, made_list: FolderSource, tmp_path: Path
) -> None:
    again = prepare_starter(tmp_path, made_list, workers=1)
    contents = [
        {path.relative_to(corpus.folder): path.read_bytes() for path in corpus.folder.rglob("*") if path.is_file()}
        for corpus in (prepared, again)
    ]
    assert contents[0] == contents[1]


def test_a_new_edition_of_the_list_leaves_the_clips_of_the_first_as_they_are(
    prepared: StarterCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = prepare_starter(tmp_path / "cache", make_starter(tmp_path, monkeypatch, n_editions=2))
    before, after = (
        {clip.clip_id: (clip.split, clip.pcm_sha256) for clip in read_manifest(corpus.clips_csv)}
        for corpus in (prepared, wider)
    )
    assert after.items() > before.items()
    assert {clip_id.split("-")[1] for clip_id in after.keys() - before.keys()} == {"edition2"}


def test_every_edition_has_the_cut_offs_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = prepare_starter(tmp_path / "cache", make_starter(tmp_path, monkeypatch, n_editions=2))
    narrow: Counter[tuple[str, bool]] = Counter()
    for clip in read_manifest(corpus.clips_csv):
        if clip.split == "study_pool":
            cut_off_hz = measure_conditions(load_waveform(clip))["cut_off_hz"]
            narrow[clip.label, "edition2" in clip.group] += cut_off_hz < 3_800
    assert len(set(narrow.values())) == 1, narrow
    assert len(narrow) == 4


def test_the_tool_fills_in_the_hash_of_a_new_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_starter(tmp_path, monkeypatch)
    whole = starter.LIST_PATH.read_text()
    sha256 = read_members()[3].sha256
    starter.LIST_PATH.write_text(whole.replace(sha256, ""))
    starter_list.fill_hashes(starter.LIST_PATH, source, tmp_path / "cache")
    assert starter.LIST_PATH.read_text() == whole


def test_the_tool_refuses_files_listed_twice_groups_that_grow_and_editions_too_narrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_starter(tmp_path, monkeypatch, n_editions=2)
    members = read_members()
    stored = fetch_members(members, tmp_path / "cache", source)
    starter_list.check_rows(members)
    starter_list.check_cut_offs(members, stored)
    pool = [member for member in members if member.part == "study_pool"]
    old, new = pool[0], pool[-1]
    with pytest.raises(ListenwellError, match="twice"):
        starter_list.check_rows([*members, replace(new, path="usr/copy.wav")])
    with pytest.raises(ListenwellError, match="of its own"):
        starter_list.check_rows([*members, replace(new, group=old.group, sha256="new")])
    narrow = [replace(member, sha256=old.sha256) if member.edition == 2 else member for member in members]
    with pytest.raises(ListenwellError, match="edition 2"):
        starter_list.check_cut_offs(narrow, stored)


@pytest.mark.parametrize("name", ["clips.csv", "backgrounds.csv", "starter.json"])
def test_a_flipped_bit_in_a_table_of_the_corpus_is_named(prepared: StarterCorpus, made_list: FolderSource, name: str):
    path = prepared.folder / name
    whole = path.read_bytes()
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        with pytest.raises(ManifestError, match=name):
            prepare_starter(prepared.folder.parents[1], made_list)
    finally:
        path.write_bytes(whole)


def test_a_missing_package_leaves_no_half_corpus(made_list: FolderSource, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        prepare_starter(tmp_path, FolderSource(tmp_path / "none"))
    assert not [path for path in (tmp_path / "starter").rglob("*") if path.suffix != ".lock"]
