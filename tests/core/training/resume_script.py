"""Training runs as a program, for tests that kill it: OPTIONS, the step at which it kills itself (0: never), RUN ..."""

import json
import os
import signal
import sys
from typing import Any

import ornstein_toy as toy
import torch
from lightning.pytorch import Callback


class Kill(Callback):
    """SIGKILL after a step that made no checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(run: str, step: int, options: dict[str, Any]) -> None:
    """Train, and be killed after ``step`` (0: never)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = toy.ToyData(**options.get("data", {}))
    rest = {name: value for name, value in options.items() if name != "data"}
    toy.ToyDiffusion().fit(data, run=run, callbacks=[Kill(step)] if step else [], **rest)


if __name__ == "__main__":
    for folder in sys.argv[3:]:
        train(folder, int(sys.argv[2]), json.loads(sys.argv[1]))
