"""Which category is drawn at a position: temperature, top-k and top-p, on the logits of a belief."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..schedules import require

__all__ = ["TokenChoice"]


@dataclass(frozen=True)
class TokenChoice:
    """Sharpens or cuts a distribution before a category is drawn from it.

    First the logits are divided by the temperature, then all but the ``top_k`` likeliest categories are left out, then
    the least likely ones beyond the smallest set that holds the probability ``top_p`` (Holtzman et al. 2020, arXiv
    1904.09751).  Ties at the border stay in.

    Args:
        temperature: 0 or more; 0 takes the likeliest (among equals each alike), 1 leaves the distribution alone.
        top_k: how many categories stay, at least 1; None for all.
        top_p: probability that stays, in (0, 1].

    Example:
        >>> import torch
        >>> TokenChoice(top_k=1)(torch.tensor([0.0, 2.0, 1.0]))
        tensor([-inf, 2., -inf])
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "temperature", self.temperature, "0 or more")
        require(self.top_k is None or self.top_k >= 1, "top_k", self.top_k, "at least 1, or None for all")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "a probability in (0, 1]")

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits ``(..., S)``, minus infinity where a category is left out."""
        if self.temperature == 0:
            return torch.where(logits == logits.amax(-1, keepdim=True), 0.0, -torch.inf).to(logits.dtype)
        out = logits / self.temperature if self.temperature != 1 else logits
        if self.top_k is not None and self.top_k < out.shape[-1]:
            least = out.topk(self.top_k, -1).values[..., -1:]
            out = torch.where(out >= least, out, -torch.inf)
        if self.top_p < 1:
            falling = out.softmax(-1).sort(-1, descending=True).values
            before = falling.cumsum(-1) - falling
            least = torch.where(before < self.top_p, falling, torch.inf).amin(-1, keepdim=True)
            out = torch.where(out.softmax(-1) >= least, out, -torch.inf)
        return out
