"""Noise from the operating system's generator: nothing that is stored, or could be guessed from it, repeats it.

A recorded seed would let anybody subtract the noise, and void the guarantee.
"""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from torch import Tensor

_UNIT = 2.0**-53


def secret_uniform(count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return numbers in (0, 1] of 53 random bits each."""
    bits = np.frombuffer(os.urandom(8 * count), dtype=np.uint64)
    return ((bits >> np.uint64(11)).astype(np.float64) + 1.0) * _UNIT


def secret_normal(count: int) -> Tensor:
    """Return standard normal numbers in float64, shape (count,): each half the sum of four.

    The sum hides which floating-point numbers a single transformed uniform cannot reach, by which noise can be told
    from data (Mironov 2012; Holohan and Braghin 2021, whose remedy this is).
    """
    total = torch.zeros(count, dtype=torch.float64)
    half = (count + 1) // 2
    for _ in range(4):
        uniform = torch.from_numpy(secret_uniform(2 * half))
        radius, angle = (-2 * uniform[:half].log()).sqrt(), 2 * math.pi * uniform[half:]
        total += torch.cat([radius * angle.cos(), radius * angle.sin()])[:count]
    return total / 2


def poisson_sample(count: int, rate: float) -> Tensor:
    """Return which of `count` are drawn, each by itself with probability `rate`: indices, in order."""
    return torch.from_numpy(np.flatnonzero(secret_uniform(count) <= rate))


def secret_generator() -> torch.Generator:
    """Return a generator for what is random and protects nothing, such as the order of fields, of no recorded seed."""
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
