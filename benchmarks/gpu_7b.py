"""A 7 B Qwen2-Audio of random weights on one CUDA card: equality, a training step, scoring, both sides in one process.

Shapes and classes are the real model's (tower 1280 wide, 32 layers; language model 4096 wide,
32 layers, 156,032 tokens), made on the card itself in bfloat16; the tokenizer is a stand-in that cuts the prompt into
words. What is measured (benchmarks/both_sides.py says what each side does):

- un-padded answers against transformers' padded forward, and beside it what bfloat16 does to the padded forward alone;
- seconds and memory of a training step, batch 8 of 1 s clips, listenwell's loop with 1, 2 and 6 fits, the usual recipe;
- clips scored a second, both sides;
- which share of the card's matrix rate the step reaches.

Without a card it says so and writes nothing. --tiny runs the same lines on a two-layer model on the CPU, for the tests.

    python benchmarks/gpu_7b.py                     writes benchmarks/results/gpu_7b.json, under eight minutes
"""

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from both_sides import (
    BATCH,
    SHORT_CLIPS,
    in_turns,
    make_spec,
    make_waveforms,
    matmul_rate,
    our_step_times,
    usual_inputs,
    usual_scoring,
    usual_step,
    usual_text,
    wait_for,
    write_clips,
)
from speed import count_operations
from transformers import (
    Qwen2AudioConfig,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from listenwell.config import Config
from listenwell.data.backgrounds import BackgroundBank
from listenwell.judge.detectors import LanguageModelDetector
from listenwell.judge.score import score_clips
from listenwell.model.loading import quiet_transformers
from listenwell.model.mel import log_mel
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.small.assembly import AUDIO_TOKENS
from listenwell.model.small.random_models import byte_tokenizer
from listenwell.storage.atomic_files import write_json
from listenwell.storage.run_folder import provenance

FITS, STEPS, N_EQUAL, N_USUAL = (1, 2, 6), 4, 4, 8
RESULT = Path(__file__).parent / "results" / "gpu_7b.json"
TOWER_7B = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
TEXT_7B = {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "intermediate_size": 11008, "vocab_size": 156032, "max_position_embeddings": 8192,
}  # fmt: skip
TOWER_TINY = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
TEXT_TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
    "intermediate_size": 64, "vocab_size": 600, "max_position_embeddings": 4096,
}  # fmt: skip


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="the same on a two-layer model on the CPU; writes to --out")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if not asked.tiny and not torch.cuda.is_available():
        print("gpu_7b: this machine has no CUDA device; nothing was measured and nothing written.")
        return
    quiet_transformers()
    device, dtype = (torch.device("cpu"), torch.float32) if asked.tiny else (torch.device("cuda"), torch.bfloat16)
    started = time.perf_counter()
    model = build(*((TOWER_TINY, TEXT_TINY) if asked.tiny else (TOWER_7B, TEXT_7B)), device, dtype)
    seconds_to_build = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        report = measure(model, Path(folder), 64 if asked.tiny else 8192)
    report |= {
        "device": "cpu" if asked.tiny else torch.cuda.get_device_name(device),
        "seconds_to_build": seconds_to_build,
        "seconds_in_all": time.perf_counter() - started,
        "provenance": provenance(),
    }
    out = asked.out or (None if asked.tiny else RESULT)
    if out is not None:
        write_json(out, report)
    print({key: value for key, value in report.items() if key != "provenance"}, out)


def build(tower: dict[str, int], text: dict[str, int], device: torch.device, dtype: torch.dtype) -> Qwen2Audio:
    """A model of these shapes with random weights, made on the device."""
    tokenizer = byte_tokenizer()
    processor = Qwen2AudioProcessor(feature_extractor=WhisperFeatureExtractor(feature_size=128), tokenizer=tokenizer)
    words = {word for part in prompt_text(PromptConfig(), processor) for word in re.findall(r" ?\w+|\W", part)}
    tokenizer.add_tokens(sorted(words))  # about as many tokens as the real tokenizer makes
    config = Qwen2AudioConfig(
        audio_config=Qwen2AudioEncoderConfig(num_mel_bins=128, max_source_positions=1500, **tower).to_dict(),
        text_config={"model_type": "qwen2", "tie_word_embeddings": False} | text,
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKENS[1]),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    with device:
        network = Qwen2AudioForConditionalGeneration._from_config(config, dtype=dtype)
    return Qwen2Audio(network, processor, "random weights")


def measure(model: Qwen2Audio, folder: Path, matrix_size: int) -> dict[str, Any]:
    """Everything the JSON holds of the measurements; the usual step comes last, since PEFT changes the network."""
    clips = write_clips(folder, 1.0, BATCH * (STEPS + 1))
    equality = compare_answers(model)
    ours = {f"fits {n}": our_step(model, [make_spec(f"fit {i}", clips) for i in range(n)]) for n in FITS}
    operations = count_operations(model, make_spec("fit", clips))
    rate = matmul_rate(model.dtype, model.device, matrix_size)
    scoring = clips_a_second(model, clips)
    prompt = model.prompt(PromptConfig())
    usual = one_side(model, lambda: usual_times(model))
    return {
        "claim": "a 7 B model trains and scores many times as fast un-padded as by the usual recipe, to equal answers",
        "batch": BATCH, "clip_s": 1.0, "dtype": str(model.dtype).removeprefix("torch."), "seed": 42,
        "prompt_tokens": len(prompt.prefix_ids) + len(prompt.suffix_ids),
        "equality": equality,
        "training_step": ours | {"usual": usual},
        "ratio_of_steps": ratio(usual["step_s"], ours["fits 1"]["step_s"]),
        "ratio_of_six_fits": ratio(usual["step_s"], ours["fits 6"]["step_s"], 6),
        "scoring": scoring,
        "matrix_product_tflops": rate / 1e12,
        "operations_of_a_step_t": operations / 1e12,
        "share_of_the_matrix_rate": ratio(operations / rate, ours["fits 1"]["step_s"]),
    }  # fmt: skip


def compare_answers(model: Qwen2Audio) -> dict[str, float]:
    """Largest differences of the two answers' logits, clips of unequal length."""
    waveforms = [make_waveforms(seconds, 1)[0] for seconds in np.linspace(0.2, 3.0, N_EQUAL)]
    prompt = model.prompt(PromptConfig())
    answers = [prompt.speech_id, prompt.nonspeech_id]
    text = usual_text(model.processor)
    with torch.no_grad():
        ours = model.answer_logits(
            [model.embed_audio([log_mel(each, model.mel_filters) for each in waveforms])], prompt
        )
        alone, doubled = (
            torch.cat(
                [
                    model.network(**usual_inputs(model.network, model.processor, [text] * n, [each] * n)).logits[:1, -1]
                    for each in waveforms
                ]
            )[:, answers].float()
            for n in (1, 2)
        )
    return {
        "unpadded_from_padded": float((ours - alone).abs().max()),
        "padded_from_itself_in_a_batch_of_two": float((doubled - alone).abs().max()),
        "standard_deviation_of_logits": float(alone.std()),
    }


def our_step(model: Qwen2Audio, specs: Sequence[Any]) -> dict[str, Any]:
    return one_side(model, lambda: our_step_times(model, specs)[0])


def usual_times(model: Qwen2Audio) -> list[float]:
    step = usual_step(model.network, model.processor, make_waveforms(1.0, BATCH))
    marks = []
    for _ in range(3):
        step()
        wait_for(model.device)
        marks.append(time.perf_counter())
    return np.diff(marks).tolist()


def one_side(model: Qwen2Audio, take: Callable[[], list[float]]) -> dict[str, Any]:
    """Seconds of the fastest step and the card's peak memory; None and the reason where memory did not suffice."""
    on_card = model.device.type == "cuda"
    if on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(model.device)
    try:
        step_s: float | None = min(take())
        failure = None
    except torch.OutOfMemoryError as error:
        step_s, failure = None, str(error).splitlines()[0]
    peak = torch.cuda.max_memory_allocated(model.device) / 2**30 if on_card else None
    return {"step_s": step_s, "peak_memory_gib": peak, "failure": failure}


def ratio(one: float | None, other: float | None, times: int = 1) -> float | None:
    """How often `other` goes into `times` of `one`, None where either is missing."""
    return None if one is None or other is None else times * one / other


def clips_a_second(model: Qwen2Audio, clips: Sequence[Any]) -> dict[str, float]:
    """Of listenwell's scoring, of generate and of padded logits, the latter clip by clip."""
    config = Config()
    detector = LanguageModelDetector(model, SHORT_CLIPS, {"m": (PromptConfig(), None)}, config.scoring.batch_seconds)
    few = make_waveforms(1.0, N_USUAL)
    sides = {
        "ours": lambda: score_clips([detector], clips, BackgroundBank([]), ["clean"], config),
        "generate": usual_scoring(model.network, model.processor, few, generate=True),
        "padded": usual_scoring(model.network, model.processor, few, generate=False),
    }
    taken = in_turns(sides, dict.fromkeys(sides, 1), 2)
    return {side: (len(clips) if side == "ours" else N_USUAL) / seconds for side, seconds in taken.items()}


if __name__ == "__main__":
    main()
