r"""Embeddings of categories, and the way back: which category a point stands for.

    e_w = sqrt(D) v_w / |v_w|  (or v_w as it is),        p(w | x) ~ exp(-|x - e_w|^2 / (2 std^2)).

The second is Bayes' rule for categories that are alike and ``x ~ N(e_w, std^2)``.  For rows of one length and ``std =
1`` it is ``softmax_w(x . e_w)``, the rounding of Diffusion-LM (Li et al. 2022, arXiv 2205.14217, section 4.1).  Rows of
length ``sqrt(D)``, which have a mean square of 1 a coordinate, are CDCD's (Dieleman et al. 2022, 2211.15089, section
3.2): they cannot shrink to make the noise look large, nor collapse in length.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..denoisers import Denoiser
from ..nn.checks import check_integers
from ..schedules import require

__all__ = ["EmbeddingTable", "table_of"]

LARGEST = 2**24  # numbers of a table of distances that are held at once


class EmbeddingTable(nn.Module):
    """Learned embeddings ``(size, dimensions)`` of categories; see the module's text.

    Args:
        size: number of categories, ``V``.
        dimensions: of an embedding, ``D``.
        normalise: give all rows the length ``sqrt(D)``; else they are what is learned, standard normal at the start.
        std: of the Gaussians about the embeddings by which `logits` rounds, positive.

    Example:
        >>> import torch
        >>> table = EmbeddingTable(5, 3)
        >>> x = table.embed(torch.tensor([[4, 0]]))
        >>> x.shape, table.round(x).tolist()
        (torch.Size([1, 2, 3]), [[4, 0]])
    """

    def __init__(self, size: int, dimensions: int, normalise: bool = True, std: float = 1.0) -> None:
        super().__init__()
        check_integers(1, size=size, dimensions=dimensions)
        require(0 < std < float("inf"), "std", std, "a positive number")
        self.size = size
        self.dimensions = dimensions
        self.normalise = normalise
        self.std = std
        self.weight = nn.Parameter(torch.randn(size, dimensions))

    def _scaled(self, rows: Tensor) -> Tensor:
        if not self.normalise:
            return rows
        return nn.functional.normalize(rows, dim=-1) * self.dimensions**0.5

    @property
    def vectors(self) -> Float[Tensor, "size dimensions"]:
        """All embeddings ``e``."""
        return self._scaled(self.weight)

    def check(self, tokens: Tensor) -> None:
        """Raise ``ValueError`` for what is no tensor of categories: of another dtype, or out of range."""
        if tokens.dtype != torch.int64 or tokens.ndim < 2:
            raise ValueError(
                f"tokens of shape {tuple(tokens.shape)}, {tokens.dtype}: expected categories (B, N), int64"
            )
        # On a device this check would wait for it; there indexing fails.
        if tokens.device.type == "cpu" and tokens.numel() and not torch.compiler.is_compiling():
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= self.size:
                raise ValueError(f"tokens hold {low if low < 0 else high}: expected 0 to {self.size - 1}")

    def embed(self, tokens: Int[Tensor, "batch *n"]) -> Float[Tensor, "batch *n dimensions"]:
        """The embeddings of categories ``(B, N)``.

        Raises:
            ValueError: for another dtype, or numbers out of range.
        """
        self.check(tokens)
        return self._scaled(nn.functional.embedding(tokens, self.weight))

    def forward(self, tokens: Int[Tensor, "batch *n"]) -> Float[Tensor, "batch *n dimensions"]:
        """As `embed`."""
        return self.embed(tokens)

    def logits(
        self, x: Float[Tensor, "*batch dimensions"], std: float | None = None
    ) -> Float[Tensor, "*batch categories"]:
        """``log p(w | x)`` of points, in nats.

        Args:
            x: points.
            std: of the Gaussians; the table's own by default.
        """
        return (self._closeness(x) / (self.std if std is None else std) ** 2).log_softmax(-1)

    def _closeness(self, x: Tensor) -> Tensor:
        """``(|x|^2 - |x - e_w|^2) / 2``, which is highest for the nearest."""
        if x.shape[-1] != self.dimensions:
            raise ValueError(f"x of shape {tuple(x.shape)}: expected (..., {self.dimensions})")
        vectors = self.vectors.to(x.dtype)
        return torch.addmm(-0.5 * vectors.square().sum(1), x.reshape(-1, self.dimensions), vectors.T).view(
            *x.shape[:-1], self.size
        )

    @torch.no_grad()
    def round(self, x: Float[Tensor, "*batch dimensions"]) -> Int[Tensor, "*batch"]:
        """The category of the nearest embedding of each point, int64; the distances to all are never held at once."""
        flat = x.reshape(-1, x.shape[-1])
        parts = flat.split(max(1, LARGEST // self.size))
        return torch.cat([self._closeness(part).argmax(-1) for part in parts]).view(x.shape[:-1])

    def expected(self, logits: Float[Tensor, "*batch categories"]) -> Float[Tensor, "*batch dimensions"]:
        """``sum_w p(w) e_w`` with ``p = softmax(logits)``."""
        return logits.softmax(-1) @ self.vectors.to(logits.dtype)

    def spread(self, logits: Float[Tensor, "*batch categories"]) -> Float[Tensor, "*batch dimensions"]:
        """The variance of each coordinate of ``e_w`` for ``w`` drawn from ``softmax(logits)``."""
        probs, vectors = logits.softmax(-1), self.vectors.to(logits.dtype)
        return (probs @ vectors.square() - (probs @ vectors).square()).clamp(min=0)


def table_of(denoiser: Denoiser) -> EmbeddingTable:
    """The embeddings of the states of a denoiser, which it or a denoiser within it holds.

    Raises:
        TypeError: for one of other states.
    """
    table = next((module for module in denoiser.modules() if isinstance(module, EmbeddingTable)), None)
    if table is None:
        raise TypeError(f"denoiser of type {type(denoiser).__name__} holds no EmbeddingTable: give an EmbeddedDenoiser")
    return table
