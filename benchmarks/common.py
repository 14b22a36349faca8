"""What every benchmark shares: fair timing in one process, the machine's description and the form of the result."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Outcome(NamedTuple):
    """What a benchmark measured: figures by name, which goals they reach, and the seeds used."""

    figures: dict[str, float]
    passed: dict[str, bool]
    seeds: Sequence[int] = ()


def alternate(contestants: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each call, in turns (A B C A B C ...), so that a change of the machine's speed meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(-warmup, rounds):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours over theirs, turn by turn: the median, and the quartiles as spread."""
    quotients = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(quotients, n=4)
    return {"ratio": middle, "ratio_low": low, "ratio_high": high}


def machine(threads: int | None = None) -> dict[str, Any]:
    """The processor, its cores, the system and the versions that matter."""
    import torch

    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": threads if threads is not None else torch.get_num_threads(),
    }


def commit() -> str:
    """The commit of the working tree, marked where it has changes."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def main(
    name: str, measure: Callable[[argparse.Namespace], Outcome], *, description: str | None = None, threads: int = 1
) -> None:
    """Run a benchmark from the command line: write ``results/NAME.json`` and print the same object as the last line.

    ``--quick`` ends within a minute, says so in the object and leaves the recorded result alone.
    """
    import torch

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a rough run of less than a minute")
    parser.add_argument("--threads", type=int, default=threads, help="torch threads (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    outcome = measure(options)
    result = {
        "name": name,
        "commit": commit(),
        "machine": machine(options.threads),
        "seeds": list(outcome.seeds),
        "figures": {key: round(value, 6) for key, value in outcome.figures.items()},
        "passed": outcome.passed,
    }
    if options.quick:
        result["quick"] = True
    else:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
