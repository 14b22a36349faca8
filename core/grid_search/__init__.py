"""Time grids that are searched for: by a variational bound, by the sampler's own error, or by hand from either.

`BoundSearch` and `AlignYourSteps` need data and a denoiser and know no sampler; `SamplerSearch` tunes the times of one
sampler.  All answer with `Times`, which any sampler of that many steps accepts.
"""

from .align import AlignYourSteps
from .bound import BoundSearch
from .forward import ForwardErrors, forward_errors
from .levels import resample
from .matching import SamplerSearch, TunedGrid
from .paths import Paths, shortest_paths

__all__ = [
    "AlignYourSteps",
    "BoundSearch",
    "ForwardErrors",
    "Paths",
    "SamplerSearch",
    "TunedGrid",
    "forward_errors",
    "resample",
    "shortest_paths",
]
