"""From a finished study to decisions on files, long recordings and a live signal, on the random model."""

import io
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import invoke, succeed
from made_processes import require_success, start_command
from made_recordings import encode

from listenwell.data.audio import SAMPLE_RATE_HZ, as_waveform, load_recording
from listenwell.detect.detector import SILENT_SCORE, Detector, Frame
from listenwell.detect.files import ScoreJournal, detect_files, owner_of
from listenwell.detect.recordings import cut_windows, find_recordings, open_blocks
from listenwell.detect.segmentation import SegmentRule, count_frames, count_windows, frame_activity, hysteresis
from listenwell.errors import AudioError, AudioWarning, ConfigError, ModelError
from listenwell.model.adapter_files import read_adapter
from listenwell.model.audio_language_model import answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.mel import extract_features
from listenwell.model.settings import ModelConfig
from listenwell.random_streams import stream
from listenwell.storage.load_or_make import read_checksummed, write_checksummed


@pytest.fixture(scope="module")
def bundle(made_detector) -> Path:
    return made_detector


@pytest.fixture(scope="module")
def detector(bundle) -> Detector:
    return Detector.load(bundle, device="cpu", dtype="float32")  # the study's; auto follows the machine


@pytest.fixture(scope="module")
def in_eights(detector) -> Detector:
    """The detector with batches of eight windows, two at a time."""
    return Detector(detector.model, detector.adapter, detector.bundle, detector.threshold, workers=2, batch=8)


def read_blocks(path: Path) -> list[np.ndarray]:
    with open_blocks(path) as blocks:
        return list(blocks)


def sound(seconds: float, rate_hz: int = SAMPLE_RATE_HZ, name: str = "sound") -> np.ndarray:
    return (0.1 * stream(3, name).standard_normal(round(seconds * rate_hz))).astype(np.float32)


@pytest.fixture(scope="module")
def long_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long one.wav"
    soundfile.write(path, sound(13.3), SAMPLE_RATE_HZ)
    return path


def test_the_detector_scores_as_the_study_did(bundle, detector):
    run = bundle.parent / "run"
    rows = [line.split(",") for line in (run / "scores" / "fine-tuned-test.csv").read_text().splitlines()]
    head = rows[0]
    clean = next(row for row in rows[1:] if row[head.index("condition")] == "clean")
    path = next((bundle.parent).rglob(f"{clean[head.index('clip_id')]}.wav"))
    assert detector.score(path) == pytest.approx(float(clean[head.index("score")]), abs=1e-4)


def test_a_decision_follows_the_threshold(detector):
    score = detector.score(sound(0.7), SAMPLE_RATE_HZ)
    decision = detector.decide(sound(0.7), SAMPLE_RATE_HZ)
    assert decision.score == score
    assert decision.is_speech == (score >= detector.threshold)
    assert decision.probability == pytest.approx(
        1 / (1 + np.exp(-(detector.bundle.probability.slope * score + detector.bundle.probability.intercept)))
    )


def test_the_sample_rate_and_the_channels_of_a_waveform_do_not_matter(detector):
    at_48 = np.repeat(sound(1.0), 3)
    twice = np.stack([sound(1.0)] * 2, axis=1)
    assert detector.score(twice, 16_000) == pytest.approx(detector.score(sound(1.0), 16_000), abs=1e-5)
    assert np.isfinite(detector.score(at_48, 48_000))


def test_digital_silence_holds_no_speech(detector):
    assert detector.score(np.zeros(8_000, dtype=np.float32), 16_000) == SILENT_SCORE
    assert detector.segments(np.zeros(80_000, dtype=np.float32), 16_000) == []


def test_a_file_and_its_samples_give_the_same_segments(detector, long_file):
    assert detector.segments(long_file) == detector.segments(load_recording(long_file), 16_000)
    assert detector.segments(str(long_file)) == detector.segments(long_file)
    with long_file.open("rb") as file:
        assert detector.segments(file) == detector.segments(long_file)


@pytest.mark.parametrize("n_block", [700, 16_000, 10**6])
def test_windows_do_not_depend_on_the_blocks(n_block):
    samples = sound(3.1)
    blocks = [samples[i : i + n_block] for i in range(0, samples.size, n_block)]
    windows = list(cut_windows(iter(blocks), 1.0, 0.25))
    whole = list(cut_windows(iter([samples]), 1.0, 0.25))
    assert len(windows) == count_windows(3.1, SegmentRule(window_s=1.0, hop_s=0.25))
    assert all(np.array_equal(one, other) for one, other in zip(windows, whole, strict=True))
    assert all(np.array_equal(w, samples[i * 4_000 : i * 4_000 + 16_000]) for i, w in enumerate(windows))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_reading_in_blocks_equals_reading_the_whole(tmp_path, rate_hz):
    path = tmp_path / "x.wav"
    soundfile.write(path, sound(23.4, rate_hz), rate_hz, subtype="FLOAT")
    together, whole = np.concatenate(read_blocks(path)), load_recording(path)
    assert abs(together.size - whole.size) <= 1
    n = min(together.size, whole.size)
    assert np.max(np.abs(together[:n] - whole[:n])) < 1e-4


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "form"),
    [(0.03, 16_000, "int16"), (1.0, 16_000, "column"), (2.25, 44_100, "float"), (13.3, 16_000, "int16")],
)
def test_a_live_signal_is_decided_like_the_recording(detector, seconds, rate_hz, form):
    samples = sound(seconds, rate_hz)
    given = {"float": samples, "column": samples[:, None], "int16": np.round(samples * 32767).astype(np.int16)}[form]
    frames: list[Frame] = []
    with detector.stream(frames.append, rate_hz) as live:
        for first in range(0, len(given), 320):
            live.feed(given[first : first + 320])
    heard = as_waveform(given, rate_hz)
    scores = np.concatenate(list(detector.window_scores(iter([heard]))))
    rule = detector.bundle.rule
    expected = frame_activity(detector.activity(scores), count_frames(heard.size / SAMPLE_RATE_HZ, rule), rule)
    assert [frame.activity for frame in frames] == pytest.approx(expected, abs=1e-3)
    assert [frame.is_speech for frame in frames] == hysteresis(expected, rule).tolist()


def test_a_closed_stream_takes_no_more_and_an_empty_one_says_nothing(detector):
    frames: list[Frame] = []
    live = detector.stream(frames.append, 8_000)
    live.feed(np.empty(0, dtype=np.float32))
    live.close()
    live.close()
    assert frames == []
    with pytest.raises(AudioError, match="the stream is closed"):
        live.feed(sound(0.1))
    with pytest.raises(AudioError, match="sample_rate_hz is 16"):
        detector.stream(frames.append, 16)


def deciding_scores(detector, path, known=None):
    """Scores of the windows that decide, NaN elsewhere, and the batches they were scored in."""
    with detector.deciding_scores(read_blocks(path), known) as deciding:
        batches = list(deciding)
    return deciding.scores, batches


def test_scores_do_not_depend_on_the_workers_or_on_where_a_run_goes_on(in_eights, long_file, monkeypatch):
    n_threads = torch.get_num_threads()
    every, deciding = [], []
    for workers in (1, 2, 5):
        monkeypatch.setattr(in_eights, "workers", workers)
        every.append(np.concatenate(list(in_eights.window_scores(read_blocks(long_file)))))
        deciding.append(deciding_scores(in_eights, long_file))
    assert all(np.array_equal(other, every[0]) for other in every[1:])
    scores, batches = deciding[0]
    assert all(np.array_equal(other, scores, equal_nan=True) for other, _ in deciding[1:])
    assert len(batches) > 3
    kept = {n: s for batch in batches[:3] for n, s in zip(batch.numbers, batch.scores, strict=True)}
    again, rest = deciding_scores(in_eights, long_file, kept)
    assert np.array_equal(again, scores, equal_nan=True)
    assert [batch.numbers for batch in rest] == [batch.numbers for batch in batches[3:]]
    assert torch.get_num_threads() == n_threads


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.8])
def test_segments_are_those_of_all_windows(detector, long_file, quantile):
    every = np.concatenate(list(detector.window_scores(read_blocks(long_file))))
    threshold = float(np.quantile(every, quantile))  # the random model's scores lie close together
    of_some = Detector(detector.model, detector.adapter, detector.bundle, threshold)
    found, expected = of_some.segments(long_file), of_some.find_segments(every, 13.3)
    assert [(s.start_s, s.end_s) for s in found] == [(s.start_s, s.end_s) for s in expected]


def test_a_killed_run_scores_only_what_is_missing(in_eights, long_file, tmp_path, monkeypatch):
    path, n_kept = tmp_path / "journal", 2
    whole = list(detect_files(in_eights, [long_file], journal=ScoreJournal(path, owner_of(in_eights))))
    _, batches = deciding_scores(in_eights, long_file)
    assert len(batches) > n_kept
    kept = [line for line in path.read_text().splitlines() if line][:n_kept]
    path.write_text("\n".join([*kept, '{"owner": "cut by a ki']))
    scored: list[int] = []
    plain = Detector.scores

    def count(self, waveforms):
        scored.append(len(waveforms))
        return plain(self, waveforms)

    monkeypatch.setattr(Detector, "scores", count)
    monkeypatch.setattr(in_eights, "workers", 1)
    for left in ([len(batch.numbers) for batch in batches[n_kept:]], []):
        scored.clear()
        assert list(detect_files(in_eights, [long_file], journal=ScoreJournal(path, owner_of(in_eights)))) == whole
        assert scored == left
    other = ScoreJournal(path, "another detector")
    assert other.known(ScoreJournal(path, owner_of(in_eights)).journal.keys()[0]) == {}


@pytest.fixture(scope="module")
def clip_files(tmp_path_factory) -> list[Path]:
    """Twenty clips of different lengths, a long recording after the tenth."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{i:02}.wav" for i in range(21)]
    for i, path in enumerate(paths):
        soundfile.write(path, sound(6.0 if i == 10 else 0.2 + 0.1 * i, name=path.stem), SAMPLE_RATE_HZ)
    return paths


def test_clips_are_scored_together_and_like_each_alone(in_eights, clip_files, monkeypatch):
    alone = [in_eights.score(path) for path in clip_files if path.stem != "10"]
    found = {}
    for workers in (1, 3):
        monkeypatch.setattr(in_eights, "workers", workers)
        found[workers] = list(detect_files(in_eights, clip_files))
    assert found[1] == found[3]
    assert [detection.path for detection in found[1]] == clip_files
    decisions = [detection.decision for detection in found[1]]
    assert decisions[10] is None
    assert [d.score for d in decisions if d is not None] == pytest.approx(alone, abs=1e-4)


def test_a_clip_that_is_too_long_to_be_decided_whole_costs_the_others_nothing(in_eights, clip_files, tmp_path):
    soundfile.write(tmp_path / "long.wav", sound(31.0), SAMPLE_RATE_HZ)
    first, long, last = detect_files(in_eights, [clip_files[0], tmp_path / "long.wav", clip_files[1]], float("inf"))
    assert "31.00 s is longer than the 30 s" in long.problem
    assert (first.decision.score, last.decision.score) == pytest.approx(
        [in_eights.score(path) for path in clip_files[:2]], abs=1e-4
    )


@pytest.mark.parametrize("n_lines", [3, 9, 20, 37])
def test_clips_scored_after_a_kill_are_scored_with_those_of_before(in_eights, clip_files, tmp_path, n_lines):
    path = tmp_path / "journal"
    whole = list(detect_files(in_eights, clip_files, journal=ScoreJournal(path, owner_of(in_eights))))
    kept = [line for line in path.read_text().splitlines() if line][:n_lines]
    path.write_text("\n".join(kept) + "\n")
    assert list(detect_files(in_eights, clip_files, journal=ScoreJournal(path, owner_of(in_eights)))) == whole


def start_detect(bundle, recording, out):
    """The command as a process of its own, and the file of what it says."""
    settings = ["--detector", str(bundle), "--device", "cpu", "--dtype", "float32", "--workers", "1"]
    said = bundle.parent / "said.txt"
    return start_command(["detect", str(recording), *settings, "--format", "json", "--out", str(out)], said), said


def stop_after_lines(process, folder, n_lines, signal_number):
    """Send the signal once the journal in `folder` holds so many lines; returns the journal."""
    deadline = time.monotonic() + 100
    while True:
        assert process.exitcode is None
        assert time.monotonic() < deadline
        for journal in folder.glob(".*.journal"):
            if journal.read_bytes().count(b'"owner"') >= n_lines:
                os.kill(process.pid, signal_number)
                return journal
        time.sleep(0.002)


@pytest.mark.slow
def test_two_runs_at_once_and_kills_change_no_byte_of_the_answer(bundle, tmp_path):
    recording = tmp_path / "long.wav"
    soundfile.write(recording, sound(160.0), SAMPLE_RATE_HZ)
    whole, out, elsewhere = tmp_path / "whole.json", tmp_path / "answer.json", tmp_path / "other" / "answer.json"
    first, _ = start_detect(bundle, recording, out)
    try:
        kept = stop_after_lines(first, tmp_path, 2, signal.SIGSTOP)
        beside, _ = start_detect(bundle, recording, elsewhere)
        kept_beside = stop_after_lines(beside, elsewhere.parent, 5, signal.SIGKILL)
    finally:
        first.kill()
    for killed in (first, beside):
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
    # what two runs at once leave: lines of both, one after the other and between each other
    one, other = kept.read_bytes(), kept_beside.read_bytes()
    mixed = [line for pair in zip(other.splitlines(), one.splitlines(), strict=False) for line in pair]
    kept.write_bytes(other + b"\n" + b"\n".join(mixed) + b"\n" + one)
    for to in (out, whole):
        require_success(*start_detect(bundle, recording, to))
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "long.wav", "other", "whole.json"]


def test_a_recording_that_cannot_be_read_does_not_stop_the_others(detector, long_file, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF....WAVE")
    bad, good = detect_files(detector, [tmp_path / "broken.wav", long_file])
    assert "cannot be decoded" in bad.problem
    assert good.problem == ""
    assert good.duration_s == pytest.approx(13.3)


def test_the_lengths_of_segments_can_be_changed_and_what_is_no_length_is_refused(detector, long_file):
    changed = Detector(detector.model, detector.adapter, detector.bundle, -99.0)
    (whole,) = changed.segments(long_file)
    changed.change_rule(longest_speech_s=2.0, pad_s=0.25)
    parts = changed.segments(long_file)
    assert max(part.end_s - part.start_s for part in parts) <= 2.0
    assert (parts[0].start_s, parts[-1].end_s) == (whole.start_s, whole.end_s)
    for wrong in ({"pad_s": float("nan")}, {"shortest_pause_s": -1.0}, {"hop_s": 0.1}, {"longest_speech_s": 0.3}):
        with pytest.raises(ConfigError, match=r"seconds for pad_s|the longest speech is 0\.3 s"):
            changed.change_rule(**wrong)


def test_a_changed_or_foreign_detector_is_refused(bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    weights = copy / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="changed since the export"):
        Detector.load(copy, device="cpu")
    shutil.copyfile(bundle / "adapter" / "adapter_model.safetensors", weights)
    record = json.loads((copy / "detector.json").read_text())
    (copy / "detector.json").write_text(json.dumps(record | {"base_fingerprint": "0" * 64}))
    with pytest.raises(ModelError, match=r"detector\.json.* changed"):
        Detector.load(copy, device="cpu")
    write_checksummed(
        copy / "detector.json", read_checksummed(bundle / "detector.json") | {"base_fingerprint": "0" * 64}
    )
    with pytest.raises(ModelError, match="another base would answer differently"):
        Detector.load(copy, device="cpu")
    (copy / "detector.json").write_text("{}")
    with pytest.raises(ModelError, match="is broken"):
        Detector.load(copy, device="cpu")
    with pytest.raises(ModelError, match=r"no detector\.json"):
        Detector.load(tmp_path, device="cpu")
    for settings, says in (
        ({"criterion": "best"}, "thresholds for"),
        ({"device": "gpu"}, "device gpu: is no device"),
        ({"threshold": float("nan")}, "the threshold is nan"),
    ):
        with pytest.raises(ConfigError, match=says):
            Detector.load(bundle, **{"device": "cpu"} | settings)


def test_a_model_that_answers_no_number_is_named(bundle):
    broken = Detector.load(bundle, device="cpu")
    with torch.no_grad():
        broken.model.network.lm_head.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="hold NaN or infinity"):
        broken.segments(sound(5.0), SAMPLE_RATE_HZ)


def test_the_rate_of_an_array_has_no_default(detector):
    with pytest.raises(AudioError, match="give sample_rate_hz"):
        detector.decide(sound(0.7))
    with pytest.raises(AudioError, match="a file says its own rate"):
        detector.decide("a.wav", 16_000)


def test_a_recording_that_breaks_off_is_answered_and_said(detector, long_file, tmp_path):
    cut = tmp_path / "cut.wav"
    cut.write_bytes(long_file.read_bytes()[:200_000])
    (answer,) = detect_files(detector, [cut])
    assert answer.problem == ""
    assert answer.duration_s == pytest.approx(6.249, abs=0.001)
    assert answer.note == "truncated, the header promises more than the 6.249 s that are there"
    with pytest.warns(AudioWarning, match="the header promises more"):
        assert detector.segments(cut) == list(answer.segments)
    with pytest.raises(AudioError, match="truncated"):
        load_recording(cut)


@pytest.mark.parametrize("suffix", [".wav", ".m4a", ".aac"])  # known, promised, not said how long
def test_progress_ends_once_and_is_of_the_length_that_the_header_tells(in_eights, tmp_path, suffix):
    path, reports = encode(tmp_path / f"a{suffix}", sound(13.3)), []
    list(detect_files(in_eights, [path], on_progress=lambda *report: reports.append(report)))
    of_windows = [(done, total) for stage, done, total in reports if stage == path.name]
    assert [done < total for done, total in of_windows] == [True] * (len(of_windows) - 1) + [False]
    assert len(of_windows) > 3
    if suffix != ".aac":
        assert all(abs(total - of_windows[-1][1]) <= 1 for _, total in of_windows)


def test_each_channel_has_its_own_answer(detector, tmp_path):
    soundfile.write(tmp_path / "call.wav", np.stack([sound(1.0), np.zeros(16_000)], axis=1), 16_000)
    both = list(detect_files(detector, [tmp_path / "call.wav"], each_channel=True))
    assert [each.channel for each in both] == [0, 1]
    assert both[1].decision.score == SILENT_SCORE
    assert both[0].decision.score == pytest.approx(detector.score(sound(1.0), 16_000), abs=1e-2)


def test_a_pipe_is_decoded_as_it_comes(detector, long_file, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(long_file.read_bytes()))
    writer.start()
    (piped,) = detect_files(detector, [tmp_path / "pipe"])
    writer.join()
    (read,) = detect_files(detector, [long_file])
    assert (piped.segments, piped.duration_s) == (read.segments, read.duration_s)


def test_names_that_lead_to_nothing_are_refused(tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        find_recordings([str(tmp_path / "*.wav")])
    with pytest.raises(AudioError, match="holds no recordings"):
        find_recordings([str(tmp_path)])


def test_the_command_takes_files_folders_and_standard_input(bundle, long_file, tmp_path):
    call = ["detect", "--detector", bundle, "--device", "cpu"]
    shown = succeed(*call, long_file.parent)
    assert "s are speech" in shown.output
    assert "real-time factor" in shown.output
    out = tmp_path / "answers.json"
    succeed(*call, long_file, "--format", "json", "--out", out)
    assert json.loads(out.read_text())[0]["duration_s"] == 13.3
    assert list(tmp_path.iterdir()) == [out]
    wav = io.BytesIO()
    soundfile.write(wav, sound(0.8), SAMPLE_RATE_HZ, format="WAV")
    piped = succeed(*call, "-", "--format", "csv", input=wav.getvalue())
    assert "stdin,0.000,0.800" in piped.output
    broken = invoke(*call, "-", input=wav.getvalue()[:20])
    assert "standard input: " in broken.output
    assert broken.exit_code == 1
    assert invoke(*call, long_file, bundle / "x.wav", "--format", "textgrid").exit_code == 1


def test_the_merged_model_answers_like_base_and_adapter(bundle, detector):
    base = load_model(ModelConfig(name=detector.bundle.base, device="cpu", dtype="float32"))
    adapter, _ = read_adapter(bundle / "adapter", base)
    mels = [extract_features(base.mel_filters, sound(0.9), detector.bundle.short_clips)]
    scores = answer_scores(base, embed_clips(base, mels, 32.0), base.prompt(detector.bundle.prompt), adapter)
    assert scores[0] == pytest.approx(detector.score(sound(0.9), SAMPLE_RATE_HZ), abs=1e-4)
