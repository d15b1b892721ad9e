"""What a study works on and does beside its fits: recordings, measures, search, leave one speaker out, the speaker
curve, where stacks train.

These sections stand below `listenwell.config`, which composes them, since the study itself stands above it.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from listenwell.augment.conditions import CLEAN, FULL, FULL_CONDITIONS, parse_condition
from listenwell.errors import ConfigError
from listenwell.section import Section

Choice = bool | int | float | str | None


def _known_conditions(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, "full" written out. Raises ValueError for one that is unknown or stands twice, or without clean."""
    names = tuple(each for name in names for each in (FULL_CONDITIONS if name == FULL else (name,)))
    try:
        conditions = [parse_condition(name) for name in names]
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if CLEAN not in names or len(set(conditions)) < len(conditions):
        raise ValueError("must name 'clean' and no condition twice")
    return names


Conditions = Annotated[tuple[str, ...], AfterValidator(_known_conditions)]


class DataConfig(Section):
    """The clips and backgrounds of the study."""

    manifest: str = Field("starter", min_length=1)
    """starter (Debian packages, prepared in the cache), or the path of your clips.csv (or .tsv, .jsonl, .parquet)."""
    columns: dict[str, str] = Field({})
    """Column names of your table where they differ from those of clips.csv, as {path: wav, group: speaker}; listenwell
    init TABLE writes them. Needed are path, label and group; times may also be end_s, start_ms, end_ms, duration_ms."""
    channel: Literal["mean", "each"] | Annotated[int, Field(ge=0)] = "mean"
    """Which channel of a recording is a clip: mean (of all), the number of one from 0, or each (a clip of every one); a
    column channel of your table goes before it."""
    backgrounds: str = Field("starter", min_length=1)
    """starter, none, or the path of your backgrounds.csv; noise and music to mix under the clips."""
    dev_share: float = Field(0.25, gt=0.0, lt=0.5)
    """Share of the undivided groups that become dev, where the manifest names no dev split."""
    test_share: float = Field(0.25, gt=0.0, lt=0.5)
    """Share of the undivided groups that become test, where the manifest names no test split."""
    split_seed: int = Field(0, ge=0)
    """Seed of that division; the starter's alignment heard only the training groups of seed 0 and share 0.25."""
    quarantine_share: float = Field(0.02, ge=0.0, le=1.0)
    """Largest share of unreadable clips: fewer are listed in quarantine.csv and left out, more stop the run."""
    on_leak: Literal["stop", "report"] = "stop"
    """What a leak between train, dev and test does: stop the study, or be reported on its page."""


class CalibrationConfig(Section):
    """Whose scores choose the threshold and the map to probabilities of the delivered model and its opponents."""

    source: Literal["dev", "folds"] = "dev"
    """dev: the clips that chose the epoch. folds: clips of train and dev, each scored by a fit that trained on nothing
    of its fold: more groups, and kinds of sounds that the fit never heard, for as many more fits as there are folds."""
    by: Literal["group", "category"] = "category"
    """What a fold holds out: speakers and sources, or kinds of sounds with corpora of speech (as in leave_one_out)."""
    folds: int = Field(3, ge=2)
    """Folds, and so fits."""
    clips: int | None = Field(None, ge=2)
    """How many clips of dev (folds: of train and dev), half of each label and groups in turn; null: all."""


class PrimaryConfig(Section):
    """The comparisons declared before the tests were opened; Holm corrects them among themselves."""

    opponents: tuple[str, ...] = ()
    """Methods that the fine-tuned one is compared with, both at the threshold of dev; empty: zero-shot, the base model
    as it is, and the first of evaluation.baselines."""
    conditions: tuple[str, ...] = ("clean", "noisy", "100ms")
    """Conditions; noisy is every SNR together. Those that are not tested are passed over."""
    test_sets: tuple[str, ...] = ()
    """Test sets, leave_one_corpus_out and leave_one_group_out among them; empty: the out-of-corpus one, or the last
    where there is none."""


class EvaluationConfig(Section):
    """Conditions and opponents of the test."""

    conditions: Conditions = (
        "clean", "snr_-5", "snr_0", "snr_5", "snr_10", "snr_20", "100ms", "200ms", "500ms", "1000ms",
    )  # fmt: skip
    """Versions of every dev and test clip: clean, 100ms, snr_-5, t60_0.3, lowpass_3400 and the like, or full."""
    baselines: tuple[Literal["silero", "fsmn", "marblenet", "webrtc"], ...] = (
        "silero", "fsmn", "marblenet", "webrtc",
    )  # fmt: skip
    """Classic voice activity detectors judged on the same clips, each in the form that dev chooses; they need the extra
    'baselines'."""

    primary: PrimaryConfig = PrimaryConfig()

    least_clean: float = Field(0.75, gt=0, lt=1)
    """Success criterion: least balanced accuracy on the clean clips of every test set."""
    least_noisy: float = Field(0.8, gt=0, lt=1)
    """Success criterion: least balanced accuracy over all snr_ conditions of every test set."""
    least_leave_one_out: float = Field(0.75, gt=0, lt=1)
    """Success criterion: least balanced accuracy of leave-one-speaker-out."""

    @model_validator(mode="after")
    def _primary_is_tested(self) -> "EvaluationConfig":
        known = {"opponents": {"zero-shot", *self.baselines}, "conditions": {"noisy", "100ms", *self.conditions}}
        for name, allowed in known.items():
            unknown = [each for each in getattr(self.primary, name) if each not in allowed]
            if unknown:
                raise ValueError(f"primary.{name} names '{unknown[0]}'; expected {', '.join(sorted(allowed))}")
        return self


class SampledConfig(Section):
    """Points drawn from a space: each generation learns from those before it (tree-structured Parzen estimator)."""

    trials: int = Field(0, ge=0)
    """Different points to try; 0: none are drawn."""
    generation: int = Field(6, ge=1)
    """Points drawn at once and trained together; more are faster, fewer learn more often."""
    rungs: tuple[int, ...] = (2, 5)
    """Epochs after which the worse trials of a stack end, by their dev loss so far; []: every trial is trained whole.
    The learning rates of those that go on are not changed by it."""
    keep_share: float = Field(0.5, gt=0, lt=1)
    """Share of a stack's trials that goes on after each rung, rounded up."""
    space: dict[str, tuple[Choice, ...]] = Field(
        {
            "lora.rank": (4, 8, 16, 32),
            "lora.alpha": (16, 32, 64),
            "lora.dropout": (0.0, 0.05, 0.1),
            "train.learning_rate": (5e-5, 1e-4, 2e-4),
            "train.warmup_steps": (100, 150, 200),
        }
    )
    """The choices of every dotted setting; a space replaces this one whole."""

    @field_validator("rungs")
    @classmethod
    def _ascending(cls, rungs: tuple[int, ...]) -> tuple[int, ...]:
        if any(rung < 1 for rung in rungs) or list(rungs) != sorted(set(rungs)):
            raise ValueError("must be different epochs from 1 on, the earliest first")
        return rungs


class SearchConfig(Section):
    """Which settings are tried before the final fits; dev alone judges. Give a grid or trials, not both."""

    grid: tuple[dict[str, Any], ...] = ()
    """Points to try, each a mapping of dotted settings, such as {lora.rank: 16, train.learning_rate: 2e-4}."""
    sampled: SampledConfig = SampledConfig()

    @property
    def is_wanted(self) -> bool:
        """True when there is something to try."""
        return bool(self.grid) or self.sampled.trials > 0

    def may_change(self, key: str) -> bool:
        """True when a point may set this dotted setting."""
        return any(key in point for point in self.grid) or (self.sampled.trials > 0 and key in self.sampled.space)

    @model_validator(mode="after")
    def _one_kind(self) -> "SearchConfig":
        if self.grid and self.sampled.trials:
            raise ValueError("grid and sampled.trials are both given; keep one")
        return self


class LeaveOneOutConfig(Section):
    """Leave one out: every speaker, or every corpus, is held out once, with its share of sounds."""

    by: tuple[Literal["group", "corpus", "category"], ...] = ("group",)
    """group: every speaker; corpus: every corpus that has speech (a package, a site), its sounds and backgrounds too,
    other corpora dealt to the folds as wholes; with group too, the report tells what a foreign corpus costs. category:
    every kind of sound (a category up to its first "/") with corpora of speech: what it has never heard the like of."""
    over: Literal["pool", "all"] = "pool"
    """pool: the groups that train and choose. all: those of the tests too, so that everybody is tested once; the folds
    run after the thresholds are committed and the tests are opened, and nothing may be chosen from them."""
    conditions: Conditions = ("clean",)
    """Versions of every clip that choose a fold's threshold and are tested; the arm final is compared under each with
    the base model and evaluation.baselines, their thresholds chosen on the same clips."""
    arms: tuple[str, ...] = ()
    """Which arms run it; final is the config itself. Empty: none."""
    mode: Literal["fixed", "nested"] = "fixed"
    """fixed takes what search.best found on all speakers; nested searches again inside every fold, on its own training
    groups alone, which multiplies the fits by the points of the search."""
    folds: int | None = Field(None, ge=2)
    """Folds that hold out several speakers, or kinds of sounds, each; null: one fold for each of them."""
    dev_speakers: int = Field(2, ge=1)
    """Speakers of each fold's training groups that choose its epoch and threshold instead of training."""
    changes: dict[str, Any] = Field({})
    """Dotted settings of every fold's fit, such as {train.epochs: 3}: folds are many."""

    @field_validator("by", mode="before")
    @classmethod
    def _one_or_several(cls, by: Any) -> Any:
        return (by,) if isinstance(by, str) else by

    @field_validator("by")
    @classmethod
    def _each_once(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        if not by or len(set(by)) < len(by):
            raise ValueError("must name each of group, corpus and category once")
        return tuple(sorted(by, reverse=True))  # group first: corpora are compared with it


class ExecutorConfig(Section):
    """Where stacks train. Changes no result."""

    kind: Literal["local", "ray"] = "local"
    """local trains one stack after another in this process; ray gives each to a worker, and needs listenwell[ray]."""
    address: str | None = None
    """The Ray cluster (HOST:PORT or auto); null starts one on this machine. All must see the same files."""
    cpus: int = Field(1, ge=1)
    """CPU cores that Ray sets aside for a stack."""
    gpus: float = Field(0.0, ge=0)
    """GPUs that Ray sets aside for a stack; 0.5 lets two share one."""
    retries: int = Field(3, ge=0)
    """How often a stack goes on elsewhere, from its newest checkpoint, after its worker died."""
