"""Test problems for samplers: starts and the exact ends of the probability-flow ODE, schedules, counted calls."""

import math

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    SDE,
    CosineSchedule,
    Denoiser,
    EDMSchedule,
    FlowSchedule,
    GaussianDenoiser,
    PolynomialSchedule,
    Schedule,
    ShiftedSchedule,
    SigmoidSchedule,
    SubVPSchedule,
    TableSchedule,
    UniformLogSNR,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNR,
)
from ornstein.core.testing import anisotropic_gaussian, three_modes

SCHEDULES: list[Schedule] = [
    VPSchedule(),
    SubVPSchedule(),
    CosineSchedule(),
    PolynomialSchedule(),
    SigmoidSchedule(),
    VESchedule(0.002, 80.0),
    EDMSchedule(),
    FlowSchedule(),
    TableSchedule.linear(),
    ShiftedSchedule(FlowSchedule(), 3.0),
    ZeroTerminalSNR(TableSchedule.scaled_linear()),
]
# From noise ten times the data to noise a tenth of it, the range of the published order tests.
MIDDLE = UniformLogSNR(-2 * math.log(10), 2 * math.log(10), clean=False)
LOW = UniformLogSNR(-2 * math.log(10), -2 * math.log(0.05), clean=False)


def gaussian_problem(schedule: Schedule, grid: UniformLogSNR = MIDDLE) -> tuple[GaussianDenoiser, Tensor, Tensor]:
    """Denoiser, start and the exact end of the probability-flow ODE over the grid's range."""
    process = SDE(schedule)
    denoiser = anisotropic_gaussian(process)
    start, end = grid(1, process)
    x = denoiser.sample(32, start.item(), generator=torch.Generator().manual_seed(1))
    return denoiser, x, denoiser.flow(x, start.item(), end.item())


def mixture_problem(schedule: Schedule) -> tuple[Denoiser, Tensor, Tensor]:
    """As `gaussian_problem`, with a mixture; the end comes from an independent adaptive solver."""
    scipy_integrate = pytest.importorskip("scipy.integrate")
    process = SDE(schedule)
    denoiser = three_modes(process)
    grid = MIDDLE(1, process)
    x = denoiser.sample(16, grid[0].item(), generator=torch.Generator().manual_seed(2))
    exploding = SDE(EDMSchedule(1e3))
    exact = three_modes(exploding)

    def slope(log_ratio: float, y: object) -> object:
        ratio = math.exp(log_ratio)
        state = torch.as_tensor(y, dtype=torch.float64).reshape(-1, 2)
        return (ratio * exact(state, ratio / 1e3).eps).flatten().numpy()

    start, end = (process.level(t) for t in grid.tolist())
    span = [-0.5 * start.log_snr, -0.5 * end.log_snr]
    y = (x / start.alpha).flatten().numpy()
    solution = scipy_integrate.solve_ivp(slope, span, y, method="DOP853", rtol=1e-12, atol=1e-12)
    return denoiser, x, end.alpha * torch.from_numpy(solution.y[:, -1]).reshape(-1, 2)


class Counting(Denoiser):
    """Counts its calls."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.process)
        self.denoiser, self.calls = denoiser, 0

    def forward(self, x_t: Tensor, t: Tensor | float, **condition: Tensor) -> object:
        self.calls += 1
        return self.denoiser(x_t, t, **condition)
