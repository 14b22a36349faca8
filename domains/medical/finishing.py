"""The last step of a reconstruction: a classical iteration that begins at a model's answer, and the mean of both."""

from dataclasses import dataclass, replace

from torch import Tensor

from ornstein.core.inverse.measurement import Measurement
from ornstein.core.schedules import require
from ornstein.domains.medical.classical import Classical, TotalVariation

__all__ = ["Finish"]


@dataclass(frozen=True)
class Finish:
    """``x + share (v - x)`` for an answer ``x`` and what total variation makes of it, ``v``.

    A network's answer leaves over some of the measurement. A few iterations of a convex method that begin at it take
    that in, and keep of what no measurement tells most of what the network knew; where the two err independently of
    each other their mean is better than both. The share and the method's settings are chosen on slices of known truth
    (`ornstein.domains.medical.classical.tune` does that for ``method`` alone).

    Args:
        method: whose ``start`` is replaced by the answer; few iterations stay close to it.
        share: from 0, the answer, to 1, the method's.

    Raises:
        TypeError: a method that begins nowhere.
        ValueError: a share out of range.

    Example:
        >>> import torch
        >>> from ornstein.core.inverse import GaussianNoise
        >>> from ornstein.domains.medical.physics import ParallelBeam, Projector, shepp_logan, spread_angles
        >>> truth, A = shepp_logan().image(32), Projector(ParallelBeam((32, 32), spread_angles(20)))
        >>> seen = Measurement.simulate(truth, A, GaussianNoise(0.01), torch.Generator().manual_seed(0))
        >>> finish = Finish(TotalVariation(1.0, iterations=50), share=1.0)
        >>> bool((finish(seen, 0.9 * truth) - truth).norm() < 0.05 * truth.norm())
        True
    """

    method: TotalVariation
    share: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.method, TotalVariation):
            raise TypeError(f"method={self.method!r}: expected a TotalVariation, which can begin at an answer")
        require(0 <= self.share <= 1, "share", self.share, "from 0 to 1")

    def __call__(self, measurement: Measurement, answer: Tensor) -> Tensor:
        """The finished pictures ``(B, *shape)`` of a measurement through a linear operator, in its units."""
        found = replace(self.method, start=_Answer(answer))(measurement)
        return answer + self.share * (found - answer)


@dataclass(frozen=True, eq=False)
class _Answer(Classical):
    """Pictures that are known already."""

    pictures: Tensor

    def __call__(self, measurement: Measurement) -> Tensor:
        return self.pictures
