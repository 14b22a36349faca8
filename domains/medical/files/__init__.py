"""Files of scanners and archives: what is read keeps its place in the patient, what is written keeps its metadata.

| files | names |
| --- | --- |
| DICOM series | `read_dicom`, `write_dicom` |
| NIfTI | `read_nifti`, `write_nifti` |
| raw k-space: fastMRI, ISMRMRD | `read_fastmri`, `read_ismrmrd` |
| NumPy | `read_numpy` |

They give a `Volume` or a `KSpace`. Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.medical.files.dicom import read_dicom, write_dicom
    from ornstein.domains.medical.files.nifti import read_nifti, write_nifti
    from ornstein.domains.medical.files.raw import read_fastmri, read_ismrmrd, read_numpy
    from ornstein.domains.medical.files.volume import KSpace, Volume

__all__ = [
    "KSpace",
    "Volume",
    "read_dicom",
    "read_fastmri",
    "read_ismrmrd",
    "read_nifti",
    "read_numpy",
    "write_dicom",
    "write_nifti",
]

_PLACES = {
    "dicom": ("read_dicom", "write_dicom"),
    "nifti": ("read_nifti", "write_nifti"),
    "raw": ("read_fastmri", "read_ismrmrd", "read_numpy"),
    "volume": ("KSpace", "Volume"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
