r"""A noise schedule that is learned: the continuous-time bound's ends, and its variance in between.

Kingma et al. 2021 (arXiv 2107.00630), section 4 and appendix D: log-SNR falls along a monotone network,

    log_snr(t) = start + (end - start) h(t),      h(0) = 0,  h(1) = 1,  h' > 0.

The bound depends on the ends alone (their theorem), the variance of its estimate on the shape ``h`` between them.  So
the two learn from different losses: the ends from the bound itself, through ``alpha``, ``sigma`` and ``log_snr``; the
shape from the estimate's second moment, through `LearnedSchedule.rate_at`.  `VariationalObjective` does both.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .schedules import Scalars, Schedule, Time, as_tensor, require, wide

__all__ = ["LearnedSchedule"]

_BISECTIONS = 50
_NEWTON_STEPS = 3


class LearnedSchedule(nn.Module, Schedule):
    r"""A variance-preserving schedule whose log-SNR is a monotone network; see the module's text.

    ``h`` is the normalised ``u t + sum_k w_k sigmoid(s_k (t - c_k))`` with ``u, w_k, s_k > 0``, smooth and strictly
    monotone; it starts close to the straight line.  Its slope is in closed form and its inverse by bisection and
    Newton's method.

    Its methods are differentiable in time and in the two ends, not in the shape.  A process remembers the levels of
    single times: make a new ``SDE(schedule)`` after training.  Give its parameters to the optimiser beside the
    denoiser's, of which they are no part.

    Args:
        start: log-SNR at ``t = 0``, where learning starts.
        end: log-SNR at ``t = 1``, below ``start``.
        width: number of sigmoids.

    Example:
        >>> schedule = LearnedSchedule()
        >>> bool(abs(schedule.time(schedule.log_snr(0.3)) - 0.3) < 1e-12)
        True
    """

    scaling = "vp"
    centres: Tensor

    def __init__(self, start: float = 13.3, end: float = -5.0, width: int = 16) -> None:
        super().__init__()
        require(start > end, "start", start, f"a log-SNR above end={end}")
        require(width >= 1, "width", width, "at least 1")
        self.start = start
        self.end = end
        self.width = width
        self.top = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.log_fall = nn.Parameter(torch.tensor(start - end, dtype=torch.float64).log())
        self.line = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.weights = nn.Parameter(torch.full((width,), -4.0, dtype=torch.float64))
        self.slopes = nn.Parameter(torch.full((width,), float(width), dtype=torch.float64))
        centres = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        self.register_buffer("centres", centres, persistent=False)

    def ends(self) -> list[nn.Parameter]:
        """Parameters of the two ends."""
        return [self.top, self.log_fall]

    def shape(self) -> list[nn.Parameter]:
        """Parameters of the shape between them."""
        return [self.line, self.weights, self.slopes]

    def _raw(self, t: Tensor, learn: bool = False) -> tuple[Tensor, Tensor]:
        """``h`` and ``h'`` at float64 times, differentiable in the shape if ``learn``."""
        parts = [p if learn else p.detach() for p in self.shape()]
        u, w, s = (softplus(p).to(t) for p in parts)
        c = self.centres.to(t)
        first, last = torch.sigmoid(-s * c), torch.sigmoid(s * (1 - c))
        total = u + (w * (last - first)).sum()
        x = t.unsqueeze(-1)
        value = torch.sigmoid(s * (x - c))
        # Without cancellation, so that small times keep their digits.
        up = _difference(s * (x - c), -s * c)
        slope = u + (w * s * value * (1 - value)).sum(-1)
        return (u * t + (w * up).sum(-1)) / total, slope / total

    def _fall(self, like: Tensor) -> Tensor:
        return self.log_fall.exp().to(like)

    def _log_snr(self, t: Tensor) -> Tensor:
        return self.top.to(t) - self._fall(t) * self._raw(t)[0]

    def log_snr(self, t: Time) -> Scalars:
        t = as_tensor(t)
        return self._log_snr(wide(t)).to(t.dtype)

    def d_log_snr(self, t: Time) -> Scalars:
        t = as_tensor(t)
        w = wide(t)
        return (-self._fall(w) * self._raw(w)[1]).to(t.dtype)

    def alpha(self, t: Time) -> Scalars:
        t = as_tensor(t)
        return torch.sigmoid(self._log_snr(wide(t))).sqrt().to(t.dtype)

    def sigma(self, t: Time) -> Scalars:
        t = as_tensor(t)
        return torch.sigmoid(-self._log_snr(wide(t))).sqrt().to(t.dtype)

    def d_alpha(self, t: Time) -> Scalars:
        t = as_tensor(t)
        return (0.5 * self.alpha(wide(t)) * self.sigma(wide(t)) ** 2 * self.d_log_snr(wide(t))).to(t.dtype)

    def d_sigma(self, t: Time) -> Scalars:
        t = as_tensor(t)
        return (-0.5 * self.sigma(wide(t)) * self.alpha(wide(t)) ** 2 * self.d_log_snr(wide(t))).to(t.dtype)

    @torch.no_grad()
    def time(self, log_snr: Time) -> Scalars:
        log_snr = as_tensor(log_snr)
        target = wide(log_snr)
        h = ((self.top.to(target) - target) / self._fall(target)).clamp(0, 1)
        low, high = torch.zeros_like(h), torch.ones_like(h)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            below = self._raw(middle)[0] < h
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        t = 0.5 * (low + high)
        for _ in range(_NEWTON_STEPS):
            value, slope = self._raw(t)
            t = (t - (value - h) / slope).clamp(0, 1)
        return t.to(log_snr.dtype)

    def rate_at(self, t: Tensor) -> Tensor:
        """``-d log_snr / dt`` at the log-SNR that ``t`` has now, differentiable in the shape alone.

        As the shape changes, a fixed log-SNR moves to another time, by the implicit function theorem ``dt = -dh(t) /
        h'(t)``; the rate there is what decides how the estimate's variance changes.

        Args:
            t: times ``(B,)``.
        """
        t = wide(t).detach()
        h, slope = self._raw(t, learn=True)
        moved = t - (h - h.detach()) / slope.detach()
        return self._fall(t).detach() * self._raw(moved, learn=True)[1]


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """``sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a))``, for ``a >= b``."""
    return torch.sigmoid(a) * torch.sigmoid(-b) * -torch.expm1(b - a)
