"""The baselines: a clip's score depends on that clip alone; silence is not speech; real speech is."""

import sys
from pathlib import Path

import numpy as np
import pytest

from listenwell.baselines.frame_networks import Fsmn, MarbleNet, kaldi_log_mel, mel_bands
from listenwell.baselines.vad import (
    BATCH,
    CHUNK,
    CONTEXT,
    FRAME_MS,
    LEAD_CHUNKS,
    NOISE_RMS,
    SILERO_VAD,
    SileroVad,
    WebRtcVad,
)
from listenwell.data.audio import SAMPLE_RATE_HZ, load_waveform
from listenwell.data.fetch.packages import fetch_weight_file
from listenwell.data.manifest import read_manifest
from listenwell.errors import ListenwellError
from listenwell.random_streams import stream
from listenwell.storage.load_or_make import cache_root


def voice_like(n_samples: int, seed: int = 0) -> np.ndarray:
    """A buzz at 120 Hz with three formants and a syllable rhythm: not speech, but nearer to it than noise."""
    t = np.arange(n_samples) / SAMPLE_RATE_HZ
    harmonics = np.arange(1, 30) * (120.0 + seed)
    weights = sum(np.exp(-(((harmonics - formant) / 150.0) ** 2)) for formant in (600, 1200, 2500))
    buzz = (weights[:, None] * np.sin(2 * np.pi * harmonics[:, None] * t)).sum(axis=0)
    return (0.1 * buzz * (1 + np.sin(2 * np.pi * 4 * t)) / 2).astype(np.float32)


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (0.05 * stream(seed, "noise").standard_normal(n_samples)).astype(np.float32)


CLIPS = [
    voice_like(16_000),
    noise(16_000),
    voice_like(8_123, 7),
    noise(1_600, 3),
    voice_like(511, 2),
    np.zeros(16_000, dtype=np.float32),
    np.full(1, 0.5, dtype=np.float32),
]


@pytest.fixture(scope="module")
def silero() -> SileroVad:
    pytest.importorskip("onnxruntime")
    return SileroVad(fetch_weight_file(SILERO_VAD, cache_root()))


def webrtc() -> WebRtcVad:
    pytest.importorskip("webrtcvad")
    return WebRtcVad()


def frame_networks() -> list[Fsmn | MarbleNet]:
    pytest.importorskip("onnxruntime")
    return [each(*(fetch_weight_file(part, cache_root()) for part in each.parts)) for each in (Fsmn, MarbleNet)]


def check_scores_depend_on_the_clip_alone(vad: SileroVad | Fsmn | MarbleNet | WebRtcVad) -> None:
    each_turned, each_alone, five_times = vad.scores(CLIPS[::-1]), [vad.scores([clip]) for clip in CLIPS], CLIPS * 5
    repeated, empty = vad.scores(five_times), vad.scores([])
    for form, together in vad.scores(CLIPS).items():
        assert together.dtype == np.float64
        assert np.all((together >= 0) & (together <= 1))
        np.testing.assert_array_equal(together[::-1], each_turned[form])
        np.testing.assert_array_equal(together, [alone[form][0] for alone in each_alone])
        np.testing.assert_array_equal(np.tile(together, 5), repeated[form])
        np.testing.assert_array_equal(together, vad.scores(CLIPS, [form])[form])
        assert empty[form].shape == (0,)


def test_webrtc_scores_a_clip_by_itself():
    check_scores_depend_on_the_clip_alone(webrtc())


@pytest.mark.parametrize("mode", range(4))
def test_webrtc_agrees_with_a_plain_loop_over_frames(mode):
    webrtcvad = pytest.importorskip("webrtcvad")
    clip, n_frame = voice_like(16_000), FRAME_MS * SAMPLE_RATE_HZ // 1000
    vad, pcm = webrtcvad.Vad(mode), np.clip(np.round(clip * 32768), -32768, 32767).astype(np.int16)
    voiced = [
        vad.is_speech(pcm[i : i + n_frame].tobytes(), SAMPLE_RATE_HZ) for i in range(0, pcm.size - n_frame + 1, n_frame)
    ]
    assert webrtc().scores([clip])[f"mode {mode}"][0] == sum(voiced) / len(voiced)


@pytest.mark.parametrize(
    ("package", "build"),
    [("onnxruntime", lambda: SileroVad(Path("nowhere"))), ("webrtcvad", WebRtcVad)],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, package, build):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ListenwellError, match=rf"{package}.* is not installed.*pip install '\.\[baselines\]'"):
        build()


@pytest.mark.network
def test_silero_scores_a_clip_by_itself(silero):
    check_scores_depend_on_the_clip_alone(silero)


@pytest.mark.network
def test_frame_networks_score_a_clip_by_itself():
    for network in frame_networks():
        check_scores_depend_on_the_clip_alone(network)


@pytest.mark.network
def test_frame_networks_read_the_frames_of_the_clip_alone():
    """Half a second of noise before a clip is not part of it."""
    for network in frame_networks():
        clip = voice_like(16_000)
        alone, after_noise = network.clip_probabilities(clip), network.clip_probabilities(clip, SAMPLE_RATE_HZ // 2)
        assert alone.shape == after_noise.shape == (16_000 // network.hop,)
        np.testing.assert_allclose(alone[-10:], after_noise[-10:], atol=0.15)


def test_kaldi_features_are_those_of_kaldi():
    """Against kaldi-native-fbank 1.23 (Hamming, no dither, 80 bands), read off once."""
    t = np.arange(800) / SAMPLE_RATE_HZ
    features = kaldi_log_mel((1000 * np.sin(2 * np.pi * 440 * t) + 300 * np.sin(2 * np.pi * 3000 * t)), mel_bands())
    assert features.shape == (3, 80)
    np.testing.assert_allclose(features[[0, 1, 2], [0, 20, 79]], [7.3008, 9.7717, 8.0956], atol=2e-3)


@pytest.mark.network
def test_silero_hears_no_speech_in_silence_and_noise(silero):
    scores = silero.scores([np.zeros(n, dtype=np.float32) for n in (1, 1_600, 16_000)] + [noise(16_000)])
    assert np.all(scores["highest, as it is"] < 0.2)
    assert np.all(scores["mean, after noise"] < 0.2)


@pytest.mark.network
def test_silero_agrees_with_a_plain_loop_over_chunks(silero):
    for clip in CLIPS:
        padded = np.pad(clip, (0, -clip.size % CHUNK))
        state, context = np.zeros((2, 1, 128), np.float32), np.zeros((1, CONTEXT), np.float32)
        probabilities = []
        for first in range(0, padded.size, CHUNK):
            chunk = padded[None, first : first + CHUNK]
            inputs = {"input": np.concatenate([context, chunk], 1), "state": state, "sr": np.array(16_000)}
            probability, state = silero._session.run(None, inputs)
            context = chunk[:, -CONTEXT:]
            probabilities.append(float(probability[0, 0]))
        found = {form: scores[0] for form, scores in silero.scores([clip]).items()}
        assert found["highest, as it is"] == pytest.approx(max(probabilities), abs=1e-5)
        assert found["mean, as it is"] == pytest.approx(np.mean(probabilities), abs=1e-5)
        assert found["mean of three, as it is"] == pytest.approx(np.mean(sorted(probabilities)[-3:]), abs=1e-5)


@pytest.mark.network
def test_silero_after_noise_is_silero_in_the_middle_of_a_recording(silero):
    clip = voice_like(8_123)
    noise_before = NOISE_RMS * stream(0, "faint noise").standard_normal(
        CONTEXT + (LEAD_CHUNKS + 16) * CHUNK, dtype=np.float32
    )
    whole = noise_before[CONTEXT:].copy()
    whole[LEAD_CHUNKS * CHUNK : LEAD_CHUNKS * CHUNK + clip.size] = clip
    # the recording begins with silence in place of the context, which the state has forgotten by then
    chunks = silero.chunk_probabilities([whole])[0, LEAD_CHUNKS : LEAD_CHUNKS + 16]
    assert silero.scores([clip])["mean, after noise"][0] == pytest.approx(chunks.mean(), abs=2e-3)


@pytest.mark.network
@pytest.mark.slow
def test_all_baselines_hear_real_speech(silero, starter_corpus):
    clips = [clip for clip in read_manifest(starter_corpus.clips_csv) if clip.label == "SPEECH"][: 2 * BATCH]
    waveforms = [load_waveform(clip) for clip in clips]
    assert np.mean(silero.scores(waveforms)["mean, after noise"] > 0.5) > 0.8
    assert np.mean(webrtc().scores(waveforms)["mode 2"] > 0.2) > 0.8
    for network in frame_networks():
        assert np.mean(network.scores(waveforms)["mean, as it is"] > 0.5) > 0.8
