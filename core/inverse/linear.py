r"""Linear operators with a known singular value decomposition: masks, subsampling, pooling, blur, matrices."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .operators import LinearOperator, SpectralOperator

__all__ = ["AveragePool", "Blur", "Diagonal", "Mask", "MatrixOperator", "RandomProjection", "Subsampling"]


class Mask(SpectralOperator):
    """Keeps some coordinates: ``y = mask * x``, zero elsewhere (inpainting, imputation).

    ``V`` and ``U`` are the identity; the singular values are the mask.

    Args:
        mask: boolean, True where ``x`` is known; ``(*shape)``, or ``(B, *shape)`` with ``per_sample``.
        per_sample: whether the mask has a batch axis.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, per_sample: bool = False) -> None:
        if mask.dtype != torch.bool:
            raise ValueError(f"mask of dtype {mask.dtype}: expected torch.bool, True where the data are known")
        shape = mask.shape[1:] if per_sample else mask.shape
        super().__init__(shape, shape)
        self.per_sample = per_sample
        self.register_buffer("mask", mask)

    @property
    def singular_values(self) -> Tensor:
        return self.mask.flatten(1 if self.per_sample else 0).double()

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.mask, x, 0.0)

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)

    def restrict(self, y: Tensor) -> Tensor:
        return self(y)

    def part(self, samples: slice) -> "Mask":
        return Mask(self.mask[samples], per_sample=True) if self.per_sample else self

    def vt(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def v(self, c: Tensor) -> Tensor:
        return c.unflatten(1, self.shape)

    def ut(self, y: Tensor) -> Tensor:
        return y.flatten(1)

    def u(self, c: Tensor) -> Tensor:
        return c.unflatten(1, self.shape)


class Diagonal(SpectralOperator):
    """A weight for each coordinate: ``y = weights * x``.

    ``V`` is the identity, ``S`` the sizes of the weights and ``U`` their signs.

    Args:
        weights: ``(1 or B, *shape)``, one set for all samples or one for each; finite.
    """

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        if weights.ndim < 2 or not bool(weights.isfinite().all()):
            raise ValueError(f"weights of shape {tuple(weights.shape)}: expected finite (1 or batch, *shape)")
        super().__init__(weights.shape[1:], weights.shape[1:])
        self.register_buffer("weights", weights)

    @property
    def singular_values(self) -> Tensor:
        sizes = self.weights.flatten(1).abs().double()
        return sizes[0] if len(sizes) == 1 else sizes

    def forward(self, x: Tensor) -> Tensor:
        return self.weights.to(x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)

    def part(self, samples: slice) -> "Diagonal":
        return self if len(self.weights) == 1 else Diagonal(self.weights[samples])

    def vt(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def v(self, c: Tensor) -> Tensor:
        return c.unflatten(1, self.shape)

    def ut(self, y: Tensor) -> Tensor:
        return (torch.where(self.weights < 0, -1.0, 1.0).to(y) * y).flatten(1)

    def u(self, c: Tensor) -> Tensor:
        return torch.where(self.weights < 0, -1.0, 1.0).to(c) * c.unflatten(1, self.shape)


class Subsampling(SpectralOperator):
    """Keeps every ``factor``-th value along the last axes: ``y[i] = x[factor i + offset]``.

    ``V`` is a permutation that puts the kept coordinates first; all singular values are 1.

    Args:
        shape: event shape of ``x``.
        factor: distance of kept values along each of the last ``dims`` axes.
        dims: number of axes that are thinned.
        offset: first index kept, from 0 to ``factor - 1``.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, shape: Sequence[int], factor: int, dims: int = 2, offset: int = 0) -> None:
        _check_axes(shape, factor, dims)
        if not 0 <= offset < factor:
            raise ValueError(f"offset={offset}: expected a number from 0 to factor - 1 = {factor - 1}")
        numbers = torch.arange(math.prod(shape)).reshape(tuple(shape))
        kept = numbers
        for axis in range(-dims, 0):
            kept = kept.index_select(axis, torch.arange(offset, kept.shape[axis], factor))
        super().__init__(shape, kept.shape)
        self.factor, self.dims, self.offset = factor, dims, offset
        known = torch.zeros(numbers.numel(), dtype=torch.bool)
        known[kept.flatten()] = True
        order = torch.cat([kept.flatten(), (~known).nonzero().flatten()])
        self.register_buffer("order", order)
        self.register_buffer("inverse", order.argsort())

    @property
    def singular_values(self) -> Tensor:
        return torch.ones(math.prod(self.measured), dtype=torch.float64, device=self.order.device)

    def vt(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self.order]

    def v(self, c: Tensor) -> Tensor:
        return c[:, self.inverse].unflatten(1, self.shape)

    def ut(self, y: Tensor) -> Tensor:
        return y.flatten(1)

    def u(self, c: Tensor) -> Tensor:
        return c.unflatten(1, self.measured)


class AveragePool(SpectralOperator):
    r"""Means of blocks of ``factor`` values along the last axes: the low-resolution picture of super-resolution.

    A block of ``n = factor^dims`` values goes to one mean, with the singular value ``1 / sqrt(n)``.  ``V`` acts within
    blocks by the Householder reflection that takes the first unit vector to ``(1, ..., 1) / sqrt(n)``.

    Args:
        shape: event shape of ``x``; the last ``dims`` axes are multiples of ``factor``.
        factor: side of a block.
        dims: number of axes that are pooled.
    """

    reflection: Tensor

    def __init__(self, shape: Sequence[int], factor: int, dims: int = 2) -> None:
        _check_axes(shape, factor, dims)
        if any(side % factor for side in tuple(shape)[-dims:]):
            raise ValueError(f"shape={tuple(shape)}: expected the last {dims} axes to be multiples of factor={factor}")
        front, back = tuple(shape)[:-dims], tuple(shape)[-dims:]
        super().__init__(shape, (*front, *(side // factor for side in back)))
        self.factor, self.dims = factor, dims
        count = factor**dims
        w = torch.full((count,), count**-0.5, dtype=torch.float64)
        w[0] -= 1
        square = float(w @ w)
        reflection = torch.eye(count, dtype=torch.float64)
        self.register_buffer("reflection", reflection - 2 / square * torch.outer(w, w) if square > 0 else reflection)

    @property
    def singular_values(self) -> Tensor:
        scale = self.factor ** (-self.dims / 2)
        return torch.full((math.prod(self.measured),), scale, dtype=torch.float64, device=self.reflection.device)

    def _blocks(self, x: Tensor) -> Tensor:
        """``(B, *shape)`` as ``(B, *measured, n)``."""
        first = x.ndim - self.dims
        for i in range(self.dims):
            axis = first + 2 * i
            x = x.unflatten(axis, (x.shape[axis] // self.factor, self.factor))
        inner = [first + 2 * i + 1 for i in range(self.dims)]
        outer = [axis for axis in range(x.ndim) if axis not in inner]
        return x.permute(*outer, *inner).flatten(len(outer))

    def _unblocks(self, blocks: Tensor) -> Tensor:
        """The inverse of `_blocks`."""
        x = blocks.unflatten(-1, (self.factor,) * self.dims)
        first = x.ndim - 2 * self.dims
        axes = [axis for i in range(self.dims) for axis in (first + i, first + self.dims + i)]
        return x.permute(*range(first), *axes).reshape(len(x), *self.shape)

    def forward(self, x: Tensor) -> Tensor:
        return self._blocks(x).mean(-1)

    def vt(self, x: Tensor) -> Tensor:
        c = self._blocks(x) @ self.reflection.to(x)
        return torch.cat([c[..., 0].flatten(1), c[..., 1:].flatten(1)], 1)

    def v(self, c: Tensor) -> Tensor:
        rank = math.prod(self.measured)
        means = c[:, :rank].unflatten(1, (*self.measured, 1))
        rest = c[:, rank:].unflatten(1, (*self.measured, -1)) if c.shape[1] > rank else means[..., :0]
        return self._unblocks(torch.cat([means, rest], -1) @ self.reflection.to(c))

    def ut(self, y: Tensor) -> Tensor:
        return y.flatten(1)

    def u(self, c: Tensor) -> Tensor:
        return c.unflatten(1, self.measured)


class Blur(SpectralOperator):
    r"""Circular convolution with a kernel along the last axes (blur with periodic edges), each channel alike.

    With the discrete Fourier transform ``h`` of the kernel, centred on its middle, ``A = P H |h| H``: ``H`` is the
    real, symmetric and orthogonal Hartley transform ``H x = Re F x - Im F x``, and ``P`` the convolution by the phase
    ``h / |h|``.  So ``V = H``, ``S = |h|`` and ``U = P H``.

    Args:
        shape: event shape of ``x``.
        kernel: ``(*sides)``, as many axes as are blurred, none longer than ``x``.
    """

    kernel: Tensor
    transfer: Tensor

    def __init__(self, shape: Sequence[int], kernel: Tensor) -> None:
        super().__init__(shape, shape)
        self.dims = kernel.ndim
        sides = self.shape[-self.dims :]
        if not 1 <= self.dims <= len(self.shape) or any(k > side for k, side in zip(kernel.shape, sides)):
            raise ValueError(
                f"kernel of shape {tuple(kernel.shape)}: expected at most {self.shape} along the last axes"
            )
        wide = torch.zeros(sides, dtype=torch.float64)
        wide[tuple(slice(0, k) for k in kernel.shape)] = kernel.double()
        axes = tuple(range(self.dims))
        wide = wide.roll(tuple(-(k // 2) for k in kernel.shape), axes)
        self.register_buffer("kernel", kernel)
        self.register_buffer("transfer", torch.fft.fftn(wide))

    @classmethod
    def gaussian(cls, shape: Sequence[int], std: float, dims: int = 2) -> "Blur":
        """Blur by a Gaussian of ``std`` pixels, cut at three of them or at the edge, of sum 1."""
        if not std > 0:
            raise ValueError(f"std={std!r}: expected a positive number of pixels")
        sides = [min(2 * math.ceil(3 * std) + 1, side - 1 + side % 2) for side in tuple(shape)[-dims:]]
        kernel = torch.ones((), dtype=torch.float64)
        for side in sides:
            line = torch.exp(-0.5 * ((torch.arange(side, dtype=torch.float64) - side // 2) / std) ** 2)
            kernel = kernel[..., None] * line
        return cls(shape, kernel / kernel.sum())

    @property
    def singular_values(self) -> Tensor:
        return self.transfer.abs().expand(self.shape).flatten()

    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.dims, 0))

    def _hartley(self, x: Tensor) -> Tensor:
        f = torch.fft.fftn(x, dim=self._axes(), norm="ortho")
        return f.real - f.imag

    def _convolve(self, x: Tensor, transfer: Tensor) -> Tensor:
        factor = transfer.to(torch.complex128 if x.dtype == torch.float64 else torch.complex64)
        return torch.fft.ifftn(torch.fft.fftn(x, dim=self._axes()) * factor, dim=self._axes()).real

    def _phase(self) -> Tensor:
        # A frequency that the kernel erases has no phase but that of rounding.
        size = self.transfer.abs()
        seen = size > 1e-12 * size.max()
        return torch.where(seen, self.transfer / torch.where(seen, size, 1.0), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self._convolve(x, self.transfer)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._convolve(y, self.transfer.conj())

    def vt(self, x: Tensor) -> Tensor:
        return self._hartley(x).flatten(1)

    def v(self, c: Tensor) -> Tensor:
        return self._hartley(c.unflatten(1, self.shape))

    def ut(self, y: Tensor) -> Tensor:
        return self.vt(self._convolve(y, self._phase().conj()))

    def u(self, c: Tensor) -> Tensor:
        return self._convolve(self.v(c), self._phase())


class MatrixOperator(SpectralOperator):
    """A dense matrix on flattened states, ``y = matrix x``, with its full decomposition.

    Args:
        matrix: ``(M, D)`` with ``D = prod(shape)``.
        shape: event shape of ``x``; ``(D,)`` when not given.
        measured: event shape of ``y``; ``(M,)`` when not given.
    """

    matrix: Tensor
    left: Tensor
    values: Tensor
    right: Tensor

    def __init__(
        self, matrix: Tensor, shape: Sequence[int] | None = None, measured: Sequence[int] | None = None
    ) -> None:
        if matrix.ndim != 2:
            raise ValueError(f"matrix of shape {tuple(matrix.shape)}: expected two axes, (measurements, unknowns)")
        rows, columns = matrix.shape
        super().__init__((columns,) if shape is None else shape, (rows,) if measured is None else measured)
        if math.prod(self.shape) != columns or math.prod(self.measured) != rows:
            raise ValueError(
                f"matrix of shape {tuple(matrix.shape)}: expected {math.prod(self.measured)} rows for "
                f"measured={self.measured} and {math.prod(self.shape)} columns for shape={self.shape}"
            )
        left, values, right = torch.linalg.svd(matrix.double(), full_matrices=True)
        self.register_buffer("matrix", matrix)
        self.register_buffer("left", left[:, : len(values)])
        self.register_buffer("values", values)
        self.register_buffer("right", right.T)

    @classmethod
    def of(cls, operator: LinearOperator) -> "MatrixOperator":
        """The matrix of any linear operator, from its answers to all unit vectors; for small states."""
        dim = math.prod(operator.shape)
        with torch.no_grad():
            columns = operator(torch.eye(dim, dtype=torch.float64).unflatten(1, operator.shape))
        return cls(columns.flatten(1).T.contiguous(), operator.shape, operator.measured)

    @property
    def singular_values(self) -> Tensor:
        return self.values

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix.to(x).T).unflatten(1, self.measured)

    def adjoint(self, y: Tensor) -> Tensor:
        return (y.flatten(1) @ self.matrix.to(y)).unflatten(1, self.shape)

    def vt(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.right.to(x)

    def v(self, c: Tensor) -> Tensor:
        return (c @ self.right.to(c).T).unflatten(1, self.shape)

    def ut(self, y: Tensor) -> Tensor:
        return y.flatten(1) @ self.left.to(y)

    def u(self, c: Tensor) -> Tensor:
        return (c @ self.left.to(c).T).unflatten(1, self.measured)


class RandomProjection(MatrixOperator):
    """Measurements by a random matrix with entries ``N(0, 1 / D)`` (compressed sensing).

    Args:
        shape: event shape of ``x``.
        measurements: number of measurements.
        seed: of the matrix.
    """

    def __init__(self, shape: Sequence[int], measurements: int, seed: int = 0) -> None:
        dim = math.prod(shape)
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(measurements, dim, generator=generator, dtype=torch.float64) / dim**0.5
        super().__init__(matrix, shape)
        self.measurements, self.seed = measurements, seed


def _check_axes(shape: Sequence[int], factor: int, dims: int) -> None:
    if not 1 <= dims <= len(shape):
        raise ValueError(f"dims={dims}: expected 1 to {len(shape)}, the number of axes of shape={tuple(shape)}")
    if factor < 1 or factor > min(tuple(shape)[-dims:]):
        raise ValueError(f"factor={factor}: expected 1 to the length of the last {dims} axes of shape={tuple(shape)}")
