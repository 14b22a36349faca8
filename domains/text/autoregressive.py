"""The baseline that every figure of text diffusion needs: an autoregressive model with the same parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.core import NoiseSource, Objective, TokenChoice
from ornstein.core.chains.categorical import draw
from ornstein.core.nn import TokenTransformer
from ornstein.domains.text.adapter import TextModel
from ornstein.domains.text.perplexity import Condition, Perplexity, weigh
from ornstein.domains.text.tokenizers import Tokenizer

__all__ = ["AutoregressiveText", "LeftToRightSampler", "NextTokenLoss"]


class CausalModel(nn.Module):
    """``log p(x_i | x_1 ... x_{i-1})`` by a causal network; in the place of a denoiser, for training and sampling.

    Args:
        network: causal, from tokens ``(B, N)`` to logits ``(B, N, size)``.
        boundary: the token before the first.
    """

    def __init__(self, network: nn.Module, boundary: int) -> None:
        super().__init__()
        self.network = network
        self.boundary = boundary

    def forward(self, tokens: Tensor, **condition: Any) -> Float[Tensor, "batch tokens size"]:
        """Logits of every token given those before it, ``(B, N, size)``."""
        before = nn.functional.pad(tokens[:, :-1], (1, 0), value=self.boundary)
        return self.network(before, None, **condition)


class NextTokenLoss(Objective):
    """``-log p(x)`` in nats a token, by the chain rule, ``(B,)``; tokens that are given do not count."""

    def forward(
        self,
        denoiser: Any,
        x0: Any,
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        given = condition.pop("given", None)
        real = torch.ones_like(x0, dtype=torch.bool) if mask is None else mask
        counted = real if given is None else real & ~given
        logits = denoiser(x0, **condition)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), x0.flatten(), reduction="none")
        loss = loss.reshape(x0.shape) * counted
        return loss.sum(1) / counted.sum(1).clamp(min=1)


@dataclass(frozen=True)
class LeftToRightSampler:
    """Draws token after token, with the draws of a sample made from its own seed.

    What was computed for the tokens before is kept (`TokenTransformer.remember`), so that a token costs one token's
    work.

    Args:
        choice: temperature, top-k and top-p; by default as the model says.
    """

    choice: TokenChoice | None = None

    @torch.no_grad()
    def sample(
        self,
        denoiser: Any,
        shape: Sequence[int],
        *,
        noise: NoiseSource,
        condition: Mapping[str, Any] | None = None,
        mask: Tensor | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Tokens of ``shape`` ``(B, N)``; see `Sampler.sample`.

        Those behind the end of a text, which the mask leaves out, are drawn too, since none before depends on them.
        """
        from tqdm.auto import tqdm

        device = next(denoiser.parameters()).device
        u = noise.begin(shape[0], 0).uniform(torch.empty(*shape)).to(device)
        token = torch.full((shape[0], 1), denoiser.boundary, device=device)
        memory, out = None, []
        for i in tqdm(range(shape[1]), desc="sampling", unit="token", disable=not progress):
            logits, memory = denoiser.network.remember(token, memory, **(condition or {}))
            logits = logits[:, -1] if self.choice is None else self.choice(logits[:, -1])
            weights = (logits.double() - logits.double().amax(-1, keepdim=True)).exp()
            token = draw(weights, u[:, i])[:, None]
            out.append(token)
        return torch.cat(out, 1)


class AutoregressiveText(TextModel):
    """An autoregressive model of texts with the tokenizer, the network and the training of `TextDiffusion`.

    Texts start after the boundary. Of a text of drawn or asked length, as many tokens are drawn; a model of full rows
    ends texts by the boundary.

    Args:
        tokenizer, length, attributes, lengths, attribute_dropout: as for `TextModel`.
        network: causal; a `TokenTransformer` when not given.
        sampler: what ``sample`` uses when it is told nothing else.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        length: int = 128,
        attributes: Mapping[str, Sequence[str]] | None = None,
        lengths: tuple[float, ...] | None = None,
        network: nn.Module | None = None,
        sampler: LeftToRightSampler | None = None,
        attribute_dropout: float = 0.15,
    ) -> None:
        super().__init__(tokenizer, length, attributes, lengths, attribute_dropout)
        if network is None:
            network = TokenTransformer(self.tokenizer.size, attributes=self.attribute_sizes, timed=False, causal=True)
        self.denoiser = CausalModel(network, self.tokenizer.boundary)
        self.objective = NextTokenLoss()
        self.sampler = LeftToRightSampler() if sampler is None else sampler

    @property
    def network(self) -> nn.Module:
        """The causal network."""
        return self.denoiser.network

    def perplexity(self, texts: Sequence[str], *, batch_size: int | None = None, **attributes: Any) -> Perplexity:
        """How surprising texts are, exactly; cut as by `TextDiffusion.perplexity`.

        Args:
            texts: of at least a token each.
            batch_size: parts at a time.
            attributes: as in ``sample``, told to the model.
        """

        def nats(numbers: Tensor, tokens: Tensor, mask: Tensor | None, told: Condition) -> tuple[Tensor, Tensor]:
            loss = self.objective(self.denoiser, tokens, mask=mask, **told)
            count = tokens.shape[1] if mask is None else mask.sum(1)
            return loss.double() * count, torch.zeros(len(tokens), dtype=torch.float64)

        return weigh(self, nats, texts, batch_size, exact=True, **attributes)
