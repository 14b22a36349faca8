r"""The variational bound on categories that are diffused as embeddings.

A category ``w`` becomes ``x_0 ~ N(e_w, floor^2)``, a slightly noisy state of the process, and that noise in turn:

    -log p(w) <= KL(q(x_1 | w) || N(0, sigma_1^2)) + 1/2 int E|eps - eps_theta(x_t, t)|^2 (-d log_snr / dt) dt
                 - E log p(w | x_0),

from the noise ``sigma / alpha = floor`` to the end (Li et al. 2022, Diffusion-LM, arXiv 2205.14217, section 4.1 and
appendix F; in continuous time as in Kingma et al. 2021, 2107.00630, eqs. 11-15, with ``e_w`` for the data and the
rounding for the decoder).  ``p(w | x_0)`` is Bayes' rule for embeddings that are alike, each position by itself: at
little noise there is nothing left to know.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..embedded.table import EmbeddingTable, table_of
from ..noise import NoiseSource, NoiseStream
from ..objectives import restored
from ..schedules import require, wide
from ..sdes import SDE, Level
from .bounds import Bound, Data
from .continuous import ContinuousBound
from .events import event_sum

__all__ = ["EmbeddedBound"]


@dataclass(frozen=True)
class EmbeddedBound:
    """The bound of the module's text, by Monte Carlo as `ContinuousBound`, in nats a sample.

    A denoiser that takes an estimate is given none: the bound is that of the model without self-conditioning.  One that
    was trained with a floor on its data takes a little of the noise for data; its bound is valid, and best at a larger
    ``floor``.  The model whose likelihood it bounds rounds as if all categories were equally frequent, which matters
    where embeddings overlap at the floor.

    Args:
        strata: times a draw.
        draws: independent repetitions; two or more say how uncertain the bound is.
        floor: noise on the embeddings, relative to the signal, at which they are rounded, positive; the schedule's own
            at ``t = 0`` where that is more.  Its best value is the largest at which embeddings are told apart.
        spacing: "log_snr" for uniform log-SNR, "time" for times uniform under the schedule: under `SqrtSchedule`, which
            hurries at the start, the error is then several times larger.
        low: log-SNR at the noisy end, cut to what the schedule covers.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule
        >>> from ornstein.core.embedded import EmbeddingTable, EnumeratedEmbeddedDenoiser
        >>> coin = EnumeratedEmbeddedDenoiser(SDE(CosineSchedule()), EmbeddingTable(2, 8), torch.ones(2))
        >>> bound = EmbeddedBound(draws=16).evaluate(coin, torch.zeros(1, 1, dtype=torch.int64), seed=0)
        >>> bool(abs(bound.nats - torch.tensor(2.0).log()) < 4 * bound.standard_error)
        True
    """

    strata: int = 32
    draws: int = 4
    floor: float = field(default=0.1, kw_only=True)
    spacing: Literal["time", "log_snr"] = field(default="log_snr", kw_only=True)
    low: float = field(default=-10.0, kw_only=True)

    def __post_init__(self) -> None:
        require(0 < self.floor < math.inf, "floor", self.floor, "a positive number")
        ContinuousBound(self.strata, self.draws, spacing=self.spacing, low=self.low, high=self._high)

    @property
    def _high(self) -> float:
        """Log-SNR at the floor."""
        return -2 * math.log(self.floor)

    def evaluate(
        self,
        denoiser: Denoiser[SDE],
        tokens: Tensor,
        *,
        seed: int | None = None,
        noise: NoiseSource | None = None,
        first: int = 0,
        mask: Tensor | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> Bound:
        """The bound of each sample of ``tokens``.

        Args:
            denoiser: of embedded categories.
            tokens: ``(B, N)``, int64.
            seed, noise, first: as for `VariationalBound.evaluate`.
            mask: ``(B, N)``, True where a position is real.
            condition: tensors for the denoiser, by name; what ``given`` ``(B, N)`` names is known and does not count.

        Raises:
            TypeError: for a denoiser without embeddings.
            ValueError: for data that are no categories.
        """
        table = table_of(denoiser)
        method = _RoundedBound(
            self.strata, self.draws, spacing=self.spacing, low=self.low, high=self._high, table=table, tokens=tokens
        )
        with torch.no_grad():
            embedded = table.embed(tokens)
        return method.evaluate(denoiser, embedded, seed=seed, noise=noise, first=first, mask=mask, condition=condition)


@dataclass(frozen=True, eq=False)
class _RoundedBound(ContinuousBound):
    """The continuous bound with rounding as its decoder."""

    table: EmbeddingTable = field(kw_only=True)
    tokens: Tensor = field(kw_only=True)

    def _reconstruction(self, data: Data, level: Level, stream: NoiseStream) -> Tensor:
        std = math.exp(-0.5 * float(level.log_snr))
        x = wide(data.x0) + std * wide(stream.draw(data.x0))
        # Positions that do not count may hold anything.
        x = restored(x, wide(data.x0), None if data.counted is None else ~data.counted)
        log_prob = self.table.logits(x, std).gather(-1, self.tokens[..., None])[..., 0]
        return event_sum(-log_prob, data.counted)
