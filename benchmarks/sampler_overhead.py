"""What a sampling loop costs outside of the network: ours against diffusers' schedulers of the same name.

The network returns its input.  Both loops start from the same (64, 3, 32, 32) float32 state under DDPM's 1,000 linear
betas and take the same number of steps; time is per evaluation of the network, with one thread and with two.
diffusers' loop is that of its pipelines (`scale_model_input`, the network, `step`) without `set_timesteps`.  Ours
is `sample`, which makes its plan in the first, uncounted run and remembers it: neither side's times include the set-up
of the grid.

Limits: half of diffusers' time, and with the better number of threads 0.1 ms a call for methods of first order and
0.25 ms for multistep methods.  The times depend on the machine and on what else runs there; the ratios hardly do.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

import common
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor, nn

from ornstein.core import DDIM, SDE, DPMSolver, Euler, Heun, NetworkDenoiser, Sampler, TableSchedule
from ornstein.core.samplers import DEIS, UniPC

STEPS = 50
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
PAIRS: dict[str, tuple[Sampler, Any]] = {
    "ddim": (DDIM(STEPS), DDIMScheduler(**BETAS, clip_sample=False)),
    "euler": (Euler(STEPS), EulerDiscreteScheduler(**BETAS)),
    "heun": (Heun(STEPS), HeunDiscreteScheduler(**BETAS)),
    "dpm_solver_2m": (DPMSolver(STEPS), DPMSolverMultistepScheduler(**BETAS)),
    "unipc_2": (UniPC(STEPS, order=2), UniPCMultistepScheduler(**BETAS, solver_order=2)),
    "deis_3": (DEIS(STEPS, order=3), DEISMultistepScheduler(**BETAS, solver_order=3)),
}
KINDS = {"first_order": ("ddim", "euler"), "multistep": ("dpm_solver_2m", "unipc_2", "deis_3")}
LIMITS = {"worst_ratio": 0.5, "worst_first_order_ms": 0.1, "worst_multistep_ms": 0.25}


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
    for kind, names in KINDS.items():
        times = [min(figures[f"{name}_threads_{threads}_ms_per_call"] for threads in (1, 2)) for name in names]
        figures[f"worst_{kind}_ms"] = max(times)
    passed = {key: figures[key] <= limit for key, limit in LIMITS.items()}
    return common.record("sampler_overhead", figures, passed, seeds=[0], quick=given.quick, packages=("diffusers",))


if __name__ == "__main__":
    sys.exit(main())
