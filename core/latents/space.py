r"""Spaces in which latent diffusion runs: an autoencoder's latents at unit scale, and its codes in a row.

    x -> z = (encode(x) - shift) / std,        decode(std z + shift) -> x

with the scale measured on data and fixed (Rombach et al. 2022, arXiv 2112.10752, appendix G).  A denoiser on such
states is one like any other, and so is what a sampler makes of it: ``space.decode(sampler.sample(denoiser, shape))``.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..nn.checks import check_integers
from ..objectives import noise_like
from ..process import Gaussian
from ..schedules import require
from .autoencoder import Pretrained, read_data, read_latent

__all__ = ["CodeSpace", "LatentSpace"]

Self = TypeVar("Self", bound="_Space")


class _Space(Pretrained):
    """A frozen autoencoder, which stays in evaluation mode also inside a model that is trained."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        for name in ("encode", "decode"):
            if not isinstance(autoencoder, nn.Module) or not callable(getattr(autoencoder, name, None)):
                raise TypeError(
                    f"autoencoder is {type(autoencoder).__name__}: expected a module with encode and decode"
                )
        self.autoencoder: Any = autoencoder.requires_grad_(False).eval()

    def train(self: Self, mode: bool = True) -> Self:
        """Nothing here trains: the mode stays what it is."""
        return super().train(False)


class LatentSpace(_Space):
    """The latents of an autoencoder, brought to unit scale; see the module's text.

    The autoencoder is frozen: its parameters need no gradient any more.  `decode` is differentiable all the same.

    Args:
        autoencoder: any module with ``encode`` and ``decode``, diffusers' ``AutoencoderKL`` among them.
        std: what latents are divided by: a number, or one for each channel (axis 1).
        shift: what is taken off before, likewise.

    Raises:
        TypeError: for a module without ``encode`` or ``decode``.
        ValueError: for a scale that is not positive.

    Example:
        >>> import torch
        >>> from ornstein.core.latents import KLAutoencoder
        >>> x = torch.randn(32, 1, 8, 8)
        >>> space = LatentSpace.measure(KLAutoencoder(1, 2, widths=(8, 16)), x)
        >>> z = space.encode(x, generator=torch.Generator().manual_seed(0))
        >>> z.shape, space.decode(z).shape
        (torch.Size([32, 2, 4, 4]), torch.Size([32, 1, 8, 8]))
    """

    std: Tensor
    shift: Tensor

    def __init__(
        self,
        autoencoder: nn.Module,
        std: float | Sequence[float] | Tensor = 1.0,
        shift: float | Sequence[float] | Tensor = 0.0,
    ) -> None:
        super().__init__(autoencoder)
        std, shift = torch.as_tensor(std, dtype=torch.float32), torch.as_tensor(shift, dtype=torch.float32)
        require(bool((std > 0).all() and std.isfinite().all()), "std", std.tolist(), "positive numbers")
        require(bool(shift.isfinite().all()), "shift", shift.tolist(), "finite numbers")
        require(std.ndim <= 1 and shift.ndim <= 1, "std", tuple(std.shape), "a number, or one for each channel")
        self.register_buffer("std", std.clone())
        self.register_buffer("shift", shift.clone())

    @classmethod
    @torch.no_grad()
    def measure(
        cls,
        autoencoder: nn.Module,
        data: Tensor,
        *,
        per_channel: bool = False,
        batch_size: int = 256,
        generator: torch.Generator | None = None,
    ) -> "LatentSpace":
        """The space in which the latents of ``data`` have unit variance.

        Args:
            autoencoder: as in the constructor.
            data: ``(N, *event)``, one batch of a large set being enough, on the autoencoder's device.
            per_channel: give each channel zero mean and unit variance; otherwise one number brings all latents to unit
                variance and nothing is shifted, as in the paper.
            batch_size: how many are encoded at a time.
            generator: where draws of the latents come from; torch's global one by default.

        Raises:
            ValueError: for latents without variance, or that are not finite.
        """
        space = cls(autoencoder)
        z = torch.cat([space.encode(part, generator=generator) for part in data.split(batch_size)]).double()
        rows = z.movedim(1, 0).flatten(1) if per_channel else z.flatten()[None]
        std, mean = torch.std_mean(rows, dim=1, correction=0)
        if not bool((std > 0).all() and std.isfinite().all()):
            raise ValueError(
                f"latents of data have standard deviation {std.tolist()}: expected finite, positive numbers"
            )
        return cls(autoencoder, std, mean) if per_channel else cls(autoencoder, float(std))

    def encode(self, x: Tensor, *, sample: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Latents ``(B, C, ...)`` of data ``(B, *event)``.

        Args:
            x: data.
            sample: draw from the encoder's belief, where it is one; otherwise its mean.
            generator: where the draw comes from; torch's global one by default.
        """
        z = read_latent(self.autoencoder.encode(x))
        if isinstance(z, Gaussian):
            z = z.sample(noise_like(z.mean, generator)) if sample else z.mean
        return (z - self._channels(self.shift, z)) / self._channels(self.std, z)

    def decode(self, z: Tensor) -> Tensor:
        """Data ``(B, *event)`` of latents ``(B, C, ...)``."""
        return read_data(self.autoencoder.decode(z * self._channels(self.std, z) + self._channels(self.shift, z)))

    @staticmethod
    def _channels(value: Tensor, z: Tensor) -> Tensor:
        if value.ndim and len(value) != z.shape[1]:
            raise ValueError(
                f"latents of shape {tuple(z.shape)}: expected {len(value)} channels, for which std is known"
            )
        return value.to(z.dtype).reshape(-1, *[1] * (z.ndim - 2)) if value.ndim else value.to(z.dtype)


class CodeSpace(_Space):
    """The codes of an autoencoder in a row, states ``(B, N)`` of a chain of categories.

    Args:
        autoencoder: any module whose ``encode`` gives codes ``(B, *grid)``, int64, and whose ``decode`` takes them,
            such as `VQAutoencoder`; it is frozen.
        grid: the shape of the codes of one sample, such as ``(4, 4)``.

    Raises:
        TypeError: for a module without ``encode`` or ``decode``.
        ValueError: for a grid of another kind.
    """

    def __init__(self, autoencoder: nn.Module, grid: Sequence[int]) -> None:
        super().__init__(autoencoder)
        check_integers(1, **{f"grid[{i}]": size for i, size in enumerate(grid)})
        require(len(grid) > 0, "grid", grid, "the shape of the codes of one sample, such as (4, 4)")
        self.grid = tuple(grid)

    @property
    def length(self) -> int:
        """``N``, the number of codes of one sample."""
        return torch.Size(self.grid).numel()

    def encode(self, x: Tensor) -> Int[Tensor, "batch n"]:
        """Codes ``(B, N)`` of data ``(B, *event)``, the grid's last axis running fastest.

        Raises:
            ValueError: where the codes are not int64 on this grid.
        """
        codes = self.autoencoder.encode(x)
        if not isinstance(codes, Tensor) or codes.dtype != torch.int64 or tuple(codes.shape[1:]) != self.grid:
            came = f"{tuple(codes.shape)}, {codes.dtype}" if isinstance(codes, Tensor) else type(codes).__name__
            raise ValueError(
                f"encode returned {came}: expected codes (B, {', '.join(map(str, self.grid))}), torch.int64"
            )
        return codes.flatten(1)

    def decode(self, codes: Int[Tensor, "batch n"]) -> Float[Tensor, "batch *event"]:
        """Data ``(B, *event)`` of codes ``(B, N)``.

        Raises:
            ValueError: for another length.
        """
        if codes.ndim != 2 or codes.shape[1] != self.length:
            raise ValueError(f"codes of shape {tuple(codes.shape)}: expected (B, {self.length}) for grid={self.grid}")
        return read_data(self.autoencoder.decode(codes.unflatten(1, self.grid)))
