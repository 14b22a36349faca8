r"""Masks in a fixed order: the absorbing chain that hides a sequence from its end, one position a step.

With ``N`` steps ``x_t`` shows the first ``N - t`` positions and masks the others.  The reverse step draws one position
from ``p(x^i | x^1 ... x^{i-1})``, and the bound on the likelihood is exact,

    -log p(x) = -sum_i log p(x^i | x^1 ... x^{i-1}):

an autoregressive model is the absorbing diffusion whose order is fixed (Austin et al. 2021, D3PM, arXiv 2107.03006,
section 4; Hoogeboom et al. 2022, ARDM, 2110.02037).  A causal network answers for all ``N`` steps of a sequence at
once, where one that reads both ways answers for a single state of any order.  What is given up: positions can be drawn
in no other order, nor several at once, and nothing can be given but the start.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..denoisers import Denoiser
from ..levels import Level
from ..objectives import Objective
from ..schedules import Time, require
from .interpolating import AbsorbingChain
from .objectives import position_mean
from .posteriors import MaskedPosterior

__all__ = ["SequentialBound", "SequentialDenoiser", "SequentialPosterior"]


class SequentialPosterior(MaskedPosterior):
    """The belief about the first hidden position of each row; about those behind it nothing is known yet.

    Args:
        x_t, process, level, logits: as for `MaskedPosterior`; logits behind the first hidden position do not count.

    Raises:
        ValueError: from `rows`, where a sampler wants to draw behind the first hidden position.
    """

    def __init__(self, x_t: Tensor, process: AbsorbingChain, level: Level, logits: Tensor) -> None:
        super().__init__(x_t, process, level, logits)
        self._unknown = self.masked.cumsum(1) > 1

    def rows(self, where: Tensor) -> Tensor:
        if where.device.type == "cpu" and bool((where & self._unknown).any()):  # elsewhere looking waits for the device
            raise ValueError(
                "positions behind the first hidden one are asked for: a sequential denoiser draws one position a step, "
                "from the left; take SequentialSampler()"
            )
        return super().rows(where)


class Prefix(NamedTuple):
    """What is remembered of positions that are shown: logits ``(B, S)`` of the next one, and the network's memory."""

    logits: Tensor
    seen: Any


class SequentialDenoiser(Denoiser[AbsorbingChain]):
    """``p(x^i | x^1 ... x^{i-1})`` by a causal network; see the module's text.

    Sample it by `SequentialSampler`, which keeps what was computed for the positions before.

    Args:
        network: from tokens ``(B, N)`` to logits ``(B, N, S)``, where a position sees none after it; called as
            ``network(tokens, None, **condition)``, and with a method ``remember`` as `TokenTransformer` has it. It sees
            the mask before the first token.
        process: the chain.

    Raises:
        TypeError: a process of another kind.
        ValueError: a network that reads both ways.

    Example:
        >>> from ornstein.core import PowerSchedule
        >>> from ornstein.core.nn import TokenTransformer
        >>> from ornstein.core.samplers.sequential import SequentialSampler
        >>> network = TokenTransformer(4, timed=False, causal=True, width=32, depth=1)
        >>> denoiser = SequentialDenoiser(network, AbsorbingChain(3, PowerSchedule()))
        >>> SequentialSampler().sample(denoiser, (2, 5), seed=0).shape
        torch.Size([2, 5])
    """

    timed = False

    def __init__(self, network: nn.Module, process: AbsorbingChain) -> None:
        super().__init__(process)
        if not isinstance(process, AbsorbingChain):
            raise TypeError(f"process={process!r}: expected an AbsorbingChain")
        require(bool(getattr(network, "causal", False)), "network", network, "a causal one: causal=True")
        self.network: Any = network

    def next_logits(self, tokens: Tensor, **condition: Any) -> Float[Tensor, "batch tokens states"]:
        """Logits of every token given those before it, ``(B, N, S)``.

        Args:
            tokens: ``(B, N)``.
            condition: for the network.
        """
        before = nn.functional.pad(tokens[:, :-1], (1, 0), value=self.process.mask)
        logits = self.network(before, None, **condition)
        expected = (*tokens.shape, self.process.states)
        if tuple(logits.shape) != expected:
            raise ValueError(
                f"network's answer of shape {tuple(logits.shape)} to tokens {tuple(tokens.shape)}: expected {expected}"
            )
        return logits.float() if logits.dtype != torch.float64 else logits

    def forward(
        self,
        x_t: Tensor,
        t: Time,
        memory: Prefix | None = None,
        mask: Tensor | None = None,
        given: Tensor | None = None,
        **condition: Any,
    ) -> SequentialPosterior:
        """The belief about the first hidden position of each row.

        Args:
            x_t: the state, ``(B, N)``; with a memory, the positions behind those remembered.
            t: does not count.
            memory: of `remember`.
            mask: True where the sequence is real.
            given: does not count; what is shown tells it.
            condition: for the network.

        Raises:
            ValueError: a token that is shown behind a hidden one.
        """
        hidden = x_t == self.process.mask
        if x_t.device.type == "cpu":  # elsewhere looking waits for the device
            shown = ~hidden if mask is None else ~hidden & mask
            if bool((shown & (hidden.cumsum(1) > 0)).any()):
                raise ValueError(
                    "x_t shows a token behind a hidden one, which a sequential denoiser cannot see: expected a start "
                    "that is shown and the rest hidden; to fill gaps, take a CategoricalDenoiser"
                )
        if memory is None:
            logits = self.next_logits(x_t, **condition)
        else:
            logits = nn.functional.pad(memory.logits[:, None], (0, 0, 0, x_t.shape[1] - 1))
        return SequentialPosterior(x_t, self.process, self.process.level(t), logits)

    def remember(
        self,
        x: Tensor,
        memory: Prefix | None = None,
        mask: Tensor | None = None,
        given: Tensor | None = None,
        **condition: Any,
    ) -> Prefix:
        """Read positions that are shown.

        Args:
            x: the next positions ``(B, n)``; the first ones, or none yet, without a memory.
            memory: of the positions before.
            mask, given: do not count.
            condition: for the network, the same in each call.
        """
        inputs = nn.functional.pad(x, (1, 0), value=self.process.mask) if memory is None else x
        logits, seen = self.network.remember(inputs, None if memory is None else memory.seen, **condition)
        last = logits[:, -1]
        return Prefix(last.float() if last.dtype != torch.float64 else last, seen)


class SequentialBound(Objective):
    """``-log p(x)`` in nats a position, ``(B,)``, by the chain rule: the bound of the chain that hides from the end.

    It is exact, and takes one evaluation of the network for all steps.  Positions that are given do not count.  Austin
    et al. 2021 (2107.03006), section 4.
    """

    def forward(
        self,
        denoiser: Any,
        x0: Tensor,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        if not isinstance(denoiser, SequentialDenoiser):
            raise TypeError(f"denoiser of type {type(denoiser).__name__}: expected a SequentialDenoiser")
        given = condition.pop("given", None)
        denoiser.process.check_data(x0, mask)
        counted = torch.ones_like(x0, dtype=torch.bool) if mask is None else mask
        counted = counted if given is None else counted & ~given
        logits = denoiser.next_logits(x0, **condition)
        logits = logits.masked_fill(
            torch.arange(logits.shape[-1], device=x0.device) == denoiser.process.mask, -torch.inf
        )
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), x0.flatten(), reduction="none").reshape(x0.shape)
        return position_mean(loss, counted)
