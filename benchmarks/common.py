"""What every benchmark shares: fair timing in one process, peak memory, the machine's description and the record."""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
TRAINING = {
    "optimizer": "muon",
    "schedule": "linear",
    "betas": (0.9, 0.98),
    "sample_every": 0,
    "validate_every": 10**9,
    "checkpoint_every": 10**9,
    "log_every_n_steps": 200,
}
"""Options of ``fit`` for runs whose time is measured: nothing is drawn, validated or saved on the way."""


class Ratio(NamedTuple):
    """Quotients of two contestants' times, turn by turn: the median, and the quartiles as their spread."""

    median: float
    low: float
    high: float


def interleave(contestants: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each call, in turns (A B C A B C ...), so that a change of the machine's speed meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-warmup, rounds):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Ours over theirs of the same turn."""
    low, median, high = statistics.quantiles([a / b for a, b in zip(ours, theirs, strict=True)], n=4)
    return Ratio(median, low, high)


def peak_growth(work: Callable[[], object]) -> int:
    """Bytes by which ``work`` raises the peak of this process' resident memory above what is resident before it.

    Call it :func:`in_fresh_process`, after the imports: memory that an allocator kept from earlier work hides growth.
    """
    before = _status("VmRSS") or _peak_so_far()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # sets the kernel's high-water mark VmHWM back to what is resident now
    work()
    return (_status("VmHWM") or _peak_so_far()) - before


def _status(key: str) -> int:
    """A size in bytes from Linux' account of this process; 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def _peak_so_far() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of ``function(*arguments)``, called in a new interpreter."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


AIM = 0.92
"""Of a budget: from one minute to the next a machine's speed wanders by about a tenth, and a budget is not overrun."""


def steps_within(seconds: float, train: Callable[[int], float], first: int = 5, more: int = 25) -> int:
    """How many steps of training fit into so many seconds, at least 10, found by short runs, which do not count.

    Args:
        seconds: of a run, its start included.
        train: trains a new model for so many steps and returns the seconds.
        first: steps of the shortest run, over which compilers and caches settle.
        more: by how many steps the next is longer. A third, of up to ten times as many, follows where these are little
            of the whole: a few steps are no fair sample of all.
    """
    few = train(first)

    def cost(further: int) -> float:
        return max((train(first + further) - few) / further, 1e-4)

    each = cost(more)
    if (further := min(int(0.05 * seconds / each), 10 * more)) > more:
        each = cost(further)
    steps = max(10, int((AIM * seconds - few) / each))
    print(f"{each:.3f} s a step: {steps} steps", file=sys.stderr, flush=True)
    return steps


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has: ``--quick`` and ``--threads``."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a rough run of less than a minute; records nothing")
    options.add_argument("--threads", type=int, default=1, help="torch threads (default: %(default)s)")
    return options


def set_threads(threads: int) -> None:
    """Let torch work with this many threads."""
    import torch

    torch.set_num_threads(threads)


def recorded(name: str) -> tuple[dict[str, float], dict[str, bool]]:
    """Figures and checks of the last record, for runs of a part that leave the others' as they are; none without."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return {}, {}
    last = json.loads(path.read_text())
    return last["figures"], last["passed"]


def record(
    name: str,
    figures: Mapping[str, float],
    passed: Mapping[str, bool],
    *,
    seeds: Sequence[int] = (),
    quick: bool = False,
    threads: int = 1,
    packages: Sequence[str] = (),
) -> int:
    """Write ``results/NAME.json``, print the same object as the last line, and return the exit status.

    The status is 0 when all of ``passed`` hold, else 1. A quick run says so in the object and leaves the recorded
    result alone.
    """
    from ornstein.core.provenance import commit, machine

    result = {
        "name": name,
        "commit": commit(),
        "machine": machine(packages) | {"threads": threads},
        "seeds": list(seeds),
        "figures": {k: v if isinstance(v, int) else float(f"{v:.6g}") for k, v in figures.items()},
        "passed": dict(passed),
    }
    if quick:
        result["quick"] = True
    else:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0 if all(passed.values()) else 1
