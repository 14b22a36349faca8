"""Several processes and schedules at once, with one denoiser, such as atoms x bonds x positions."""

from .denoisers import IndependentDenoisers, ProductNetworkDenoiser, ProductPosterior
from .objective import ProductObjective
from .process import ProductDistribution, ProductProcess

__all__ = [
    "IndependentDenoisers",
    "ProductDistribution",
    "ProductNetworkDenoiser",
    "ProductObjective",
    "ProductPosterior",
    "ProductProcess",
]
