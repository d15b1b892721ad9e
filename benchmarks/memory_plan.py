"""The memory that `listenwell plan` foretells against what a training step takes: peak resident memory of a process.

The small model with four language-model layers, 1 s clips, LoRA rank 8 with dropout; batch 8 and 16, one fit and six,
gradient checkpointing off and on, float32. Every measurement is a child process of its own that takes three steps; one
child loads the model and scores a clip, so that its weights are in memory. The part of a plan that can be wrong is
what training adds to that, so it is compared apart; twice the tower is trained too.

    python benchmarks/memory_plan.py                writes benchmarks/results/memory_plan.json, about four minutes
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

from both_sides import (
    NO_AUGMENTATION,
    SHORT_CLIPS,
    Clock,
    make_waveforms,
    our_step_times,
    peak_memory_mib,
    run,
    write_clips,
)

from listenwell.config import load_config
from listenwell.data.backgrounds import BackgroundBank
from listenwell.model.audio_language_model import answer_scores, embed_clips
from listenwell.model.loading import load_model
from listenwell.model.mel import extract_features
from listenwell.model.prompt import PromptConfig
from listenwell.model.settings import LoraConfig, ModelConfig
from listenwell.model.small.assembly import DEFAULT_LAYERS
from listenwell.tasks.plan import (
    FitCost,
    _shape,
    _skeleton,
    activations_bytes,
    adapters_bytes,
    count_adapter,
)
from listenwell.train.fit_underway import FitSpec
from listenwell.train.settings import TrainConfig

BATCHES, FITS, STEPS = (8, 16), (1, 6), 3


def be_child(folder: Path, what: str, batch: str = "0", n_fits: str = "0", recomputes: str = "0") -> None:
    """Score a clip, or take steps of n_fits fits with adapters of the scope `what`."""
    model = load_model(ModelConfig(name=str(folder), device="cpu"))
    if what == "scored":
        mels = [extract_features(model.mel_filters, samples, SHORT_CLIPS) for samples in make_waveforms(1.0, 1)]
        answer_scores(model, embed_clips(model, mels, 32.0), model.prompt(PromptConfig()))
        return
    lora = LoraConfig.model_validate({"scope": what})
    trained = TrainConfig(epochs=1, batch=int(batch), gradient_checkpointing=recomputes == "1")
    with tempfile.TemporaryDirectory() as clips_folder:
        clips = write_clips(Path(clips_folder), 1.0, int(batch) * STEPS)
        specs = [
            FitSpec(f"fit {i}", lora, trained, NO_AUGMENTATION, i, clips, BackgroundBank([]))
            for i in range(int(n_fits))
        ]
        our_step_times(model, specs)


def measure(folder: Path, scratch: Path, clock: Clock) -> dict[str, Any]:
    """Everything the JSON holds, in MiB."""
    scored = peak_memory_mib(__file__, folder, "scored")
    cases = [("language_model", *case) for case in itertools.product(BATCHES, FITS, (False, True))]
    rows = [compare(folder, scored, *case) for case in [*cases, ("both", 8, 1, False), ("both", 8, 6, False)]]
    return {
        "claim": "the plan's memory of a training step lies within a quarter of what the step takes",
        "clip_s": 1.0, "rank": LoraConfig().rank, "dtype": "float32",
        "after_scoring_a_clip_mib": scored,
        "rows": rows,
        "least_and_most_planned_over_measured":
            [min(row["training_planned_over_measured"] for row in rows),
             max(row["training_planned_over_measured"] for row in rows)],
    }  # fmt: skip


def config_of(folder: Path, scope: str) -> Any:
    return load_config(None, [f"model.name={folder}", "model.device=cpu", f"lora.scope={scope}"])


def compare(folder: Path, scored: float, scope: str, batch: int, n_fits: int, recomputes: bool) -> dict[str, Any]:
    """One row: peak memory of training, what it adds to a loaded model, and what the plan says it adds."""
    config = config_of(folder, scope)
    network = _skeleton(config)
    fit = FitCost(STEPS, batch * STEPS, 1.0, count_adapter(network, config), scope != "language_model", recomputes)
    planned = adapters_bytes([fit] * n_fits) + activations_bytes(_shape(network, config), [fit] * n_fits, batch)
    peak = peak_memory_mib(__file__, folder, scope, str(batch), str(n_fits), str(int(recomputes)))
    return {
        "scope": scope, "batch": batch, "fits": n_fits, "gradient_checkpointing": recomputes,
        "peak_mib": peak,
        "training_measured_mib": peak - scored,
        "training_planned_mib": planned / 2**20,
        "training_planned_over_measured": planned / 2**20 / (peak - scored),
    }  # fmt: skip


if __name__ == "__main__":
    run(__file__, __doc__, DEFAULT_LAYERS, measure, be_child)
