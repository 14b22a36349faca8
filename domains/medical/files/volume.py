"""Pictures and k-space as they come from files, with what places them in the patient."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

__all__ = ["KSpace", "Volume"]


@dataclass(frozen=True, eq=False)
class Volume:
    """A stack of slices in the units of its file.  Nothing that names a patient is printed.

    Args:
        values: ``(slices, rows, columns)`` float32, finite.
        affine: ``(4, 4)``, takes ``(slice, row, column, 1)`` to millimetres to the right, to the front and up of the
            patient (RAS, as NIfTI's).
        units: ``"HU"`` for Hounsfield units, ``""`` where the file knows none.
        modality: ``"CT"``, ``"MR"`` or what the file says; ``""`` where it does not.
        known: False where the scanner wrote padding, ``(slices, rows, columns)``; None for no such place.
        source: what the file had besides, to be written back.
    """

    values: Float[Tensor, "slices rows columns"]
    affine: np.ndarray
    units: str = ""
    modality: str = ""
    known: Bool[Tensor, "slices rows columns"] | None = None
    source: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.dtype != torch.float32:
            raise ValueError(
                f"values of {self.values.dtype} and shape {tuple(self.values.shape)}: expected float32 (slices, rows, "
                "columns)"
            )
        where = self.values if self.known is None else self.values[self.known]
        if not bool(where.isfinite().all()):
            raise ValueError(f"values hold {int((~where.isfinite()).sum())} NaN or infinite numbers: mask or fill them")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise ValueError("affine: expected a finite (4, 4) matrix that can be inverted")
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Between slices, rows and columns, in millimetres."""
        slices, rows, columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slices), float(rows), float(columns)

    def with_values(self, values: Tensor) -> "Volume":
        """The same place and metadata with other values of the same shape.

        Raises:
            ValueError: another shape, as the metadata would not fit it.
        """
        if values.shape != self.values.shape:
            raise ValueError(f"values of shape {tuple(values.shape)}: expected {tuple(self.values.shape)}")
        return replace(self, values=values.detach().to("cpu", torch.float32))

    def __repr__(self) -> str:
        spacing = " x ".join(f"{side:.4g}" for side in self.spacing)
        what = " ".join(word for word in (self.modality, self.units) if word)
        return f"Volume({tuple(self.values.shape)}, {spacing} mm{', ' * bool(what)}{what})"


@dataclass(frozen=True, eq=False)
class KSpace:
    """Measured k-space of a stack of slices, the origin in the middle.

    Args:
        values: complex ``(slices, coils, rows, columns)``, zero where nothing was measured.
        mask: ``(rows, columns)``, True where it was.
        matrix: ``(rows, columns)`` of the picture to cut out of the middle; those of k-space when not told.
        field_of_view: ``(rows, columns)`` of that picture in millimetres, where the file says it.
        reference: magnitudes ``(slices, *matrix)`` that the file holds as the truth.
        noise: ``(coils, samples)`` of a scan without signal.
    """

    values: Complex[Tensor, "slices coils rows columns"]
    mask: Bool[Tensor, "rows columns"]
    matrix: tuple[int, int]
    field_of_view: tuple[float, float] | None = None
    reference: Float[Tensor, "slices height width"] | None = None
    noise: Complex[Tensor, "coils samples"] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or not self.values.is_complex():
            raise ValueError(
                f"values of {self.values.dtype} and shape {tuple(self.values.shape)}: expected complex (slices, coils, "
                "rows, columns)"
            )
        if self.values.numel() == 0:
            raise ValueError(f"values of shape {tuple(self.values.shape)}: expected at least one slice, coil and value")
        if not bool(self.values.isfinite().all()):
            raise ValueError("values hold NaN or infinite numbers: fill unmeasured places with 0")
        if self.mask.dtype != torch.bool or self.mask.shape != self.values.shape[2:]:
            raise ValueError(
                f"mask of {self.mask.dtype} and shape {tuple(self.mask.shape)}: expected boolean "
                f"{tuple(self.values.shape[2:])} as the k-space"
            )
        if not bool(self.mask.any()):
            raise ValueError("mask is False everywhere: nothing was measured")
        silent = (self.values == 0).flatten(2).all(2).all(0).nonzero()
        if len(silent):
            raise ValueError(f"coil {int(silent[0])} measured nothing but zeros: leave it out")
        _check_centre(self.values)
        for name, cut, whole in zip(("rows", "columns"), self.matrix, self.values.shape[2:]):
            if not 1 <= cut <= whole:
                raise ValueError(f"matrix of {cut} {name}: expected 1 to {whole}, as k-space has")

    def __repr__(self) -> str:
        rate = self.mask.numel() / int(self.mask.sum())
        return f"KSpace({tuple(self.values.shape)}, picture {self.matrix}, {rate:.3g}x)"


def _check_centre(values: Tensor) -> None:
    """The largest values lie near the middle ``n // 2``, or the transform has another origin."""
    power = (values.abs() ** 2).sum((0, 1))
    for name, axis in (("rows", 1), ("columns", 0)):
        line = power.sum(axis)
        peak, middle = int(line.argmax()), len(line) // 2
        if abs(peak - middle) > max(1, len(line) // 8):
            raise ValueError(
                f"k-space has its largest values in {name} {peak} of {len(line)}: expected the middle {middle}; "
                "shift it by torch.fft.fftshift, or sort the lines"
            )
