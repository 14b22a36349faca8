r"""Beliefs about clean categories given a noised state, and what follows from them.

All of a reverse process follows from ``p(x_0 | x_t)`` of each position.  With ``w = p(x_0 | x_t) / Q_{0,t}[x_0, x_t]``,

    ratios   p_t(y) / p_t(x_t)  = (w Q_{0,t})[y],                           the concrete score (Lou et al., 2310.16834)
    reverse  p(x_s | x_t)       = Q_{s,t}[x_s, x_t] (w Q_{0,s})[x_s]        (Austin et al., 2107.03006, eq. 4)

and so do the two bounds on the likelihood, of which a step's and a moment's share, per position, are

    step     KL(q(x_s | x_t, x_0) || p(x_s | x_t))
    moment   sum_{y != x_t} R_t[y, x_t] [r_p(y) - r_q(y) log r_p(y) + r_q(y) (log r_q(y) - 1)]

with the ratios ``r_p`` of the belief and ``r_q(y) = q(y | x_0) / q(x_t | x_0)`` of the data (2310.16834, theorem 3.6;
for masks it is a weighted cross-entropy, 2406.07524, eq. 10, and for uniform noise 2412.10193, eq. 18).
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ..levels import Level
from ..schedules import Time, as_tensor
from .base import Chain, shaped
from .categorical import Categorical, draw
from .interpolating import AbsorbingChain

__all__ = ["CategoricalPosterior", "Choice", "MaskedKernel", "MaskedPosterior", "ScorePosterior"]

Choice = Callable[[Tensor], Tensor]
"""Changes which category is drawn: logits ``(..., S)`` to logits, such as `TokenChoice`."""


class Draws(Protocol):
    """A distribution of the next state."""

    @property
    def probs(self) -> Tensor: ...

    def sample(self, u: Tensor) -> Tensor: ...


class CategoricalPosterior:
    """Belief ``p(x_0 | x_t)``, independent positions, about the data behind a state of a `Chain`.

    Args:
        x_t: the state, ``(B, *N)``, int64.
        process: the chain.
        level: its coefficients at the state's time.
        logits: of ``p(x_0 | x_t)``, ``(B, *N, S)``, up to a constant.
    """

    def __init__(self, x_t: Tensor, process: Chain, level: Level, logits: Tensor) -> None:
        self.x_t = x_t
        self.process = process
        self.level = level
        self.logits = logits

    @property
    def log_probs(self) -> Tensor:
        """``log p(x_0 | x_t)``, ``(B, *N, S)``."""
        return self.logits.log_softmax(-1)

    @property
    def probs(self) -> Tensor:
        """``p(x_0 | x_t)``, ``(B, *N, S)``."""
        return self.logits.softmax(-1)

    @property
    def mean(self) -> Tensor:
        """The expectation of one-hot data: `probs`."""
        return self.probs

    def log_prob(self, x0: Tensor) -> Tensor:
        """``log p(x_0 | x_t)`` of given data, ``(B, *N)``."""
        return self.log_probs.gather(-1, x0[..., None]).squeeze(-1)

    def _weights(self, choice: Choice | None = None) -> Tensor:
        """``w`` of the module's text."""
        p = self.probs if choice is None else choice(self.log_probs).softmax(-1)
        likely = self.process.pull(self.x_t, 0.0, self.level.t, p.dtype)
        # Data that cannot lead to x_t have no share, whatever a network believes.
        return torch.where(likely > 0, p, 0.0) / torch.where(likely > 0, likely, 1.0)

    @property
    def ratios(self) -> Tensor:
        """``p_t(y) / p_t(x_t)`` for every state ``y`` in the place of a position's, ``(B, *N, S)``, 1 at ``x_t``.

        Right where every datum that the belief allows can lead to ``x_t``; at a position that shows its category under
        an `AbsorbingChain`, the ratio to the mask is not known to any denoiser.
        """
        return self.process.push(self._weights(), 0.0, self.level.t)

    def reverse(self, s: Time, choice: Choice | None = None) -> Draws:
        """``p(x_s | x_t)`` for ``s <= t``.

        Args:
            s: a float or ``(B,)``.
            choice: changes the belief's logits before; see `Choice`.
        """
        weights = self._weights(choice)
        column = self.process.pull(self.x_t, s, self.level.t, weights.dtype)
        probs = column * self.process.push(weights, 0.0, s)
        return Categorical(probs / probs.sum(-1, keepdim=True))

    def step_divergence(self, x0: Tensor, s: Time) -> Tensor:
        """``KL(q(x_s | x_t, x_0) || p(x_s | x_t))`` in nats, ``(B, *N)``; at ``s = 0``, ``-log p(x_0 | x_t)``."""
        q = self.process.posterior(x0, self.x_t, s, self.level.t).probs
        p = torch.where(q > 0, self.reverse(s).probs, 1.0)  # 0 log 0 has a value, and must have a slope
        return (torch.special.xlogy(q, q) - torch.special.xlogy(q, p)).sum(-1)

    def moment_divergence(self, x0: Tensor) -> Tensor:
        """The rate at ``t`` of the continuous-time bound in nats, ``(B, *N)``; see the module's text."""
        x, chain, t, believed = self.x_t, self.process, self.level.t, self.ratios
        rates = chain.rates(x, _inside(t), believed.dtype)
        true = chain.row(x0, 0.0, t, believed.dtype)
        true = true / true.gather(-1, x[..., None])
        # Where no state leads to x there is nothing to predict, and ratios may be infinite.
        live = rates > 0
        believed, true = torch.where(live, believed, 1.0), torch.where(live, true, 1.0)
        logged = torch.where(true > 0, believed, 1.0)
        loss = believed - torch.special.xlogy(true, logged) + torch.special.xlogy(true, true) - true
        return (rates * loss).sum(-1)


class ScorePosterior(CategoricalPosterior):
    """A belief that is given by its ratios, as a network that predicts the concrete score gives it.

    ``p(x_0 | x_t) = (ratios Q_{0,t}^-1)[x_0] Q_{0,t}[x_0, x_t]`` (2310.16834, theorem 4.2), held to what is not
    negative and scaled to sum to 1, since a network's ratios need not be those of any distribution.  So `reverse` leads
    them back to ``s`` alone, ``p(x_s | x_t) = (ratios Q_{s,t}^-1)[x_s] Q_{s,t}[x_s, x_t]`` (eq. 19, the analytic
    sampler); for the ratios of a distribution that is what follows from ``p(x_0 | x_t)``.

    Args:
        x_t, process, level: as for `CategoricalPosterior`.
        log_ratios: ``(B, *N, S)``; what stands at ``x_t`` itself does not count.
    """

    def __init__(self, x_t: Tensor, process: Chain, level: Level, log_ratios: Tensor) -> None:
        super().__init__(x_t, process, level, log_ratios)
        self._ratios = log_ratios.exp().scatter(-1, x_t[..., None], 1.0)

    @property
    def ratios(self) -> Tensor:
        return self._ratios

    def _back(self, s: Time) -> Tensor:
        """``p(x_s | x_t)``, ``(B, *N, S)``."""
        t, chain = self.level.t, self.process
        column = chain.pull(self.x_t, s, t, self._ratios.dtype)
        weights = torch.where(column > 0, chain.unpush(self._ratios, s, t) * column, 0.0).clamp(min=0)
        if isinstance(chain, AbsorbingChain):  # data hold no mask
            clean = shaped((as_tensor(s) == 0).to(weights.dtype), weights)
            weights = weights * (1 - clean * chain.stationary.to(weights))
        total = weights.sum(-1, keepdim=True)
        return torch.where(total > 0, weights / total, 1 / chain.states)

    @property
    def probs(self) -> Tensor:
        return self._back(0.0)

    def reverse(self, s: Time, choice: Choice | None = None) -> Draws:
        return Categorical(self._back(s)) if choice is None else super().reverse(s, choice)

    @property
    def log_probs(self) -> Tensor:
        return self.probs.log()


class MaskedPosterior(CategoricalPosterior):
    """Belief under an `AbsorbingChain`: a position that shows its category is certain, a masked one as ``logits`` say,
    without the mask (Sahoo et al. 2024, 2406.07524, section 3.2.3).

    Only rows of masked positions that are needed are looked at, so that a step costs what it reveals.
    """

    process: AbsorbingChain

    @property
    def masked(self) -> Tensor:
        """Where the state is the mask, ``(B, *N)``."""
        return self.x_t == self.process.mask

    def rows(self, where: Tensor) -> Tensor:
        """The logits ``(M, S)`` of the positions at which ``where`` ``(B, *N)`` is True, minus infinity at the mask."""
        rows = self.logits[where]
        rows[:, self.process.mask] = -torch.inf
        return rows

    @property
    def log_probs(self) -> Tensor:
        column = torch.arange(self.process.states, device=self.x_t.device)
        certain = torch.where(column == self.x_t[..., None], 0.0, -torch.inf).to(self.logits.dtype)
        free = self.logits.masked_fill(column == self.process.mask, -torch.inf).log_softmax(-1)
        return torch.where(self.masked[..., None], free, certain)

    @property
    def probs(self) -> Tensor:
        return self.log_probs.exp()

    def log_prob(self, x0: Tensor) -> Tensor:
        masked = self.masked
        if x0.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere a selection waits for the device
            some = -torch.nn.functional.cross_entropy(self.rows(masked), x0[masked], reduction="none")
            known = torch.where(self.x_t == x0, 0.0, -torch.inf).to(some.dtype)
            return known.masked_scatter(masked, some)
        return self.log_probs.gather(-1, x0[..., None]).squeeze(-1)

    def reverse(self, s: Time, choice: Choice | None = None) -> "MaskedKernel":
        gone = as_tensor(self.process.level(s).sigma) / as_tensor(self.level.sigma)
        return MaskedKernel(self, 1 - torch.where(as_tensor(self.level.sigma) > 0, gone, 0.0), choice)

    def step_divergence(self, x0: Tensor, s: Time) -> Tensor:
        share = torch.as_tensor(self.reverse(s).share, dtype=self.logits.dtype)
        return self._weighted(x0, share)

    def moment_divergence(self, x0: Tensor) -> Tensor:
        level = self.process.level(_inside(self.level.t))
        share = as_tensor(level.alpha) / as_tensor(level.sigma)
        return self._weighted(x0, share * self.process.rate(level.t))  # -a' / (1 - a)

    def _weighted(self, x0: Tensor, weight: Tensor) -> Tensor:
        surprise = -self.log_prob(x0)
        # A position that shows its category costs nothing; one that shows another is impossible.
        return torch.where(surprise > 0, surprise * shaped(weight, surprise), surprise)


class MaskedKernel:
    """``p(x_s | x_t)`` under an `AbsorbingChain`: each masked position shows its category with probability ``share``.

    Args:
        posterior: the belief.
        share: ``(a(s) - a(t)) / (1 - a(t))``, ``()`` or ``(B,)``, float64.
        choice: changes the belief's logits before a draw.
    """

    def __init__(self, posterior: MaskedPosterior, share: Tensor, choice: Choice | None = None) -> None:
        self.posterior = posterior
        self.share = share
        self.choice = choice

    @property
    def probs(self) -> Tensor:
        """``(B, *N, S)``."""
        belief, mask = self.posterior, self.posterior.process.mask
        log_probs = belief.log_probs if self.choice is None else self.choice(belief.log_probs)
        shown = log_probs.softmax(-1)
        share = shaped(self.share, shown)
        hidden = torch.nn.functional.one_hot(torch.tensor(mask, device=shown.device), shown.shape[-1]).to(shown)
        return torch.where(belief.masked[..., None], share * shown + (1 - share) * hidden, shown)

    def sample(self, u: Tensor) -> Tensor:
        """Draws ``(B, *N)`` made from uniform float64 numbers ``u``: below ``share`` a position shows its category,
        which the same number then decides.
        """
        share = shaped(self.share, u)
        shows = self.posterior.masked & (u < share)
        return self.show(shows, u / share if isinstance(share, Tensor) or share > 0 else u)

    def show(self, where: Tensor, u: Tensor) -> Tensor:
        """The state with the positions at which ``where`` is True drawn by the uniform numbers ``u``."""
        rows = self.posterior.rows(where)
        rows = rows if self.choice is None else self.choice(rows)
        weights = (rows - rows.amax(-1, keepdim=True)).double().exp()
        return self.posterior.x_t.masked_scatter(where, draw(weights, u[where].clamp(max=1 - 2**-53)))


def _inside(t: Time) -> Tensor:
    """Times a little inside of [0, 1]: rates may be infinite at the ends, where what they multiply vanishes."""
    return as_tensor(t).clamp(2.0**-40, 1 - 2.0**-40)


def belief(x_t: Tensor, process: Chain, level: Level, logits: Tensor) -> CategoricalPosterior:
    """The posterior of logits of ``p(x_0 | x_t)`` under a chain."""
    kind: Any = MaskedPosterior if isinstance(process, AbsorbingChain) else CategoricalPosterior
    return kind(x_t, process, level, logits)
