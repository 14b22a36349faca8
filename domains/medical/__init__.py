"""Medical pictures from raw measurements: CT from sinograms, MRI from k-space, with files, baselines and judges.

`MedicalReconstruction` learns from slices and reconstructs through any operator, with its uncertainty. The physics is
in `ornstein.domains.medical.physics`, files are read and written by `ornstein.domains.medical.files`, judges are in
`ornstein.domains.medical.judges`; `FBP`, `CGLS`, `TotalVariation` and `Wavelet` are the classical reconstructions,
`BrainData`, `HeadCTData`, `EllipseData` and `VolumeData` the data modules. Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.medical.bodies import apart, oblique_slices
    from ornstein.domains.medical.calibration import Calibration, conformal_factor
    from ornstein.domains.medical.classical import CGLS, FBP, Classical, TotalVariation, Wavelet, ZeroFilled, tune
    from ornstein.domains.medical.data import (
        BrainData,
        EllipseData,
        HeadCTData,
        MedicalReference,
        SliceData,
        VolumeData,
    )
    from ornstein.domains.medical.finishing import Finish
    from ornstein.domains.medical.judging import Judgement, Problem, judge_problem, judge_slices, standard_problem
    from ornstein.domains.medical.methods import default_method
    from ornstein.domains.medical.reconstruction import MedicalReconstruction
    from ornstein.domains.medical.report import reconstruction_figure, reconstruction_report
    from ornstein.domains.medical.results import Reconstruction
    from ornstein.domains.medical.scans import Scan, ScanData

__all__ = [
    "CGLS",
    "FBP",
    "BrainData",
    "Calibration",
    "Classical",
    "EllipseData",
    "Finish",
    "HeadCTData",
    "Judgement",
    "MedicalReconstruction",
    "MedicalReference",
    "Problem",
    "Reconstruction",
    "Scan",
    "ScanData",
    "SliceData",
    "TotalVariation",
    "VolumeData",
    "Wavelet",
    "ZeroFilled",
    "apart",
    "conformal_factor",
    "default_method",
    "judge_problem",
    "judge_slices",
    "oblique_slices",
    "reconstruction_figure",
    "reconstruction_report",
    "standard_problem",
    "tune",
]

_PLACES = {
    "bodies": ("apart", "oblique_slices"),
    "calibration": ("Calibration", "conformal_factor"),
    "classical": ("CGLS", "FBP", "Classical", "TotalVariation", "Wavelet", "ZeroFilled", "tune"),
    "data": ("BrainData", "EllipseData", "HeadCTData", "MedicalReference", "SliceData", "VolumeData"),
    "finishing": ("Finish",),
    "judging": ("Judgement", "Problem", "judge_problem", "judge_slices", "standard_problem"),
    "methods": ("default_method",),
    "reconstruction": ("MedicalReconstruction",),
    "report": ("reconstruction_figure", "reconstruction_report"),
    "results": ("Reconstruction",),
    "scans": ("Scan", "ScanData"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
