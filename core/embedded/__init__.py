"""Categories as points in space: learned embeddings, noised and denoised as Gaussians."""

from .denoiser import EmbeddedDenoiser, EmbeddedPosterior, EmbeddedPrediction, EnumeratedEmbeddedDenoiser
from .objective import EmbeddedObjective
from .schedule import SqrtSchedule
from .table import EmbeddingTable

__all__ = [
    "EmbeddedDenoiser",
    "EmbeddedObjective",
    "EmbeddedPosterior",
    "EmbeddedPrediction",
    "EmbeddingTable",
    "EnumeratedEmbeddedDenoiser",
    "SqrtSchedule",
]
