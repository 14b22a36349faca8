"""Implicit and sliced score matching against closed forms; a noise-conditional score network from data to samples."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    AnnealedLangevin,
    CosineSchedule,
    Denoiser,
    DenoisingObjective,
    DiscreteTimes,
    FlowSchedule,
    GaussianDenoiser,
    GaussianPosterior,
    ImplicitScoreMatching,
    LikelihoodWeighting,
    MixtureDenoiser,
    NetworkDenoiser,
    Posterior,
    PredictorCorrector,
    Schedule,
    SlicedScoreMatching,
    UniformLogSNR,
    UniformTimes,
    UniformWeighting,
    VESchedule,
    VPSchedule,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.evaluation import sliced_wasserstein
from ornstein.core.nn import MLP
from ornstein.core.testing import anisotropic_gaussian

DIRECTIONS = ("rademacher", "gaussian", "sphere")
ALL = [
    ImplicitScoreMatching(log_snr=0.5),
    *[SlicedScoreMatching(log_snr=0.5, directions=d, reduced=r) for d in DIRECTIONS for r in (True, False)],
]


def name(value: object) -> str:
    parts = [type(value).__name__, getattr(value, "directions", ""), str(getattr(value, "reduced", ""))]
    return "-".join(p for p in parts if p)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class LinearScore(Denoiser):
    """The score ``A x + b`` at every level."""

    def __init__(self, process: SDE, a: Tensor, b: Tensor) -> None:
        super().__init__(process)
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def forward(self, x_t: Tensor, t: Any, **condition: Any) -> Posterior:
        level = self.process.level(t)
        shaped = level.like(x_t)
        score = x_t @ self.a.T + self.b
        return GaussianPosterior(x_t, self.process, level, (x_t + shaped.sigma**2 * score) / shaped.alpha)


def exact(schedule: Schedule, log_snr: float) -> tuple[GaussianDenoiser, Tensor, Tensor, float]:
    """A Gaussian, its covariance and mean at a level, and sigma there."""
    data = anisotropic_gaussian(SDE(schedule))
    level = data.process.level(float(schedule.time(log_snr)))
    covariance = level.alpha**2 * data.covariance + level.sigma**2 * torch.eye(3, dtype=torch.float64)
    return data, covariance, level.alpha * data.mean, level.sigma


@pytest.mark.parametrize("schedule", [VPSchedule(), VESchedule(), FlowSchedule()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("objective", ALL, ids=name)
def test_expected_loss_is_fisher_divergence_less_the_constant(objective: Any, schedule: Schedule) -> None:
    """For s = A x + b on N(m, C) it is tr(E C E^T) + |A m + b|^2 with E = A + C^-1; the constant is tr C^-1."""
    data, covariance, mean, sigma = exact(schedule, 0.5)
    a = -torch.tensor([[1.2, 0.3, 0.0], [-0.2, 0.8, 0.4], [0.1, 0.0, 2.0]], dtype=torch.float64)
    b = torch.tensor([0.2, -0.4, 0.1], dtype=torch.float64)
    off = a + torch.linalg.inv(covariance)
    divergence = (off @ covariance @ off.T).trace() + (a @ mean + b).square().sum()
    expected = (sigma**2 * (divergence - torch.linalg.inv(covariance).trace()) / 3).item()
    num = 40_000
    with torch.no_grad():
        loss = objective(
            LinearScore(data.process, a, b), data.sample(num, generator=generator()), generator=generator(1)
        )
    assert not loss.requires_grad
    assert abs(loss.mean().item() - expected) < 4 * loss.std().item() / num**0.5


@pytest.mark.parametrize("objective", ALL, ids=name)
def test_gradient_vanishes_at_the_true_score(objective: Any) -> None:
    """Within Monte-Carlo error, estimated from 40 batches, of each of the 12 parameters; elsewhere it does not."""
    data, covariance, mean, _ = exact(CosineSchedule(), 0.5)
    inverse = torch.linalg.inv(covariance)

    def gradients(a: Tensor, b: Tensor) -> Tensor:
        denoiser, x0 = LinearScore(data.process, a, b), data.sample(40_000, generator=generator(3))
        noise, rows = generator(103), []
        for part in x0.split(1000):
            loss = objective(denoiser, part, generator=noise).mean()
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, [denoiser.a, denoiser.b])]))
        return torch.stack(rows)

    def sigmas(rows: Tensor) -> Tensor:
        return rows.mean(0).abs() / (rows.std(0) / len(rows) ** 0.5)

    assert sigmas(gradients(-inverse, inverse @ mean)).max() < 4.5
    assert sigmas(gradients(-1.3 * inverse, inverse @ mean)).max() > 10


def test_slices_average_to_the_exact_divergence() -> None:
    """On one batch, many slices of the reduced form approach the implicit loss; one Rademacher slice is exact for a
    diagonal Jacobian.
    """
    data = anisotropic_gaussian(SDE(CosineSchedule()))
    x0 = data.sample(16, generator=generator())
    implicit = ImplicitScoreMatching(log_snr=0.0)(data, x0, generator=generator(1))
    for directions in DIRECTIONS:
        sliced = SlicedScoreMatching(log_snr=0.0, slices=800, directions=directions)
        assert (sliced(data, x0, generator=generator(1)) - implicit).abs().max() < 0.25
    diagonal = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(3), torch.tensor([0.5, 1.0, 2.0]).diag())
    one = SlicedScoreMatching(log_snr=0.0)(diagonal, x0, generator=generator(1))
    torch.testing.assert_close(one, ImplicitScoreMatching(log_snr=0.0)(diagonal, x0, generator=generator(1)))


@pytest.mark.parametrize("weighting", [UniformWeighting(), UniformWeighting("v"), LikelihoodWeighting()], ids=repr)
@pytest.mark.parametrize("kind", [ImplicitScoreMatching, SlicedScoreMatching])
def test_differs_from_denoising_by_a_constant(kind: Any, weighting: Any) -> None:
    """The difference of two models' losses is the same under both objectives, over random times."""
    data = anisotropic_gaussian(SDE(CosineSchedule()))
    other = GaussianDenoiser(data.process, data.mean + 0.3, 1.3 * data.covariance)
    num = 30_000
    x0 = data.sample(num, generator=generator())
    times = _Inner()

    def difference(objective: Any) -> Tensor:
        with torch.no_grad():
            return objective(other, x0, generator=generator(1)) - objective(data, x0, generator=generator(1))

    gap = difference(kind(weighting, times)) - difference(DenoisingObjective(weighting, times))
    assert abs(gap.mean().item()) < 4 * gap.std().item() / num**0.5
    assert difference(DenoisingObjective(weighting, times)).mean() > 0


class _Inner(UniformTimes):
    """Times between 0.2 and 0.8, where the variance of the estimates is moderate."""

    def draw(self, batch: int, process: SDE, generator: torch.Generator | None = None) -> tuple[Tensor, float]:
        return 0.2 + 0.6 * super().draw(batch, process, generator)[0], 1.0


def test_mask_leaves_padding_out() -> None:
    """The loss of a padded sample is that of the sample alone, and the padding gets no gradient."""

    class Each(Denoiser):
        def forward(self, x_t: Tensor, t: Any, *, mask: Tensor | None = None, **condition: Any) -> Posterior:
            return GaussianPosterior(x_t, self.process, self.process.level(t), 0.3 * x_t.tanh() + 0.1)

    denoiser, objective = Each(SDE(CosineSchedule())), ImplicitScoreMatching(log_snr=0.0)
    x0 = torch.randn(2, 4, 3, dtype=torch.float64)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    loss = objective(denoiser, x0, mask=mask, generator=generator())
    changed = x0.clone()
    changed[1, 2:] = 77.0
    torch.testing.assert_close(objective(denoiser, changed, mask=mask, generator=generator()), loss)
    full = objective(denoiser, x0, generator=generator())
    torch.testing.assert_close(full[0], loss[0])
    assert full[1] != loss[1]
    for directions in DIRECTIONS:
        sliced = SlicedScoreMatching(log_snr=0.0, slices=400, directions=directions)
        assert (sliced(denoiser, x0, mask=mask, generator=generator()) - loss).abs().max() < 0.15


def test_works_in_inference_mode_and_keeps_gradients_in_training() -> None:
    denoiser = NetworkDenoiser(MLP(3, width=8, depth=1), SDE(CosineSchedule()), "score")
    with torch.inference_mode():
        loss = SlicedScoreMatching()(denoiser, torch.randn(4, 3))
    assert loss.isfinite().all()
    SlicedScoreMatching()(denoiser, torch.randn(4, 3)).mean().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in denoiser.parameters())


def test_configuration_and_impossible_options() -> None:
    objective = SlicedScoreMatching(LikelihoodWeighting(), DiscreteTimes(7), slices=3, directions="sphere")
    assert to_config(from_config(to_config(objective))) == to_config(objective)
    for options, message in (
        ({"slices": 0}, "slices=0"),
        ({"directions": "axes"}, "directions='axes'"),
        ({"times": UniformTimes(), "log_snr": 1.0}, "log_snr=1.0: expected None where times are given"),
    ):
        with pytest.raises(ValueError, match=message):
            SlicedScoreMatching(**options)
    with pytest.raises(TypeError, match="weighting=3"):
        ImplicitScoreMatching(3)  # type: ignore[arg-type]


def test_noise_conditional_score_network_from_data_to_samples() -> None:
    """Geometric levels, score prediction, sigma^2 weighting; samples by annealed Langevin and by predictor-corrector.

    Two real sets of 1,000 lie 0.06 apart, and samples of 700 iterations about 0.1 from the data.
    """
    process = SDE(VESchedule(0.05, 10.0))
    mixture = MixtureDenoiser(process, [0.5, 0.3, 0.2], [[-2.0, 0.0], [1.0, 1.5], [1.5, -1.0]], [0.7, 0.4, 0.5])
    data, real = (mixture.sample(2000, generator=generator(seed)).float() for seed in (0, 1))
    torch.manual_seed(0)
    denoiser = NetworkDenoiser(MLP(2, width=64, depth=2), process, "score", sigma_data=2.0)
    objective, noise = DenoisingObjective(times=DiscreteTimes(100)), generator(2)
    optimiser = torch.optim.Adam(denoiser.parameters(), 3e-3)
    for i in range(ITERATIONS):
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - i / ITERATIONS)
        batch = data[torch.randint(len(data), (256,), generator=noise)]
        optimiser.zero_grad()
        objective(denoiser, batch, generator=noise).mean().backward()
        optimiser.step()
    denoiser.eval()
    for sampler in (AnnealedLangevin(30), PredictorCorrector(60)):
        samples = sampler.sample(denoiser, (1000, 2), seed=0)
        assert sliced_wasserstein(samples, real) < 0.15
    levels = UniformLogSNR()(10, process)
    ratio = process.schedule.sigma(levels)
    torch.testing.assert_close(ratio[1:] / ratio[:-1], torch.full((10,), 200**-0.1, dtype=torch.float64))


ITERATIONS = 700
