"""The expanded test set: drawn by group, spread, reproducible, refused with a reason, and described."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import succeed
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t
from statsmodels.stats.proportion import proportion_confint

from listenwell.config import Config, load_config
from listenwell.data.audio import load_waveform, pcm_sha256
from listenwell.data.clip import Clip
from listenwell.data.manifest import read_manifest, write_manifest
from listenwell.data.test_set import SetSize, draw_test_set, leave_out_related
from listenwell.errors import ManifestError
from listenwell.evaluate.power import expect_precision
from listenwell.random_streams import stream
from listenwell.tasks.test_set import Draw, make_test_set

SMALL = SetSize(n_speakers=3, clips_per_speaker=2, n_sounds=4, clips_per_sound=2)
SMALL_SIZES = ("--speakers", "3", "--speech-clips", "2", "--sounds", "4", "--sound-clips", "2")


def made_clips(
    n_speakers: int = 12, n_sounds: int = 24, clips_each: int = 12, clips_per_recording: int = 2
) -> list[Clip]:
    """Clips without audio: speakers of 4 languages, sounds of 6 categories, durations 1 to 3 s."""
    clips = []
    for label, n_groups, n_categories in (("SPEECH", n_speakers, 4), ("NONSPEECH", n_sounds, 6)):
        for i in range(n_groups):
            group = f"{label.lower()}_{i}"
            durations_s = stream(0, group).uniform(1, 3, clips_each).tolist()
            for k in range(clips_each):
                recording = f"{group}_{k // clips_per_recording}.wav"
                where = f"{group}-{k:02}", Path(recording), 0.0, durations_s[k]
                category = f"{label.lower()}_kind_{i % n_categories}"
                clips.append(Clip(*where, label, group, recording, "made", "CC0", category))
    return clips


def drawn(clips: list[Clip], size: SetSize = SetSize(), seed: int = 0) -> list[Clip]:  # noqa: B008 a frozen value
    return draw_test_set(clips, size, seed)


def rows_of(clips: list[Clip]) -> dict[str, set[str]]:
    """The numbers, within its group, of each group's clips."""
    rows: dict[str, set[str]] = {}
    for clip in clips:
        rows.setdefault(clip.group, set()).add(clip.clip_id.rsplit("-")[-1])
    return rows


def test_the_same_seed_draws_the_same_clips_in_any_order_of_the_table_and_another_seed_others():
    clips = made_clips()
    assert draw_test_set(clips, SetSize(), 0) == draw_test_set(clips[::-1], SetSize(), 0)
    assert set(drawn(clips, seed=1)) != set(drawn(clips))


def test_a_group_that_joins_the_corpus_changes_no_other_groups_clips():
    clips = made_clips()
    joined = [replace(clip, group="new", clip_id=f"new-{clip.clip_id}") for clip in clips[:12]]
    before, after = rows_of(drawn(clips)), rows_of(drawn([*joined, *clips]))
    assert len(before.keys() - after.keys()) <= 1
    assert all(before[group] == after[group] for group in before.keys() & after.keys())


@given(clips_per_recording=st.integers(1, 12), clips_each=st.integers(5, 12), seed=st.integers(0, 99))
def test_a_speakers_clips_come_from_as_many_recordings_as_possible(clips_per_recording, clips_each, seed):
    clips = made_clips(1, 1, clips_each, clips_per_recording)
    chosen = drawn(clips, SetSize(1, 5, 1, 3), seed)
    n_recordings = -(-clips_each // clips_per_recording)
    spoken = Counter(clip.recording for clip in chosen if clip.label == "SPEECH")
    assert len(spoken) == min(5, n_recordings)


def test_no_group_of_the_test_set_bears_both_labels():
    clips = made_clips()
    laughs = [replace(clip, clip_id=f"laugh-{clip.clip_id}", label="NONSPEECH") for clip in clips[:48]]
    labels: dict[str, set[str]] = {}
    for clip in drawn([*clips, *laughs]):
        labels.setdefault(clip.group, set()).add(clip.label)
    assert all(len(found) == 1 for found in labels.values())


def test_too_small_a_corpus_is_refused_with_what_is_missing_and_how_many_more():
    clips = [clip for clip in made_clips(9, 19) if clip.clip_id not in {f"speech_3-{k:02}" for k in range(9)}]
    with pytest.raises(ManifestError) as caught:
        draw_test_set(clips, SetSize(), 0)
    message = str(caught.value)
    assert "8 groups have 5 or more SPEECH clips, 10 are needed: 2 missing (nearest: 'speech_3' lacks 2)" in message
    assert "19 groups have 3 or more NONSPEECH clips, 20 are needed: 1 missing" in message
    assert "\n" not in message


def test_what_shares_group_recording_origin_or_samples_with_used_clips_is_left_out():
    clips = made_clips(4, 4, clips_each=2)
    group, recording, origin, samples, *free = clips[::2]
    origin, samples = replace(origin, origin="freesound:7"), replace(samples, pcm_sha256="ab")
    used = [
        replace(group, clip_id="u1", recording="other"),
        replace(recording, clip_id="u2", group="other"),
        replace(origin, clip_id="u3", group="other", recording="other", corpus="another"),
        replace(samples, clip_id="u4", group="other", recording="other", corpus="another"),
    ]
    assert leave_out_related([group, recording, origin, samples, *free], used) == free


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A table of 8 speakers and 10 sounds with 3 clips each, 0.2 s long, in the splits pool and train."""
    clips = []
    for clip in made_clips(8, 10, clips_each=3, clips_per_recording=1):
        path = tmp_path / f"{clip.clip_id}.wav"
        soundfile.write(path, 0.1 * stream(0, clip.clip_id).standard_normal(3200), 16_000)
        split = "train" if clip.group.endswith(("_0", "_1")) else "pool"
        clips.append(replace(clip, path=path, duration_s=0.2, split=split))
    write_manifest(tmp_path / "clips.csv", clips)
    return tmp_path / "clips.csv"


def config_for(clips: Path, *overrides: str) -> Config:
    return load_config(None, [f"data.manifest={clips}", "data.backgrounds=none", *overrides])


def test_the_table_read_back_is_the_test_set_with_the_hash_of_every_clip(corpus, tmp_path):
    sheet = make_test_set(config_for(corpus), Draw(SMALL), tmp_path / "out")
    clips = read_manifest(tmp_path / "out" / "test_set.csv")
    assert clips == sheet.clips
    assert all(clip.pcm_sha256 == pcm_sha256(load_waveform(clip)) for clip in clips)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"test_set.csv", "data_sheet.json"}


def test_a_split_gives_only_what_is_unrelated_to_the_other_splits(corpus, tmp_path):
    clips = read_manifest(corpus)
    related = next(clip for clip in clips if clip.group == "speech_2")
    in_training = next(clip for clip in clips if clip.split == "train")
    write_manifest(
        corpus, [replace(clip, origin="freesound:1") if clip in (related, in_training) else clip for clip in clips]
    )
    sheet = make_test_set(config_for(corpus), Draw(SMALL, from_split="pool"), tmp_path / "out")
    assert {clip.split for clip in sheet.clips} == {"pool"}
    assert related.clip_id not in {clip.clip_id for clip in sheet.clips}


def test_expected_precision_is_wilsons_interval_for_the_clips_over_the_design_effect():
    recall, specificity, balanced = expect_precision(draw_test_set(made_clips(), SetSize(), 0))
    assert (recall.n_clips, recall.n_groups, balanced.n_clips, balanced.n_groups) == (50, 10, 110, 30)
    assert recall.effective_n == pytest.approx(50 / (1 + 4 * 0.3))
    assert specificity.effective_n == pytest.approx(60 / (1 + 2 * 0.3))
    # statsmodels takes the normal quantile of alpha; this alpha makes it the t quantile of 10 - 1 degrees of freedom
    alpha = 2 * norm.sf(t.ppf(0.975, 9))
    for (share, half), (_, other), (_, both) in zip(
        recall.half_widths, specificity.half_widths, balanced.half_widths, strict=True
    ):
        n = recall.effective_n
        low, high = proportion_confint(share * n, n, alpha, method="wilson")
        assert half == pytest.approx((high - low) / 2)
        assert both == pytest.approx(np.hypot(half, other) / 2)


def test_the_command_draws_and_says_what_can_be_known(corpus, tmp_path):
    result = succeed("test-set", "--clips", corpus, *SMALL_SIZES, "--out", tmp_path / "out")
    assert "balanced accuracy    14 clips,   7 groups" in result.stdout
