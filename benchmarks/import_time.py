"""What importing costs: ``import ornstein.core`` against ``import torch``, and how soon ``ornstein --help`` answers.

Each run is a fresh interpreter and the three take turns, so that a change of the machine's load meets all of them.
Target: importing the core takes at most 1.3 times as long as torch alone, and the help comes within 2 s of that.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import common

COMMANDS = {
    "torch": [sys.executable, "-c", "import torch"],
    "core": [sys.executable, "-c", "import ornstein.core"],
    "help": [str(Path(sys.executable).with_name("ornstein")), "--help"],
}


def run(command: list[str]) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    given = common.parser(__doc__).parse_args()
    rounds = 5 if given.quick else 15
    seconds = common.interleave({name: run(command) for name, command in COMMANDS.items()}, rounds, warmup=1)
    ratio = common.ratio(seconds["core"], seconds["torch"])
    help_after = statistics.median(h - t for h, t in zip(seconds["help"], seconds["torch"], strict=True))
    figures = {
        "core_to_torch": ratio.median,
        "core_to_torch_low": ratio.low,
        "core_to_torch_high": ratio.high,
        "help_after_torch_seconds": help_after,
        **{f"{name}_seconds": statistics.median(times) for name, times in seconds.items()},
    }
    passed = {"core_to_torch": ratio.median <= 1.3, "help_after_torch_seconds": help_after <= 2.0}
    return common.record("import_time", figures, passed, quick=given.quick)


if __name__ == "__main__":
    sys.exit(main())
