r"""A Gaussian process in continuous time, for stamps that are not regular: sums of Ornstein-Uhlenbeck kernels.

Each variable by itself is the training mean plus a process of covariance

    k(t, t') = sum_j a_j exp(-|t - t'| / l_j) [+ b exp(-|t - t'| / m) cos(2 pi (t - t') / period)] + s 1[t = t'],

independent from window to window (Foreman-Mackey et al. 2017, 1703.09710, has these kernels as celerite). Variances and
lengths maximise the likelihood of training windows. With ``s = 0`` and one term it is the OU process, on a regular grid
an AR(1). Missing entries are of the process with its noise, as the known ones are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array
from ornstein.domains.timeseries.judges.baselines import Posterior, ProbabilisticBaseline, as_windows

__all__ = ["GaussianProcess", "Kernel"]

JITTER = 1e-8
"""Added to the diagonal, relative to the variance: without noise, close stamps leave nothing else."""


class Kernel(NamedTuple):
    """Of ``K`` variables with ``J`` terms: ``variances (K, J)``, ``lengths (K, J)`` in steps, ``noise (K,)``.

    ``frequencies (J,)`` are in radians a step, 0 for a term that does not swing.
    """

    variances: Tensor
    lengths: Tensor
    noise: Tensor
    frequencies: Tensor

    def covariance(self, lags: Tensor) -> Tensor:
        """``(..., K, n, m)`` without the noise, of lags ``(..., n, m)`` in steps."""
        x = lags.abs()[..., None, :, :, None]
        terms = self.variances[:, None, None] * torch.exp(-x / self.lengths[:, None, None])
        return (terms * torch.cos(self.frequencies * x)).sum(-1)


@dataclass(frozen=True)
class GaussianProcess(ProbabilisticBaseline):
    """Condition a process in continuous time on what is known; see the module's text.

    Windows may differ in length and stamps from those of training; variables know nothing of one another.

    Args:
        terms: number of OU terms.
        period: in steps, of one more term that swings; None for none.
        noise: whether there is any.
        steps: of training, all together, that the likelihood is of: parts of windows, drawn by ``seed``.
        longest: steps of a part; the cost grows with its square.
        iterations: of L-BFGS.
        seed: of the draw.
        kernel: from `fit`.
    """

    name: ClassVar[str] = "Gaussian process"

    terms: int = 2
    period: float | None = None
    noise: bool = True
    steps: int = 1536
    longest: int = 96
    iterations: int = 60
    seed: int = 0
    kernel: Kernel | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("terms", "steps", "longest", "iterations"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.period is None or self.period > 0, "period", self.period, "a positive number of steps, or None")

    def fit(
        self,
        train: Array,
        validation: Array | None = None,
        *,
        hidden: Array | None = None,
        time: Array | None = None,
    ) -> Self:
        """A copy that knows the kernels, by the likelihood of ``train (B, L, K)`` at ``time (B, L)`` in steps."""
        fitted = super().fit(train, time=time)
        values, times = as_windows(train, time, "train")
        rng, length = np.random.default_rng(self.seed), min(self.longest, values.shape[1])
        drawn = rng.permutation(len(values))[: max(1, self.steps // length)]
        part = rng.integers(0, values.shape[1] - length, (len(drawn), 1), endpoint=True) + np.arange(length)
        centred = torch.from_numpy(np.moveaxis(values[drawn[:, None], part] - fitted.mean, 2, 1).copy())
        stamps = torch.from_numpy(times[drawn[:, None], part])
        lags = stamps[:, :, None] - stamps[:, None, :]
        scale = torch.from_numpy(np.nanvar(values, (0, 1)))
        require(bool((scale > 0).all()), "train", "a constant variable", "some that vary")
        known = ~centred.isnan()
        centred = centred.nan_to_num()

        count = self.terms + (self.period is not None)
        swings = [] if self.period is None else [2 * math.pi / self.period]
        frequencies = torch.tensor([0.0] * self.terms + swings, dtype=torch.float64)
        span = float(lags.abs().max())
        starts = [span ** ((j + 0.5) / self.terms) for j in range(self.terms)] + [span] * (count - self.terms)
        theta = torch.cat([torch.zeros(count), torch.tensor(starts).log(), torch.tensor([-3.0])]).double()
        theta = theta.repeat(len(scale), 1).requires_grad_()

        def kernel() -> Kernel:
            shares, lengths, noise = theta.split([count, count, 1], dim=1)
            return Kernel(
                scale[:, None] * shares.exp() / count,
                lengths.exp(),
                scale * (noise[:, 0].exp() if self.noise else torch.zeros_like(scale)),
                frequencies,
            )

        optimiser = torch.optim.LBFGS([theta], max_iter=self.iterations, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = -_log_likelihood(kernel(), lags, centred, known)
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        with torch.no_grad():
            return replace(fitted, kernel=kernel())

    def _posteriors(self, windows: np.ndarray, times: np.ndarray) -> Iterator[Posterior]:
        mean = self._fitted_mean(windows.shape[2])
        steps, variables = np.arange(windows.shape[1]), windows.shape[2]
        for row, (window, stamps) in enumerate(zip(windows, times)):
            lags = torch.from_numpy(stamps[:, None] - stamps[None, :])
            full = _with_noise(self.kernel, lags).numpy()  # type: ignore[arg-type]
            for k in range(variables):
                missing = np.isnan(window[:, k])
                if not missing.any():
                    continue
                known, covariance = ~missing, full[k]
                gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, missing)]).T
                rest = covariance[np.ix_(missing, missing)] - gain @ covariance[np.ix_(known, missing)]
                tiny = JITTER * covariance[0, 0] * np.eye(len(rest))
                centre = mean[k] + gain @ (window[known, k] - mean[k])
                factor = np.linalg.cholesky((rest + rest.T) / 2 + tiny)
                yield Posterior(np.array([row]), steps[missing] * variables + k, centre[None], factor)


def _with_noise(kernel: Kernel, lags: Tensor) -> Tensor:
    covariance = kernel.covariance(lags)
    tiny = JITTER * kernel.variances.sum(1)
    return covariance + (kernel.noise + tiny)[:, None, None] * torch.eye(lags.shape[-1], dtype=lags.dtype)


def _log_likelihood(kernel: Kernel, lags: Tensor, centred: Tensor, known: Tensor) -> Tensor:
    """Mean over known values of ``centred (B, K, L)``, up to a constant; unknown ones are made independent zeros."""
    both = known.unsqueeze(-1) & known.unsqueeze(-2)
    covariance = torch.where(both, _with_noise(kernel, lags), torch.eye(lags.shape[-1], dtype=lags.dtype))
    lower = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(lower, centred.unsqueeze(-1), upper=False)
    total = 0.5 * white.square().sum() + lower.diagonal(dim1=-2, dim2=-1).log().sum()
    return -total / known.sum()
