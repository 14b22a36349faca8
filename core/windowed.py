r"""Long sequences by a denoiser of short ones: the beliefs of overlapping windows are averaged at every step.

With windows ``[s_w, s_w + L)`` of a state ``x_t (B, T, *event)`` and weights ``h`` that fall towards a window's ends,

    mean(x_t)_i = sum_w h_{i - s_w} mean(x_t[s_w : s_w + L])_{i - s_w} / sum_w h_{i - s_w}

(MultiDiffusion: Bar-Tal et al. 2023, arXiv 2302.08113, eq. 5, in means; there for pictures).  All windows see one state
and one noise, so that a sample is one sequence, without seams, and not pieces that were drawn apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .denoisers import Denoiser, GaussianPosterior
from .schedules import Time, require

__all__ = ["WindowedDenoiser", "window_starts"]


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows start that cover ``0 ... length - 1``: every ``stride``, the last one at the end.

    >>> window_starts(10, 4, 3)
    [0, 3, 6]
    >>> window_starts(9, 4, 3)
    [0, 3, 5]
    """
    require(1 <= stride <= window, "stride", stride, f"1 to the window's {window}")
    require(length >= window, "length", length, f"at least the window's {window}")
    starts = list(range(0, length - window + 1, stride))
    return starts if starts[-1] + window == length else [*starts, length - window]


class WindowedDenoiser(Denoiser[Any]):
    """A denoiser of sequences of any length, made of one of windows; see the module's text.

    Places that no window covers keep the state as it is: they must be ``given``.

    Args:
        denoiser: of states ``(B, L, *event)``.
        length: ``L``.
        starts: of the windows, in order.
        told: conditions of each window by name, ``(W, ...)``; the same for all samples.
        batch_size: windows that are evaluated at a time.

    The conditions ``mask`` and ``given`` of a call, ``(B, T, ...)``, are cut as the state is; others, ``(B, ...)``, go
    to all windows of a sample.

    Raises:
        ValueError: no windows, or on a call, windows that reach beyond the state.

    Example:
        >>> from ornstein.core import SDE, CosineSchedule, GaussianDenoiser
        >>> short = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(4), torch.eye(4))
        >>> long = WindowedDenoiser(short, 4, window_starts(10, 4, 3))
        >>> long(torch.zeros(2, 10), 0.5).mean.shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        denoiser: Denoiser[Any],
        length: int,
        starts: Sequence[int],
        told: Mapping[str, Tensor] | None = None,
        batch_size: int = 256,
    ) -> None:
        super().__init__(denoiser.process)
        require(length >= 1, "length", length, "at least 1")
        require(len(starts) > 0 and min(starts) >= 0, "starts", list(starts), "at least one, 0 or more")
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        for name, rows in (told or {}).items():
            require(len(rows) == len(starts), f"told[{name!r}]", tuple(rows.shape), f"{len(starts)} rows, one a window")
        self.denoiser, self.length, self.starts = denoiser, length, tuple(starts)
        self.told, self.batch_size = dict(told or {}), batch_size

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> GaussianPosterior:
        batch, total = x_t.shape[:2]
        require(max(self.starts) + self.length <= total, "x_t", tuple(x_t.shape), "a state that holds all windows")
        weights = self._weights(x_t)
        mean, weight = torch.zeros_like(x_t), x_t.new_zeros(total)
        together = max(1, self.batch_size // batch)
        for first in range(0, len(self.starts), together):
            chosen = range(first, min(first + together, len(self.starts)))
            answers = self._windows(x_t, t, chosen, condition)
            for place, w in enumerate(chosen):
                inside = slice(self.starts[w], self.starts[w] + self.length)
                shaped = weights.reshape(-1, *[1] * (x_t.ndim - 2))
                mean[:, inside] += shaped * answers[:, place]
                weight[inside] += weights
        weight = weight.reshape(-1, *[1] * (x_t.ndim - 2))
        mean = torch.where(weight > 0, mean / weight.clamp(min=1e-30), x_t)
        return GaussianPosterior(x_t, self.process, self.process.level(t), mean)

    def _weights(self, like: Tensor) -> Tensor:
        """``h`` ``(L,)``: a triangle, highest in the middle."""
        place = torch.arange(1, self.length + 1, dtype=like.dtype, device=like.device)
        return torch.minimum(place, self.length + 1 - place)

    def _windows(self, x_t: Tensor, t: Time, chosen: range, condition: Mapping[str, Any]) -> Tensor:
        """Means ``(B, n, L, *event)`` of the chosen windows."""
        batch, count = len(x_t), len(chosen)

        def cut(whole: Tensor) -> Tensor:
            parts = [whole[:, self.starts[w] : self.starts[w] + self.length] for w in chosen]
            return torch.stack(parts, 1).flatten(0, 1)

        told = {
            name: value.repeat_interleave(count, 0) if isinstance(value, Tensor) and value.ndim else value
            for name, value in condition.items()
            if name not in ("mask", "given")
        }
        for name in ("mask", "given"):
            if condition.get(name) is not None:
                told[name] = cut(condition[name])
        for name, rows in self.told.items():
            part = rows[chosen.start : chosen.stop]
            told[name] = part.to(x_t.device).expand(batch, *part.shape).flatten(0, 1)
        if isinstance(t, Tensor) and t.ndim:
            t = t.repeat_interleave(count)
        mean = self.denoiser(cut(x_t), t, **told).mean
        return mean.unflatten(0, (batch, count))
