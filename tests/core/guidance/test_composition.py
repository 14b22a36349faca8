"""Products, quotients and mixtures of denoisers against the closed forms of Gaussians."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    DDIM,
    SDE,
    CosineSchedule,
    Denoiser,
    DPMSolver,
    EDMSchedule,
    FixedCondition,
    FlowSchedule,
    GaussianDenoiser,
    GaussianPosterior,
    MixtureDenoiser,
    MixtureOfDenoisers,
    NetworkDenoiser,
    Posterior,
    ProductOfDenoisers,
    Schedule,
    VESchedule,
)
from ornstein.core.schedules import Time

SCHEDULES = [CosineSchedule(), FlowSchedule(), VESchedule(), EDMSchedule()]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
X = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TIMES = [0.05, 0.5, 0.9, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)]


def gaussian(process: SDE, mean: list[float], covariance: list[list[float]]) -> GaussianDenoiser:
    return GaussianDenoiser(process, mean, covariance)


def combined(process: SDE, parts: list[GaussianDenoiser], weights: list[float]) -> GaussianDenoiser:
    """``prod p_i^w_i`` of Gaussians: precisions and precision times mean add up."""
    precision = sum(w * torch.linalg.inv(p.covariance) for p, w in zip(parts, weights))
    weighted = sum(w * torch.linalg.solve(p.covariance, p.mean) for p, w in zip(parts, weights))
    covariance = torch.linalg.inv(precision)  # type: ignore[arg-type]
    return GaussianDenoiser(process, covariance @ weighted, covariance)


# Products.


@each_schedule
def test_the_score_of_a_product_is_exact_as_the_noise_vanishes(schedule: Schedule) -> None:
    """At ``t = 0``: the error falls with the noise's variance."""
    process = SDE(schedule)
    a = gaussian(process, [0.5, -1.0], [[0.5, 0.1], [0.1, 0.3]])
    b = gaussian(process, [-0.3, 0.2], [[0.4, -0.2], [-0.2, 0.6]])
    for weights in ([1.0, 1.0], [2.0, 0.5], [2.0, -0.3]):
        exact, product = combined(process, [a, b], weights), ProductOfDenoisers([a, b], weights)
        errors = []
        for sigma in (0.04, 0.02):
            t = float(schedule.time(torch.tensor(sigma, dtype=torch.float64).log() * -2))
            alpha = float(process.level(t).alpha)
            errors.append(float((product(X, t).score * alpha - exact(X, t).score * alpha).abs().max()))
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
        assert errors[1] < 0.05


@each_schedule
@pytest.mark.parametrize("t", TIMES, ids=str)
def test_a_conjunction_of_conditions_on_other_coordinates_is_exact(schedule: Schedule, t: Time) -> None:
    """With a base of independent coordinates, where each factor says something about one of them."""
    process = SDE(schedule)
    base = gaussian(process, [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    first = gaussian(process, [2.0, 0.0], [[0.1, 0.0], [0.0, 1.0]])
    second = gaussian(process, [0.0, -1.0], [[1.0, 0.0], [0.0, 0.2]])
    both = gaussian(process, [2.0, -1.0], [[0.1, 0.0], [0.0, 0.2]])
    product = ProductOfDenoisers([first, second], base=base)(X, t)
    for name in ("mean", "eps", "score"):
        torch.testing.assert_close(getattr(product, name), getattr(both(X, t), name), rtol=1e-9, atol=1e-9)


def test_a_negative_weight_takes_a_condition_away() -> None:
    """Negation: both coordinates are known, and what is said of the second is unsaid."""
    process = SDE(CosineSchedule())
    base = gaussian(process, [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    both = gaussian(process, [2.0, -1.0], [[0.1, 0.0], [0.0, 0.2]])
    second = gaussian(process, [0.0, -1.0], [[1.0, 0.0], [0.0, 0.2]])
    first = gaussian(process, [2.0, 0.0], [[0.1, 0.0], [0.0, 1.0]])
    product = ProductOfDenoisers([both, second], [1.0, -1.0], base)
    torch.testing.assert_close(product(X, 0.4).mean, first(X, 0.4).mean, rtol=1e-9, atol=1e-9)


def test_weights_that_sum_to_one_need_no_base_at_pure_noise() -> None:
    process = SDE(CosineSchedule())
    a, b = gaussian(process, [1.0, 0.0], [[0.5, 0.0], [0.0, 0.5]]), gaussian(process, [0.0, 1.0], [[0.2, 0], [0, 0.2]])
    mean = ProductOfDenoisers([a, b], [0.25, 0.75])(X, 1.0).mean
    torch.testing.assert_close(mean, torch.tensor([0.25, 0.75], dtype=torch.float64).expand(5, 2))
    with pytest.raises(ValueError, match="alpha = 0"):
        ProductOfDenoisers([a, b])(X, 1.0)
    torch.testing.assert_close(ProductOfDenoisers([a, b], base=a)(X, 1.0).mean, b(X, 1.0).mean)


def test_a_product_samples_the_product() -> None:
    """Exact where conditions concern other coordinates; mean and spread of 2,000 samples."""
    process = SDE(CosineSchedule())
    base = gaussian(process, [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    first = gaussian(process, [2.0, 0.0], [[0.1, 0.0], [0.0, 1.0]])
    second = gaussian(process, [0.0, -1.0], [[1.0, 0.0], [0.0, 0.2]])
    out = DPMSolver(40).sample(ProductOfDenoisers([first, second], base=base), (2000, 2), seed=0)
    assert (out.mean(0) - torch.tensor([2.0, -1.0])).abs().max() < 0.05
    torch.testing.assert_close(out.var(0), torch.tensor([0.1, 0.2]), rtol=0.15, atol=0)


# Mixtures.


@each_schedule
@pytest.mark.parametrize("t", TIMES, ids=str)
def test_a_mixture_of_gaussian_denoisers_is_the_denoiser_of_the_mixture(schedule: Schedule, t: Time) -> None:
    process, weights = SDE(schedule), [0.2, 0.5, 0.3]
    means, stds = [[-1.0, 0.0], [1.0, 1.0], [0.5, -2.0]], [0.3, 0.8, 0.1]
    parts = [gaussian(process, m, [[s * s, 0.0], [0.0, s * s]]) for m, s in zip(means, stds)]
    exact = MixtureDenoiser(process, weights, means, stds)
    mixed = MixtureOfDenoisers(parts, [2.0, 5.0, 3.0])(X, t)
    for name in ("mean", "score"):
        torch.testing.assert_close(getattr(mixed, name), getattr(exact(X, t), name), rtol=1e-9, atol=1e-9)
    classifier = lambda x, t: torch.stack([p.log_prob(x, t) for p in parts], 1).log_softmax(1) + 7  # noqa: E731
    wrapped = [NoDensity(part) for part in parts]
    torch.testing.assert_close(MixtureOfDenoisers(wrapped, weights, classifier)(X, t).mean, mixed.mean)


class NoDensity(Denoiser):
    """Hides that a denoiser knows its density."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.process)
        self.inner = inner

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        return self.inner(x_t, t, **condition)


def test_compositions_of_one_network_under_several_labels() -> None:
    class Labelled(Denoiser):
        def forward(self, x_t: Tensor, t: Time, label: Tensor, **condition: Any) -> Posterior:
            return GaussianPosterior(x_t, self.process, self.process.level(t), label.to(x_t)[:, None].expand_as(x_t))

    inner = Labelled(SDE(CosineSchedule()))
    three, five, none = (FixedCondition(inner, {"label": k}) for k in (3, 5, -1))
    product = ProductOfDenoisers([three, five], [2.0, 0.5], base=none)
    assert (product(X, 0.5, label=torch.arange(5)).mean == -1 + 2 * 4 + 0.5 * 6).all()
    rows = FixedCondition(inner, {"label": torch.arange(5)})
    assert rows(X, 0.5).mean[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert len(list(product.modules())) == len(set(product.modules()))


def test_a_composition_may_hold_networks_that_learn() -> None:
    torch.manual_seed(0)
    networks = [NetworkDenoiser(torch.nn.Bilinear(2, 1, 2), SDE(CosineSchedule())) for _ in range(2)]
    for network in networks:
        network.network.forward = lambda x, c, n=network.network: torch.nn.Bilinear.forward(n, x, c[:, None])  # type: ignore[method-assign]
    product = ProductOfDenoisers(networks)
    assert len(list(product.parameters())) == 4
    DDIM(3).sample(product, (4, 2), seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: ProductOfDenoisers([]), "denoisers="),
        (lambda d: ProductOfDenoisers([d, d], [1.0]), r"weights=\(1\.0,\)"),
        (lambda d: MixtureOfDenoisers([d, d], [1.0, 0.0]), r"weights=\(1\.0, 0\.0\)"),
        (lambda d: MixtureOfDenoisers([NoDensity(d)]), "NoDensity has no log_prob"),
        (lambda d: ProductOfDenoisers([d], base=gaussian(SDE(FlowSchedule()), [0.0], [[1.0]])), "one schedule"),
        (lambda d: MixtureOfDenoisers([d, d], classifier=lambda x, t: x)(torch.zeros(3, 1), 0.5), "shape"),
    ],
)
def test_bad_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(gaussian(SDE(CosineSchedule()), [0.0], [[1.0]]))
