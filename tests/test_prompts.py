import pytest
from made_sounds import make_study
from typer.testing import CliRunner

from listenwell.cli.main import app
from listenwell.config import dump
from listenwell.errors import ConfigError
from listenwell.tasks.score_table import judge_prompts

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
