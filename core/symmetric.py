r"""Gaussian processes in the subspaces where symmetric data live.

Point clouds ``(B, N, D)`` that are meant up to translation lie in the subspace of zero centre of mass, which a noise
of zero centre of mass does not leave (Koehler et al. 2020, 2006.02425; Hoogeboom et al. 2022, 2203.17003, section 3.1
and appendix A):

    x_t = alpha x_0 + sigma P eps,        P z = z - mean of z over the real points.

Adjacency and distance matrices ``(B, N, N)`` are symmetric, and so is their noise (Niu et al. 2020, 2003.00638,
section 3.3; Jo et al. 2022, 2202.02514).  Its entries at and above the diagonal are independent and standard normal,

    eps_ij = eps_ji = (z_ij + z_ji) / sqrt 2    for i < j,        eps_ii = z_ii,  or 0 for a zero diagonal,

which, unlike one triangle copied to the other, permutes when ``z`` does.  Densities are over the coordinates in an
orthonormal basis of the subspace, ``(N - 1) D`` of them, and over the entries at and above the diagonal.

A Gaussian process is the same in a subspace as elsewhere, so schedules, denoisers, objectives and samplers are the
core's.  They ask the process for its noise (`SDE.white`), and a network's answer is projected (`Process.project`), so
a state leaves the subspace by rounding alone.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .noise import NoiseStream
from .process import Gaussian
from .schedules import Schedule, Time, require
from .sdes import SDE

__all__ = ["CentredSDE", "SubspaceGaussian", "SubspaceSDE", "SymmetricSDE"]

LOG_2PI = 1.8378770664093453
OFF = 3e-4  # how far off a subspace a state may lie, relative to its size: rounding of float32 over long runs is less


class SubspaceSDE(SDE):
    """The Gaussian process of a schedule in a linear subspace.

    In all that follows a mask is that of the states, from `expand_mask`; None where all of it is real.
    """

    whole: ClassVar[bool] = False

    @abstractmethod
    def project(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The nearest point of the subspace; zero in the padding."""

    @abstractmethod
    def white(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Standard normal numbers ``z`` ``(B, *event)`` made standard normal in the subspace; zero in the padding."""

    def inner(self, a: Tensor, b: Tensor) -> Float[Tensor, "batch"]:
        """Sum of ``a b`` over the coordinates that the density is over."""
        return (self.dual(a) * b).flatten(1).sum(1)

    def constrain(self, stream: NoiseStream, mask: Tensor | None = None) -> NoiseStream:
        return _WhiteStream(stream, self, mask)

    def check_state(self, x: Tensor) -> None:
        super().check_state(x)
        self._check(x, None, "x")

    def check_data(self, x0: Tensor, mask: Tensor | None = None) -> None:
        """Raise ``ValueError`` for clean data that are not in the subspace."""
        self._check(x0, mask, "x0")

    def _check(self, x: Tensor, mask: Tensor | None, name: str) -> None:
        # On a device this check would wait for it at every step.
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return
        if mask is not None:
            x = x * mask.to(x).reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
        off, size = (x - self.project(x, mask)).abs(), x.abs().flatten(1).amax(1)
        if bool((off.flatten(1).amax(1) > OFF * size).any()):
            raise ValueError(
                f"{name} lies off the subspace of {self} by {float(off.max()):.3g}: expected "
                f"process.project({name}, mask)"
            )

    def prior(self, shape: tuple[int, ...], t: Time = 1.0, mask: Tensor | None = None) -> "SubspaceGaussian":
        return self._within(super().prior(shape, t), mask)

    def marginal(self, x0: Tensor, t: Time, mask: Tensor | None = None) -> "SubspaceGaussian":  # type: ignore[override]
        return self._within(super().marginal(x0, t), mask)

    def posterior(  # type: ignore[override]  # this process moves one tensor
        self, x0: Tensor, xt: Tensor, s: Time, t: Time, mask: Tensor | None = None
    ) -> "SubspaceGaussian":
        return self._within(super().posterior(x0, xt, s, t), mask)

    def _within(self, full: Gaussian, mask: Tensor | None) -> "SubspaceGaussian":
        return SubspaceGaussian(full.mean, full.std, self, mask)


@dataclass(frozen=True)
class SubspaceGaussian(Gaussian):
    """``mean + std * noise`` with the noise of a `SubspaceSDE`; ``std`` is one number, or one a sample.

    Args:
        mean, std: as for `Gaussian`, in the subspace.
        process: whose subspace.
        mask: of the states, from ``process.expand_mask``.
    """

    process: SubspaceSDE
    mask: Tensor | None = None

    def sample(self, noise: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """As `Gaussian.sample`; ``noise`` is standard normal in all coordinates, and brought to the subspace here."""
        if noise is None:
            noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=self.mean.device, generator=generator)
        return self.mean + self.std * self.process.white(noise, self.mask)

    def log_prob(self, x: Tensor) -> Float[Tensor, "batch"]:
        """Log-density in nats over the coordinates of the module's text, ``(B,)``.

        Raises:
            ValueError: for ``x`` off the subspace.
        """
        self.process._check(x, self.mask, "x")
        z = (x - self.mean) / self.std
        std = self.std.to(x).expand(len(x), *[1] * (x.ndim - 1)).reshape(len(x))
        return -0.5 * self.process.inner(z, z) - self.process.dim(x, self.mask).to(x) * (std.log() + 0.5 * LOG_2PI)


class CentredSDE(SubspaceSDE):
    """Point clouds ``(B, N, D)`` of zero centre of mass, with masks ``(B, N)``; see the module's text.

    Args:
        schedule: gives ``alpha`` and ``sigma``.

    Example:
        >>> import torch
        >>> from ornstein.core import CosineSchedule
        >>> process = CentredSDE(CosineSchedule())
        >>> process.project(torch.tensor([[[1.0], [2.0], [6.0]]])).flatten()
        tensor([-2., -1.,  3.])
    """

    def __repr__(self) -> str:
        return f"CentredSDE({self.schedule!r})"

    def project(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x`` less its mean over the real points, zero in the padding."""
        if x.ndim != 3:
            raise ValueError(f"x of shape {tuple(x.shape)}: expected points (B, N, D)")
        if mask is None:
            return x - x.mean(1, keepdim=True)
        keep = mask.to(x).unsqueeze(-1)
        centre = (x * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)
        return (x - centre) * keep

    def white(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.project(z, mask)

    def dim(self, like: Tensor, mask: Tensor | None = None) -> Float[Tensor, "batch"]:
        """``(n - 1) D`` for ``n`` real points."""
        points = like.new_full((len(like),), like.shape[1]) if mask is None else mask.sum(1).to(like)
        return (points - 1).clamp(min=0) * like.shape[2]


class SymmetricSDE(SubspaceSDE):
    """Symmetric matrices ``(B, N, N)`` or ``(B, N, N, C)``, with masks of nodes ``(B, N)`` or of pairs ``(B, N, N)``;
    see the module's text.

    Args:
        schedule: gives ``alpha`` and ``sigma``.
        diagonal: "zero" for graphs without loops, or "kept" where the diagonal is data too.

    Example:
        >>> import torch
        >>> from ornstein.core import CosineSchedule
        >>> process = SymmetricSDE(CosineSchedule())
        >>> process.project(torch.tensor([[[1.0, 2.0], [4.0, 1.0]]]))
        tensor([[[0., 3.],
                 [3., 0.]]])
    """

    def __init__(self, schedule: Schedule, diagonal: Literal["zero", "kept"] = "zero") -> None:
        super().__init__(schedule)
        require(diagonal in ("zero", "kept"), "diagonal", diagonal, "'zero' or 'kept'")
        self.diagonal = diagonal

    def __repr__(self) -> str:
        return f"SymmetricSDE({self.schedule!r}, {self.diagonal!r})"

    def expand_mask(self, mask: Tensor) -> Tensor:
        """The mask of pairs ``(B, N, N)``, without the diagonal where that is zero, of one of nodes or of pairs.

        Raises:
            ValueError: for a mask of another shape or dtype, or of pairs that are not symmetric.
        """
        if mask.dtype != torch.bool or mask.ndim not in (2, 3):
            raise ValueError(f"mask of shape {tuple(mask.shape)}, {mask.dtype}: expected (B, N) or (B, N, N), bool")
        pairs = mask[:, :, None] & mask[:, None] if mask.ndim == 2 else mask
        if mask.ndim == 3 and (mask.shape[1] != mask.shape[2] or not torch.equal(mask, mask.mT)):
            raise ValueError(f"mask of pairs of shape {tuple(mask.shape)} is not symmetric: expected mask == mask.mT")
        return pairs & ~self._on_diagonal(pairs) if self.diagonal == "zero" else pairs

    @staticmethod
    def _on_diagonal(x: Tensor) -> Tensor:
        return torch.eye(x.shape[1], dtype=torch.bool, device=x.device)

    def _mixed(self, x: Tensor, weight: float, mask: Tensor | None) -> Tensor:
        """``weight (x_ij + x_ji)`` off the diagonal and ``x_ii`` or zero on it."""
        if x.ndim not in (3, 4) or x.shape[1] != x.shape[2]:
            raise ValueError(f"x of shape {tuple(x.shape)}: expected square matrices (B, N, N) or (B, N, N, C)")
        diagonal = self._on_diagonal(x).reshape(x.shape[1], x.shape[1], *[1] * (x.ndim - 3))
        out = torch.where(diagonal, x if self.diagonal == "kept" else 0.0, weight * (x + x.transpose(1, 2)))
        return out if mask is None else out * mask.to(x).reshape(*mask.shape, *[1] * (x.ndim - 3))

    def project(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The mean of ``x`` and its transpose, with the diagonal as it is or zero; zero in the padding."""
        return self._mixed(x, 0.5, mask)

    def white(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._mixed(z, 0.5**0.5, mask)

    def dual(self, x: Tensor) -> Tensor:
        """Half of what stands off the diagonal, where every number stands twice."""
        return torch.where(self._on_diagonal(x).reshape(*x.shape[1:3], *[1] * (x.ndim - 3)), x, 0.5 * x)

    def dim(self, like: Tensor, mask: Tensor | None = None) -> Float[Tensor, "batch"]:
        """The number of real entries above the diagonal, and on it where that is kept."""
        return self.dual(self.project(torch.ones_like(like), mask)).flatten(1).sum(1)


class _WhiteStream(NoiseStream):
    """A stream whose draws lie in the subspace of a process."""

    def __init__(self, stream: NoiseStream, process: SubspaceSDE, mask: Tensor | None) -> None:
        self.stream, self.process, self.mask = stream, process, mask

    def _white(self, z: Tensor) -> Tensor:
        return self.process.white(z, None if self.mask is None else self.mask.to(z.device))

    def draw(self, like: Tensor) -> Tensor:
        return self._white(self.stream.draw(like))

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        return self._white(self.stream.step(like, t, s))

    def child(self, number: int) -> NoiseStream:
        return _WhiteStream(self.stream.child(number), self.process, self.mask)
