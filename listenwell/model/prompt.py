"""The prompt: one question, two answers, built once and used by training, scoring and detection alike.

A prompt is tokens around a clip: `prefix | audio tokens | suffix`, and the model answers at the last suffix
position. The text comes from the chat template of the model's own processor, cut at the audio token, so the
layout is the one the model was trained on; tokenising the parts equals tokenising the whole, because the cut
falls between special tokens (tested). The answer is read at its first token: the two answers must differ there.
Knows nothing of weights.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from listenwell.errors import ModelError
from listenwell.section import Section


class PromptConfig(Section):
    """What the model is asked about every clip."""

    question: str = Field("Is this human speech? Answer yes or no.", min_length=1)
    """The question put to the model, the same in training, scoring and detection."""
    speech_answer: str = Field("yes", min_length=1)
    """The answer that means SPEECH; only its first token is scored."""
    nonspeech_answer: str = Field("no", min_length=1)
    """The answer that means NONSPEECH; its first token must differ from that of speech_answer."""
    layout: Literal["audio_first", "text_first"] = "audio_first"
    """audio_first is Qwen2-Audio's usual order; text_first puts the question first, where all clips share it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids around the audio, and the first token of each answer."""

    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    speech_id: int
    nonspeech_id: int


def build_prompt(config: PromptConfig, processor: Any) -> Prompt:
    """Tokenise the config's question with `processor` (the model's own).

    Raises ModelError when both answers begin with the same token or the template has not exactly one audio token.
    """
    prefix, suffix = prompt_text(config, processor)
    tokenizer = processor.tokenizer
    speech_id, nonspeech_id = (
        _first_token(tokenizer, suffix, answer) for answer in (config.speech_answer, config.nonspeech_answer)
    )
    if speech_id == nonspeech_id:
        raise ModelError(
            f"prompt: the answers '{config.speech_answer}' and '{config.nonspeech_answer}' begin with the same token "
            f"({tokenizer.decode([speech_id])!r}), so they cannot be told apart; choose prompt.speech_answer and "
            "prompt.nonspeech_answer that differ in their first token, for instance 'yes' and 'no'."
        )
    return Prompt(_token_ids(tokenizer, prefix), _token_ids(tokenizer, suffix), speech_id, nonspeech_id)


def prompt_text(config: PromptConfig, processor: Any) -> tuple[str, str]:
    """Return the text before and after the audio token, rendered by the processor's chat template."""
    audio, question = {"type": "audio", "audio_url": "clip"}, {"type": "text", "text": config.question}
    content = [audio, question] if config.layout == "audio_first" else [question, audio]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    parts = text.split(processor.audio_token)
    if len(parts) != 2:
        raise ModelError(
            f"prompt: the chat template gave {len(parts) - 1} audio tokens '{processor.audio_token}', exactly one was "
            "expected; the question must not contain that token, and the model's chat template must place audio by it."
        )
    return parts[0], parts[1]


def _token_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _first_token(tokenizer: Any, before: str, answer: str) -> int:
    """Return the first token of `answer` as the model would write it after the text `before`."""
    n_before = len(_token_ids(tokenizer, before))
    ids = _token_ids(tokenizer, before + answer)
    if len(ids) <= n_before or ids[:n_before] != _token_ids(tokenizer, before):
        raise ModelError(
            f"prompt: the answer '{answer}' has no token of its own after the prompt; choose another word."
        )
    return ids[n_before]
