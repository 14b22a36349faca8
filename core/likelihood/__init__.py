"""Likelihoods: exact by the probability-flow ODE, and variational bounds in discrete and continuous time.

Everything is in nats; `bits_per_dim` converts at the edge.
"""

from .bounds import Bound
from .categorical import CategoricalBoundEstimate, TokenBound, enumerated_log_prob
from .continuous import ContinuousBound
from .discrete import VariationalBound
from .embedded import EmbeddedBound
from .geodesic import GeodesicLikelihood
from .ode import ODELikelihood, ODELogProb, RoundTrip
from .training import HybridObjective, VariationalObjective
from .units import UniformDequantisation, bits_per_dim

__all__ = [
    "Bound",
    "CategoricalBoundEstimate",
    "ContinuousBound",
    "EmbeddedBound",
    "GeodesicLikelihood",
    "HybridObjective",
    "ODELikelihood",
    "ODELogProb",
    "RoundTrip",
    "TokenBound",
    "UniformDequantisation",
    "VariationalBound",
    "VariationalObjective",
    "bits_per_dim",
    "enumerated_log_prob",
]
