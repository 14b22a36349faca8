r"""Centred Fourier transforms, and complex pictures as two channels.

The core's states are real.  A complex picture ``(B, ...)`` is a state ``(B, 2, ...)``, real parts first; inner products
and norms are the same, and white complex noise is white noise of the channels.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

__all__ = ["centred_fft", "centred_ifft", "centring", "to_channels", "to_complex"]


def to_complex(x: Float[Tensor, "batch 2 *event"]) -> Complex[Tensor, "batch *event"]:
    """``x[:, 0] + i x[:, 1]``."""
    if x.ndim < 2 or x.shape[1] != 2 or x.is_complex():
        raise ValueError(
            f"x of {x.dtype} and shape {tuple(x.shape)}: expected real and imaginary parts, (batch, 2, ...)"
        )
    last = x.movedim(1, -1)
    packed = last.stride(-1) == 1 and all(step % 2 == 0 for step in last.stride()[:-1]) and x.storage_offset() % 2 == 0
    return torch.view_as_complex(last if packed else last.contiguous())


def to_channels(z: Complex[Tensor, "batch *event"]) -> Float[Tensor, "batch 2 *event"]:
    """Real and imaginary parts as channels, a view of ``z``."""
    if not z.is_complex():
        raise ValueError(f"z of {z.dtype}: expected complex numbers; torch.complex(real, imag) makes them")
    return torch.view_as_real(z).movedim(-1, 1)


def centred_fft(z: Complex[Tensor, "*batch rows columns"]) -> Complex[Tensor, "*batch rows columns"]:
    """The orthonormal transform over the last two axes with the origin in the middle on both sides, as fastMRI's."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(z, (-2, -1)), norm="ortho"), (-2, -1))


def centred_ifft(z: Complex[Tensor, "*batch rows columns"]) -> Complex[Tensor, "*batch rows columns"]:
    """The inverse of `centred_fft`."""
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(z, (-2, -1)), norm="ortho"), (-2, -1))


def centring(rows: int, columns: int) -> tuple[Complex[Tensor, "rows columns"], Complex[Tensor, "rows columns"]]:
    r"""Phases ``(before, after)`` with ``centred_fft(z) = after * fft2(before * z)``, complex128.

    With ``c = n // 2``: ``before_r = exp(2 pi i c r / n)`` and ``after_k = exp(2 pi i c (k - c) / n)`` along each axis;
    signs where ``n`` is even.  Folded into coil maps and masks, they save the shifts.
    """
    lines = []
    for n in (rows, columns):
        # Integers below n keep the angle exact.
        place, middle = torch.arange(n), n // 2
        turns = torch.stack([middle * place % n, middle * (place - middle) % n]).double() / n
        lines.append(torch.polar(torch.ones_like(turns), 2 * torch.pi * turns))
    before, after = (lines[0][i][:, None] * lines[1][i] for i in range(2))
    return before, after
