"""What a sampling loop costs outside of the network: ours against diffusers' schedulers of the same name.

The network returns its input.  Both loops start from the same (64, 3, 32, 32) float32 state under DDPM's 1,000 linear
betas and take the same number of steps; time is per evaluation of the network, with one thread and with two.
diffusers' loop is that of its pipelines (`scale_model_input`, the network, `step`) without `set_timesteps`.  Ours
is `sample`, which makes its plan in the first, uncounted run and remembers it: neither side's times include the set-up
of the grid.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

import common
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch import Tensor, nn

from ornstein.core import DDIM, SDE, DPMSolver, Euler, Heun, NetworkDenoiser, Sampler, TableSchedule

STEPS = 50
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
PAIRS: dict[str, tuple[Sampler, Any]] = {
    "ddim": (DDIM(STEPS), DDIMScheduler(**BETAS, clip_sample=False)),
    "euler": (Euler(STEPS), EulerDiscreteScheduler(**BETAS)),
    "heun": (Heun(STEPS), HeunDiscreteScheduler(**BETAS)),
    "dpm_solver_2m": (DPMSolver(STEPS), DPMSolverMultistepScheduler(**BETAS)),
}


class Identity(nn.Module):
    """A network that returns its input."""

    def forward(self, x: Tensor, noise_level: Tensor) -> Tensor:
        return x


def ours(sampler: Sampler, x: Tensor) -> Callable[[], Tensor]:
    denoiser = NetworkDenoiser(Identity(), SDE(TableSchedule.linear()), prediction="eps")
    return lambda: sampler.sample(denoiser, x.shape, x=x)


class PeerLoop:
    """diffusers' loop; `rewind` is apart, because a scheduler remembers where it is in a run."""

    def __init__(self, scheduler: Any, x: Tensor) -> None:
        self.scheduler, self.x, self.network = scheduler, x, Identity()

    def rewind(self) -> None:
        self.scheduler.set_timesteps(STEPS)

    @torch.no_grad()
    def run(self) -> Tensor:
        x = self.x
        for t in self.scheduler.timesteps:
            x = self.scheduler.step(self.network(self.scheduler.scale_model_input(x, t), t), t, x).prev_sample
        return x


def measure_pair(sampler: Sampler, scheduler: Any, x: Tensor, rounds: int) -> dict[str, float]:
    peer = PeerLoop(scheduler, x)
    seconds = common.interleave({"ours": ours(sampler, x), "rewind": peer.rewind, "peer": peer.run}, rounds)
    calls = len(scheduler.timesteps)
    ratio = common.ratio([s / sampler.nfe() for s in seconds["ours"]], [s / calls for s in seconds["peer"]])
    return {
        "ratio": ratio.median,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "ms_per_call": 1e3 * statistics.median(seconds["ours"]) / sampler.nfe(),
        "peer_ms_per_call": 1e3 * statistics.median(seconds["peer"]) / calls,
    }


def main() -> int:
    given = common.parser(__doc__).parse_args()
    x = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rounds = 5 if given.quick else 40
    figures: dict[str, float] = {}
    for threads in (1, 2):
        common.set_threads(threads)
        for name, (sampler, scheduler) in PAIRS.items():
            measured = measure_pair(sampler, scheduler, x, rounds)
            figures |= {f"{name}_threads_{threads}_{key}": value for key, value in measured.items()}
    figures["worst_ratio"] = max(value for key, value in figures.items() if key.endswith("_ratio"))
    passed = {"worst_ratio": figures["worst_ratio"] <= 0.5}
    return common.record("sampler_overhead", figures, passed, seeds=[0], quick=given.quick, packages=("diffusers",))


if __name__ == "__main__":
    sys.exit(main())
