"""Seeds: every random number of a run depends on (seed, purpose, step, rank), so that a resumed run draws the same."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["derive_seed", "seed_global_state", "seeded"]


def derive_seed(seed: int, purpose: str, *numbers: int) -> int:
    """A seed in [0, 2^63) for one purpose: the first 63 bits of a BLAKE2b hash of the arguments.

    >>> derive_seed(0, "noise", 10, 0) == derive_seed(0, "noise", 10, 0) != derive_seed(0, "noise", 11, 0)
    True
    """
    text = ":".join([purpose, *map(str, (seed, *numbers))])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def seed_global_state(seed: int) -> None:
    """Seed the global generators of torch, numpy and ``random``, which dropout and augmentations read."""
    # torch.manual_seed would queue calls for devices that are not in use, which takes longer than a small step.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (third-party augmentations read the global state)
    random.seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with the CPU's global generators seeded, and put their states back afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    # Not torch.manual_seed: that would seed the accelerators too, whose states are not put back.
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
