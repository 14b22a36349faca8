r"""Classical reconstructions in one form: ``method(measurement)`` gives pictures ``(B, *shape)``.

| method | what it minimises |
| --- | --- |
| `FBP` | nothing: filtered back-projection |
| `ZeroFilled` | nothing: the adjoint, with density weights off the grid |
| `CGLS` | ``|A x - y|_W^2 + damping |x|^2``, stopped early; for coils it is iterative SENSE |
| `TotalVariation` | ``1/2 |A x - y|_W^2 + strength TV(x)`` |
| `Wavelet` | ``1/2 |A x - y|_W^2 + strength |Psi x|_1`` |

``W`` is the inverse of the noise's variance, where it is known, and 1 without noise.  Two channels are one complex
picture: their differences and coefficients are weighed by magnitude together.  `tune` chooses settings on pictures of
known truth.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ornstein.core.inverse.measurement import Measurement
from ornstein.core.inverse.operators import Composition, LinearOperator, Operator
from ornstein.core.inverse.solvers import conjugate_gradient
from ornstein.core.schedules import require
from ornstein.domains.medical.judges.pictures import psnr
from ornstein.domains.medical.physics.fbp import FILTERS, filtered_back_projection
from ornstein.domains.medical.physics.nufft import NonCartesianMRI, NonUniformFFT
from ornstein.domains.medical.physics.projector import Projector

__all__ = ["CGLS", "FBP", "WAVELETS", "Classical", "TotalVariation", "Wavelet", "ZeroFilled", "tune"]

WAVELETS: dict[str, tuple[float, ...]] = {
    "haar": (2**-0.5, 2**-0.5),
    "db2": tuple(v / (4 * 2**0.5) for v in (1 + 3**0.5, 3 + 3**0.5, 3 - 3**0.5, 1 - 3**0.5)),
}
"""Low-pass filters of orthonormal wavelets (Daubechies 1988)."""


class Classical(ABC):
    """A reconstruction that has learned nothing."""

    @abstractmethod
    def __call__(self, measurement: Measurement) -> Tensor:
        """Pictures ``(B, *shape)`` of a measurement with a linear operator."""


@dataclass(frozen=True)
class FBP(Classical):
    """Filtered back-projection, for projections.

    Args:
        window, cutoff: as in `filtered_back_projection`.
        matched: whether to project back by the operator's own adjoint, for parallel beams: many times faster, and less
            exact where cells are finer than pixels.
    """

    window: str = "ramp"
    cutoff: float = 1.0
    matched: bool = False

    def __post_init__(self) -> None:
        require(self.window in FILTERS, "window", self.window, f"one of {', '.join(FILTERS)}")

    def __call__(self, measurement: Measurement) -> Tensor:
        operator = measurement.operator
        if not isinstance(operator, Projector):
            raise TypeError(f"FBP needs a Projector, got {type(operator).__name__}: use CGLS or TotalVariation")
        back = operator.adjoint if self.matched else None
        return filtered_back_projection(measurement.y, operator.geometry, self.window, self.cutoff, back)


@dataclass(frozen=True)
class ZeroFilled(Classical):
    """The adjoint, as if what was not measured were zero; for points off the grid, weighted by their density.

    Args:
        iterations: of the density, as in `NonUniformFFT.density`.
    """

    iterations: int = 20

    def __call__(self, measurement: Measurement) -> Tensor:
        operator, y = measurement.linear("ZeroFilled"), measurement.y
        scanner: Operator = operator
        while isinstance(scanner, Composition):  # such as with a RealPicture
            scanner = scanner.outer
        if isinstance(scanner, NonCartesianMRI):
            y = y * scanner.nufft.density(self.iterations).to(y)
        elif isinstance(scanner, NonUniformFFT):
            y = y * scanner.density(self.iterations).to(y)
        return operator.adjoint(y)


@dataclass(frozen=True)
class CGLS(Classical):
    """Conjugate gradients on the normal equations, from zero.

    Early iterations have found what the data determine well, later ones fit noise.  For several coils: Pruessmann et
    al. 2001 (Advances in sensitivity encoding).

    Args:
        iterations: at most.
        damping: weight of ``|x|^2``, in units of ``A^T W A``.
    """

    iterations: int = 12
    damping: float = 0.0

    def __post_init__(self) -> None:
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(self.damping >= 0, "damping", self.damping, "at least 0")

    def __call__(self, measurement: Measurement) -> Tensor:
        operator, weights = measurement.linear("CGLS"), _weights(measurement)

        def product(x: Tensor) -> Tensor:
            return operator.adjoint(weights * operator(x)) + self.damping * x

        # Where the first step solves the system, later ones would divide rounding by rounding.
        b = operator.adjoint(weights * measurement.y)
        return conjugate_gradient(product, b, iterations=self.iterations, tolerance=1e-6)


@dataclass(frozen=True)
class TotalVariation(Classical):
    r"""Least squares with a penalty on the sum of gradients' magnitudes, by a primal-dual method.

    With ``K = (W^(1/2) A, c D)`` for the forward differences ``D``, dual variables ``p`` of the data and ``q`` of the
    differences, and diagonal steps ``Sigma`` and ``T``:

        x' = x - T K^T (p, q),   z = 2 x' - x,
        p <- (p + Sigma (K_1 z - W^(1/2) y)) / (1 + Sigma),    q <- project(q + Sigma K_2 z, |q| <= strength / c).

    Chambolle and Pock 2011 (J. Math. Imaging Vis. 40, algorithm 1); steps of Pock and Chambolle 2011 (ICCV, lemma 2,
    alpha = 1), from sums of rows and columns of ``|K|``, where the operator has no negative weights (projections), else
    from the norm of ``A``.  ``Sigma`` and ``1 / T`` share a factor for each sample that keeps primal and dual residuals
    alike, and changes less and less: Goldstein et al. 2013 (1305.0546, algorithm 2).

    Args:
        strength: of the penalty, at least 0; about the noise's share of a pixel's value over its variance.
        iterations: how many; compare `objective` with that of twice as many where it matters.
        nonnegative: whether values below 0 are forbidden.
        start: the method whose result ``x`` begins as; zeros when not given, which takes more iterations.
    """

    strength: float
    iterations: int = 400
    nonnegative: bool = False
    start: Classical | None = None

    def __post_init__(self) -> None:
        require(self.strength >= 0, "strength", self.strength, "at least 0")
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")

    def __call__(self, measurement: Measurement) -> Tensor:
        operator, y = measurement.linear("TotalVariation"), measurement.y
        root = _weights(measurement).sqrt()
        scale, sigma, sigma_q, tau = _steps(operator, root)
        if self.start is None:
            x = y.new_zeros(len(y), *operator.shape)
            forth, forth_q = torch.zeros_like(y), _differences(x)
        else:
            x = self.start(measurement)
            x = x.clamp(min=0) if self.nonnegative else x
            forth, forth_q = root * operator(x), scale * _differences(x)
        p, q, back = torch.zeros_like(y), torch.zeros_like(forth_q), torch.zeros_like(x)
        factor, pace = y.new_ones(len(y)), 0.5
        for _ in range(self.iterations):
            b, b_p, b_q = (factor.reshape(-1, *[1] * (v.ndim - 1)) for v in (x, p, q))
            new = x - tau / b * back
            new = new.clamp(min=0) if self.nonnegative else new
            ahead, ahead_q = root * operator(new), scale * _differences(new)
            step, step_q = sigma * b_p, sigma_q * b_q
            new_p = (p + step * (2 * ahead - forth - root * y)) / (1 + step)
            new_q = _shorten(q + step_q * (2 * ahead_q - forth_q), self.strength / scale)
            new_back = operator.adjoint(root * new_p) + scale[:, 0] * _differences_adjoint(new_q)

            primal = _energy(x - new - tau / b * (back - new_back), tau / b)
            dual = _energy(p - new_p - step * (forth - ahead), step)
            dual = dual + _energy(q - new_q - step_q * (forth_q - ahead_q), step_q)
            factor = torch.where(primal > 2 * dual, factor * (1 - pace), factor)
            factor = torch.where(dual > 2 * primal, factor / (1 - pace), factor)
            pace *= 0.95
            x, p, q, back, forth, forth_q = new, new_p, new_q, new_back, ahead, ahead_q
        return x

    def objective(self, measurement: Measurement, x: Tensor) -> Tensor:
        """What is minimised, ``(B,)``."""
        operator = measurement.linear("TotalVariation")
        misfit = _weights(measurement) * operator.restrict(operator(x) - measurement.like(x)) ** 2
        variation = _magnitude(_differences(x))
        return 0.5 * misfit.flatten(1).sum(1) + self.strength * variation.flatten(1).sum(1)


def _steps(operator: LinearOperator, root: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The scale ``c`` of differences ``(B, 1, 1, 1, 1)`` and steps of ``p``, ``q`` and ``x``; ``K = (root A, c D)``."""
    if isinstance(operator, Projector):
        rows = root * operator(root.new_ones(1, *operator.shape))
        columns = operator.adjoint(root.expand(len(root), *operator.measured).contiguous())
        scale = columns.flatten(1).mean(1).reshape(-1, 1, 1, 1, 1) / 4
        return (
            scale,
            torch.where(rows > 0, 1 / torch.where(rows > 0, rows, 1.0), 0.0),
            0.5 / scale,
            1 / (columns + 4 * scale[:, 0]),
        )
    norm = root.new_tensor(math.sqrt(_square_norm(operator, root**2)))
    step = 1 / (2**0.5 * norm)  # |K|^2 is at most 2 norm^2
    return norm.reshape(1, 1, 1, 1, 1) / 8**0.5, step, step, step


def _energy(residual: Tensor, step: Tensor) -> Tensor:
    """``sum residual^2 / step`` of each sample, without the entries that have no step."""
    return torch.where(step > 0, residual**2 / torch.where(step > 0, step, 1.0), 0.0).flatten(1).sum(1)


@dataclass(frozen=True)
class Wavelet(Classical):
    r"""Least squares with a penalty on wavelet coefficients, by FISTA.

    ``x <- shrink(z - A^T W (A z - y) / L, strength / L)`` on the coefficients of an orthonormal transform, with
    Nesterov's ``z``; the mean picture is not shrunk.  Beck and Teboulle 2009 (SIAM J. Imaging Sci. 2, section 4).  Each
    iteration shifts the transform's grid at random, which spares the picture its blocks (Coifman and Donoho 1995); the
    penalty is then the mean over shifts.

    Args:
        strength: of the penalty.
        iterations: how many.
        wavelet: a key of `WAVELETS`.
        levels: of the transform; the picture's sides are multiples of ``2^levels``.
        spin: whether to shift.
    """

    strength: float
    iterations: int = 100
    wavelet: str = "haar"
    levels: int = 3
    spin: bool = True

    def __post_init__(self) -> None:
        require(self.strength >= 0, "strength", self.strength, "at least 0")
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(self.wavelet in WAVELETS, "wavelet", self.wavelet, f"one of {', '.join(WAVELETS)}")
        require(self.levels >= 1, "levels", self.levels, "at least 1")

    def __call__(self, measurement: Measurement) -> Tensor:
        operator, y, weights = measurement.linear("Wavelet"), measurement.y, _weights(measurement)
        rows, columns = operator.shape[-2:]
        if rows % 2**self.levels or columns % 2**self.levels:
            raise ValueError(f"levels={self.levels} for {rows}x{columns} pixels: multiples of {2**self.levels}")
        square = _square_norm(operator, weights)
        x = z = y.new_zeros(len(y), *operator.shape)
        pace, generator = 1.0, torch.Generator().manual_seed(0)
        for _ in range(self.iterations):
            shift = torch.randint(0, 2**self.levels, (2,), generator=generator).tolist() if self.spin else [0, 0]
            step = z - operator.adjoint(weights * (operator(z) - y)) / square
            new = self._shrink(step.roll(shift, (-2, -1)), self.strength / square)
            new = new.roll([-side for side in shift], (-2, -1))
            faster = (1 + math.sqrt(1 + 4 * pace**2)) / 2
            x, z, pace = new, new + (pace - 1) / faster * (new - x), faster
        return x

    def _shrink(self, x: Tensor, threshold: float) -> Tensor:
        low = torch.tensor(WAVELETS[self.wavelet], dtype=x.dtype, device=x.device)
        details = []
        for _ in range(self.levels):
            x, detail = _analyse(x, low)
            details.append(detail)
        for detail in reversed(details):
            size = torch.linalg.vector_norm(detail, dim=2, keepdim=True)
            kept = (1 - threshold / torch.where(size > 0, size, 1.0)).clamp(min=0)
            x = _synthesise(x, detail * kept, low)
        return x


def tune(
    method: Classical,
    grid: Mapping[str, Sequence[Any]],
    cases: Sequence[tuple[Measurement, Tensor]],
    score: Callable[[Tensor, Tensor], float] | None = None,
) -> tuple[Any, float]:
    """The settings that score best on calibration data, and their mean score.

    Args:
        method: a method with its other settings.
        grid: values to try of each setting, all combinations.
        cases: measurements and the pictures behind them ``(B, *shape)``; not those to be judged by.
        score: of a reconstruction and the truth, larger is better; PSNR of values, or of magnitudes of two channels,
            when not given.

    Example:
        >>> import torch
        >>> from ornstein.core.inverse import GaussianNoise, Measurement
        >>> from ornstein.domains.medical.physics import ParallelBeam, Projector, shepp_logan, spread_angles
        >>> truth, A = shepp_logan().image(32), Projector(ParallelBeam((32, 32), spread_angles(20)))
        >>> seen = Measurement.simulate(truth, A, GaussianNoise(0.3), torch.Generator().manual_seed(0))
        >>> best, decibels = tune(CGLS(), {"iterations": [1, 8]}, [(seen, truth)])
        >>> best
        CGLS(iterations=8, damping=0.0)
    """
    require(bool(cases), "cases", cases, "at least one measurement with its truth")
    require(bool(grid) and all(grid.values()), "grid", dict(grid), "settings with values to try")
    judge = _psnr if score is None else score
    best: tuple[Any, float] | None = None
    for values in itertools.product(*grid.values()):
        candidate: Any = replace(method, **dict(zip(grid, values)))  # type: ignore[type-var]
        found = sum(judge(candidate(seen), truth) for seen, truth in cases) / len(cases)
        if best is None or found > best[1]:
            best = (candidate, found)
    assert best is not None
    return best


def _psnr(x: Tensor, truth: Tensor) -> float:
    if x.shape[1] == 2:
        x, truth = (torch.linalg.vector_norm(v, dim=1) for v in (x, truth))
    return psnr(x, truth)


def _weights(measurement: Measurement) -> Tensor:
    """``1 / variance`` of each measured value, broadcast to ``y``; 1 without noise, and 0 where nothing is measured."""
    y, variance = measurement.y, measurement.variance
    shape = y.shape if isinstance(variance, Tensor) else y[:1].shape
    spread = torch.as_tensor(variance, dtype=y.dtype, device=y.device).expand(shape)
    weights = torch.where(spread > 0, 1 / torch.where(spread > 0, spread, 1.0), 1.0)
    return measurement.operator.restrict(weights)


def _square_norm(operator: LinearOperator, weights: Tensor, iterations: int = 30) -> float:
    """The largest eigenvalue of ``A^T W A``, by the power method, with 2 % on top for what it lacks."""
    x = torch.randn(len(weights), *operator.shape, generator=torch.Generator().manual_seed(0)).to(weights)
    value = weights.new_zeros(())
    for _ in range(iterations):
        x = x / x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1)).clamp(min=1e-30)
        x = operator.adjoint(weights * operator(x))
        value = x.flatten(1).norm(dim=1).max()
    return 1.02 * float(value)


def _differences(x: Tensor) -> Tensor:
    """Forward differences ``(B, C, 2, rows, columns)``, zero over the edge."""
    down = torch.nn.functional.pad(x.diff(dim=-2), (0, 0, 0, 1))
    across = torch.nn.functional.pad(x.diff(dim=-1), (0, 1))
    return torch.stack([down, across], 2)


def _differences_adjoint(q: Tensor) -> Tensor:
    down, across = q[:, :, 0, :-1], q[:, :, 1, :, :-1]
    pad = torch.nn.functional.pad
    return pad(down, (0, 0, 1, 0)) - pad(down, (0, 0, 0, 1)) + pad(across, (1, 0)) - pad(across, (0, 1))


def _magnitude(q: Tensor) -> Tensor:
    """Of the differences of all channels at a pixel, ``(B, 1, 1, rows, columns)``."""
    return q.square().flatten(1, 2).sum(1).sqrt()[:, None, None]  # many times quicker than vector_norm over two axes


def _shorten(q: Tensor, most: float | Tensor) -> Tensor:
    most = torch.as_tensor(most).to(q)
    return q * (most / torch.maximum(_magnitude(q), most.clamp(min=1e-30)))


def _analyse(x: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the periodic transform: the coarse picture, and details ``(B, 3, C, rows / 2, columns / 2)``."""
    high = low.flip(0) * torch.tensor([(-1.0) ** k for k in range(len(low))]).to(low)
    parts = [x]
    for axis in (-2, -1):
        parts = [_thin(part, kernel, axis) for part in parts for kernel in (low, high)]
    return parts[0], torch.stack(parts[1:], 1)


def _synthesise(coarse: Tensor, details: Tensor, low: Tensor) -> Tensor:
    """The inverse of `_analyse`, which is its transpose."""
    high = low.flip(0) * torch.tensor([(-1.0) ** k for k in range(len(low))]).to(low)
    parts = [coarse, *details.unbind(1)]
    for axis in (-1, -2):
        parts = [_spread(parts[i], low, axis) + _spread(parts[i + 1], high, axis) for i in range(0, len(parts), 2)]
    return parts[0]


def _thin(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """``sum_k kernel_k x_(2 i + k)`` along an axis, periodic."""
    total = sum(weight * x.roll(-k, axis) for k, weight in enumerate(kernel.tolist()))
    assert isinstance(total, Tensor)
    return total[..., ::2, :] if axis == -2 else total[..., ::2]


def _spread(c: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """The transpose of `_thin`."""
    shape = list(c.shape)
    shape[axis] *= 2
    wide = c.new_zeros(shape)
    if axis == -2:
        wide[..., ::2, :] = c
    else:
        wide[..., ::2] = c
    total = sum(weight * wide.roll(k, axis) for k, weight in enumerate(kernel.tolist()))
    assert isinstance(total, Tensor)
    return total
