"""The preview page holds what training hears, escapes names, needs nothing else, and its players play."""

import base64
import io
import json
import os
import re

import numpy as np
import pytest
import soundfile
from commands import invoke, succeed
from made_pages import Page
from made_sounds import make_study, study_record
from matplotlib import colormaps
from matplotlib.image import imread

from listenwell.augment.plan import Plan, apply_plan, draw_plan
from listenwell.config import Config, dump
from listenwell.data.audio import load_waveform, pcm_sha256
from listenwell.errors import ConfigError, ManifestError
from listenwell.model.loading import load_model
from listenwell.model.mel import extract_features
from listenwell.report.errors import HIDDEN_RGB
from listenwell.splits.clips import prepare
from listenwell.splits.divide import TRAIN, divide
from listenwell.tasks.preview import preview

LOUD = ("augment.noise.probability=1", "augment.crop.probability=1", "augment.spec_augment.probability=1",
        "augment.band.probability=1", "augment.pitch.probability=1", "train.epochs=1")  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Config, list]:
    folder = tmp_path_factory.mktemp("study")
    os.environ.setdefault("LISTENWELL_CACHE", str(folder / "cache"))
    config = make_study(folder, *LOUD)
    return config, divide(*prepare(config), config.data).clips[TRAIN]


def test_the_page_shows_every_clip_in_every_epoch(study, tmp_path):
    config, clips = study
    hearings = preview(config, [clip.clip_id for clip in clips[:2]], [1, 2], tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [(h.clip.clip_id, h.epoch) for h in hearings] == [(c.clip_id, e) for c in clips[:2] for e in (1, 2)]
    assert len(page.all("audio")) == 5 * 4
    assert len(page.all("img")) == 2 * 4
    for hearing in hearings:
        assert hearing.sha256 in page.text
        assert re.search(r"asked for (-?[\d.]+) dB, achieved \1 dB", " ".join(hearing.words))


@pytest.mark.slow
def test_what_the_page_shows_is_what_a_fit_heard(study, tmp_path):
    config, clips = study
    study_record(config)
    logged = next(config.output.rglob("plans.jsonl")).read_text(encoding="utf-8").splitlines()
    plan = Plan.from_json(json.loads(logged[0]))
    clip = next(clip for clip in clips if clip.clip_id == plan.clip_id)
    (hearing,) = preview(config, [clip.clip_id], [plan.epoch], tmp_path / "page.html")
    bank = divide(*prepare(config), config.data).banks[TRAIN]
    heard = apply_plan(load_waveform(clip), plan, bank.load)
    assert hearing.sha256 == pcm_sha256(heard)
    samples, _ = soundfile.read(io.BytesIO(base64.b64decode(hearing.players[-1].uri.split(",")[1])), dtype="float32")
    assert samples == pytest.approx(heard, abs=1 / 32768)


def test_the_last_picture_is_the_spectrogram_the_model_gets(study, tmp_path):
    config, clips = study
    model, bank = load_model(config.model), divide(*prepare(config), config.data).banks[TRAIN]
    (hearing,) = preview(config, [clips[0].clip_id], [1], tmp_path / "page.html")
    picture = hearing.pictures[1]
    samples = load_waveform(clips[0])
    plan = draw_plan(config.augment, clips[0], samples, bank.entries, picture.n_mels, config.seed, 1)
    heard = apply_plan(samples, plan, bank.load)
    mel = extract_features(model.mel_filters, heard, config.short_clips)
    masked = extract_features(model.mel_filters, heard, config.short_clips, plan.masks).features[:, : mel.n_frames]
    shares = np.clip((masked - mel.floor) / (mel.features.max() - mel.floor), 0, 1)
    drawn = imread(io.BytesIO(base64.b64decode(picture.uri.split(",")[1])))[::-1, :, :3]
    is_hidden = np.all(np.isclose(drawn, np.array(HIDDEN_RGB) / 255, atol=1e-3), axis=2)
    assert (masked[is_hidden] == np.float32(mel.floor)).all()
    assert is_hidden.any()
    assert drawn[~is_hidden] == pytest.approx(colormaps["magma"](shares)[~is_hidden][:, :3], abs=0.01)


def test_a_clip_that_training_does_not_hear_is_named(study, tmp_path):
    config, _ = study
    tested = divide(*prepare(config), config.data).clips["test"][0].clip_id
    for clip_id, named in ((tested, "only training clips"), ("nobody", "not in this study")):
        with pytest.raises(ManifestError, match=named):
            preview(config, [clip_id], [1], tmp_path / "page.html")
    for epochs in ([], [0]):
        with pytest.raises(ConfigError, match="expected at least one"):
            preview(config, ["a"], epochs, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_clips_are_drawn_from_both_labels_where_none_is_named(study, tmp_path):
    config, clips = study
    drawn = [hearing.clip for hearing in preview(config, [], [1], tmp_path / "page.html")]
    assert [clip.label for clip in drawn] == ["SPEECH", "SPEECH", "NONSPEECH", "NONSPEECH"]
    assert {clip.clip_id for clip in drawn} <= {clip.clip_id for clip in clips}
    again = preview(config, [], [1], tmp_path / "again.html")
    assert [hearing.clip for hearing in again] == drawn


def test_the_axes_of_a_spectrogram_say_where_time_and_frequency_lie(study, tmp_path):
    config, clips = study
    (hearing,) = preview(config, [clips[0].clip_id], [1], tmp_path / "page.html")
    picture, filters = hearing.pictures[0], load_model(config.model).mel_filters
    hertz = np.linspace(0, 8000, len(filters))
    for label, height in picture.ticks_khz:
        peak = hertz[filters[:, int(height * picture.n_mels)].argmax()]
        assert peak == pytest.approx(1000 * float(label.removesuffix(" kHz")), abs=60 + 0.06 * peak)
    for label, place in picture.ticks_s:
        assert 100 * float(label.removesuffix(" s")) == pytest.approx(place * picture.n_frames)


def test_the_command_writes_the_page_and_prints_the_plans(study, tmp_path):
    config, clips = study
    (tmp_path / "study.yaml").write_text(dump(config))
    command = ["augment", "preview", str(tmp_path / "study.yaml"), "--clips", clips[0].clip_id, "--out"]
    done = succeed(*command, tmp_path / "page.html", "--epochs", "1,3")
    assert f"{clips[0].clip_id}, epoch 3: Pitch" in done.stdout
    assert (tmp_path / "page.html").is_file()
    assert invoke(*command, tmp_path / "x.html", "--epochs", "one").exit_code == 2
