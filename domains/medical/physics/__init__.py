"""The physics of CT and MRI: operators with exact adjoints on the core's terms, and what belongs to them.

| what | names |
| --- | --- |
| rays of a scanner, their line integrals | `ParallelBeam`, `FanBeam`, `Projector` |
| the classical inverse | `filtered_back_projection` |
| photon counts, Hounsfield units | `LogCounts`, `log_transform`, `to_hounsfield`, `from_hounsfield` |
| low dose in the picture | `add_dose_noise`, `noise_power_spectrum`, `low_dose_measurement` |
| k-space on a grid, one coil and several | `CartesianMRI`, `MulticoilMRI`, `ColumnSpectrum`, masks |
| real slices for these | `RealPicture` |
| k-space anywhere | `NonUniformFFT`, `NonCartesianMRI`, `radial_trajectory` |
| coils | `espirit_maps`, `walsh_maps`, `birdcage_maps`, `combine`, `whiten` |
| pictures with closed forms | `Phantom`, `shepp_logan`, `random_ellipses` |

Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.medical.physics.coils import (
        birdcage_maps,
        combine,
        espirit_maps,
        root_sum_of_squares,
        walsh_maps,
    )
    from ornstein.domains.medical.physics.counts import (
        LogCounts,
        from_hounsfield,
        log_transform,
        log_variance,
        to_hounsfield,
    )
    from ornstein.domains.medical.physics.fbp import FILTERS, filtered_back_projection
    from ornstein.domains.medical.physics.fourier import centred_fft, centred_ifft, to_channels, to_complex
    from ornstein.domains.medical.physics.geometry import FanBeam, ParallelBeam, spread_angles
    from ornstein.domains.medical.physics.lowdose import add_dose_noise, low_dose_measurement, noise_power_spectrum
    from ornstein.domains.medical.physics.masks import equispaced_mask, poisson_disc_mask, random_mask
    from ornstein.domains.medical.physics.mri import CartesianMRI, ColumnSpectrum, MulticoilMRI
    from ornstein.domains.medical.physics.nufft import NonCartesianMRI, NonUniformFFT, radial_trajectory
    from ornstein.domains.medical.physics.phantoms import Ellipse, Phantom, random_ellipses, shepp_logan
    from ornstein.domains.medical.physics.projector import Projector
    from ornstein.domains.medical.physics.real import RealPicture
    from ornstein.domains.medical.physics.whitening import noise_covariance, whiten, whitening_matrix

__all__ = [
    "FILTERS",
    "CartesianMRI",
    "ColumnSpectrum",
    "Ellipse",
    "FanBeam",
    "LogCounts",
    "MulticoilMRI",
    "NonCartesianMRI",
    "NonUniformFFT",
    "ParallelBeam",
    "Phantom",
    "Projector",
    "RealPicture",
    "add_dose_noise",
    "birdcage_maps",
    "centred_fft",
    "centred_ifft",
    "combine",
    "equispaced_mask",
    "espirit_maps",
    "filtered_back_projection",
    "from_hounsfield",
    "log_transform",
    "log_variance",
    "low_dose_measurement",
    "noise_covariance",
    "noise_power_spectrum",
    "poisson_disc_mask",
    "radial_trajectory",
    "random_ellipses",
    "random_mask",
    "root_sum_of_squares",
    "shepp_logan",
    "spread_angles",
    "to_channels",
    "to_complex",
    "to_hounsfield",
    "walsh_maps",
    "whiten",
    "whitening_matrix",
]

_PLACES = {
    "coils": ("birdcage_maps", "combine", "espirit_maps", "root_sum_of_squares", "walsh_maps"),
    "counts": ("LogCounts", "from_hounsfield", "log_transform", "log_variance", "to_hounsfield"),
    "fbp": ("FILTERS", "filtered_back_projection"),
    "fourier": ("centred_fft", "centred_ifft", "to_channels", "to_complex"),
    "geometry": ("FanBeam", "ParallelBeam", "spread_angles"),
    "lowdose": ("add_dose_noise", "low_dose_measurement", "noise_power_spectrum"),
    "masks": ("equispaced_mask", "poisson_disc_mask", "random_mask"),
    "mri": ("CartesianMRI", "ColumnSpectrum", "MulticoilMRI"),
    "nufft": ("NonCartesianMRI", "NonUniformFFT", "radial_trajectory"),
    "phantoms": ("Ellipse", "Phantom", "random_ellipses", "shepp_logan"),
    "projector": ("Projector",),
    "real": ("RealPicture",),
    "whitening": ("noise_covariance", "whiten", "whitening_matrix"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
