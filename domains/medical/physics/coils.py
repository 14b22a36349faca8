r"""Sensitivities of receiver coils: estimated from data (ESPIRiT, Walsh), or made up.

Maps are ``(coils, rows, columns)``, complex, with ``sum_c |S_c|^2 = 1`` where there is signal and 0 elsewhere.  Their
common phase is free; it is set so that their projection on the strongest virtual coil is real.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ornstein.core.schedules import require

__all__ = ["birdcage_maps", "combine", "espirit_maps", "root_sum_of_squares", "walsh_maps"]


def birdcage_maps(
    coils: int, shape: tuple[int, int], distance: float = 1.5, normalise: bool = True
) -> Complex[Tensor, "coils rows columns"]:
    """Smooth maps of loops on a circle about the picture: ``exp(i angle) / distance``, as of a long wire, complex64.

    Args:
        coils: how many, at even angles.
        shape: ``(rows, columns)``.
        distance: of the wires from the middle, in halves of the picture's side; above sqrt(2), outside of it.
        normalise: whether to scale to a sum of squares of 1.
    """
    require(coils >= 1, "coils", coils, "at least 1")
    require(distance > 2**0.5, "distance", distance, "more than sqrt(2), outside of the picture")
    y, x = torch.meshgrid(*((torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1 for n in shape), indexing="ij")
    turn = 2 * math.pi * torch.arange(coils, dtype=torch.float64)[:, None, None] / coils
    across, down = x - distance * turn.cos(), y - distance * turn.sin()
    maps = torch.polar(1 / torch.hypot(across, down), torch.atan2(across, -down) + turn)
    return (maps / root_sum_of_squares(maps) if normalise else maps).to(torch.complex64)


def root_sum_of_squares(
    pictures: Complex[Tensor, "*batch coils rows columns"],
) -> Float[Tensor, "*batch rows columns"]:
    """``sqrt(sum_c |x_c|^2)``: the magnitude without maps."""
    return torch.linalg.vector_norm(pictures, dim=-3)


def combine(
    pictures: Complex[Tensor, "*batch coils rows columns"], maps: Complex[Tensor, "coils rows columns"]
) -> Complex[Tensor, "*batch rows columns"]:
    """The picture behind coil pictures, ``sum_c conj(S_c) x_c / sum_c |S_c|^2``, zero where the maps are.

    The least-squares answer for white noise (Roemer et al. 1990).
    """
    square = (maps.abs() ** 2).sum(-3)
    return (maps.conj() * pictures).sum(-3) / torch.where(square > 0, square, 1.0)


def walsh_maps(
    pictures: Complex[Tensor, "coils rows columns"], window: int = 7, threshold: float = 0.05
) -> Complex[Tensor, "coils rows columns"]:
    """The strongest eigenvector of the local covariance of coil pictures.

    Walsh, Gmitro and Marcellin 2000 (Adaptive reconstruction of phased array MR imagery, Magn. Reson. Med. 43), with
    white noise.

    Args:
        pictures: of the coils, fully sampled or of the middle of k-space.
        window: odd side of the neighbourhood in pixels.
        threshold: maps are zero where the local signal is less than this part of the largest.
    """
    coils, rows, columns = _coil_stack(pictures, "pictures")
    require(window >= 1 and window % 2 == 1, "window", window, "an odd number of pixels")
    products = pictures[:, None] * pictures[None].conj()
    real = torch.view_as_real(products).movedim(-1, 0).reshape(-1, 1, rows, columns)
    smooth = torch.nn.functional.avg_pool2d(real, window, 1, window // 2, count_include_pad=False)
    covariance = torch.complex(*smooth.reshape(2, coils, coils, rows, columns)).permute(2, 3, 0, 1)
    power, maps = _strongest(covariance)
    maps = maps * (power > threshold**2 * power.max())[..., None]
    return _with_phase(maps.permute(2, 0, 1), pictures)


def espirit_maps(
    calibration: Complex[Tensor, "coils lines samples"],
    shape: tuple[int, int],
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.8,
) -> Complex[Tensor, "coils rows columns"]:
    r"""ESPIRiT: eigenvectors with eigenvalue 1 of the operator that the low frequencies' own patches define.

    Patches of ``kernel^2`` points of all coils span a space; with ``V`` its orthonormal basis (right singular vectors
    above ``threshold``), k-space is unchanged by the mean projection of its patches, a convolution with the kernels
    ``K_cc'(d) = 1/kernel^2 sum_(p - p' = d) (V V^H)^*[(c, p), (c', p')]``.  In the picture that is a matrix of coils by
    coils at each pixel, of which the maps are eigenvectors.  Uecker et al. 2014 (Magn. Reson. Med. 71), eqs. 9-19.

    Args:
        calibration: the fully sampled middle of k-space, at least ``kernel + 1`` points a side.
        shape: ``(rows, columns)`` of the maps.
        kernel: side of a patch.
        threshold: singular values of the patches count from this part of the largest.
        crop: maps are zero where the eigenvalue is below it: no signal there, or two overlaid pictures.

    Raises:
        ValueError: too small a calibration, or one without signal.
    """
    coils, lines, samples = _coil_stack(calibration, "calibration")
    require(1 <= kernel < min(lines, samples), "kernel", kernel, f"less than the calibration's {lines}x{samples}")
    require(0 < threshold < 1, "threshold", threshold, "a part between 0 and 1")
    require(0 <= crop < 1, "crop", crop, "a part from 0 to below 1")
    if not bool(calibration.isfinite().all()) or not bool((calibration != 0).any()):
        raise ValueError("calibration is empty or not finite: expected the measured middle of k-space")
    patches = calibration.unfold(1, kernel, 1).unfold(2, kernel, 1).permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    squares, basis = torch.linalg.eigh((patches.mH @ patches).to(torch.complex128))
    basis = basis[:, squares > threshold**2 * squares[-1]]
    projection = (basis @ basis.mH).conj().reshape(coils, kernel, kernel, coils, kernel, kernel)
    return _with_phase(_eigenmaps(projection, shape, crop).to(calibration.dtype), calibration)


def _eigenmaps(projection: Tensor, shape: tuple[int, int], crop: float) -> Tensor:
    coils, kernel = projection.shape[:2]
    wide = 2 * kernel - 1
    filters = projection.new_zeros(coils, coils, wide, wide)
    for i in range(kernel):
        for j in range(kernel):
            # Differences d = p - p' of a patch's point p = (i, j) with all p', counted from -(kernel - 1).
            part = (slice(i, i + kernel), slice(j, j + kernel))
            filters[:, :, part[0], part[1]] += projection[:, i, j].flip(2, 3)
    lines = [_waves(n, wide) for n in shape]
    at_pixels = torch.einsum("ry,abyx,cx->rcab", lines[0].to(filters), filters, lines[1].to(filters)) / kernel**2
    values, maps = _strongest(at_pixels.to(torch.complex64))
    return (maps * (values > crop)[..., None]).permute(2, 0, 1)


def _waves(n: int, wide: int) -> Tensor:
    """``exp(2 pi i d r / n)`` for centred pixels ``r`` and differences ``d``, complex128 ``(n, wide)``."""
    r, d = torch.arange(n, dtype=torch.float64) - n // 2, torch.arange(wide, dtype=torch.float64) - wide // 2
    turns = r[:, None] * d / n
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns)


def _strongest(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue ``(...,)`` and its unit eigenvector ``(..., n)`` of Hermitian ``(..., n, n)``."""
    values, vectors = torch.linalg.eigh(matrices)
    return values[..., -1], vectors[..., -1]


def _with_phase(maps: Tensor, data: Tensor) -> Tensor:
    """Maps turned so that their projection on the strongest virtual coil of ``data`` is real and positive."""
    flat = data.flatten(1)
    virtual = _strongest(flat @ flat.mH)[1]
    along = torch.einsum("c,cij->ij", virtual.conj(), maps)
    size = along.abs()
    return maps * torch.where(size > 0, along.conj() / torch.where(size > 0, size, 1.0), 1.0)


def _coil_stack(data: Tensor, name: str) -> tuple[int, int, int]:
    if data.ndim != 3 or not data.is_complex():
        raise ValueError(
            f"{name} of {data.dtype} and shape {tuple(data.shape)}: expected complex (coils, rows, columns)"
        )
    coils, rows, columns = data.shape
    return coils, rows, columns
