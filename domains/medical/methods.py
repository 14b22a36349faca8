"""Which posterior method serves a measurement, and what it needs of it."""

from ornstein.core.inverse import LinearOperator, Measurement, SpectralOperator, factorised
from ornstein.domains.medical.physics.mri import MulticoilMRI

__all__ = ["decomposed", "default_method"]


def default_method(measurement: Measurement) -> str:
    """The method for a measurement when none is named: ``"pigdm"`` through a linear operator, ``"dps"`` through others.

    PiGDM solves by the operator's decomposition where it knows one and the noise is equal, without inner iterations,
    and else by conjugate gradients.
    """
    return "pigdm" if isinstance(measurement.operator, LinearOperator) else "dps"


def decomposed(measurement: Measurement) -> Measurement:
    """A linear measurement through an operator that knows its decomposition, with noise that is alike everywhere.

    Coils behind a mask of columns have theirs row by row; others get theirs by `factorised`, of whose singular values
    1024 are kept.  Noise that differs between values is whitened first.
    """
    measurement = measurement.whitened()
    operator, noise = measurement.linear("decomposed"), measurement.noise
    if isinstance(operator, SpectralOperator):
        return measurement
    if isinstance(operator, MulticoilMRI) and operator.has_spectrum:
        return Measurement(measurement.y, operator.spectrum(), noise)
    return Measurement(measurement.y, factorised(operator), noise)
