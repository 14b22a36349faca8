r"""Magnetic resonance on a Cartesian grid: ``y_c = M F (S_c x)`` for coils ``c``.

``x`` is a complex picture as two channels (see `ornstein.domains.medical.physics.fourier`), ``F`` the centred
orthonormal transform, ``M`` a mask of k-space and ``S_c`` the map of a coil.  Columns are phase encodings; a mask of
columns is shared by all rows.
"""

import torch
from jaxtyping import Bool, Complex
from torch import Tensor

from ornstein.core.inverse.operators import LinearOperator, SpectralOperator
from ornstein.domains.medical.physics.fourier import centring, to_channels, to_complex

__all__ = ["CartesianMRI", "ColumnSpectrum", "MulticoilMRI"]


def _mask(mask: Tensor, rows: int | None, per_sample: bool) -> Tensor:
    """As ``(1 or B, rows, columns)``."""
    if mask.dtype != torch.bool:
        raise ValueError(f"mask of dtype {mask.dtype}: expected torch.bool, True where k-space is measured")
    mask = mask if per_sample else mask[None]
    if mask.ndim == 2 and rows is not None:
        mask = mask[:, None].expand(-1, rows, -1)
    if mask.ndim != 3:
        raise ValueError(
            f"mask of shape {tuple(mask.shape)}: expected (rows, columns), or (columns,) with rows= given, and a batch "
            "axis before it with per_sample"
        )
    if not bool(mask.flatten(1).any(1).all()):
        raise ValueError("mask measures nothing: expected at least one True")
    return mask


class CartesianMRI(SpectralOperator):
    """One coil: ``y = M F x``, zero where nothing is measured.

    ``V`` is the inverse transform, ``U`` the identity, and singular values are the mask, so every spectral method is
    exact.

    Args:
        mask: boolean, ``(rows, columns)``, or ``(columns,)`` for lines with ``rows`` given; a batch axis before it with
            ``per_sample``.
        rows: of the picture, for a mask of columns.
        per_sample: whether each sample of the batch has a mask of its own.

    Example:
        >>> import torch
        >>> from ornstein.domains.medical.physics.masks import random_mask
        >>> A = CartesianMRI(random_mask(32), rows=32)
        >>> A(torch.randn(4, 2, 32, 32)).shape
        torch.Size([4, 2, 32, 32])
    """

    mask: Tensor
    before: Tensor
    after: Tensor

    def __init__(self, mask: Bool[Tensor, "..."], rows: int | None = None, per_sample: bool = False) -> None:
        wide = _mask(mask, rows, per_sample)
        super().__init__((2, *wide.shape[1:]), (2, *wide.shape[1:]))
        self.rows, self.per_sample = rows, per_sample
        before, after = centring(*wide.shape[1:])
        self.register_buffer("mask", wide)
        self.register_buffer("before", before, persistent=False)
        self.register_buffer("after", after, persistent=False)

    @property
    def singular_values(self) -> Tensor:
        both = self.mask[:, None].expand(-1, 2, -1, -1).flatten(1).double()
        return both if self.per_sample else both[0]

    def part(self, samples: slice) -> "CartesianMRI":
        return CartesianMRI(self.mask[samples], per_sample=True) if self.per_sample else self

    def restrict(self, y: Tensor) -> Tensor:
        return torch.where(self.mask[:, None], y, 0.0)

    def transform(self, x: Tensor) -> Tensor:
        """``F x``, ``(B, 2, rows, columns)`` on both sides."""
        z = to_complex(x)
        return to_channels(self.after.to(z) * torch.fft.fft2(self.before.to(z) * z, norm="ortho"))

    def inverse_transform(self, y: Tensor) -> Tensor:
        """``F^-1 y``."""
        z = to_complex(y)
        return to_channels(self.before.to(z).conj() * torch.fft.ifft2(self.after.to(z).conj() * z, norm="ortho"))

    def forward(self, x: Tensor) -> Tensor:
        return self.restrict(self.transform(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inverse_transform(self.restrict(y))

    def vt(self, x: Tensor) -> Tensor:
        return self.transform(x).flatten(1)

    def v(self, c: Tensor) -> Tensor:
        return self.inverse_transform(c.unflatten(1, self.shape))

    def ut(self, y: Tensor) -> Tensor:
        return y.flatten(1)

    def u(self, c: Tensor) -> Tensor:
        return c.unflatten(1, self.measured)


class MulticoilMRI(LinearOperator):
    """Several coils: ``(B, 2, rows, columns)`` to ``(B, 2, coils, rows, columns)``, zero where nothing is measured.

    Args:
        maps: complex sensitivities ``(coils, rows, columns)``, or ``(B, coils, rows, columns)`` with ``per_sample``;
            zero in all coils where there is nothing to see.
        mask: boolean, ``(rows, columns)`` or ``(columns,)``; a batch axis before it with ``per_sample``.
        per_sample: whether each sample has maps and a mask of its own.

    Raises:
        ValueError: a map that is not finite or zero everywhere, or a mask of another shape.
    """

    maps: Tensor
    mask: Tensor
    sensing: Tensor
    sampling: Tensor

    def __init__(self, maps: Complex[Tensor, "..."], mask: Bool[Tensor, "..."], per_sample: bool = False) -> None:
        if not maps.is_complex() or maps.ndim != 3 + per_sample:
            raise ValueError(
                f"maps of {maps.dtype} and shape {tuple(maps.shape)}: expected complex ({'batch, ' * per_sample}coils, "
                "rows, columns)"
            )
        every = maps if per_sample else maps[None]
        if not bool(every.isfinite().all()):
            raise ValueError("maps hold NaN or infinite numbers: set them to 0 where there is nothing to see")
        dead = (every == 0).flatten(2).all(2).nonzero()
        if len(dead):
            raise ValueError(f"maps of coil {int(dead[0, 1])} are zero everywhere: leave the coil out")
        wide = _mask(mask, every.shape[2], per_sample)
        if wide.shape[1:] != every.shape[2:] or (per_sample and len(wide) != len(every)):
            raise ValueError(f"mask of shape {tuple(mask.shape)}: expected that of the maps, {tuple(maps.shape)}")
        super().__init__((2, *every.shape[2:]), (2, *every.shape[1:]))
        self.per_sample = per_sample
        before, after = (part.to(every.device) for part in centring(*every.shape[2:]))
        wide = wide.to(every.device)
        self.register_buffer("maps", every)
        self.register_buffer("mask", wide)
        # The phases of centring are folded into maps and mask.
        self.register_buffer("sensing", (every * before).to(every.dtype), persistent=False)
        self.register_buffer("sampling", (wide * after).to(every.dtype)[:, None], persistent=False)

    def part(self, samples: slice) -> "MulticoilMRI":
        return MulticoilMRI(self.maps[samples], self.mask[samples], True) if self.per_sample else self

    def restrict(self, y: Tensor) -> Tensor:
        return torch.where(self.mask[:, None, None], y, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        z = to_complex(x)[:, None]
        return to_channels(torch.fft.fft2(self.sensing.to(z) * z, norm="ortho") * self.sampling.to(z))

    def adjoint(self, y: Tensor) -> Tensor:
        z = to_complex(y)
        pictures = torch.fft.ifft2(z * self.sampling.to(z).conj(), norm="ortho")
        return to_channels((pictures * self.sensing.to(z).conj()).sum(1))

    @property
    def has_spectrum(self) -> bool:
        """Whether `spectrum` serves: one set of maps and a mask of whole columns or whole rows for all samples."""
        mask = self.mask[0]
        return not self.per_sample and bool((mask == mask[:1]).all() or (mask == mask[:, :1]).all())

    def spectrum(self) -> "ColumnSpectrum":
        """The same operator with its decomposition, for one mask of columns (or of rows)."""
        return ColumnSpectrum(self)


class ColumnSpectrum(SpectralOperator):
    r"""Several coils and a mask of columns, with a singular value decomposition.

    The transform along the measured columns is unitary and drops out, so the rows of the picture are apart: row ``r``
    has the matrix ``A_r = (M F diag(S_c,r))_c`` of ``coils columns`` by ``columns``, and the small matrix ``A_r^H A_r``
    is ``V_r S_r^2 V_r^H``.  ``U_r = A_r V_r / S_r`` is not kept.  Memory is that of ``V``: ``rows columns^2`` complex
    numbers.  A mask of rows is decomposed along the other axis.

    Values below ``tolerance`` times the largest count as zero; there ``U`` has no columns.

    Args:
        operator: coils and mask, the same for all samples.

    Raises:
        ValueError: a mask that is neither of whole columns nor of whole rows, or one for each sample.
    """

    tolerance = 1e-4
    values: Tensor
    basis: Tensor

    def __init__(self, operator: MulticoilMRI) -> None:
        super().__init__(operator.shape, operator.measured)
        if operator.per_sample:
            raise ValueError("operator has maps for each sample: expected one set, decompose operator.part(...) apart")
        mask = operator.mask[0]
        by_columns = bool((mask == mask[:1]).all())
        if not by_columns and not bool((mask == mask[:, :1]).all()):
            raise ValueError("operator's mask is not of whole columns or whole rows: use a method that needs no SVD")
        self.operator, self.by_columns = operator, by_columns
        maps = operator.maps[0].to(torch.complex128)
        maps, line = (maps, mask[0]) if by_columns else (maps.mT, mask[:, 0])
        columns = len(line)
        before, after = centring(1, columns)
        transform = torch.fft.fft(torch.eye(columns, dtype=torch.complex128, device=maps.device), norm="ortho")
        transform = (after.to(maps).mT * transform * before.to(maps))[line]
        gram = (transform.mH @ transform)[None] * torch.einsum("cri,crj->rij", maps.conj(), maps)
        squares, basis = torch.linalg.eigh(gram)
        self.register_buffer("values", squares.clamp(min=0).sqrt(), persistent=False)
        self.register_buffer("basis", basis.to(operator.maps.dtype), persistent=False)

    @property
    def singular_values(self) -> Tensor:
        return self.values.flatten().repeat_interleave(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(y)

    def restrict(self, y: Tensor) -> Tensor:
        return self.operator.restrict(y)

    def vt(self, x: Tensor) -> Tensor:
        z = to_complex(x) if self.by_columns else to_complex(x).mT
        c = torch.einsum("rik,bri->brk", self.basis.to(z).conj(), z)
        return torch.view_as_real(c).flatten(1)

    def v(self, c: Tensor) -> Tensor:
        rows, columns = self.values.shape
        z = torch.view_as_complex(c.reshape(len(c), rows, columns, 2).contiguous())
        z = torch.einsum("rik,brk->bri", self.basis.to(z), z)
        return to_channels(z if self.by_columns else z.mT)

    def _inverse(self, like: Tensor) -> Tensor:
        s, seen = self.singular_values, self.reliable
        return torch.where(seen, 1 / torch.where(seen, s, 1.0), 0.0).to(like)

    def ut(self, y: Tensor) -> Tensor:
        return self.vt(self.adjoint(y)) * self._inverse(y)

    def u(self, c: Tensor) -> Tensor:
        return self(self.v(c * self._inverse(c)))
