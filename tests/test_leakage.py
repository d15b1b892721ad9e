"""The leak gate: what two parts share by name, by samples and by ear is a leak; what contradicts itself a warning."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from listenwell.data.check.leaks import (
    CLEAN,
    LEAKS,
    Finding,
    LeakReport,
    check_leaks,
    find_lineage,
    find_shared_names,
    find_two_groups,
)
from listenwell.data.check.near_duplicates import Sound
from listenwell.data.clip import Background, Clip, Label
from listenwell.errors import ManifestError
from listenwell.random_streams import stream


def make_clip(folder: Path, name: str, label: Label = "SPEECH", seed: int | None = None) -> Clip:
    """A clip of noise that is its own group and recording; equal seeds make equal samples."""
    key = name if seed is None else seed
    path = folder / f"{name}.wav"
    soundfile.write(path, 0.1 * stream(21, "leakage", key).standard_normal(8000), 16_000)
    return Clip(name, path, 0.0, 0.5, label, f"group_{name}", f"{name}.wav", "made", "CC0")


def make_background(folder: Path, name: str) -> Background:
    clip = make_clip(folder, name)
    return Background(name, clip.path, 0.5, "noise", clip.group, "made", "CC0")


def check(train: list[Clip], test: list[Clip], beds: list[Background] | None = None) -> LeakReport:
    return check_leaks({"train": train, "test": test}, {"train": beds or []})


def kinds(report: LeakReport) -> list[str]:
    return [finding.kind for finding in report.findings]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Clip, Clip]:
    return make_clip(tmp_path, "a"), make_clip(tmp_path, "b")


def test_unrelated_parts_are_clean_and_the_report_says_what_was_compared(
    tmp_path: Path, pair: tuple[Clip, Clip]
) -> None:
    report = check([pair[0]], [pair[1]], [make_background(tmp_path, "bed")])
    assert report.verdict == CLEAN
    assert report.findings == ()
    assert report.n_clips == {"train": 1, "test": 1}
    assert report.n_backgrounds == {"train": 1, "test": 0}
    assert report.n_pairs == 2
    assert report.search["least_sharpness"] > 0


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("same group", "group", "anna"),
        ("same recording", "recording", "tape.wav"),
        ("same origin", "origin", "freesound:123"),
    ],
)
def test_a_name_in_two_parts_is_a_leak(pair: tuple[Clip, Clip], kind: str, field: str, value: str) -> None:
    report = check(*([replace(clip, **{field: value})] for clip in pair))
    assert report.verdict == LEAKS
    (finding,) = [found for found in report.leaks if found.kind == kind]
    assert (finding.part_a, finding.id_a, finding.part_b, finding.id_b) == ("train", "a", "test", "b")
    assert finding.value == value
    assert value in finding.evidence


def test_equal_samples_under_other_names_are_a_leak_whatever_the_table_says(tmp_path: Path) -> None:
    one, other = (make_clip(tmp_path, name, seed=1) for name in "ab")
    report = check([replace(one, pcm_sha256="f" * 64)], [other])
    assert kinds(report) == ["same samples"]


def test_a_changed_copy_under_another_label_is_a_leak_and_contradicts_itself(
    tmp_path: Path, pair: tuple[Clip, Clip]
) -> None:
    copy = make_clip(tmp_path, "copy", "NONSPEECH")
    soundfile.write(copy.path, soundfile.read(pair[0].path)[0] / 3, 16_000)
    report = check([pair[0]], [copy])
    assert kinds(report) == ["near duplicate", "label conflict"]
    assert "(SPEECH)" in report.findings[1].evidence
    assert "(NONSPEECH)" in report.findings[1].evidence


def test_one_speaker_under_two_names_in_one_recording_is_a_leak_across_parts_and_a_warning_within(
    pair: tuple[Clip, Clip],
) -> None:
    one, other = (replace(clip, recording="talk.wav") for clip in pair)
    across = check([one], [other])
    assert set(kinds(across)) == {"same recording", "one recording, two groups"}
    assert across.verdict == LEAKS
    within = check([one, other], [])
    assert kinds(within) == ["one recording, two groups"]
    assert within.verdict == CLEAN
    found = {finding.kind: finding.is_leak for finding in (*across.findings, *within.findings)}
    assert [finding.is_leak for finding in within.findings] == [False]
    assert found["same recording"] is True
    assert all(finding.is_leak is True for finding in across.findings)


@pytest.mark.parametrize("written_as", ["absolute", "with its folder"])
def test_a_clip_made_from_a_test_clip_is_a_leak(tmp_path: Path, pair: tuple[Clip, Clip], written_as: str) -> None:
    source = pair[1].path.as_posix() if written_as == "absolute" else f"{tmp_path.name}/b.wav"
    report = check([replace(pair[0], recording=source)], [pair[1]])
    assert kinds(report) == ["made from another part"]


def test_one_sound_under_two_labels_is_a_warning_within_a_part(tmp_path: Path) -> None:
    speech = make_clip(tmp_path, "speech", seed=1)
    same = make_clip(tmp_path, "same", "NONSPEECH", seed=1)
    quieter = make_clip(tmp_path, "quieter", "NONSPEECH")
    soundfile.write(quieter.path, soundfile.read(speech.path)[0] / 2, 16_000)
    for other in (same, quieter):
        report = check([speech, other], [])
        assert kinds(report) == ["label conflict"]
        assert report.verdict == CLEAN


@pytest.mark.parametrize("group", ["", "nan", float("nan")])
def test_a_group_that_is_nan_or_empty_is_refused(pair: tuple[Clip, Clip], group: str) -> None:
    with pytest.raises(ManifestError, match=r"part 'test': clip 'b' has no group .* fill in the group column"):
        check([pair[0]], [replace(pair[1], group=group)])


@pytest.mark.slow
def test_a_table_of_100000_rows_takes_no_quadratic_step() -> None:
    """Half a million comparisons of names a second would need hours for all pairs; a pass a name needs seconds."""
    sounds = [
        Sound("train" if i % 2 else "test", f"c{i}", False, Path(f"/corpus/{i}.wav"), 0.0, 1.0, "SPEECH", "one speaker",
              "one recording", "made", "freesound:1")
        for i in range(100_000)
    ]  # fmt: skip
    started = time.process_time()
    found: list[Finding] = [*find_shared_names(sounds), *find_two_groups(sounds), *find_lineage(sounds)]
    assert time.process_time() - started < 10
    assert [finding.kind for finding in found] == ["same group", "same recording", "same origin"]
    assert "50000 in test, 50000 in train" in found[0].evidence
