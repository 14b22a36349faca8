r"""Noise of receiver coils: its covariance, and the transform that makes it white.

Pruessmann et al. 2001 (Advances in sensitivity encoding, Magn. Reson. Med. 46, eqs. 6-8): with ``Psi = E[n n^H]`` and
``Psi = L L^H``, virtual coils ``sqrt(2) L^-1 y`` have independent noise whose real and imaginary parts have variance 1.
Maps are transformed alike, and least squares on the result are the most likely answer.
"""

import torch
from jaxtyping import Complex
from torch import Tensor

__all__ = ["noise_covariance", "whiten", "whitening_matrix"]


def noise_covariance(noise: Complex[Tensor, "coils *samples"]) -> Complex[Tensor, "coils coils"]:
    """``E[n n^H]`` of a scan without signal, complex128.

    Args:
        noise: at least twice as many samples as coils.
    """
    flat = noise.flatten(1).to(torch.complex128)
    if flat.shape[1] < 2 * len(flat):
        raise ValueError(f"noise of {flat.shape[1]} samples: expected at least {2 * len(flat)}, two for each coil")
    return flat @ flat.mH / flat.shape[1]


def whitening_matrix(covariance: Complex[Tensor, "coils coils"]) -> Complex[Tensor, "coils coils"]:
    """``sqrt(2) L^-1`` of ``L L^H = covariance``.

    Raises:
        ValueError: a matrix that is not Hermitian and positive definite: a coil without noise, or one that is the sum
            of others.
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise ValueError(f"covariance of shape {tuple(covariance.shape)}: expected (coils, coils)")
    if not torch.allclose(covariance, covariance.mH, rtol=1e-5, atol=1e-8 * float(covariance.abs().max())):
        raise ValueError("covariance is not Hermitian: expected E[n n^H]")
    factor, fault = torch.linalg.cholesky_ex(covariance)
    if int(fault):
        raise ValueError(f"covariance is not positive definite at coil {int(fault) - 1}: leave the coil out")
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    return 2**0.5 * torch.linalg.solve_triangular(factor, identity, upper=False)


def whiten(
    data: Complex[Tensor, "*batch coils rows columns"], covariance: Complex[Tensor, "coils coils"]
) -> Complex[Tensor, "*batch coils rows columns"]:
    """K-space or maps of virtual coils whose noise is white, of variance 1 in real and in imaginary parts.

    Args:
        data: measured k-space, coil pictures or coil maps.
        covariance: of the coils' noise, as `noise_covariance` gives it.
    """
    matrix = whitening_matrix(covariance).to(data)
    if data.shape[-3] != len(matrix):
        raise ValueError(f"data of {data.shape[-3]} coils: expected {len(matrix)}, as the covariance has")
    return torch.einsum("dc,...cij->...dij", matrix, data)
