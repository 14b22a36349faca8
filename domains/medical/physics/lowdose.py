r"""From low dose to full dose in the picture: ``y = x + n`` with noise of a known spectrum, and its simulation.

Reconstruction by filtered back-projection leaves noise that is coloured, and nearly stationary about the middle of the
body.  With its power spectrum ``P`` (the mean of ``|F n|^2`` for the orthonormal transform ``F``), the whitened picture
``F^-1 P^(-1/2) F y`` is a blur of ``x`` with white noise of standard deviation 1: an operator with a decomposition, for
which spectral methods are exact.  Kijewski and Judy 1987 (The noise power spectrum of CT images, Phys. Med. Biol. 32).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.inverse.linear import Blur
from ornstein.core.inverse.measurement import GaussianNoise, Measurement
from ornstein.core.schedules import require
from ornstein.domains.medical.physics.counts import LogCounts
from ornstein.domains.medical.physics.fbp import filtered_back_projection
from ornstein.domains.medical.physics.projector import Projector

__all__ = ["add_dose_noise", "low_dose_measurement", "noise_power_spectrum"]


def add_dose_noise(
    x: Float[Tensor, "batch channels rows columns"],
    projector: Projector,
    noise: LogCounts,
    window: str = "ramp",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch channels rows columns"]:
    """Pictures with the noise of a scan at some dose: its counts are drawn, and what they add is back-projected.

    The picture itself is not blurred by the simulation, as only the noise of the sinogram goes through it.

    Args:
        x: attenuation, in units of 1 / the geometry's unit of length.
        projector: the scanner.
        noise: its dose and dark current.
        window: of the filtered back-projection.
        generator: of the counts.
    """
    clean = projector(x)
    return x + filtered_back_projection(noise.sample(clean, generator) - clean, projector.geometry, window)


def noise_power_spectrum(
    noise: Float[Tensor, "batch channels rows columns"], floor: float = 1e-3
) -> Float[Tensor, "rows columns"]:
    """The mean of ``|F n|^2`` over pictures of noise alone, with the zero frequency first.

    Args:
        noise: differences of low and full dose, or of two scans divided by sqrt(2).
        floor: no frequency counts as less noisy than this part of the mean: a filter that cuts frequencies leaves no
            noise there, and no picture either.
    """
    require(0 < floor <= 1, "floor", floor, "a part above 0 and at most 1")
    if not bool(noise.isfinite().all()) or not bool((noise != 0).any()):
        raise ValueError("noise is zero or not finite: expected differences of pictures")
    spectrum = (torch.fft.fft2(noise, norm="ortho").abs() ** 2).mean((0, 1))
    return spectrum.clamp(min=floor * float(spectrum.mean()))


def low_dose_measurement(
    y: Float[Tensor, "batch channels rows columns"], spectrum: Float[Tensor, "rows columns"]
) -> Measurement:
    """A low-dose picture as a measurement of the full-dose one, whitened: every posterior method of the core takes it.

    Args:
        y: the noisy pictures.
        spectrum: of their noise, as `noise_power_spectrum` gives it.
    """
    if tuple(spectrum.shape) != tuple(y.shape[2:]) or not bool((spectrum > 0).all()):
        raise ValueError(f"spectrum of shape {tuple(spectrum.shape)}: expected positive, {tuple(y.shape[2:])} as y has")
    sides = [n // 2 for n in spectrum.shape]
    kernel = torch.fft.ifft2(spectrum.double().rsqrt()).real.roll(sides, (0, 1))
    operator = Blur(tuple(y.shape[1:]), kernel).to(y.device)
    return Measurement(operator(y), operator, GaussianNoise(1.0))
