"""Medical pictures from raw measurements: CT from sinograms, MRI from k-space, with files, baselines and judges.

The physics is in `ornstein.domains.medical.physics`, files are read and written by `ornstein.domains.medical.files`,
judges are in `ornstein.domains.medical.judges`; `FBP`, `CGLS`, `TotalVariation` and `Wavelet` are the classical
reconstructions, `BrainData`, `HeadCTData`, `EllipseData` and `VolumeData` the data modules. Names are loaded when they
are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.medical.classical import CGLS, FBP, Classical, TotalVariation, Wavelet, ZeroFilled, tune
    from ornstein.domains.medical.data import (
        BrainData,
        EllipseData,
        HeadCTData,
        MedicalReference,
        SliceData,
        VolumeData,
    )

__all__ = [
    "CGLS",
    "FBP",
    "BrainData",
    "Classical",
    "EllipseData",
    "HeadCTData",
    "MedicalReference",
    "SliceData",
    "TotalVariation",
    "VolumeData",
    "Wavelet",
    "ZeroFilled",
    "tune",
]

_PLACES = {
    "classical": ("CGLS", "FBP", "Classical", "TotalVariation", "Wavelet", "ZeroFilled", "tune"),
    "data": ("BrainData", "EllipseData", "HeadCTData", "MedicalReference", "SliceData", "VolumeData"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
