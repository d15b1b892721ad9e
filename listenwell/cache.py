"""Where downloaded weights and recordings live: one folder per user, shared by all studies."""

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the folder named by LISTENWELL_CACHE, else ~/.cache/listenwell; it may not exist yet."""
    chosen = os.environ.get("LISTENWELL_CACHE")
    return Path(os.path.abspath(chosen)) if chosen else Path.home() / ".cache" / "listenwell"
