"""Sound files as other programs write them, made by FFmpeg's encoders and by editing headers."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ENCODERS = {
    ".mp3": "libmp3lame", ".mp2": "mp2", ".m4a": "aac", ".mp4": "aac", ".aac": "aac", ".mov": "pcm_s16le",
    ".webm": "libopus", ".mkv": "flac", ".mka": "libopus", ".ogg": "libopus", ".oga": "flac", ".wma": "wmav2",
    ".ac3": "ac3", ".eac3": "eac3", ".flv": "aac", ".ts": "aac", ".avi": "pcm_s16le", ".tta": "tta", ".wv": "wavpack",
    ".caf": "alac", ".aiff": "pcm_s16be", ".au": "pcm_mulaw", ".wav": "adpcm_ima_wav", ".flac": "flac",
}  # fmt: skip
"""Suffix -> the encoder of `encode`."""
CONTAINERS = {
    ".m4a": "ipod", ".mkv": "matroska", ".mka": "matroska", ".oga": "ogg", ".wma": "asf", ".aac": "adts",
    ".ts": "mpegts",
}  # fmt: skip
RATES_HZ = {".flv": 44_100, ".ac3": 48_000, ".eac3": 48_000}


def encode(path: Path, samples: np.ndarray, rate_hz: int = 16_000, **options: str) -> Path:
    """Write samples (n,) or (n, n_channels) within +-1 in the format of the suffix; options of the container."""
    form = CONTAINERS.get(path.suffix, path.suffix[1:])
    rate_out_hz = RATES_HZ.get(path.suffix, rate_hz)
    channels = samples.reshape(len(samples), -1)
    with av.open(str(path), "w", format=form, options=options) as container:
        layout = "mono" if channels.shape[1] == 1 else "stereo"
        stream = container.add_stream(ENCODERS[path.suffix], rate=rate_out_hz, layout=layout)
        if path.suffix == ".wma":
            stream.bit_rate = 64_000
        for first in range(0, len(channels), 1024):
            chunk = np.ascontiguousarray(channels[first : first + 1024].T.astype(np.float32))
            frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def change(path: Path, at: int, content: bytes) -> Path:
    """Overwrite bytes of a file."""
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)
    return path


def join(path: Path, *parts: Path) -> Path:
    """Write files end to end, as `cat` does."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    """Keep the first share of a file's bytes."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole)) + 3])
    return path
