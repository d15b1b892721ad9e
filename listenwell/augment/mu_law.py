"""The mu-law codec of telephone lines: 8 bits a sample, finer steps for quieter samples (ITU-T G.711, mu = 255).

    y = sign(x) ln(1 + mu |x|) / ln(1 + mu), rounded to 255 levels, and back: the curve's continuous form.
The rounding is about 38 dB below the signal over 40 dB of levels. G.711 works at 8 kHz; here it rounds 16 kHz samples,
and the line's band filter, which comes after, takes away what the rounding put beyond the band.
Waveforms: mono float32 (n_samples,), within +-1.
"""

import numpy as np

from listenwell.data.audio import Waveform

MU = 255.0
LEVELS_PER_SIDE = 127


def code_mu_law(samples: Waveform) -> Waveform:
    """Return the samples after coding and decoding, same shape; 0 stays 0, +-1 stay +-1, beyond is held there."""
    held = np.clip(samples.astype(np.float64), -1, 1)
    coded = np.rint(np.log1p(MU * np.abs(held)) / np.log1p(MU) * LEVELS_PER_SIDE)
    decoded: Waveform = (np.sign(held) * np.expm1(coded / LEVELS_PER_SIDE * np.log1p(MU)) / MU).astype(np.float32)
    return decoded
