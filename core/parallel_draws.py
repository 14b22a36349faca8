"""Samples of a saved model as arrays, drawn by one process or by several.

Sample ``i`` is a function of the seed and of ``i``, so that it does not matter which process drew it.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from .adapter import DomainAdapter

__all__ = ["device_of", "draw_arrays"]


def draw_arrays(
    adapter: DomainAdapter,
    checkpoint: str,
    num: int,
    processes: int,
    request: Mapping[str, Any],
    condition: Mapping[str, Any],
    *,
    progress: bool = False,
) -> dict[str, Any]:
    """Samples as `DomainAdapter.pack` gives them.

    Args:
        adapter: the model, on the CPU afterwards.
        checkpoint: where it was loaded from; each of several processes loads it for itself.
        num: number of samples, at least 1.
        processes: at least 1; each has a GPU to itself where there are any, else a core.
        request: what ``sample`` takes beside the conditions: ``sampler``, ``seed``, ``batch_size``, ``guidance``.
        condition: by name, one value a sample.
        progress: show a bar; one process only.

    Raises:
        ValueError: more processes than the machine has GPUs, or cores where it has no GPU.
    """
    if processes > 1:
        return _draw_in_processes(checkpoint, num, processes, request, condition)
    adapter.to(device_of(0))
    with _one_thread():
        samples = adapter.sample(num, **request, progress=progress, **condition)
    return adapter.cpu().pack(samples)


def _draw_in_processes(
    checkpoint: str, num: int, processes: int, request: Mapping[str, Any], condition: Mapping[str, Any]
) -> dict[str, Any]:
    """The samples of several processes, each of which draws a contiguous share."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else _cores()
    if processes > there:
        kind = "GPUs" if torch.cuda.is_available() else "CPU cores"
        raise ValueError(f"--devices {processes}: this machine has {there} {kind}; give a number from 1 to {there}")
    bounds = [num * i // processes for i in range(processes + 1)]
    # Fresh processes: a forked copy of one that has used threads or a GPU may hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        shares = [
            pool.submit(
                _draw_share, checkpoint, rank, first, last - first, dict(request),
                {name: value[first:last] for name, value in condition.items()},
            )
            for rank, (first, last) in enumerate(pairwise(bounds))
            if last > first
        ]  # fmt: skip
        parts = [share.result() for share in shares]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _draw_share(
    checkpoint: str,
    rank: int,
    first: int,
    num: int,
    request: dict[str, Any],
    condition: dict[str, Any],
) -> dict[str, Any]:
    adapter = DomainAdapter.from_pretrained(checkpoint).to(device_of(rank))
    with _one_thread():
        samples = adapter.sample(num, first=first, **request, **condition)
    return adapter.cpu().pack(samples)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch on the CPU: sums split among threads are rounded otherwise than whole ones."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_of(index: int) -> str:
    """The GPU of this number, or the CPU where there is none."""
    return f"cuda:{index}" if torch.cuda.is_available() else "cpu"
