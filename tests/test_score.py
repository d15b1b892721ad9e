"""Clips to scores on the random two-layer model: order, batches, quarantine, reuse."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from made_sounds import make_corpus, make_study
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import Config, dump, load_config
from listenwell.data.backgrounds import BackgroundBank
from listenwell.errors import AudioError, ConfigError
from listenwell.evaluate.methods import ZERO_SHOT
from listenwell.evaluate.scores import ScoreTable
from listenwell.judge.detectors import BaselineMethod, LanguageModelDetector
from listenwell.judge.score import Version, plan_batches, score_clips
from listenwell.model.loading import load_model
from listenwell.model.lora import new_adapter
from listenwell.model.settings import LoraConfig
from listenwell.random_streams import stream
from listenwell.splits.clips import set_aside_unreadable, write_quarantine
from listenwell.tasks.score_table import judge_prompts

RANDOM = "model.name=random"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    return folder


def score_all(clips, config: Config) -> dict[str, ScoreTable]:
    model = load_model(config.model)
    detector = LanguageModelDetector(
        model, config.short_clips, {ZERO_SHOT: (config.prompt, None)}, config.scoring.batch_seconds
    )
    return score_clips([detector], clips, BackgroundBank([]), ["clean"], config)


def table_of(clips, config: Config):
    return score_all(clips, config)[ZERO_SHOT]


def config_for(corpus: Path, out: Path, *overrides: str) -> Config:
    return load_config(None, [RANDOM, f"data.manifest={corpus / 'clips.csv'}", f"output={out}", *overrides])


@pytest.mark.slow
def test_dev_chooses_the_form_of_a_baseline_for_its_best_threshold_and_for_its_default():
    names = [f"c{i}" for i in range(8)]
    truth = np.arange(8) < 4

    def table(scores):
        return ScoreTable(
            np.array(names), np.array(names), np.where(truth, "SPEECH", "NONSPEECH"), np.array(scores),
            np.full(8, 1000.0), np.full(8, np.nan), np.full(8, "clean"),
        )  # fmt: skip

    ranks_right = table(np.where(truth, 0.4, 0.1) + np.linspace(0, 0.01, 8))  # all of it below the default
    right_at_default = table([0.9, 0.9, 0.9, 0.1, 0.2, 0.1, 0.1, 0.1])
    scores = {"silero: mean": ranks_right, "silero: highest": right_at_default}
    for name, form in {"silero": "mean", "silero-default": "highest"}.items():
        assert BaselineMethod(name, ("mean", "highest")).choose(scores) == (form, scores[f"silero: {form}"])


def test_batches_do_not_change_a_score_beyond_rounding_and_the_same_batches_not_at_all(corpus, tmp_path):
    config, alone = config_for(corpus, tmp_path), config_for(corpus, tmp_path, "scoring.batch_seconds=0.1")
    clips = make_corpus(corpus)
    together, again = (table_of(clips, config).score for _ in range(2))
    shuffled = table_of(clips[::-1], config).score[::-1]
    assert np.array_equal(together, again)
    assert np.array_equal(together, shuffled)
    assert table_of(clips, alone).score == pytest.approx(together, abs=1e-4)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bits_with_several_adapters_at_once(corpus, tmp_path):
    clips, tables = make_corpus(corpus), []
    model = load_model(config_for(corpus, tmp_path).model)
    targets = model.lora_targets("language_model", "attention+mlp")
    adapters: dict = {ZERO_SHOT: None}
    for seed in (1, 2):
        adapters[f"adapter {seed}"] = adapter = new_adapter(LoraConfig(rank=2), model.network, targets, seed)
        for name, pair in adapter.pairs.items():
            pair.b = torch.from_numpy(stream(seed, name).normal(0, 0.1, tuple(pair.b.shape))).float()
    for workers in (1, 4):
        config = config_for(corpus, tmp_path, "scoring.batch_seconds=1", f"scoring.workers={workers}")
        detector = LanguageModelDetector(
            model, config.short_clips, {m: (config.prompt, a) for m, a in adapters.items()}, 1.0
        )
        tables.append(score_clips([detector], clips, BackgroundBank([]), ["clean", "100ms"], config))
    for name in adapters:
        assert np.array_equal(tables[0][name].score, tables[1][name].score)
    assert np.abs(tables[0]["adapter 1"].score - tables[0]["adapter 2"].score).min() > 0


def test_batches_hold_every_clip_once_within_their_seconds(corpus):
    versions = [Version(clip, condition) for clip in make_corpus(corpus) for condition in ("clean", "100ms")]
    batches = list(plan_batches(versions, batch_seconds=4.0, minimum_s=0.6))
    assert {version for batch in batches for version in batch} == set(versions)
    assert sum(map(len, batches)) == len(versions)
    for batch in batches:
        assert len(batch) * max(max(version.duration_s, 0.6) for version in batch) <= 4.0


def test_unreadable_clips_are_listed_up_to_the_share_and_stop_the_run_above(tmp_path):
    clips = make_corpus(tmp_path)
    clips[3].path.write_bytes(b"")
    readable, unreadable = set_aside_unreadable(clips, 0.1)
    assert [each.clip_id for each in readable] == [each.clip_id for each in clips if each != clips[3]]
    assert [(each.clip_id, "0 bytes" in each.reason) for each in unreadable] == [(clips[3].clip_id, True)]
    write_quarantine(tmp_path / "quarantine.csv", unreadable)
    assert clips[3].clip_id in (tmp_path / "quarantine.csv").read_text()
    with pytest.raises(AudioError, match=r"already 1 of 16 clips cannot be read, at most 2\.0% may"):
        set_aside_unreadable(clips, 0.02)


def test_a_clip_that_changes_or_goes_before_it_is_scored_stops_the_scoring(tmp_path):
    config = config_for(tmp_path, tmp_path / "out")
    clips, _ = set_aside_unreadable(make_corpus(tmp_path), 0.0)
    samples, rate_hz = soundfile.read(clips[3].path, dtype="int16")
    soundfile.write(clips[3].path, samples[::-1].copy(), rate_hz)
    with pytest.raises(AudioError, match="since this run read it first"):
        score_all(clips, config)
    clips[3].path.unlink()
    with pytest.raises(AudioError, match="no such file"):
        score_all(clips, config)


QUESTIONS = ["Is this human speech? Answer yes or no.", "Does somebody talk? Answer yes or no.", "yes or no?"]


def test_prompts_are_ranked_by_what_dev_says_of_each_alone(tmp_path):
    config = make_study(tmp_path, "augment.noise.probability=0.0", "evaluation.conditions=[clean]")
    judged = judge_prompts(config, [*QUESTIONS, QUESTIONS[0]])
    assert sorted(each.question for each in judged) == sorted(QUESTIONS)
    values = [each.balanced_accuracy.value for each in judged]
    assert values == sorted(values, reverse=True)
    assert all(each.balanced_accuracy.low <= each.balanced_accuracy.value for each in judged)
    alone = judge_prompts(config, [QUESTIONS[1], QUESTIONS[2]])
    assert {e.question: e.auc for e in alone}.items() <= {e.question: e.auc for e in judged}.items()


def test_one_prompt_is_no_choice(tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        judge_prompts(make_study(tmp_path), ["a?", "a?"])


def test_the_command_writes_the_best_question(tmp_path):
    (tmp_path / "study.yaml").write_text(dump(make_study(tmp_path, "evaluation.conditions=[clean]")))
    (tmp_path / "questions.txt").write_text("Who is there?\n\nIs it speech?\n", encoding="utf-8")
    arguments = ["prompts", str(tmp_path / "study.yaml"), "--file", str(tmp_path / "questions.txt")]
    result = CliRunner().invoke(app, [*arguments, "--ask", "Voice?", "--out", str(tmp_path / "best.txt")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "best.txt").read_text().strip() in ("Who is there?", "Is it speech?", "Voice?")
    assert "dev scores of" in result.output
