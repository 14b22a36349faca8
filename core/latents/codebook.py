r"""A codebook that follows the vectors it stands for: vector quantisation with moving averages.

A vector ``z`` becomes the nearest code, and gradients pass it by as if nothing had happened,

    k = argmin_j |z - e_j|,     z_q = z + sg[e_k - z]          (van den Oord et al. 2017, 1711.00937, eqs. 1 and 2).

In training each code is the moving average of the vectors that chose it (appendix A.1), ``n_j`` in number
and ``s_j`` in sum:

    N_j <- gamma N_j + (1 - gamma) n_j,    m_j <- gamma m_j + (1 - gamma) s_j,    e_j = m_j / N_j

A code that hardly any vector chooses is dead: it never moves again.  So a code with ``N_j`` below a fraction of the
even share (the number of vectors over that of codes) is put on one of the vectors at hand, drawn at random, with the
even share as its ``N_j`` (Dhariwal et al. 2020, 2005.00341, section 3.1; Zeghidour et al. 2021, 2107.03312, III-C).  At
the start all codes are dead, so that the first batch places them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..nn.checks import check_integers
from ..schedules import require

__all__ = ["Codebook"]


class Codebook(nn.Module):
    """Codes ``(codes, width)`` with their moving averages; see the module's text.

    Args:
        codes: how many.
        width: length of a code.
        decay: ``gamma``, in [0, 1).
        revive: the fraction of the even share below which a code is dead; 0 lets the dead rest once all are placed.
    """

    table: Tensor
    """The codes ``e``."""
    counts: Tensor
    """``N``, ``(codes,)``."""
    sums: Tensor
    """``m``, ``(codes, width)``."""

    def __init__(self, codes: int, width: int, decay: float = 0.99, revive: float = 0.03) -> None:
        super().__init__()
        check_integers(1, codes=codes, width=width)
        require(0 <= decay < 1, "decay", decay, "a number in [0, 1)")
        require(0 <= revive < 1, "revive", revive, "a number in [0, 1)")
        self.codes = codes
        self.width = width
        self.decay = decay
        self.revive = revive
        self.register_buffer("table", torch.randn(codes, width))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, width))

    def nearest(self, z: Float[Tensor, "*batch width"]) -> Int[Tensor, "*batch"]:
        """The number of the code nearest to each vector, int64."""
        # |z - e|^2 without |z|^2, which is the same for all codes.
        return (
            torch.addmm(self.table.square().sum(1), z.reshape(-1, self.width), self.table.T, alpha=-2)
            .argmin(1)
            .view(z.shape[:-1])
        )

    def forward(self, codes: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch width"]:
        """The vectors of code numbers.

        Raises:
            ValueError: for another dtype, or numbers out of range.
        """
        if codes.dtype != torch.int64:
            raise ValueError(f"codes are {codes.dtype}: expected int64 numbers of codes")
        # On a device this check would wait for it; there indexing fails.
        if codes.device.type == "cpu" and codes.numel() and not torch.compiler.is_compiling():
            low, high = int(codes.min()), int(codes.max())
            if low < 0 or high >= self.codes:
                raise ValueError(f"codes hold {low if low < 0 else high}: expected 0 to {self.codes - 1}")
        return nn.functional.embedding(codes, self.table)

    def quantise(self, z: Float[Tensor, "*batch width"], codes: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch width"]:
        """``z_q``: the vectors of ``codes`` with the gradient of ``z``."""
        return z + (self(codes) - z).detach()

    @torch.no_grad()
    def place(self, z: Float[Tensor, "*batch width"], generator: torch.Generator | None = None) -> None:
        """Put dead codes on vectors drawn from ``z``, different ones as far as there are any."""
        vectors = z.detach().reshape(-1, self.width).to(self.table)
        share = len(vectors) / self.codes
        dead = self.counts <= self.revive * share if self.revive else self.counts == 0
        device = generator.device if generator is not None else None
        order = torch.randperm(len(vectors), generator=generator, device=device).to(vectors.device)
        chosen = vectors[order[torch.arange(self.codes, device=vectors.device) % len(vectors)]]
        # Without a branch, so that nothing waits for a device.
        self.table.copy_(torch.where(dead[:, None], chosen, self.table))
        self.sums.copy_(torch.where(dead[:, None], chosen * share, self.sums))
        self.counts.copy_(torch.where(dead, torch.full_like(self.counts, share), self.counts))

    @torch.no_grad()
    def follow(self, z: Float[Tensor, "*batch width"], codes: Int[Tensor, "*batch"]) -> None:
        """Take vectors and the codes that they chose into the moving averages."""
        vectors, chosen = z.detach().reshape(-1, self.width).to(self.table), codes.flatten()
        number = torch.zeros_like(self.counts).index_add_(0, chosen, torch.ones_like(vectors[:, 0]))
        total = torch.zeros_like(self.sums).index_add_(0, chosen, vectors)
        self.counts.lerp_(number, 1 - self.decay)
        self.sums.lerp_(total, 1 - self.decay)
        # Where nothing was ever counted the code stays.
        alive = self.counts > 0
        self.table.copy_(torch.where(alive[:, None], self.sums / self.counts[:, None], self.table))

    @property
    def perplexity(self) -> float:
        """How many codes are in use, ``exp(-sum p log p)`` of their shares ``p = N / sum N``; 0 before training."""
        total = self.counts.sum()
        p = self.counts / total
        return float(torch.special.entr(p).sum().exp()) if total > 0 else 0.0
