r"""Variances of the reverse step ``p(x_s | x_t)``: DDPM's two, the optimal one, and a learned one.

With ``e = SNR(t) / SNR(s)`` and the posterior ``q(x_s | x_t, x_0) = N(a x_t + b x_0, g^2)``, the reverse step is a
Gaussian about ``a x_t + b mean`` with variance

    small    g^2 = sigma_s^2 (1 - e)                 Ho et al. 2020 (2006.11239), beta-tilde; exact for one point
    large    sigma_t^2 (1 - e)                       the same, beta; exact for standard normal data
    optimal  g^2 + b^2 Var[x_0 | x_t]                Bao et al. 2022 (2201.06503), eqs. 6 and 7
    learned  exp(f log large + (1 - f) log small)    Nichol and Dhariwal 2021 (2102.09672), eq. 15, f from the network

The optimal one is the variance of the true reverse step, which no fixed choice reaches at large steps.  It needs the
posterior's ``variance``: closed-form denoisers know it (a coordinate each), and `AnalyticVariance` measures one number
a noise level for any denoiser.  In the last step, to clean data (``sigma_s = 0``), "small" is zero.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from .denoisers import Denoiser, LinearPosterior, NetworkDenoiser, Posterior
from .noise import SeededNoise
from .parameterisations import Prediction
from .process import broadcast
from .schedules import Time, require, wide
from .sdes import SDE, Level

__all__ = ["AnalyticVariance", "LearnedVarianceDenoiser", "ReverseVariance", "reverse_variance"]

ReverseVariance = Literal["small", "large", "optimal", "learned"]

Number = float | Tensor


def reverse_variance(kind: ReverseVariance, posterior: Posterior, b: Number, small: Number, large: Number) -> Number:
    """Variance of the reverse step from the state of ``posterior``, broadcastable to the state.

    Args:
        kind: see the module's text.
        posterior: the denoiser's answer; must know ``variance`` for "optimal" and ``interpolation`` for "learned".
        b: factor of ``x_0`` in the mean of ``q(x_s | x_t, x_0)``.
        small, large: the two fixed variances of the step.
    """
    if kind == "small":
        return small
    if kind == "large":
        return large
    if kind == "optimal":
        return small + b * b * posterior.variance
    fraction = posterior.interpolation
    low, high = torch.as_tensor(small).log(), torch.as_tensor(large).log()
    return (low + fraction * (high - low)).exp()


class _WithVariance(Posterior):
    """Another posterior with a variance of its own."""

    def __init__(self, inner: Posterior, variance: Tensor) -> None:
        super().__init__(inner.x_t, inner.process, inner.level)
        self.inner = inner
        self._variance = variance

    @property
    def mean(self) -> Tensor:
        return self.inner.mean

    @property
    def eps(self) -> Tensor:
        return self.inner.eps

    @property
    def variance(self) -> Tensor:
        return self._variance

    def affine(self, a: Number, b: Number) -> Tensor:
        return self.inner.affine(a, b)

    def combine(self, a: Number, b: Number) -> Tensor:
        return self.inner.combine(a, b)


class AnalyticVariance(Denoiser):
    r"""Gives any denoiser a posterior variance, measured on data, one number a noise level.

    The mean of ``Var[x_0 | x_t]`` over coordinates and states follows from the score's size (Bao et al. 2022,
    2201.06503, theorem 1 and eq. 8): with ``size = sigma^2 E|score|^2 / D = E|eps|^2 / D``,

        variance = (1 - size) / SNR,

    within the bounds that hold for every distribution, ``0 <= variance <= 1 / SNR``, and within ``((high - low) /
    2)^2`` for data in ``[low, high]`` (the paper's theorem 2).  ``size`` depends on log-SNR alone, so one measurement
    serves every schedule and every grid; it is interpolated linearly between the measured levels.  Above them the
    size is held, below them the variance, which tends to that of the data.

    Args:
        denoiser: whose posterior gets the variance.
        log_snr: rising levels at which it was measured, at least 2.
        size: ``1 - SNR variance`` there, as many.
        data_range: ``(low, high)`` of the data, or None where they are not bounded.
    """

    levels: Tensor
    sizes: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        log_snr: Sequence[float],
        size: Sequence[float],
        data_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(denoiser.process)
        levels, sizes = (torch.as_tensor(v, dtype=torch.float64) for v in (log_snr, size))
        if levels.ndim != 1 or len(levels) < 2 or levels.shape != sizes.shape:
            raise ValueError(f"{len(log_snr)} log_snr and {len(size)} size: expected as many of each, at least 2")
        if not (levels[1:] > levels[:-1]).all():
            raise ValueError("log_snr must rise from one level to the next")
        if data_range is not None:
            require(data_range[0] < data_range[1], "data_range", data_range, "(low, high) with low < high")
        self.denoiser = denoiser
        self.log_snr = log_snr
        self.size = size
        self.data_range = data_range
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)

    @classmethod
    @torch.no_grad()
    def measure(
        cls,
        denoiser: Denoiser,
        data: Tensor,
        *,
        levels: int = 50,
        low: float = -12.0,
        high: float = 14.0,
        of: Literal["score", "error"] = "error",
        seed: int = 0,
        batch_size: int = 256,
        data_range: tuple[float, float] | None = None,
        condition: Mapping[str, Tensor] | None = None,
    ) -> "AnalyticVariance":
        """Measure the sizes on data: each level sees every sample once, with noise of its own.

        An exact denoiser's error is ``E|x_0 - mean|^2 / D = (1 - size) / SNR``, so both quantities estimate one
        number.  They differ where it is not exact: there the error is the variance that minimises the variational
        bound with the denoiser's own means (Bao et al. 2022, 2206.07309), and it is estimated more precisely.

        Args:
            denoiser: what is measured.
            data: clean samples ``(B, *event)``; the paper finds 100 enough, since a mean over coordinates is taken.
            levels: how many log-SNR levels, evenly spaced.
            low, high: their range, cut to what the schedule covers.
            of: "error" for ``E|x_0 - mean|^2 / D``, "score" for the paper's ``E|eps|^2 / D``, where the sampled
                noise's own ``|eps|^2`` with its known mean serves as a control variate.
            seed: of the noise.
            batch_size: states that the denoiser sees at once.
            data_range: as in the constructor.
            condition: tensors ``(B, ...)`` for the denoiser, by name.
        """
        require(levels >= 2, "levels", levels, "at least 2")
        require(of in ("score", "error"), "of", of, "'score' or 'error'")
        process = denoiser.process
        ends = [float(process.level(t).log_snr) for t in (1.0, 0.0)]
        grid = torch.linspace(max(low, ends[0]), min(high, ends[1]), levels, dtype=torch.float64)
        totals = [0.0] * levels
        for start in range(0, len(data), batch_size):
            x0 = data[start : start + batch_size]
            part = {name: value[start : start + batch_size] for name, value in (condition or {}).items()}
            stream = SeededNoise(seed).begin(len(x0), start)
            for i, value in enumerate(grid.tolist()):
                level = process.level(min(max(float(process.schedule.time(value)), 0.0), 1.0))
                z = stream.draw(x0)
                posterior = denoiser(level.alpha * x0 + level.sigma * z, level.t, **part)
                if of == "score":
                    totals[i] += x0.numel() + float((wide(posterior.eps) ** 2 - wide(z) ** 2).sum())
                else:
                    error = float(wide(x0 - posterior.mean).square().sum())
                    totals[i] += x0.numel() - math.exp(value) * error
        return cls(denoiser, grid.tolist(), [total / data.numel() for total in totals], data_range)

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        posterior = self.denoiser(x_t, t, **condition)
        return _WithVariance(posterior, self._variance(posterior.level, x_t))

    def _variance(self, level: Level, x_t: Tensor) -> Tensor:
        """``Var[x_0 | x_t]``, one number or one a sample, shaped to multiply ``x_t``."""
        log_snr = torch.as_tensor(level.log_snr, dtype=torch.float64).to(self.levels.device)
        i = (torch.searchsorted(self.levels, log_snr.contiguous()) - 1).clamp(0, len(self.levels) - 2)
        fraction = ((log_snr - self.levels[i]) / (self.levels[i + 1] - self.levels[i])).clamp(0, 1)
        size = torch.lerp(self.sizes[i], self.sizes[i + 1], fraction).clamp(0, 1)
        variance = (1 - size) * (-log_snr.clamp(min=float(self.log_snr[0]))).exp()
        if self.data_range is not None:
            variance = variance.clamp(max=(0.5 * (self.data_range[1] - self.data_range[0])) ** 2)
        return broadcast(variance, x_t) if variance.ndim else variance.to(x_t.dtype)


class LearnedVariancePosterior(LinearPosterior):
    """A `LinearPosterior` that also knows where between DDPM's two variances the reverse step's lies.

    Args:
        fraction: ``f``, shape of ``x_t``: 0 is "small", 1 "large".
        posterior: mean of the data, as the network's first half of channels says.
    """

    def __init__(self, posterior: LinearPosterior, fraction: Tensor) -> None:
        p = posterior
        super().__init__(p.x_t, p.process, p.level, p.output, p.parameterisation)
        self.fraction = fraction

    @property
    def interpolation(self) -> Tensor:
        return self.fraction


class LearnedVarianceDenoiser(NetworkDenoiser):
    r"""A `NetworkDenoiser` whose network answers with twice the channels: the prediction and ``v``.

    ``f = (v + 1) / 2`` interpolates the logarithms of the reverse step's two variances: Nichol and Dhariwal 2021
    (arXiv 2102.09672), eq. 15.  Train it with `HybridObjective`, sample with ``DDPM(variance="learned")``.

    Args:
        network: maps ``(B, C, ...)`` and ``(B,)`` to ``(B, 2 C, ...)``, such as ``UNet(C, out_channels=2 * C)``.
        process, prediction, sigma_data: as for `NetworkDenoiser`.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule
        >>> network = lambda x, c: torch.zeros(len(x), 2 * x.shape[1])
        >>> LearnedVarianceDenoiser(network, SDE(CosineSchedule()))(torch.ones(1, 2), 0.5).interpolation
        tensor([[0.5000, 0.5000]])
    """

    def __init__(self, network: Any, process: SDE, prediction: Prediction = "v", sigma_data: float = 1.0) -> None:
        super().__init__(network, process, prediction, sigma_data)

    def forward(self, x_t: Tensor, t: Time, **condition: Tensor) -> LearnedVariancePosterior:
        both = super().forward(x_t, t, **condition)
        if both.output.shape[1] != 2 * x_t.shape[1]:
            raise ValueError(
                f"network's answer of shape {tuple(both.output.shape)} to a state {tuple(x_t.shape)}: expected twice "
                "as many channels (axis 1), the prediction and the variance's interpolation"
            )
        prediction, v = both.output.chunk(2, dim=1)
        both.output = prediction
        return LearnedVariancePosterior(both, 0.5 * (v + 1))
