r"""Three scales of one picture: units of the data, states of the model, and what an operator of physics takes.

A state is ``s = 2 (x - low) / (high - low) - 1`` for the window ``(low, high)`` in units of the data.  Operators take
the picture in units of the data too, but line integrals of Hounsfield units mean nothing: a `Projector` takes their
attenuation in 1/mm, ``mu = water (1 + x / 1000)``.  All of these are ``gain s + offset``, so a linear measurement
``y = A(gain s + offset) + n`` is one of the state by the same operator:

    (y - A(offset)) / gain = A s + n / gain.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.inverse.measurement import GaussianNoise, Measurement, UnequalNoise
from ornstein.core.inverse.operators import Composition, FunctionOperator, LinearOperator, Operator
from ornstein.core.schedules import require
from ornstein.domains.medical.physics.counts import WATER
from ornstein.domains.medical.physics.projector import Projector

__all__ = ["Scale", "shown"]


@dataclass(frozen=True)
class Scale:
    """How pictures, states and operators' pictures hang together; see the module's text.

    Args:
        window: ``(low, high)``, what becomes -1 and 1; values beyond it stay beyond.
        units: of the data; ``"HU"`` for Hounsfield units.
        water: attenuation of water in 1/mm at the scan's energy, for Hounsfield units.
    """

    window: tuple[float, float] = (0.0, 1.0)
    units: str = ""
    water: float = WATER

    def __post_init__(self) -> None:
        ordered = len(self.window) == 2 and self.window[1] > self.window[0]
        require(ordered, "window", self.window, "(low, high) with high above low")
        require(self.water > 0, "water", self.water, "a positive attenuation in 1/mm")

    def to_state(self, pictures: Tensor) -> Tensor:
        """States of pictures in units of the data."""
        low, high = self.window
        return 2 * (pictures - low) / (high - low) - 1

    def to_units(self, state: Tensor) -> Tensor:
        """Pictures of states."""
        low, high = self.window
        return (state + 1) / 2 * (high - low) + low

    def _factor(self, operator: Operator) -> float:
        """What the operator takes a unit of the data for."""
        return self.water / 1000 if self.units == "HU" and _projects(operator) else 1.0

    def to_operator(self, pictures: Tensor, operator: Operator) -> Tensor:
        """Pictures in units of the data as the operator takes them."""
        factor = self._factor(operator)
        return pictures if factor == 1 else factor * (pictures + 1000)

    def from_operator(self, pictures: Tensor, operator: Operator) -> Tensor:
        """Pictures as an operator takes them (or a classical method gives them) in units of the data."""
        factor = self._factor(operator)
        return pictures if factor == 1 else pictures / factor - 1000

    def difference_from_operator(self, difference: Tensor, operator: Operator) -> Tensor:
        """A difference of two pictures, which has no offset."""
        return difference / self._factor(operator)

    def measurement_of_states(self, measurement: Measurement) -> Measurement:
        """The measurement as one of states.  A linear operator stays as it is; noise becomes Gaussian with its variance
        at each value.  A nonlinear one is composed with the scale.
        """
        operator, noise = measurement.operator, measurement.noise
        low, high = self.window
        gain = self._factor(operator) * (high - low) / 2
        if not isinstance(operator, LinearOperator):

            def seen(state: Tensor) -> Tensor:
                return operator(self.to_operator(self.to_units(state), operator))

            return Measurement(measurement.y, FunctionOperator(seen, operator.shape, operator.measured), noise)
        y = measurement.y
        grey = self.to_operator(self.to_units(y.new_zeros(1, *operator.shape)), operator)
        variance = measurement.variance
        if isinstance(noise, GaussianNoise):
            scaled: GaussianNoise | UnequalNoise = GaussianNoise(noise.std / gain)
        else:
            scaled = UnequalNoise(torch.as_tensor(variance, dtype=y.dtype, device=y.device).expand(y.shape) / gain**2)
        return Measurement((y - operator(grey.expand(len(y), *operator.shape))) / gain, operator, scaled)


def shown(x: Tensor) -> Tensor:
    """Pictures ``(..., H, W)`` of slices ``(..., C, H, W)``: values of one channel, magnitudes of two."""
    return x.squeeze(-3) if x.shape[-3] == 1 else torch.linalg.vector_norm(x, dim=-3)


def _projects(operator: Operator) -> bool:
    """Whether a picture goes into line integrals first."""
    while isinstance(operator, Composition):
        operator = operator.inner
    return isinstance(operator, Projector)
