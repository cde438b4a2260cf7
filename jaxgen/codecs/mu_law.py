"""Sound in 8 bits a sample: mu-law companding (ITU-T G.711's curve, as in WaveNet, 1609.03499)."""

from __future__ import annotations

import numpy as np

MU = 255


def encode_mu_law(samples: np.ndarray) -> np.ndarray:
    """Returns the level of each sample in [-1, 1]: int32 in [0, 255]; louder ones are cut off."""
    x = np.clip(np.asarray(samples, np.float64), -1, 1)
    bent = np.sign(x) * np.log1p(MU * np.abs(x)) / np.log1p(MU)
    return np.floor((bent + 1) / 2 * MU + 0.5).astype(np.int32)


def decode_mu_law(levels: np.ndarray) -> np.ndarray:
    """Returns the sample of each level: float32 in [-1, 1]."""
    bent = 2 * np.asarray(levels, np.float64) / MU - 1
    return (np.sign(bent) * np.expm1(np.abs(bent) * np.log1p(MU)) / MU).astype(np.float32)
