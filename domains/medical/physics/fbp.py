r"""Filtered back-projection: the classical inverse of parallel- and fan-beam projection.

With the projections ``p(theta, s)``, sampled ``tau`` apart, the picture is

    f(x, y) = sum_theta w_theta (p(theta, .) * h)(x cos theta + y sin theta),                        parallel,
    f(x, y) = sum_theta w_theta / U^2 ((p w_ray) * g)(s),     U the distance from the source,          fan,

where ``h`` is the ramp of bandwidth ``1 / (2 tau)``: ``h(0) = 1 / (4 tau^2)``, ``h(n tau) = 0`` for even and
``-1 / (pi n tau)^2`` for odd ``n`` (Kak and Slaney 1988, eq. 61 of chapter 3), ``w_theta`` the angle that a view stands
for, ``w_ray`` the cosine of a ray's angle in the fan, and ``g`` half of ``h``, for equal angles times ``(gamma /
sin gamma)^2`` (sections 3.4.1 and 3.4.2).  Sampling the kernel, not the ramp, keeps the mean of the picture right.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.schedules import require
from ornstein.domains.medical.physics.geometry import FanBeam, Geometry, ParallelBeam

__all__ = ["FILTERS", "filtered_back_projection", "ramp_kernel", "view_weights"]

FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "ramp": torch.ones_like,
    "shepp-logan": lambda f: torch.sinc(f / 2),
    "cosine": lambda f: torch.cos(math.pi * f / 2),
    "hamming": lambda f: 0.54 + 0.46 * torch.cos(math.pi * f),
    "hann": lambda f: 0.5 + 0.5 * torch.cos(math.pi * f),
}
"""Windows on the ramp, of the frequency as a part of the cutoff."""


def ramp_kernel(cells: int, tau: float) -> Float[Tensor, " taps"]:
    """The band-limited ramp ``h`` at ``-(cells - 1) tau, ..., (cells - 1) tau``, float64."""
    n = torch.arange(1 - cells, cells, dtype=torch.float64)
    odd = n.long() % 2 == 1
    square = torch.where(odd, n, 1.0) ** 2
    return torch.where(odd, -1 / (math.pi * tau) ** 2 / square, torch.where(n == 0, 1 / (4 * tau**2), 0.0))


def view_weights(geometry: Geometry) -> Float[Tensor, " views"]:
    """The angle in radians that each view stands for: half of the gaps to its neighbours, float64.

    Angles are taken modulo 180 degrees for parallel beams (where the sum is at most pi) and modulo 360 for fans.  A gap
    of more than four times the median one is not bridged: views beside a missing wedge stand for as much as others.
    """
    period = math.pi if isinstance(geometry, ParallelBeam) else 2 * math.pi
    angles, order = (geometry.theta() % period).sort()
    gaps = torch.diff(angles, append=angles[:1] + period)
    middle = gaps.median()
    gaps = torch.where(gaps > 4 * middle, middle, gaps) if len(gaps) > 2 else gaps.clamp(max=period / len(gaps))
    weights = torch.empty_like(gaps)
    weights[order] = (gaps + gaps.roll(1)) / 2
    return weights


def filtered_back_projection(
    y: Float[Tensor, "batch channels views cells"],
    geometry: Geometry,
    window: str = "ramp",
    cutoff: float = 1.0,
    adjoint: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "batch channels rows columns"]:
    """The picture whose line integrals are ``y``, as well as they tell; differentiable in ``y``.

    Noise calls for a window that falls off: ``"hann"`` most, ``"shepp-logan"`` least.  Few views leave streaks, a
    missing wedge of angles blurs edges along it.

    Args:
        y: sinogram, in units of the picture times the geometry's unit of length.
        geometry: its rays; a fan's angles go round the whole circle.
        window: a key of `FILTERS`.
        cutoff: frequency from which nothing is kept, as a part of the detector's highest.
        adjoint: of the projection (`Projector.adjoint`), to project back by its weights times ``tau / (a b)`` for
            pixels of ``a x b`` instead of by linear interpolation, for parallel beams.

    Raises:
        ValueError: a sinogram of another shape, an unknown window, or a fan beam over less than the circle or with an
            adjoint.
    """
    if y.ndim != 4 or tuple(y.shape[2:]) != (geometry.views, geometry.count):
        raise ValueError(
            f"y of shape {tuple(y.shape)}: expected (batch, channels, {geometry.views}, {geometry.count}), as the "
            "geometry measures"
        )
    require(window in FILTERS, "window", window, f"one of {', '.join(FILTERS)}")
    require(0 < cutoff <= 1, "cutoff", cutoff, "a part of the highest frequency, above 0 and at most 1")
    weights = view_weights(geometry).to(y)
    if isinstance(geometry, FanBeam):
        if adjoint is not None:
            raise ValueError("adjoint: rays of a fan beam lie apart by what the place says; leave it out")
        missing = 2 * math.pi - float(view_weights(geometry).sum())
        require(missing < 0.02, "angles", geometry.angles[:3], "a fan beam's to go round the whole circle evenly")
        rows = _convolve(y * geometry.fan_angles().cos().to(y), _fan_kernel(geometry), window, cutoff)
        return _from_fan(rows * weights[:, None], geometry)
    rows = _convolve(y, geometry.cell * ramp_kernel(geometry.count, geometry.cell), window, cutoff)
    if adjoint is not None:
        return adjoint(rows * weights[:, None]) * (geometry.cell / (geometry.sides[0] * geometry.sides[1]))
    return _from_parallel(rows * weights[:, None], geometry)


def _convolve(y: Tensor, kernel: Tensor, window: str, cutoff: float) -> Tensor:
    """The rows of ``y`` convolved with a kernel ``(2 cells - 1,)``, windowed, without wrapping round."""
    cells = y.shape[-1]
    length = 1 << (2 * cells - 1).bit_length()
    wide = torch.nn.functional.pad(kernel, (0, length - len(kernel))).roll(1 - cells)
    part = torch.fft.rfftfreq(length, dtype=torch.float64) * 2 / cutoff
    response = torch.fft.rfft(wide).real * torch.where(part <= 1, FILTERS[window](part), 0.0)
    return torch.fft.irfft(torch.fft.rfft(y, length) * response.to(y), length)[..., :cells]


def _interpolate(row: Tensor, position: Tensor) -> Tensor:
    """``row`` ``(..., cells)`` at positions ``(pixels,)`` in cells, linear between them and zero outside."""
    padded = torch.nn.functional.pad(row, (1, 1))
    place = (position + 1).clamp(0, row.shape[-1] + 1)
    low = place.floor().clamp(max=row.shape[-1])
    share = (place - low).to(row)
    low = low.long()
    return padded[..., low] * (1 - share) + padded[..., low + 1] * share


def _from_parallel(rows: Tensor, geometry: Geometry) -> Tensor:
    x, y = (part.flatten().to(rows.device) for part in geometry.pixels())
    first = float(geometry.positions()[0])
    total = rows.new_zeros(*rows.shape[:2], len(x))
    for view, theta in enumerate(geometry.theta().tolist()):
        position = (x * math.cos(theta) + y * math.sin(theta) - first) / geometry.cell
        total = total + _interpolate(rows[:, :, view], position)
    return total.unflatten(-1, geometry.shape)


def _fan_kernel(geometry: FanBeam) -> Tensor:
    """``tau g`` in the scale of the centre of rotation (flat) or of angles (arc); twice-measured rays are halved."""
    tau = geometry.cell / (geometry.source + geometry.detector)
    kernel = tau * ramp_kernel(geometry.count, tau) / 2
    if geometry.arc:
        gamma = tau * torch.arange(1 - geometry.count, geometry.count, dtype=torch.float64)
        kernel = kernel / torch.sinc(gamma / math.pi) ** 2
    return kernel


def _from_fan(rows: Tensor, geometry: FanBeam) -> Tensor:
    x, y = (part.flatten().to(rows.device) for part in geometry.pixels())
    first, length = float(geometry.positions()[0]), geometry.source + geometry.detector
    total = rows.new_zeros(*rows.shape[:2], len(x))
    for view, theta in enumerate(geometry.theta().tolist()):
        along = geometry.source - x * math.sin(theta) + y * math.cos(theta)
        aside = x * math.cos(theta) + y * math.sin(theta)
        position = length * (torch.atan2(aside, along) if geometry.arc else aside / along)
        distance = along**2 + aside**2 if geometry.arc else along**2
        share = (geometry.source / distance).to(rows)
        total = total + _interpolate(rows[:, :, view], (position - first) / geometry.cell) * share
    return total.unflatten(-1, geometry.shape)
