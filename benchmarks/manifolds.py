"""Trained models on the sphere and the torus: how far their log-density is from the truth's.

The truths are mixtures with closed densities: of three von Mises-Fisher distributions on the sphere and of three
products of von Mises distributions on the 2-torus, sampled and judged by scipy.  A small network is trained on them by
Riemannian denoising score matching; its log-density at held-out samples is that of the probability-flow ODE with the
exact divergence (De Bortoli et al. 2022, arXiv 2202.02763).

Figures: `sphere_nll_gap` and `torus_nll_gap`, nats a sample by which the mean negative log-likelihood of held-out
samples exceeds the truth's on the same samples, the larger of two seeds; `_gap_error`, its standard error; `_entropy`,
the truth's negative log-likelihood; `_mass`, the integral of the model's density over the whole space by quadrature,
the one farther from 1; `_walk_moment`, the largest error of a mean of coordinates over samples of the geodesic random
walk, in standard errors; `_seconds` of training; `_nfe` of the likelihood.
It passes if the gaps are below 0.05 nats and the masses within 0.01 of 1 (in a quick run, 0.5 nats and 0.05).
"""

import math
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from common import parser, record, set_threads
from scipy.stats import vonmises, vonmises_fisher
from torch import Tensor

from ornstein.core import VESchedule
from ornstein.core.likelihood.geodesic import GeodesicLikelihood
from ornstein.core.manifolds import Manifold, RiemannianDenoiser, RiemannianProcess, RiemannianScoreMatching
from ornstein.core.manifolds import Sphere as SphereManifold
from ornstein.core.manifolds import Torus as TorusManifold
from ornstein.core.nn import MLP
from ornstein.core.samplers.geodesic import GeodesicRandomWalk
from ornstein.core.training_times import StratifiedTimes

SEEDS = (0, 1)
STATED_GAP = 0.05  # nats
SCHEDULE = VESchedule(0.02, 5.0)
WEIGHTS = np.array([0.5, 0.3, 0.2])


class Sphere:
    """A mixture of von Mises-Fisher distributions."""

    manifold: Manifold = SphereManifold(2)
    means = np.array([[1.0, 0.0, 0.0], [-0.6, 0.8, 0.0], [0.0, -0.6, -0.8]])
    concentrations = (10.0, 25.0, 50.0)

    def sample(self, num: int, rng: np.random.Generator) -> Tensor:
        parts = [vonmises_fisher(m, k).rvs(num, random_state=rng) for m, k in zip(self.means, self.concentrations)]
        return chosen(parts, num, rng)

    def log_prob(self, x: Tensor) -> Tensor:
        parts = [vonmises_fisher(m, k).logpdf(unit(x)) for m, k in zip(self.means, self.concentrations)]
        return mixed(parts)

    def quadrature(self, count: int) -> tuple[Tensor, Tensor]:
        z, weight = np.polynomial.legendre.leggauss(count)
        phi = np.arange(2 * count) * np.pi / count
        r = np.sqrt(1 - z**2)[:, None]
        x = np.stack([r * np.cos(phi), r * np.sin(phi), z[:, None] + 0 * phi], -1)
        return torch.from_numpy(x.reshape(-1, 3)), torch.from_numpy(weight.repeat(2 * count) * np.pi / count)


class Torus:
    """A mixture of products of two von Mises distributions."""

    manifold: Manifold = TorusManifold(2)
    means = np.array([[0.0, 0.5], [2.5, -2.0], [-2.0, 3.0]])
    concentrations = np.array([[8.0, 3.0], [4.0, 30.0], [20.0, 20.0]])

    def sample(self, num: int, rng: np.random.Generator) -> Tensor:
        parts = [vonmises(k, loc=m).rvs((num, 2), random_state=rng) for m, k in zip(self.means, self.concentrations)]
        return chosen(parts, num, rng)

    def log_prob(self, x: Tensor) -> Tensor:
        parts = [vonmises(k, loc=m).logpdf(x.numpy()).sum(1) for m, k in zip(self.means, self.concentrations)]
        return mixed(parts)

    def quadrature(self, count: int) -> tuple[Tensor, Tensor]:
        angle = torch.arange(2 * count, dtype=torch.float64) * (math.pi / count) - math.pi
        return torch.cartesian_prod(angle, angle), torch.full((4 * count**2,), (math.pi / count) ** 2).double()


def chosen(parts: list[np.ndarray], num: int, rng: np.random.Generator) -> Tensor:
    """One of the parts' draws for each sample, by the mixture's weights."""
    return torch.from_numpy(np.stack(parts)[rng.choice(len(WEIGHTS), num, p=WEIGHTS), np.arange(num)])


def mixed(parts: list[np.ndarray]) -> Tensor:
    return torch.logsumexp(torch.from_numpy(np.stack(parts) + np.log(WEIGHTS)[:, None]), 0)


def unit(x: Tensor) -> np.ndarray:
    return (x / x.norm(dim=1, keepdim=True)).numpy()


@dataclass(frozen=True)
class Size:
    steps: int
    held_out: int
    count: int
    tolerance: float


FULL, QUICK = Size(3000, 4000, 60, 1e-5), Size(250, 300, 16, 1e-3)


def trained(truth: Sphere | Torus, seed: int, steps: int) -> RiemannianDenoiser:
    """A denoiser of the truth after ``steps`` steps of Adam, averaged over the last part of training."""
    torch.manual_seed(seed)
    manifold = truth.manifold
    data = manifold.project(truth.sample(200_000, np.random.default_rng(seed)).float())
    features, outputs = manifold.features(data[:1]).shape[1], manifold.output_shape(data[:1])[1]
    network = MLP(features, out_features=outputs, width=128, depth=3)
    denoiser = RiemannianDenoiser(network, RiemannianProcess(manifold, SCHEDULE))
    objective = RiemannianScoreMatching(StratifiedTimes())
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    average = torch.optim.swa_utils.AveragedModel(
        denoiser, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rows = torch.randint(len(data), (512,), generator=generator)
        loss = objective(denoiser, data[rows], generator=generator).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step >= steps // 2:
            average.update_parameters(denoiser)
    return average.module.eval().requires_grad_(False)


def measure(truth: Sphere | Torus, seed: int, size: Size) -> dict[str, float]:
    start = time.perf_counter()
    denoiser = trained(truth, seed, size.steps)
    seconds = time.perf_counter() - start
    manifold, likelihood = truth.manifold, GeodesicLikelihood(size.tolerance, size.tolerance)
    x = manifold.project(truth.sample(size.held_out, np.random.default_rng(1000 + seed)))
    found = likelihood.evaluate(denoiser, x.float())
    gap = truth.log_prob(x) - found.log_prob.double()
    y, weight = truth.quadrature(size.count)
    mass = float((likelihood.evaluate(denoiser, y.float()).log_prob.double().exp() * weight).sum())
    drawn = manifold.features(GeodesicRandomWalk(100).sample(denoiser, (size.held_out, *x.shape[1:]), seed=seed))
    target = manifold.features(truth.sample(200_000, np.random.default_rng(2000 + seed)))
    moment = (drawn.double().mean(0) - target.mean(0)).abs() / (drawn.std(0) / size.held_out**0.5)
    return {
        "nll_gap": float(gap.mean()),
        "gap_error": float(gap.std()) / len(gap) ** 0.5,
        "entropy": -float(truth.log_prob(x).mean()),
        "mass": mass,
        "walk_moment": float(moment.max()),
        "seconds": seconds,
        "nfe": found.nfe,
    }


def main() -> int:
    given = parser(__doc__).parse_args()
    set_threads(given.threads)
    size = QUICK if given.quick else FULL
    seeds = SEEDS[:1] if given.quick else SEEDS
    figures: dict[str, float] = {}
    for name, truth in (("sphere", Sphere()), ("torus", Torus())):
        runs = [measure(truth, seed, size) for seed in seeds]
        worst = {key: max(run[key] for run in runs) for key in runs[0]}
        worst["mass"] = max((run["mass"] for run in runs), key=lambda mass: abs(mass - 1))
        figures |= {f"{name}_{key}": value for key, value in worst.items()}
    most, slack = (0.5, 0.05) if given.quick else (STATED_GAP, 0.01)
    passed = {f"{name}_nll_gap": abs(figures[f"{name}_nll_gap"]) < most for name in ("sphere", "torus")}
    passed |= {f"{name}_mass": abs(figures[f"{name}_mass"] - 1) < slack for name in ("sphere", "torus")}
    return record(
        "manifolds", figures, passed, seeds=seeds, quick=given.quick, threads=given.threads, packages=["scipy"]
    )


if __name__ == "__main__":
    sys.exit(main())
