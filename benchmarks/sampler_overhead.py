"""What a sampling loop costs outside of the network: ours against diffusers' schedulers of the same name.

The network returns its input.  Both loops start from the same (64, 3, 32, 32) float32 state under DDPM's 1,000 linear betas and
take the same number of steps; time is per evaluation of the network, with one thread and with two.  diffusers' loop is that of its
pipelines: `scale_model_input`, the network, `step`; its `set_timesteps` is not counted, ours includes everything.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from common import Outcome, alternate, main, ratio
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from ornstein.core import DDIM, SDE, DPMSolver, Euler, Heun, NetworkDenoiser, Sampler, TableSchedule
from torch import Tensor, nn

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


@torch.no_grad()
def peer_loop(scheduler: Any, network: nn.Module, x: Tensor) -> Tensor:
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


def peer(scheduler: Any, x: Tensor) -> Callable[[], Tensor]:
    network = Identity()

    def run() -> Tensor:
        # A scheduler remembers where it is in a run; this rewinds it.
        scheduler.set_timesteps(STEPS)
        return peer_loop(scheduler, network, x)

    return run


def setup_seconds(scheduler: Any, rounds: int) -> list[float]:
    return alternate({"setup": lambda: scheduler.set_timesteps(STEPS)}, rounds)["setup"]


def measure(options: argparse.Namespace) -> Outcome:
    x = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rounds = 6 if options.quick else 40
    figures: dict[str, float] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, (sampler, scheduler) in PAIRS.items():
            seconds = alternate({"ours": ours(sampler, x), "peer": peer(scheduler, x)}, rounds)
            setup = min(setup_seconds(scheduler, rounds))
            theirs = [s - setup for s in seconds["peer"]]
            calls = len(scheduler.timesteps)
            key = f"{name}_{threads}_thread" + ("s" if threads > 1 else "")
            figures |= {f"{key}_{part}": value for part, value in ratio(seconds["ours"], theirs).items()}
            figures[f"{key}_ms_per_call"] = 1e3 * sorted(seconds["ours"])[rounds // 2] / sampler.nfe()
            figures[f"{key}_peer_ms_per_call"] = 1e3 * sorted(theirs)[rounds // 2] / calls
    worst = max(value for key, value in figures.items() if key.endswith("_ratio"))
    figures["worst_ratio"] = worst
    return Outcome(figures, {"worst_ratio": worst <= 0.5}, seeds=[0])


if __name__ == "__main__":
    main("sampler_overhead", measure, description=__doc__)
