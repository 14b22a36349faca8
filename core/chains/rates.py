r"""Chains of any reversible rates, in continuous time.

    Q_{s,t} = exp((tau(t) - tau(s)) R),      tau = -log a,      R_t = beta(t) R,   beta = -a' / a,

for a generator ``R``: rates that are not negative off the diagonal, rows that sum to 0, and a distribution ``pi`` with
``pi_x R[x, y] = pi_y R[y, x]``.  With ``R = 1 pi^T - I`` these are the chains of one draw, `InterpolatingChain`.

Products with ``exp`` are sums of terms that are not negative, so that even the smallest probabilities keep their
digits, which the posterior divides by.  With ``q = max_x -R[x, x]`` and ``P = I + R / q``,

    exp(tau R) = e^{-q tau} sum_n (q tau)^n / n!  P^n

is summed up to ``q tau = 1 / 64``, and longer times are made of the powers of two of that one, computed once.  The
inverse has no such form; it is taken from the eigenvectors of ``diag(pi)^{1/2} R diag(pi)^{-1/2}``, which is symmetric.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..schedules import Schedule, Time, as_tensor, require
from .base import Chain, shaped

__all__ = ["RateChain"]

_UNIT = 64
_TERMS = 8  # 64^-8 / 8! is below 1e-18
_FORGOTTEN = 50.0  # e^-50 is 2e-22


class RateChain(Chain):
    """The chain of a generator ``R``; see the module's text.  Takes memory of some twenty matrices ``(S, S)``.

    Args:
        rate_matrix: ``R`` ``(S, S)``, ``R[x, y]`` the rate from ``x`` to ``y``; rows sum to 0 to 1e-6 of their size.
        schedule: sets the clock.

    Raises:
        ValueError: for a matrix that is no generator, is not reversible, or does not join all states.
    """

    def __init__(self, rate_matrix: Sequence[Sequence[float]] | Tensor, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.rate_matrix = rate_matrix
        rates = _generator(torch.as_tensor(rate_matrix, dtype=torch.float64))
        self.states = len(rates)
        self._pi = _balanced(rates)
        self._rates = rates
        root = self._pi.sqrt()
        symmetric = root[:, None] * rates / root
        self._eigenvalues, vectors = torch.linalg.eigh(0.5 * (symmetric + symmetric.T))
        self._eigenvalues[-1] = 0.0
        self._left, self._right = vectors / root[:, None], vectors.T * root
        self._fastest = float(-rates.diagonal().min())
        self._slowest = float(-self._eigenvalues[-2])
        if self._slowest < 1e-12 * self._fastest:
            raise ValueError("rate_matrix is singular to rounding: expected rates that join all states, none a 1e-12th")
        self._jumps = torch.eye(self.states, dtype=torch.float64) + rates / self._fastest
        self._powers = self._powers_of_two()
        self._places = 2.0 ** torch.arange(len(self._powers), dtype=torch.float64)[:, None]

    def __repr__(self) -> str:
        return f"RateChain({self.states} states, {self.schedule!r})"

    @classmethod
    def neighbours(cls, embeddings: Tensor, k: int, schedule: Schedule) -> "RateChain":
        """The chain that jumps between near neighbours of an embedding: ``R[x, y] = (G[x, y] + G[y, x]) / 2k`` for ``x
        != y``, where ``G[x, y]`` is 1 if ``x`` is among the ``k`` nearest of ``y``.

        Austin et al. 2021 (D3PM, arXiv 2107.03006), appendix A.2.4.

        Args:
            embeddings: a vector for each category, ``(S, D)``.
            k: neighbours of each, by Euclidean distance, 1 to ``S - 1``.
            schedule: as in the constructor.

        Raises:
            ValueError: where so few neighbours do not join all categories.
        """
        fits = embeddings.ndim == 2 and len(embeddings) >= 2 and bool(embeddings.isfinite().all())
        require(fits, "embeddings", tuple(embeddings.shape), "finite vectors (S, D) of at least two categories")
        require(1 <= k < len(embeddings), "k", k, f"1 to {len(embeddings) - 1} neighbours")
        points = embeddings.detach().double().cpu()
        distance = torch.cdist(points, points).fill_diagonal_(torch.inf)
        near = torch.zeros_like(distance).scatter_(1, distance.topk(k, largest=False).indices, 1.0)
        rates = (near + near.T) / (2 * k)
        if not _joined(rates > 0):
            raise ValueError(f"k={k}: so few neighbours leave groups of categories apart; expected a larger k")
        return cls(rates - rates.sum(1).diag(), schedule)

    @property
    def stationary(self) -> Tensor:
        return self._pi

    def push(self, v: Tensor, s: Time, t: Time) -> Tensor:
        return self._moved(v, s, t, False)

    def pull(self, x: Tensor, s: Time, t: Time, dtype: torch.dtype) -> Tensor:
        return self._moved(torch.nn.functional.one_hot(x, self.states).to(dtype), s, t, True)

    def unpush(self, v: Tensor, s: Time, t: Time) -> Tensor:
        kept = as_tensor(self.between(s, t)[0]).double()
        growth = kept[..., None] ** self._eigenvalues.to(kept.device)
        if not bool((growth < 1e300).all()):
            raise ValueError(f"t={t}: the data are forgotten there to the last digit, so that nothing leads back")
        growth = growth.reshape(*kept.shape, *[1] * (v.ndim - 1 - kept.ndim), -1) if kept.ndim else growth
        # In float64, and held to what the state's type can: beyond its range growth would make NaN.
        moved = (v.double() @ self._left.to(v.device) * growth.to(v.device)) @ self._right.to(v.device)
        top = torch.finfo(v.dtype).max / self.states
        return moved.clamp(-top, top).to(v.dtype)

    def rates(self, x: Tensor, t: Time, dtype: torch.dtype) -> Tensor:
        return self._scaled(self._rates.T, x, t, dtype)

    def rates_from(self, x: Tensor, t: Time, dtype: torch.dtype) -> Tensor:
        return self._scaled(self._rates, x, t, dtype)

    def _scaled(self, rates: Tensor, x: Tensor, t: Time, dtype: torch.dtype) -> Tensor:
        out = rates.to(x.device, dtype)[x].scatter(-1, x[..., None], 0.0)
        rate = shaped(self.rate(t), out)
        return torch.where(out > 0, out * rate, 0.0)

    def _powers_of_two(self) -> list[Tensor]:
        """``exp(2^j R / (64 q))`` for ``j = 0, 1, ...`` as far as anything is left of the data."""
        start = torch.eye(self.states, dtype=torch.float64)
        power = self._series(start, 1 / _UNIT, False)
        count = math.ceil(math.log2(_FORGOTTEN * _UNIT * self._fastest / self._slowest)) + 1
        powers = []
        for _ in range(count):
            powers.append(power)
            power = power @ power
            power = power / power.sum(1, keepdim=True)
        return powers

    def _moved(self, v: Tensor, s: Time, t: Time, transposed: bool) -> Tensor:
        """``v exp(tau R)``, or ``v exp(tau R)^T``, for the time ``tau`` from ``s`` to ``t``."""
        kept, lost = (as_tensor(c).cpu().double() for c in self.between(s, t))
        time = torch.where(lost < 0.5, -torch.log1p(-lost), -kept.log()) * (self._fastest * _UNIT)
        forgotten = time >= 2.0 ** len(self._powers)
        time = torch.where(forgotten, 0.0, time)
        whole = time.floor()
        bits = (whole / self._places).floor().reshape(len(self._powers), -1) % 2 == 1
        out = self._series(v, shaped((time - whole) / _UNIT, v), transposed)
        for power, bit, some in zip(self._powers, bits, bits.any(1).tolist()):
            if some:
                moved = out @ (power.T if transposed else power).to(v)
                out = moved if time.ndim == 0 else torch.where(_shaped(bit, v), moved, out)
        if bool(forgotten.any()):
            pi = self._pi.to(v)
            end = (v * pi if transposed else v).sum(-1, keepdim=True) * (1.0 if transposed else pi)
            out = torch.where(_shaped(forgotten, v), end, out)
        return out

    def _series(self, v: Tensor, time: Tensor | float, transposed: bool) -> Tensor:
        """``v exp(tau R)`` for short times ``q tau``, by the series of the module's text."""
        jumps = (self._jumps.T if transposed else self._jumps).to(v)
        weight = as_tensor(time).neg().exp().to(v)
        out, term = v * weight, v
        for n in range(1, _TERMS + 1):
            term = term @ jumps * (time / n)
            out = out + term * weight
        return out


def _shaped(flag: Tensor, like: Tensor) -> Tensor:
    return flag.to(like.device).reshape(-1, *[1] * (like.ndim - 1)) if flag.ndim else flag.to(like.device)


def _generator(rates: Tensor) -> Tensor:
    """The matrix with its diagonal made exact, refused where it is no generator."""
    if rates.ndim != 2 or rates.shape[0] != rates.shape[1] or len(rates) < 2:
        raise ValueError(f"rate_matrix of shape {tuple(rates.shape)}: expected (S, S) of at least two states")
    if not bool(rates.isfinite().all()):
        raise ValueError("rate_matrix holds NaN or infinite numbers: expected finite rates")
    off = rates.clone().fill_diagonal_(0.0)
    if bool((off < 0).any()):
        x, y = (int(i) for i in (off < 0).nonzero()[0])
        raise ValueError(f"rate_matrix[{x}, {y}]={float(off[x, y]):.6g}: expected rates of at least 0 off the diagonal")
    error = rates.sum(1).abs() - 1e-6 * off.sum(1)
    if bool((error > 0).any()):
        x = int(error.argmax())
        raise ValueError(
            f"rate_matrix: row {x} sums to {float(rates[x].sum()):.6g}: expected 0, with minus the sum of the other "
            "rates on the diagonal"
        )
    return off - off.sum(1).diag()


def _joined(edges: Tensor) -> bool:
    """Whether every state is reached from the first."""
    reached = torch.zeros(len(edges), dtype=torch.bool)
    front = reached.clone()
    front[0] = True
    while bool(front.any()):
        reached |= front
        front = edges[front].any(0) & ~reached
    return bool(reached.all())


def _balanced(rates: Tensor) -> Tensor:
    """The distribution ``pi`` with ``pi_x R[x, y] = pi_y R[y, x]``: followed along a tree of jumps, then checked."""
    edges = rates.clone().fill_diagonal_(0.0) > 0
    if not _joined(edges | edges.T):
        raise ValueError("rate_matrix: some states are never reached from others; expected rates that join all states")
    if not bool((edges == edges.T).all()):
        x, y = (int(i) for i in (edges & ~edges.T).nonzero()[0])
        raise ValueError(
            f"rate_matrix: jumps lead from {x} to {y} and none back; expected reversible rates (masks: AbsorbingChain)"
        )
    log_pi = torch.full((len(rates),), torch.nan, dtype=torch.float64)
    log_pi[0], front = 0.0, [0]
    while front:
        following = []
        for x in front:
            new = edges[x] & log_pi.isnan()
            log_pi[new] = log_pi[x] + (rates[x, new] / rates[new, x]).log()
            following += new.nonzero().flatten().tolist()
        front = following
    pi = log_pi.softmax(0)
    flow = (pi[:, None] * rates).fill_diagonal_(0.0)
    if bool(((flow - flow.T).abs() > 1e-6 * flow.clamp(min=1e-300)).any()):
        raise ValueError(
            "rate_matrix: rates around a cycle differ by direction; expected reversible ones, with detailed balance"
        )
    return pi
