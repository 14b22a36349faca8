"""Riemannian score matching: what the losses are, by Stein's identity, de Bruijn's and their means."""

import math

import pytest
import torch
from manifold_spaces import every_exact_space, every_space, mixture, points, quadrature
from torch import Tensor, nn

from ornstein.core import CosineSchedule, StratifiedTimes, VESchedule
from ornstein.core.manifolds import (
    SO3,
    HeatKernel,
    Manifold,
    RiemannianDenoiser,
    RiemannianImplicitScoreMatching,
    RiemannianProcess,
    RiemannianScoreMatching,
    Sphere,
    Torus,
)
from ornstein.core.manifolds.divergence import divergence
from ornstein.core.nn import MLP


class Waves(nn.Module):
    """A smooth field that is no gradient, of ``F`` features."""

    def __init__(self, features: int, outputs: int, scale: float = 0.3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.inner = nn.Parameter(torch.randn(features, outputs, generator=generator, dtype=torch.float64))
        self.scale = scale

    def forward(self, x: Tensor, c: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.scale * (x @ self.inner + 0.5 * c.reshape(-1, *[1] * (x.ndim - 1))).sin()


def waves(manifold: Manifold, event: tuple[int, ...], scale: float = 0.3, points: bool = False) -> RiemannianDenoiser:
    process = RiemannianProcess(manifold, VESchedule(0.05, 5.0))
    x = torch.zeros(1, *event)
    features, outputs = manifold.features(x).shape[-1], manifold.output_shape(x)[-1]
    return RiemannianDenoiser(Waves(features, outputs, scale), process)


@every_exact_space
def test_steins_identity_holds_under_the_kernel(manifold, event) -> None:
    """``E [<f, grad log K> + div f] = 0``, by quadrature: the divergence and the kernel's score fit together."""
    y, weight = quadrature(manifold)
    y.requires_grad_()
    output = Waves(manifold.features(y).shape[-1], manifold.output_shape(y)[-1])(manifold.features(y), y.new_zeros(1))
    field = manifold.from_features(y, output)
    kernel = HeatKernel(manifold, points(manifold, (1, *event), 1).expand(y.shape), torch.tensor(0.5).double())
    inner = manifold.inner(field, kernel.score(y.detach())).reshape(len(y), -1).sum(1)
    density = kernel.log_prob(y.detach()).exp() * weight
    inner, along = inner.detach(), divergence(manifold, field, y)
    assert float((density * inner).sum().abs()) > 0.01
    assert float((density * (inner + along)).sum().abs()) < 1e-8


@every_exact_space
def test_denoising_and_implicit_losses_differ_by_a_constant(manifold, event) -> None:
    """Their differences between two models agree, with the same times and noise, up to the error of the mean."""
    x0 = points(manifold, (4000, *event), 0)
    one, other = waves(manifold, event, 1.5), waves(manifold, event, -0.4)
    losses = {}
    for name, objective in (
        ("denoising", RiemannianScoreMatching(weighting="likelihood")),
        ("implicit", RiemannianImplicitScoreMatching()),
    ):
        with torch.no_grad():
            values = [objective(model, x0, generator=torch.Generator().manual_seed(2)) for model in (one, other)]
        losses[name] = values[0] - values[1]
    rest = losses["denoising"] - losses["implicit"]
    assert losses["denoising"].mean().abs() > 6 * rest.std() / 4000**0.5
    assert rest.mean().abs() < 4 * rest.std() / 4000**0.5
    assert rest.std() > 1e-3


@every_exact_space
def test_hutchinsons_estimate_has_the_exact_mean(manifold, event) -> None:
    model = waves(manifold, (5, *event) if manifold.point else event)
    x0 = points(manifold, (3, 5, *event) if manifold.point else (3, *event), 0).repeat_interleave(1500, 0)
    values = []
    for trace in ("exact", "hutchinson"):
        objective = RiemannianImplicitScoreMatching(trace=trace)
        loss = objective(model, x0, generator=torch.Generator().manual_seed(2))
        values.append(loss.detach())
    difference = values[1] - values[0]  # times and noise are the same
    assert difference.std() > 1e-3
    assert difference.mean().abs() < 4 * difference.std() / len(x0) ** 0.5


@every_exact_space
@pytest.mark.parametrize(
    "objective",
    [RiemannianScoreMatching(), RiemannianImplicitScoreMatching(), RiemannianImplicitScoreMatching(trace="hutchinson")],
)
def test_gradients_are_those_of_the_loss(manifold, event, objective) -> None:
    model, x0 = waves(manifold, event), points(manifold, (6, *event), 0)
    weight = model.network.inner

    def loss() -> Tensor:
        return objective(model, x0, generator=torch.Generator().manual_seed(2)).mean()

    (gradient,) = torch.autograd.grad(loss(), weight)
    with torch.no_grad():
        weight[0, 0] += 1e-6
        ahead = loss()
        weight[0, 0] -= 2e-6
        behind = loss()
    assert not ahead.requires_grad
    assert float(gradient[0, 0]) == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-5, abs=1e-7)


@every_space
def test_a_score_of_zero_loses_one(manifold, event) -> None:
    shape = (1500, 2, *event)
    mask = (torch.arange(1500) % 2 == 0)[:, None] | torch.tensor([True, False])
    silent = waves(manifold, event, 0.0)
    x0 = points(manifold, shape, 0)
    for given in (None, mask):
        loss = RiemannianScoreMatching()(silent, x0, mask=given, generator=torch.Generator().manual_seed(1))
        assert abs(loss.mean() - 1) < 4 * loss.std() / 1500**0.5


@every_space
def test_likelihood_weighting_adds_up_to_the_entropy_gained(manifold, event) -> None:
    """The loss of a score of zero is ``H(x_1 | x_0) - H(x_(t = 0) | x_0)`` for each point, by de Bruijn's identity."""
    silent = waves(manifold, event, 0.0)
    objective = RiemannianScoreMatching(StratifiedTimes(), "likelihood")
    loss = objective(silent, points(manifold, (4000, *event), 0), generator=torch.Generator().manual_seed(1))
    start, end = (float(silent.process.variance(t)) for t in (0.0, 1.0))
    kernel = manifold.kernel
    count = event[0] if isinstance(manifold, Torus) else 1
    gained = count * (kernel.divergence_from_uniform(start) - kernel.divergence_from_uniform(end))
    loss = loss.detach()
    assert abs(float(loss.mean()) - gained) < 4 * float(loss.std()) / 4000**0.5
    assert float(loss.std()) / 4000**0.5 < 0.05 * gained


def test_the_exact_score_has_the_least_loss() -> None:
    exact = mixture(Sphere(2), (3,))
    x0 = exact.sample(500, generator=torch.Generator().manual_seed(0))

    class Off(nn.Module):
        process = exact.process

        def forward(self, x, t):
            answer = exact(x, t)
            return type(answer)(x, answer.process, answer.level, 2.0 * answer.score)

    for objective in (RiemannianScoreMatching(), RiemannianImplicitScoreMatching()):
        losses = [objective(model, x0, generator=torch.Generator().manual_seed(1)).mean() for model in (exact, Off())]
        assert losses[0] < losses[1]


@pytest.mark.parametrize("objective", [RiemannianScoreMatching(), RiemannianImplicitScoreMatching(trace="hutchinson")])
def test_gradients_are_finite_under_schedules_that_end_uniform(objective) -> None:
    model = RiemannianDenoiser(Waves(9, 3), RiemannianProcess(SO3(), CosineSchedule()))
    x0 = points(SO3(), (200, 3, 3), 0, torch.float32)
    model.network.double()
    loss = objective(model, x0, generator=torch.Generator().manual_seed(0))
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    (gradient,) = torch.autograd.grad(loss.mean(), model.network.inner)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_padding_neither_counts_nor_reaches_the_network() -> None:
    """Torsions of molecules of unequal size: padded angles change nothing."""
    seen = []

    class Watch(nn.Module):
        def forward(self, x: Tensor, c: Tensor, mask: Tensor) -> Tensor:
            seen.append((x, mask))
            n = x.shape[-1] // 2
            return (x[:, :n] + 0.5 * x[:, n:]) * mask

    model = RiemannianDenoiser(Watch(), RiemannianProcess(Torus(), VESchedule(0.05, 5.0)))
    mask = torch.arange(6)[None] < torch.tensor([[2], [6], [4]])
    x0 = points(Torus(), (3, 6), 0)
    for objective in (RiemannianScoreMatching(), RiemannianImplicitScoreMatching()):
        losses = []
        for padding in (0.0, 1.0):
            data = torch.where(mask, x0, padding)
            losses.append(objective(model, data, mask=mask, generator=torch.Generator().manual_seed(0)))
        torch.testing.assert_close(losses[0], losses[1])
    for x, given in seen:
        assert given is mask
        assert (x[:, :6][~mask] == 1).all()  # the cosine of zero
    short = RiemannianScoreMatching()(model, x0[:1, :2], mask=mask[:1, :2], generator=torch.Generator().manual_seed(0))
    assert short.shape == (1,)


def test_training_lowers_the_loss() -> None:
    process = RiemannianProcess(Sphere(2), VESchedule(0.05, 5.0))
    model = RiemannianDenoiser(MLP(3, width=32, depth=1), process)
    center = points(Sphere(2), (1, 3), 0).expand(64, 3)
    x0 = HeatKernel(Sphere(2), center, torch.tensor(0.02)).sample(generator=torch.Generator().manual_seed(0)).float()
    objective, optimiser = RiemannianScoreMatching(), torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(100):
        loss = objective(model, x0, generator=generator).mean()
        losses.append(float(loss))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(losses[:10]) > 8
    assert sum(losses[-10:]) < 6


def test_bad_data_and_options_are_refused() -> None:
    model = waves(Sphere(2), (3,))
    good = points(Sphere(2), (2, 4, 3), 0)
    for objective in (RiemannianScoreMatching(), RiemannianImplicitScoreMatching()):
        with pytest.raises(ValueError, match=r"x0 is .* off the manifold"):
            objective(model, 2 * good)
        with pytest.raises(ValueError, match="x0 holds NaN"):
            objective(model, good * math.nan)
        with pytest.raises(ValueError, match=r"x0 of dtype torch.int64"):
            objective(model, good.long())
        with pytest.raises(ValueError, match=r"mask of shape \(2, 3\)"):
            objective(model, good, mask=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="weighting='none'"):
        RiemannianScoreMatching(weighting="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="trace='full'"):
        RiemannianImplicitScoreMatching(trace="full")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="times="):
        RiemannianScoreMatching(times=1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="times="):
        RiemannianImplicitScoreMatching(times=1.0)  # type: ignore[arg-type]
