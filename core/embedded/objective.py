r"""Training embeddings together with their denoiser.

For categories ``w`` with embeddings ``e``, ``x_0 = e + floor z`` and ``x_t = alpha x_0 + sigma eps``,

    loss = mse w(t) |target - mean(x_t)|^2 / D              target = x_0, or e for t <= first
           + prior alpha(1)^2 |x_0|^2 / D
           - rounding log p(w | x_0)                        by `EmbeddingTable.logits`
           - anchor log p(w | mean(x_t))                    for logits, log p(w | x_t) as the network says

with ``D`` the numbers of an embedding; all are means over positions, the first two in squared units of the state, the
others in nats.  Gradients go to the embeddings through all of them, the noised states included.  Known are

    Diffusion-LM   mse + prior + rounding, rows not normalised, "x0": the end-to-end loss ``L_x0-simple`` of Li et al.
                   2022 (arXiv 2205.14217), section 4.1 and appendix E.  The term of the first of its 2,000 steps
                   compares with the embedding itself, and ``floor`` is the noise of that step.
    Difformer      mse + anchor, rows normalised, "x0": Gao et al. 2022 (2212.09412), section 3.1, whose anchor loss
                   takes the place of the rounding loss, because that one is small wherever the embeddings lie apart
                   and so hardly trains the denoiser.  No floor.
    CDCD           anchor alone, rows normalised, "logits": the cross-entropy of Dieleman et al. 2022 (2211.15089),
                   section 3.1.  No floor.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..denoisers import Denoiser, self_conditioned
from ..objectives import Asked, Corrupted, DenoisingObjective, event_mean, noise_like, shaped_mask
from ..schedules import require
from ..sdes import SDE
from ..training_times import StratifiedTimes, TrainingTimes
from ..weightings import UniformWeighting, Weighting
from .table import EmbeddingTable, table_of

__all__ = ["EmbeddedObjective"]


class EmbeddedObjective(DenoisingObjective):
    """The loss of the module's text; the data are categories ``(B, N)``, int64, not embeddings.

    The default, both errors of the prediction and no floor, suits "x0" and "logits" (Difformer's loss).

    With probability ``self_conditioning`` a denoiser that takes an estimate is given its own answer to the same noised
    batch, found without gradients, for one more forward pass (Chen et al. 2022, arXiv 2208.04202, algorithm 1).

    Args:
        mse, prior, rounding, anchor: weights of the terms, at least 0 and not all 0; what has weight 0 is not computed.
        floor: noise on the data at ``t = 0``, in units of the embeddings; None for as much as the schedule itself has
            there, ``sigma(0) / alpha(0)``.
        first: times up to which the embedding itself is the target, at least 0; where ``floor`` is 0 that is all one.
        self_conditioning: probability with which an estimate is given, for a batch at once.
        weighting: of the squared error, by default 1 at all times.
        times: at which times to train; by default one draw for the whole batch with the samples evenly behind it.

    Raises:
        ValueError: for weights or probabilities out of range; by the call, for data that are no categories.
        TypeError: by the call, for a denoiser without embeddings.
    """

    def __init__(
        self,
        mse: float = 1.0,
        prior: float = 0.0,
        rounding: float = 0.0,
        anchor: float = 1.0,
        floor: float | None = 0.0,
        first: float = 0.0005,
        self_conditioning: float = 0.5,
        weighting: Weighting | None = None,
        times: TrainingTimes | None = None,
    ) -> None:
        super().__init__(
            weighting if weighting is not None else UniformWeighting("x0"),
            times if times is not None else StratifiedTimes(),
        )
        weights = {"mse": mse, "prior": prior, "rounding": rounding, "anchor": anchor}
        for name, weight in weights.items():
            require(0 <= weight < float("inf"), name, weight, "a number of at least 0")
        require(any(weights.values()), "mse", mse, "a positive weight of one of the four terms")
        require(floor is None or 0 <= floor < float("inf"), "floor", floor, "a number of at least 0, or None")
        require(0 <= first <= 1, "first", first, "a time from 0 to 1")
        require(0 <= self_conditioning <= 1, "self_conditioning", self_conditioning, "a probability")
        self.mse = mse
        self.prior = prior
        self.rounding = rounding
        self.anchor = anchor
        self.floor = floor
        self.first = first
        self.self_conditioning = self_conditioning

    @classmethod
    def diffusion_lm(cls) -> "EmbeddedObjective":
        """Diffusion-LM's loss."""
        return cls(mse=1.0, prior=1.0, rounding=1.0, anchor=0.0, floor=None)

    @classmethod
    def cdcd(cls) -> "EmbeddedObjective":
        """CDCD's cross-entropy, for "logits"."""
        return cls(mse=0.0, anchor=1.0)

    def forward(
        self,
        denoiser: Denoiser[SDE],
        x0: Tensor,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        table, floor = table_of(denoiser), self._floor(denoiser.process)
        embedded = noisy = table.embed(x0)
        if floor:
            z = noise_like(embedded, generator)
            if (given := condition.get("given")) is not None:  # what is known is known exactly
                z = z * shaped_mask(~given, z)
            noisy = embedded + floor * z
        asked = self.ask(denoiser, noisy, mask, generator, condition)
        return self.finish(asked, self._terms(asked, table, x0, embedded))

    def answer(
        self,
        denoiser: Denoiser[Any],
        corrupted: Corrupted,
        generator: torch.Generator | None,
        condition: dict[str, Any],
    ) -> Any:
        if self.self_conditioning and self_conditioned(denoiser):
            device = generator.device if generator is not None else None
            if float(torch.rand((), device=device, generator=generator)) < self.self_conditioning:
                with torch.no_grad():
                    estimate = denoiser(corrupted.x_t, corrupted.t, **condition).mean
                condition = condition | {"estimate": estimate}
        return super().answer(denoiser, corrupted, generator, condition)

    def _floor(self, process: SDE) -> float:
        if self.floor is not None:
            return self.floor
        level = process.level(0.0)
        return float(level.sigma) / float(level.alpha)

    def _terms(self, asked: Asked, table: EmbeddingTable, tokens: Tensor, embedded: Tensor) -> Tensor:
        """The weighted sum of the terms, ``(B,)``."""
        posterior, corrupted, counted, t, _ = asked
        x0, loss = corrupted.x0, corrupted.x0.new_zeros(len(tokens))
        if self.mse:
            early = (t <= self.first).to(x0.device).reshape(-1, 1, 1)
            target = torch.where(early, embedded, x0) if self.first else x0
            loss = loss + self.mse * self.judge(posterior, corrupted._replace(x0=target), counted)
        if self.prior:
            alpha = float(posterior.process.level(1.0).alpha)
            loss = loss + self.prior * alpha**2 * event_mean(x0.square(), counted)
        if self.rounding:
            surprise = -table.logits(x0).gather(-1, tokens[..., None])[..., 0]
            loss = loss + self.rounding * event_mean(surprise, counted)
        if self.anchor:
            loss = loss + self.anchor * event_mean(-posterior.log_prob(tokens), counted).to(loss.dtype)
        return loss
