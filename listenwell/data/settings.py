"""Which recordings a study uses, and how many of them may be unreadable."""

from typing import Annotated, Literal

from pydantic import Field

from listenwell.section import Section


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
    store_backgrounds: bool = False
    """Resample all backgrounds once into one 16 kHz, 16 bit file in the cache, mapped into memory: for large banks."""
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
