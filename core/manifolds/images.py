r"""Sums over images, written so that neither end of the half-circle loses digits.

The heat kernel of a circle is a sum of Gaussians at ``omega + 2 pi k`` (the method of images), and the kernels of
spheres and rotations are made of the same exponentials.  Images are taken in pairs about the nearer end: about 0 at
distance ``x = omega`` with ``m = 2 pi k``, about pi at ``x = pi - omega`` with ``m = (2 j + 1) pi``, where two images
``m - x`` and ``m + x`` have

    e^(-(m - x)^2 / 2s) + e^(-(m + x)^2 / 2s) = 2 e^(-(m^2 + x^2) / 2s) cosh(m x / s).

The odd functions of ``x`` that scores are made of are then ``x`` times smooth ones, without a difference of nearly
equal numbers.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Pair", "cot_rest", "either", "half_tan", "over_sin", "pair"]


Both = tuple[Tensor, Tensor]
"""Log-density and slope."""


def either(
    short: Callable[[Tensor, Tensor], Both],
    long: Callable[[Tensor, Tensor], Both],
    switch: float,
    theta: Tensor,
    s: Tensor,
) -> Both:
    """``short`` of the variances below ``switch`` and ``long`` of the others; only what is needed is computed."""
    below = s < switch
    theta, s = torch.broadcast_tensors(theta.double(), s.double())
    if bool(below.all()):
        return short(theta, s)
    if not bool(below.any()):
        return long(theta, s)
    first, second = short(theta, s), long(theta, s)
    return torch.where(below, first[0], second[0]), torch.where(below, first[1], second[1])


class Pair(NamedTuple):
    """Of one pair of images, with ``z = m x / s`` and the factor ``e^b``: ``cosh z``, ``sinh z / z`` and
    ``(cosh z - sinh z / z) / z^2``.
    """

    cosh: Tensor
    sinhc: Tensor
    rest: Tensor


def pair(m: float, x: Tensor, s: Tensor, *, about_pi: bool) -> Pair:
    """The pair at ``m -+ x``, scaled so that nothing overflows: by ``e^b`` with ``b = -m^2 / 2s`` about 0, and ``b =
    -(m^2 - pi^2) / 2s - pi x / s`` about pi, where the first pair is the largest term.
    """
    z = m * x / s
    b = (-0.5 * (m**2 - math.pi**2) - math.pi * x) / s if about_pi else -0.5 * m**2 / s
    plus, minus, middle = (b + z).exp(), (b - z).exp(), b.exp()
    cosh = 0.5 * (plus + minus)
    small = z < 0.1
    safe, square = torch.where(small, 1.0, z), torch.where(small, z, 0.0) ** 2
    series = 1 + square / 6 * (1 + square / 20 * (1 + square / 42 * (1 + square / 72)))
    sinhc = torch.where(small, middle * series, plus * -torch.expm1(-2 * safe) / (2 * safe))
    series = (1 + square / 10 * (1 + square / 28 * (1 + square / 54))) / 3
    rest = torch.where(small, middle * series, (cosh - sinhc) / safe**2)
    return Pair(cosh, sinhc, rest)


def over_sin(x: Tensor) -> Tensor:
    """``x / sin x`` for ``|x| < pi``, 1 at 0."""
    small = x.abs() < 1e-4
    safe = torch.where(small, 1.0, x)
    return torch.where(small, 1 + x**2 / 6, safe / safe.sin())


def half_tan(x: Tensor) -> Tensor:
    """``tan(x / 2) / (2 x)``, 1 / 4 at 0."""
    small = x.abs() < 1e-4
    safe = torch.where(small, 1.0, x)
    return torch.where(small, 0.25 + x**2 / 48, (0.5 * safe).tan() / (2 * safe))


def cot_rest(x: Tensor) -> Tensor:
    """``(1 / x - cot(x / 2) / 2) / x`` for ``|x| < 2 pi``, 1 / 12 at 0."""
    small = x.abs() < 0.5
    safe, square = torch.where(small, 1.0, x), torch.where(small, x, 0.0) ** 2
    # Bernoulli's numbers: sum of B_2n (-1)^(n + 1) x^(2n - 2) / (2n)!.
    series = torch.zeros_like(x)
    for coefficient in (1 / 74724249600, 691 / 1307674368000, 1 / 47900160, 1 / 1209600, 1 / 30240, 1 / 720, 1 / 12):
        series = series * square + coefficient
    return torch.where(small, series, (1 / safe - 0.5 / (0.5 * safe).tan()) / safe)
