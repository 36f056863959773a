"""Randomness as a parameter: 64-bit seeds derived from names and numbers, and the generator built on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: int | str | bytes) -> int:
    """Derive a stable 64-bit seed, 0 <= seed < 2**64, that depends on every part and on their order.

    Parts are hashed with their type and length, so ``("a", "bc")``, ``("ab", "c")``, ``(1,)`` and ``("1",)`` all
    differ. The value is the same on every machine, in every process and in every Python version (unlike ``hash``).
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bool):
            raise TypeError("a seed part must be an int, a str or bytes, not a bool")
        if isinstance(part, int):
            tag, payload = b"i", str(part).encode()
        elif isinstance(part, str):
            tag, payload = b"s", part.encode("utf-8", "surrogatepass")
        else:
            tag, payload = b"b", part
        digest.update(tag + len(payload).to_bytes(8, "big") + payload)
    return int.from_bytes(digest.digest()[:8], "big")


def torch_generator(*parts: int | str | bytes, device: str = "cpu") -> torch.Generator:
    """Return a torch generator on ``device`` seeded with ``derive_seed(*parts)``."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Give back torch's global random state afterwards: making a model draws from it, and it is the caller's."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
