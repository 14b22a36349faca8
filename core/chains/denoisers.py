"""Denoisers of categories: a network's, and the exact one of a distribution that can be enumerated."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..denoisers import Denoiser, noise_level
from ..schedules import Time, require
from .base import Chain
from .interpolating import AbsorbingChain
from .posteriors import CategoricalPosterior, ScorePosterior, belief

__all__ = ["CategoricalDenoiser", "CategoricalPrediction", "EnumeratedDenoiser"]

CategoricalPrediction = Literal["x0", "rest", "score"]


class CategoricalDenoiser(Denoiser[Chain]):
    """A denoiser made of a network and the meaning of its output.

    The network is called as ``network(x_t, c, **condition)`` with states ``(B, *N)`` int64 and the noise level ``c =
    -log_snr / 8`` ``(B,)``, held to [-2.5, 2.5], and answers ``(B, *N, S)``:

    * "x0": logits of ``p(x_0 | x_t)`` (D3PM, 2107.03006; under masks MDLM's, where "rest" is the same);
    * "rest": logits of ``p(x_0 | x_t without this position)``, what is meant by the ``x_theta`` of UDLM (2412.10193,
      eq. 16): multiplied by ``q(x_t | x_0)`` it is the posterior;
    * "score": logarithms of the ratios ``p_t(y) / p_t(x_t)`` (SEDD, 2310.16834).

    Args:
        network: as above; None where the network of several parts answers (`ProductNetworkDenoiser`).
        process: the chain to train and sample with.
        prediction: what the network predicts.
        timed: whether the network sees the noise level; under masks it need not, since the masks tell (2406.07524,
            section 3.5), and it sees ``c = 0``.
    """

    network: Any

    def __init__(
        self, network: nn.Module | None, process: Chain, prediction: CategoricalPrediction = "x0", timed: bool = True
    ) -> None:
        super().__init__(process)
        if not isinstance(process, Chain):
            raise TypeError(f"process={process!r}: expected a Chain, such as AbsorbingChain(100, PowerSchedule())")
        require(prediction in get_args(CategoricalPrediction), "prediction", prediction, "'x0', 'rest' or 'score'")
        self.network = network
        self.prediction = prediction
        self.timed = timed

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> CategoricalPosterior:
        return self.posterior(self.network(*self.inputs(x_t, t), **condition), x_t, t)

    def inputs(self, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """What the network sees: the state and the noise level ``c``."""
        c = noise_level(self.process.level(t), x_t) if self.timed else torch.zeros(len(x_t), device=x_t.device)
        return x_t, c

    def posterior(self, output: Tensor, x_t: Tensor, t: Time) -> CategoricalPosterior:
        """The posterior that a network's output means."""
        process, expected = self.process, (*x_t.shape, self.process.states)
        if tuple(output.shape) != expected:
            raise ValueError(
                f"network's answer of shape {tuple(output.shape)} to a state {tuple(x_t.shape)}: expected {expected}, "
                f"a number for each of the {process.states} states of {process}"
            )
        output, level = output.float() if output.dtype != torch.float64 else output, process.level(t)
        if self.prediction == "score":
            return ScorePosterior(x_t, process, level, output)
        if self.prediction == "rest" and not isinstance(process, AbsorbingChain):
            output = output.log_softmax(-1) + process.pull(x_t, 0.0, level.t, output.dtype).log()
        return belief(x_t, process, level, output)


class EnumeratedDenoiser(Denoiser[Chain]):
    """Exact for a distribution of sequences that is given as a table.

    Args:
        process: the chain.
        table: probabilities ``(K,) * N`` of all sequences of ``N`` categories, not negative; scaled to sum to 1. ``K``
            is the number of the chain's states, or of an `AbsorbingChain`'s data.
    """

    table: Tensor

    def __init__(self, process: Chain, table: Tensor) -> None:
        super().__init__(process)
        table = torch.as_tensor(table, dtype=torch.float64)
        if table.ndim < 1 or len(set(table.shape)) != 1 or table.shape[0] > process.states:
            raise ValueError(f"table of shape {tuple(table.shape)}: expected (K,) * N with K of {process}")
        if not bool((table >= 0).all()) or not float(table.sum()) > 0:
            raise ValueError("table holds negative numbers or nothing else than zeros: expected probabilities")
        self.register_buffer("table", table / table.sum())

    @property
    def sequences(self) -> Tensor:
        """All sequences ``(K^N, N)``, in the order of the flattened table."""
        return torch.cartesian_prod(*[torch.arange(self.table.shape[0])] * self.table.ndim).reshape(-1, self.table.ndim)

    def _joint(self, x_t: Tensor, likely: Tensor) -> Tensor:
        """``p(x_0, x_t)`` ``(B, K, ..., K)`` with ``likely`` ``(B, N, S)`` for ``q(x_t | x_0)`` of each position."""
        if x_t.ndim != 2 or x_t.shape[1] != self.table.ndim:
            raise ValueError(f"x_t of shape {tuple(x_t.shape)}: expected (B, {self.table.ndim})")
        likely = likely[..., : self.table.shape[0]]
        joint = self.table.expand(len(x_t), *self.table.shape)
        for i in range(self.table.ndim):
            shape = [len(x_t), *[1] * self.table.ndim]
            shape[i + 1] = self.table.shape[0]
            joint = joint * likely[:, i].reshape(shape)
        return joint

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """``log p_t(x)`` in nats, ``(B,)``."""
        return self._joint(x, self.process.pull(x, 0.0, t, torch.float64)).flatten(1).sum(1).log()

    def forward(self, x_t: Tensor, t: Time, given: Tensor | None = None, **condition: Any) -> CategoricalPosterior:
        """The exact posterior of each position; what is ``given`` ``(B, N)`` is evidence without noise, and other
        conditions are ignored, since the data do not depend on any.
        """
        chain = self.process
        if isinstance(chain, AbsorbingChain):
            # Time tells nothing, so that shown positions are evidence at a(t) = 0 too, where gaps are filled from.
            likely = (
                (x_t == chain.mask)[..., None] | (x_t[..., None] == torch.arange(chain.states, device=x_t.device))
            ).double()
        else:
            likely = chain.pull(x_t, 0.0, t, torch.float64)
            if given is not None:
                likely = torch.where(given[..., None], torch.nn.functional.one_hot(x_t, chain.states).double(), likely)
        joint, axes = self._joint(x_t, likely), range(1, self.table.ndim + 1)
        each = torch.stack([joint.sum([a for a in axes if a != i]) if len(axes) > 1 else joint for i in axes], 1)
        logits = each.new_full((*x_t.shape, chain.states), -torch.inf)
        logits[..., : each.shape[-1]] = each.log()
        # A state that no data lead to has no posterior; any will do.
        return belief(x_t, chain, chain.level(t), torch.where(each.sum(-1, keepdim=True) > 0, logits, 0.0))

    def sample(self, num: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the data, ``(num, N)``."""
        index = torch.multinomial(self.table.flatten(), num, replacement=True, generator=generator)
        return self.sequences.to(index.device)[index]
