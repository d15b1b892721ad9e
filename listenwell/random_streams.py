"""Keyed random streams: the only place where randomness begins.

`stream(seed, *names)` maps a seed and a path of names, such as ("augment", epoch, clip_id, "mixing"), to an
independent generator. Nothing is shared between streams, so a draw depends on its key alone: not on the
number of workers, the batch size, the order of the clips or a restart. Philox is counter-based and takes its
128-bit key directly (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

import hashlib
import json

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of one key; the same key always gives the same draws."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *names)))


def stream_key(seed: int, *names: str | int) -> int:
    """Return the 128-bit Philox key of (seed, *names). The types count: 1 and "1" are different names."""
    canonical = json.dumps([seed, *names], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(canonical.encode(), digest_size=16).digest(), "little")
