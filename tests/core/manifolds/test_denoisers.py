"""Denoisers on manifolds: exact mixtures against autograd, quadrature and series; networks and what they are asked."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from manifold_spaces import every_exact_space, every_space, mixture, points, quadrature
from scipy.spatial.transform import Rotation
from torch import nn

from ornstein.core import CosineSchedule, VESchedule
from ornstein.core.manifolds import (
    SO3,
    HeatKernel,
    HeatMixtureDenoiser,
    RiemannianDenoiser,
    RiemannianProcess,
    Sphere,
    Torus,
)
from ornstein.core.nn import MLP


@every_space
@pytest.mark.parametrize("t", [0.0, 0.4, 0.8])
def test_score_of_a_mixture_is_the_gradient_of_its_log_density(manifold, event, t: float) -> None:
    denoiser = mixture(manifold, event)
    x = denoiser.sample(20, t, generator=torch.Generator().manual_seed(0))
    score = denoiser(x, t).score
    torch.testing.assert_close(manifold.to_tangent(x, score), score, rtol=0, atol=1e-10)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser.log_prob(x, t).sum(), x)
    for e in manifold.frame(x.detach()):
        slope = (gradient * e).reshape(*manifold.distance(x, x).shape, -1).sum(-1)
        torch.testing.assert_close(manifold.inner(score, e), slope, rtol=1e-8, atol=1e-8)


@every_exact_space
def test_a_mixtures_density_sums_to_one_and_its_draws_have_it(manifold, event) -> None:
    denoiser = mixture(manifold, event)
    y, weight = quadrature(manifold, 28)
    density = denoiser.log_prob(y, 0.0).exp() * weight
    assert float(density.sum()) == pytest.approx(1, abs=1e-5)
    features = manifold.features(denoiser.sample(4000, generator=torch.Generator().manual_seed(1)))
    mean = (manifold.features(y) * density[:, None]).sum(0)
    assert ((features.mean(0) - mean).abs() < 4 * features.std(0) / 4000**0.5).all()


def test_a_mixture_solves_the_heat_equation() -> None:
    """``dp / ds = Laplacian p / 2``, that is ``d log p / ds = (div score + |score|^2) / 2``, on SO(3)."""
    from ornstein.core.manifolds.divergence import divergence

    denoiser = mixture(SO3(), (3, 3))
    x, t, h = points(SO3(), (10, 3, 3), 0).requires_grad_(), 0.6, 1e-5
    score = denoiser(x, t).score
    rate = 0.5 * (divergence(SO3(), score, x) + SO3().inner(score, score))
    ahead, behind = denoiser.log_prob(x, t + h), denoiser.log_prob(x, t - h)
    variance = denoiser.process.variance
    change = (ahead - behind) / (variance(t + h) - variance(t - h))
    torch.testing.assert_close(change, rate, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("s", [0.02, 0.3, 1.6, 5.0])
def test_so3_scores_equal_the_truncated_series(s: float) -> None:
    """As vectors, from scipy's rotation vectors and mpmath's sum over the characters."""
    center, x = points(SO3(), (40, 3, 3), 0), points(SO3(), (40, 3, 3), 1)
    x[:10] = SO3().exp(center[:10], 0.2 * SO3().white(center[:10], torch.randn(10, 3, 3, dtype=x.dtype)))
    found = HeatKernel(SO3(), center, torch.tensor(s, dtype=torch.float64)).score(x)
    away = Rotation.from_matrix((center.mT @ x).numpy()).as_rotvec()
    expected = []
    with mp.workdps(160):
        for vector in away:
            angle = mp.mpf(float(np.linalg.norm(vector)))

            def density(w: "mp.mpf") -> "mp.mpf":
                terms = range(int(45 / s**0.5) + 10)
                return sum(
                    (2 * i + 1) * mp.exp(-i * (i + 1) * mp.mpf(s) / 2) * mp.sin((i + 0.5) * w) / mp.sin(w / 2)
                    for i in terms
                )

            slope = mp.diff(lambda w: mp.log(density(w)), angle)  # called at once
            expected.append(float(slope) * vector / float(angle))
    reference = SO3().from_features(x, torch.from_numpy(np.stack(expected)))
    assert (found - reference).abs().max() < 1e-6 * max(1.0, float(reference.abs().max()))


def test_masked_mixtures_ignore_padding() -> None:
    denoiser = mixture(Torus(), (3,))
    x = points(Torus(), (4, 3), 0)
    mask = torch.tensor([[True, True, False]]).expand(4, 3)
    whole = HeatMixtureDenoiser(denoiser.process, [0.7, 0.3], denoiser.centers[:, :2], denoiser.variances)
    torch.testing.assert_close(denoiser.log_prob(x, 0.5, mask), whole.log_prob(x[:, :2], 0.5))
    found = denoiser(x, 0.5, mask=mask).score[:, :2]
    torch.testing.assert_close(found, whole(x[:, :2], 0.5).score)


def test_one_time_a_sample_gives_what_one_time_gives() -> None:
    denoiser = mixture(Sphere(2), (3,))
    x, t = points(Sphere(2), (3, 3), 0), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    for ask in (lambda x, t: denoiser(x, t).score, lambda x, t: denoiser(x, t).mean):
        alone = torch.cat([ask(x[i : i + 1], float(t[i])) for i in range(3)])
        torch.testing.assert_close(ask(x, t), alone, rtol=1e-12, atol=1e-12)


class Recorder(nn.Module):
    """Remembers what it was asked, and answers ones."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape, dtype=dtype))

    def forward(self, x: torch.Tensor, c: torch.Tensor, **condition: torch.Tensor) -> torch.Tensor:
        self.asked, self.level, self.condition = x, c, condition
        return self.weight.expand(len(x), *self.weight.shape)


def test_a_network_sees_features_and_answers_with_scores_of_unit_size() -> None:
    process = RiemannianProcess(SO3(), VESchedule(0.01, 5.0))
    network = Recorder((2, 3))
    denoiser = RiemannianDenoiser(network, process)
    x, mask = points(SO3(), (4, 2, 3, 3), 0), torch.ones(4, 2, dtype=torch.bool)
    posterior = denoiser(x, 0.5, mask=mask)
    assert network.asked.dtype == torch.float32  # the weights' precision, and the state's for the answer
    assert posterior.score.dtype == torch.float64
    assert network.asked.shape == (4, 2, 9)
    assert network.condition["mask"] is mask
    s = float(process.variance(0.5))
    torch.testing.assert_close(network.level, torch.full((4,), math.log(s) / 8))
    size = SO3().norm(posterior.score)
    rms = SO3().kernel.rms(torch.tensor(s, dtype=torch.float64))
    torch.testing.assert_close(size, (3**0.5 * rms).expand(4, 2), rtol=1e-6, atol=0)
    SO3().check(posterior.mean)
    step = SO3().distance(x, posterior.mean)
    torch.testing.assert_close(step, (s * 3**0.5 * rms).expand(4, 2), rtol=1e-6, atol=0)


@every_space
def test_singular_ends_are_cases(manifold, event) -> None:
    process = RiemannianProcess(manifold, CosineSchedule())
    x = points(manifold, (3, *event), 0, torch.float32)
    denoiser = RiemannianDenoiser(Recorder(manifold.output_shape(x)[1:]), process)
    assert (denoiser(x, 1.0).score == 0).all()
    assert torch.equal(denoiser(x, 0.0).mean, x)
    with pytest.raises(ValueError, match="score at sigma = 0"):
        _ = denoiser(x, 0.0).score
    mixed = denoiser(x, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)).mean
    assert torch.equal(mixed[0], x[0])
    manifold.check(mixed)
    exact = mixture(manifold, event, CosineSchedule())
    assert exact(x, 0.0).score.isfinite().all()
    assert exact(x, 0.0).score.dtype == torch.float32


def test_bad_networks_and_mixtures_are_refused() -> None:
    process = RiemannianProcess(Sphere(2), VESchedule(0.01, 5.0))
    x = points(Sphere(2), (3, 3), 0)
    with pytest.raises(ValueError, match=r"answer of shape \(3, 2\) to a state \(3, 3\): expected \(3, 3\) on Sphere"):
        RiemannianDenoiser(MLP(3, out_features=2), process)(x, 0.5)
    with pytest.raises(ValueError, match="2 weights, 1 centers, 1 variances: expected as many"):
        HeatMixtureDenoiser(process, [1.0, 1.0], x[:1], [0.1])
    with pytest.raises(ValueError, match="weights must be positive"):
        HeatMixtureDenoiser(process, [0.0], x[:1], [0.1])
    with pytest.raises(ValueError, match=r"centers is .* off the manifold"):
        HeatMixtureDenoiser(process, [1.0], 2 * x[:1], [0.1])
    with pytest.raises(TypeError, match="RiemannianProcess"):
        RiemannianDenoiser(MLP(3), None)  # type: ignore[arg-type]
