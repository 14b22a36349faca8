"""Judges of reconstructions: they take pictures, and know nothing of the methods that made them.

| question | judge |
| --- | --- |
| how far is it from the truth? | `psnr`, `nmse` |
| does it look like the truth? | `ssim`, `haarpsi` |
| does it fit the data, as well as noise allows? | `data_consistency` |
| do intervals hold the truth as often as they claim? | `coverage`, `sample_interval` |
| are errors as large as stated? | `error_versus_deviation` |

Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.medical.judges.certainty import (
        Consistency,
        Coverage,
        DeviationBin,
        coverage,
        data_consistency,
        error_versus_deviation,
        sample_interval,
    )
    from ornstein.domains.medical.judges.pictures import haarpsi, nmse, psnr, ssim

__all__ = [
    "Consistency",
    "Coverage",
    "DeviationBin",
    "coverage",
    "data_consistency",
    "error_versus_deviation",
    "haarpsi",
    "nmse",
    "psnr",
    "sample_interval",
    "ssim",
]

_PLACES = {
    "certainty": (
        "Consistency",
        "Coverage",
        "DeviationBin",
        "coverage",
        "data_consistency",
        "error_versus_deviation",
        "sample_interval",
    ),
    "pictures": ("haarpsi", "nmse", "psnr", "ssim"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
