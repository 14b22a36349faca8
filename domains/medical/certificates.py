"""What a measurement says of pictures that are to explain it: what it does not see, and what they leave over."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.inverse import GaussianNoise, LinearOperator, Measurement, least_norm
from ornstein.domains.medical.judges.certainty import Consistency, data_consistency

__all__ = ["Certificates", "certificates"]


class Certificates(NamedTuple):
    """Of a stack of slices, on the CPU.

    Attributes:
        invented: ``x - A^+ A x`` of the mean ``(slices, C, H, W)``, in the operator's units; None for an operator that
            is not linear.
        consistency: residuals of the mean in units of the noise, ``(slices,)``; None for a measurement without noise.
        sampled: those of the samples, ``(slices, K)``.
    """

    invented: Tensor | None
    consistency: Consistency | None
    sampled: Consistency | None


@torch.no_grad()
def certificates(mean: Tensor, samples: Tensor, measurement: Measurement) -> Certificates:
    """Certificates of means ``(slices, C, H, W)`` and samples ``(slices, K, C, H, W)`` in the operator's units."""
    parts = [measurement[i : i + 1] for i in range(len(mean))]
    invented = consistency = sampled = None
    if isinstance(measurement.operator, LinearOperator):
        operators = [part.linear("certificates") for part in parts]
        invented = torch.cat([x - least_norm(A, A(x)) for x, A in zip(mean.split(1), operators)]).cpu()
    if not (isinstance(measurement.noise, GaussianNoise) and measurement.noise.std == 0):
        consistency = _joined([data_consistency(x, part) for x, part in zip(mean.split(1), parts)], torch.cat)
        sampled = _joined([data_consistency(x, part) for x, part in zip(samples, parts)], torch.stack)
    return Certificates(invented, consistency, sampled)


def _joined(parts: Sequence[Consistency], join: Callable[[list[Tensor]], Tensor]) -> Consistency:
    """What was said of each slice, together and on the CPU."""
    chi2, _, ratio, p_value = zip(*parts)
    return Consistency(join(list(chi2)).cpu(), parts[0].measured, join(list(ratio)).cpu(), join(list(p_value)).cpu())
