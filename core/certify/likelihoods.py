r"""Likelihoods against exact log-densities.

On data whose density is known, each method says how far it is from the truth, in nats a sample:

* ``error``: mean over the data of the estimate of ``-log p(x_0)`` minus its true value.  A bound's is at least zero, up
  to Monte-Carlo error; an exact method's is zero up to its tolerance;
* ``worst``: largest absolute difference of one sample, for methods that claim the density of each (NaN for bounds,
  whose terms fluctuate with the data);
* ``standard_error``: Monte-Carlo error of ``error``, zero for methods without random numbers;
* ``nfe``: evaluations of the denoiser a sample.

The problems are a Gaussian in 3 dimensions, one in 8 with a covariance of condition number 1e4, and a mixture of three
Gaussians; the denoiser is exact.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..closed_form import ClosedFormDenoiser, GaussianDenoiser
from ..denoisers import Denoiser
from ..likelihood import ContinuousBound, ODELikelihood, VariationalBound
from ..reverse_variance import AnalyticVariance
from ..schedules import CosineSchedule
from ..sdes import SDE
from ..testing import anisotropic_gaussian, three_modes

__all__ = ["LikelihoodMethod", "ill_conditioned_gaussian", "likelihood_table"]

Row = dict[str, Any]

SAMPLES = 256
BOUND_STEPS = (10, 25, 50)


class _Evaluates(Protocol):
    def evaluate(self, denoiser: Denoiser, x0: Tensor, *, seed: int | None = None) -> Any: ...


@dataclass(frozen=True)
class LikelihoodMethod:
    """One line of the table.

    Args:
        name: what the table calls it.
        likelihood: has ``evaluate``, whose result has ``log_prob``, ``standard_error`` and ``nfe``.
        bound: whether it is a bound, not the density.
        wrap: what is done to the denoiser, given data of its own.
    """

    name: str
    likelihood: _Evaluates
    bound: bool = False
    wrap: Callable[[Denoiser, Tensor], Denoiser] | None = None


def ill_conditioned_gaussian(process: SDE, dim: int = 8, condition: float = 1e4) -> GaussianDenoiser:
    """Exact for ``N(0, U diag(l) U^T)`` with ``l`` from 1 down to ``1 / condition`` in equal ratios, and ``U`` the
    discrete cosine basis.
    """
    values = condition ** -torch.linspace(0, 1, dim, dtype=torch.float64)
    k = torch.arange(dim, dtype=torch.float64)
    basis = torch.cos(math.pi / dim * (k[:, None] + 0.5) * k) * (2 / dim) ** 0.5
    basis[:, 0] /= 2**0.5
    return GaussianDenoiser(process, torch.zeros(dim, dtype=torch.float64), basis @ values.diag() @ basis.T)


PROBLEMS: dict[str, Callable[[SDE], ClosedFormDenoiser]] = {
    "gaussian": anisotropic_gaussian,
    "ill_conditioned": ill_conditioned_gaussian,
    "three_modes": three_modes,
}


def _measured(denoiser: Denoiser, data: Tensor) -> Denoiser:
    return AnalyticVariance.measure(denoiser, data, batch_size=len(data), seed=1)


def _methods() -> list[LikelihoodMethod]:
    def ode(tolerance: float, **options: Any) -> ODELikelihood:
        # So little noise at the start that it blurs no direction of the data.
        return ODELikelihood(tolerance, tolerance, prior="exact", high=26.0, **options)

    found = [LikelihoodMethod(f"ode_exact_{t:g}", ode(t, trace="exact")) for t in (1e-4, 1e-6)]
    found += [
        LikelihoodMethod(f"ode_{probe}", ode(1e-5, probes=16, probe=probe)) for probe in ("rademacher", "gaussian")
    ]
    for steps in BOUND_STEPS:
        for kind in ("small", "large", "optimal"):
            wrap = _measured if kind == "optimal" else None
            bound = VariationalBound(steps, variance=kind, draws=4)
            found.append(LikelihoodMethod(f"bound_{steps}_{kind}", bound, True, wrap))
    return [*found, LikelihoodMethod("bound_continuous", ContinuousBound(64, 4, spacing="log_snr"), True)]


def likelihood_table(*, samples: int = SAMPLES, seed: int = 0) -> list[Row]:
    """One row a problem and method, with the module's figures beside ``problem``, ``method`` and ``bound`` (whether it
    is one).

    Args:
        samples: data points a problem.
        seed: of the data and of every draw.
    """
    rows = []
    for problem, make in PROBLEMS.items():
        denoiser = make(SDE(CosineSchedule()))
        generator = torch.Generator().manual_seed(seed)
        x, own = denoiser.sample(samples, generator=generator), denoiser.sample(512, generator=generator)
        exact = denoiser.log_prob(x)
        for method in _methods():
            model = method.wrap(denoiser, own) if method.wrap is not None else denoiser
            result = method.likelihood.evaluate(model, x, seed=seed)
            difference = exact - result.log_prob
            rows.append(
                {
                    "problem": problem,
                    "method": method.name,
                    "bound": method.bound,
                    "error": float(difference.mean()),
                    "worst": math.nan if method.bound else float(difference.abs().max()),
                    "standard_error": float(result.standard_error.square().sum().sqrt()) / samples,
                    "nfe": result.nfe,
                }
            )
    return rows
