r"""Energies that pull predicted data towards what was observed: self-guidance of an unconditional model.

With observations ``y`` of some entries and the prediction ``f`` of the data,

    E = sum_obs (y - f)^2 / 2                                    (mean square),
    E = sum_obs max(kappa (y - f), (kappa - 1) (y - f))          (quantile),

the negative log-likelihoods, up to constants, of a Gaussian and of an asymmetric Laplace distribution about ``f``.  Of
the second, sample ``i`` of ``n`` takes the level ``kappa_i = (i - 1/2) / n``, so that samples spread over the levels.
Kollovieh et al. 2023 (arXiv 2307.11494), section 3.2, eqs. 7-9.
"""

from typing import Literal

import torch
from torch import Tensor

from ..schedules import require

__all__ = ["ObservationEnergy"]


class ObservationEnergy:
    """The energy ``(B,)`` of predicted data ``(B, *event)``, for `EnergyGuidance`; see the module's text.

    Args:
        values: what was observed, ``(B, *event)``, or ``(*event)`` for all samples alike.
        observed: boolean, of the same shape, True where it was.
        loss: "mean_square" or "quantile".
        levels: of the quantile loss, ``(B,)`` in (0, 1).

    Raises:
        ValueError: another loss, masks that are not boolean, levels that are missing or out of range.

    Example:
        >>> seen = torch.tensor([True, False])
        >>> energy = ObservationEnergy(torch.tensor([1.0, 0.0]), seen, "quantile", torch.tensor([0.1, 0.9]))
        >>> energy(torch.zeros(2, 2))
        tensor([0.1000, 0.9000])
    """

    def __init__(
        self,
        values: Tensor,
        observed: Tensor,
        loss: Literal["mean_square", "quantile"] = "mean_square",
        levels: Tensor | None = None,
    ) -> None:
        require(loss in ("mean_square", "quantile"), "loss", loss, "'mean_square' or 'quantile'")
        require(observed.dtype == torch.bool, "observed", observed.dtype, "torch.bool, True where there are values")
        require(observed.shape == values.shape, "observed", tuple(observed.shape), f"the values' {tuple(values.shape)}")
        require((levels is None) == (loss == "mean_square"), "levels", levels, "levels for 'quantile', none otherwise")
        if levels is not None:
            require(bool(((levels > 0) & (levels < 1)).all()), "levels", levels, "numbers in (0, 1)")
        self.values, self.observed, self.loss, self.levels = values, observed, loss, levels

    def __call__(self, prediction: Tensor) -> Tensor:
        error = torch.where(self.observed, self.values - prediction, 0.0)
        if self.levels is None:
            return 0.5 * error.square().flatten(1).sum(1)
        kappa = self.levels.to(error).reshape(-1, *[1] * (error.ndim - 1))
        return torch.maximum(kappa * error, (kappa - 1) * error).flatten(1).sum(1)
