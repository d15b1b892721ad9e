"""Which modules lora.scope and lora.targets stand for, on the random two-layer model."""

import pytest

from listenwell.config import load_config
from listenwell.errors import ConfigError
from listenwell.model.loading import load_model
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.random_models import build_random_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(ModelConfig(name=str(build_random_model(tmp_path_factory.mktemp("model"))), device="cpu"))


def targets(model, scope, expression):
    return model.find_targets(LoraConfig(scope=scope, targets=expression))


def test_an_expression_picks_modules_by_their_whole_path_within_the_scope(model):
    assert targets(model, "language_model", "regex:.*q_proj$") == [
        f"model.language_model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)
    ]
    assert targets(model, "language_model", r"regex:.*layers\.1\..*(q|v)_proj") == [
        f"model.language_model.layers.1.self_attn.{name}_proj" for name in "qv"
    ]
    assert len(targets(model, "both", "regex:.*q_proj")) == 4


def test_an_expression_for_everything_is_attention_and_mlp(model):
    for scope in ("language_model", "audio_tower", "both"):
        assert targets(model, scope, "regex:.*") == targets(model, scope, "attention+mlp")


@pytest.mark.parametrize("expression", ["regex:q_proj", "regex:.*lm_head", "regex:.*fc1"])
def test_an_expression_that_matches_nothing_is_refused_with_a_path_to_go_by(model, expression):
    with pytest.raises(ConfigError, match=r"matches none of the 14 linear modules .* model\.language_model\.layers\.0"):
        targets(model, "language_model", expression)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [("q_proj", "write an expression over module paths as"), ("regex:.*(q", "holds no valid regular expression")],
)
def test_what_is_neither_a_name_nor_an_expression_is_refused_by_the_config(value, sentence):
    with pytest.raises(ConfigError, match=rf"lora\.targets.*{sentence}"):
        load_config(None, [f"lora.targets={value}"])


def test_modules_are_counted_by_the_half_they_lie_in(model):
    assert model.count_by_half(targets(model, "both", "attention")) == {"language_model": 8, "audio_tower": 8}
    assert model.count_by_half(targets(model, "audio_tower", "attention")) == {"audio_tower": 8}
