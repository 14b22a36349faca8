"""Likelihoods: exact by the probability-flow ODE, and variational bounds in discrete and continuous time.

Everything is in nats; `bits_per_dim` converts at the edge.
"""

from .bounds import Bound
from .continuous import ContinuousBound
from .discrete import VariationalBound
from .ode import ODELikelihood, ODELogProb, RoundTrip
from .training import HybridObjective, VariationalObjective
from .units import UniformDequantisation, bits_per_dim

__all__ = [
    "Bound",
    "ContinuousBound",
    "HybridObjective",
    "ODELikelihood",
    "ODELogProb",
    "RoundTrip",
    "UniformDequantisation",
    "VariationalBound",
    "VariationalObjective",
    "bits_per_dim",
]
