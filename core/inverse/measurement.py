r"""A measurement ``y = A(x_0) + noise``: what was seen, through what, and how noisily."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .linear import Diagonal
from .operators import LinearOperator, Operator, SpectralOperator

__all__ = ["GaussianNoise", "Measurement", "NoiseModel", "PoissonNoise", "UnequalNoise"]


class NoiseModel(ABC):
    """How a measurement scatters about ``A(x_0)``."""

    @abstractmethod
    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A noisy measurement of ``clean = A(x_0)``."""

    @abstractmethod
    def variance(self, y: Tensor) -> float | Tensor:
        """The variance of the noise, known from the measurement: a number, or one for each entry of ``y``."""

    @abstractmethod
    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        """``log p(y | clean)`` up to a constant in ``clean``, ``(B,)``."""

    def part(self, samples: slice) -> "NoiseModel":
        """The noise of some samples of the batch; itself, unless it differs between samples."""
        return self


@dataclass(frozen=True)
class GaussianNoise(NoiseModel):
    """``y = A(x_0) + std z``.

    Args:
        std: at least 0; 0 is a measurement without noise.
    """

    std: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.std < float("inf"):
            raise ValueError(f"std={self.std!r}: expected a number of at least 0")

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return clean + self.std * _normal(clean, generator)

    def variance(self, y: Tensor) -> float:
        return self.std**2

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        if self.std == 0:
            raise ValueError("std=0: a measurement without noise has no density; give the noise that it has")
        return -0.5 * (((y - clean) / self.std) ** 2).flatten(1).sum(1)


@dataclass(frozen=True)
class PoissonNoise(NoiseModel):
    """``gain y ~ Poisson(gain A(x_0))``: counts of rate ``gain A(x_0)``, scaled back.

    Its variance is ``A(x_0) / gain``, for which methods that assume Gaussian noise take ``y / gain`` (at least that of
    one count), as Chung et al. 2023 (arXiv 2209.14687), appendix C.4, do.

    Args:
        gain: counts a unit, positive; fewer counts are noisier.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.gain < float("inf"):
            raise ValueError(f"gain={self.gain!r}: expected a positive number of counts a unit")

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if (clean < 0).any():
            raise ValueError(f"A(x_0) reaches {clean.min():.4g}: Poisson counts need rates of at least 0")
        return torch.poisson(self.gain * clean, generator=generator) / self.gain

    def variance(self, y: Tensor) -> Tensor:
        return (y * self.gain).clamp(min=1.0) / self.gain**2

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        rate = (self.gain * clean).clamp(min=1e-12)
        return (torch.xlogy(self.gain * y, rate) - rate).flatten(1).sum(1)


@dataclass(frozen=True, eq=False)
class UnequalNoise(NoiseModel):
    """``y = A(x_0) + sqrt(v) z`` with a known variance ``v`` of each value.

    Args:
        spread: ``v``, ``(1 or B, *measured)``, positive.
    """

    spread: Tensor

    def __post_init__(self) -> None:
        if self.spread.ndim < 2 or not bool((self.spread > 0).all()) or not bool(self.spread.isfinite().all()):
            raise ValueError(
                f"spread of shape {tuple(self.spread.shape)} from {float(self.spread.min()):.4g}: expected positive, "
                "finite variances (batch, *measured)"
            )

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return clean + self.spread.to(clean).sqrt() * _normal(clean, generator)

    def variance(self, y: Tensor) -> Tensor:
        return self.spread.to(y)

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        return -0.5 * ((y - clean) ** 2 / self.spread.to(clean)).flatten(1).sum(1)

    def part(self, samples: slice) -> "UnequalNoise":
        return self if len(self.spread) == 1 else UnequalNoise(self.spread[samples])


class Measurement:
    """What was measured, ready for every method of this package.

    Args:
        y: ``(B, *measured)``, or ``(1, *measured)`` for many samples of one measurement; where the operator measures
            nothing (outside of a mask) anything may stand, NaN included.
        operator: through what.
        noise: how noisily; without noise by default.

    Raises:
        ValueError: ``y`` of another shape than the operator's, or with NaN.
    """

    __hash__ = None  # type: ignore[assignment]  # so that a sampler that holds one is not kept with its plan

    def __init__(self, y: Tensor, operator: Operator, noise: NoiseModel | None = None) -> None:
        if not isinstance(operator, Operator):
            raise TypeError(
                f"operator={operator!r}: expected an Operator, such as Mask(mask) or FunctionOperator(f, shape)"
            )
        if tuple(y.shape[1:]) != operator.measured:
            raise ValueError(
                f"y of shape {tuple(y.shape)}: expected (batch, *{operator.measured}), as the operator gives"
            )
        self.operator = operator
        self.noise = GaussianNoise() if noise is None else noise
        self.y = operator.restrict(y)
        if not self.y.isfinite().all():
            raise ValueError("y holds NaN or infinite numbers where the operator measures: leave them out with a Mask")

    @classmethod
    def simulate(
        cls, x0: Tensor, operator: Operator, noise: NoiseModel | None = None, generator: torch.Generator | None = None
    ) -> "Measurement":
        """A measurement of ``x0`` ``(B, *shape)``, with noise drawn from ``generator``."""
        noise = GaussianNoise() if noise is None else noise
        return cls(noise.sample(operator(x0), generator), operator, noise)

    def __len__(self) -> int:
        """How many measurements there are."""
        return len(self.y)

    def __getitem__(self, part: slice) -> "Measurement":
        """The measurements of some samples."""
        if len(self.y) == 1:
            return self
        return Measurement(self.y[part], self.operator.part(part), self.noise.part(part))

    def to(self, device: torch.device | str, **options: Any) -> "Measurement":
        """The measurement on a device, as batches that hold one are sent there; its operator moves there itself.

        Args:
            device: where to.
            options: of ``torch.Tensor.to``, for ``y``.
        """
        return Measurement(self.y.to(device, **options), self.operator.to(device), self.noise)

    @property
    def variance(self) -> float | Tensor:
        """Of the noise: a number, or one for each entry of ``y``."""
        return self.noise.variance(self.y)

    def linear(self, method: str) -> LinearOperator:
        """The operator, if it is linear; else ``TypeError`` in the name of ``method``."""
        if not isinstance(self.operator, LinearOperator):
            raise TypeError(f"{method} needs a linear operator, got {type(self.operator).__name__}: use DPS or TDS")
        return self.operator

    def spectral(self, method: str) -> SpectralOperator:
        """The operator, if it knows its decomposition; else ``TypeError`` in the name of ``method``."""
        if not isinstance(self.operator, SpectralOperator):
            raise TypeError(
                f"{method} needs a singular value decomposition, which {type(self.operator).__name__} does not know: "
                "use MMPS, DDS or DiffPIR, or factorised(operator)"
            )
        return self.operator

    def std(self, method: str) -> float:
        """The noise's standard deviation, if it is Gaussian; else ``TypeError`` in the name of ``method``."""
        if not isinstance(self.noise, GaussianNoise):
            raise TypeError(f"{method} needs GaussianNoise, got {self.noise!r}: use DPS, MMPS, DDS, DiffPIR or TDS")
        return self.noise.std

    def whitened(self) -> "Measurement":
        """The same measurement with Gaussian noise of the deviation 1 in every entry: ``V^{-1/2} y``, through
        ``V^{-1/2} A``; itself where the noise is Gaussian and alike.

        Raises:
            TypeError: an operator that is not linear.
        """
        operator, variance = self.linear("whitened"), self.variance
        if not isinstance(variance, Tensor):
            return self
        weights = variance.expand_as(self.y).rsqrt()
        return Measurement(self.y * weights, Diagonal(weights) @ operator, GaussianNoise(1.0))

    def like(self, x: Tensor) -> Tensor:
        """``y`` in the dtype and on the device of the state ``x`` ``(B, *shape)``, checked against it."""
        if tuple(x.shape[1:]) != self.operator.shape or len(self.y) not in (1, len(x)):
            raise ValueError(
                f"states of shape {tuple(x.shape)}: expected ({len(self.y)}, *{self.operator.shape}), as measured"
            )
        return self.y.to(x)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)
