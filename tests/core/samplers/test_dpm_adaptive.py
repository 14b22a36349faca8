"""DPM-Solver with error control: the error it promises, its counts, samples apart from one another."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    SDE,
    CosineSchedule,
    Denoiser,
    DPMSolverAdaptive,
    EDMSchedule,
    FlowSchedule,
    Posterior,
    Schedule,
    UniformLogSNR,
    VPSchedule,
)
from ornstein.core.samplers import AdaptiveStep, SampleStep
from ornstein.core.testing import anisotropic_gaussian, three_modes

MIDDLE = UniformLogSNR(-2 * math.log(10), 2 * math.log(10), clean=False)


class Counting(Denoiser):
    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.process)
        self.denoiser, self.calls = denoiser, 0

    def forward(self, x_t: Tensor, t: Tensor | float, **condition: Tensor) -> Posterior:
        self.calls += 1
        return self.denoiser(x_t, t, **condition)


def last_step(sampler: DPMSolverAdaptive, denoiser: Denoiser, x: Tensor) -> tuple[Tensor, AdaptiveStep]:
    steps: list[SampleStep] = []
    out = sampler.sample(denoiser, x.shape, x=x, callback=steps.append)
    assert isinstance(steps[-1], AdaptiveStep)
    return out, steps[-1]


@pytest.mark.parametrize("schedule", [CosineSchedule(), EDMSchedule(), FlowSchedule()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("predicts", ["eps", "mean"])
@pytest.mark.parametrize("order", [2, 3])
def test_the_error_follows_the_tolerance(order: int, predicts: str, schedule: Schedule) -> None:
    denoiser = anisotropic_gaussian(SDE(schedule))
    start, end = MIDDLE(1, denoiser.process).tolist()
    x = denoiser.sample(32, start, generator=torch.Generator().manual_seed(1))
    exact = denoiser.flow(x, start, end)
    evaluations = []
    for tolerance in (1e-2, 1e-3, 1e-4):
        sampler = DPMSolverAdaptive(order=order, predicts=predicts, rtol=tolerance, atol=tolerance, grid=MIDDLE)
        out, step = last_step(sampler, denoiser, x)
        assert (out - exact).abs().max() < 10 * tolerance * exact.abs().max()
        evaluations.append(step.evaluations)
    assert evaluations == sorted(evaluations)
    assert evaluations[0] < evaluations[2]


@pytest.mark.parametrize("schedule", [VPSchedule(), FlowSchedule()], ids=lambda s: type(s).__name__)
def test_reported_evaluations_are_the_calls(schedule: Schedule) -> None:
    """From pure noise as well, to clean data."""
    denoiser = Counting(three_modes(SDE(schedule)))
    x = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _, step = last_step(DPMSolverAdaptive(), denoiser, x)
    assert step.evaluations == denoiser.calls
    assert step.s == 0
    with pytest.raises(TypeError, match="chooses its steps by their error"):
        DPMSolverAdaptive().nfe()


def test_samples_do_not_depend_on_their_neighbours() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = DPMSolverAdaptive(rtol=1e-3, atol=1e-3)
    together = sampler.sample(denoiser, (5, 2), seed=3)
    alone = torch.cat([sampler.sample(denoiser, (1, 2), seed=3, first=i) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_padding_stays_zero_and_out_of_the_error() -> None:
    denoiser = anisotropic_gaussian(SDE(VPSchedule()))
    mask = torch.tensor([[True, True, False]] * 4)
    out = DPMSolverAdaptive().sample(denoiser, (4, 3), seed=0, mask=mask)
    assert (out[:, 2] == 0).all()
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 1}, "order=1"),
        ({"rtol": 0.0}, "rtol=0"),
        ({"safety": 1.5}, "safety=1.5"),
        ({"predicts": "v"}, "predicts"),
    ],
)
def test_impossible_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DPMSolverAdaptive(), **settings)
