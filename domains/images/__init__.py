"""Pictures of any size and channel count, with classes or without: `ImageDiffusion`, its data, judges and figures.

`DigitsData`, `FashionMNISTData`, `IDXData`, `FolderData`, `ArrayData` and `PicturesData` are data modules; `ImageJudge`
measures; `grid`, `save_grid`, `save_gif` and `noise_levels` draw; `load_pipeline` and `read_scheduler` read models of
the library diffusers. Names are loaded when they are first used, so that finding the domain costs nothing but torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ornstein.domains.images.adapter import ImageDiffusion, default_network

if TYPE_CHECKING:
    from ornstein.domains.images.arrays import ArrayPictures, load_arrays
    from ornstein.domains.images.augment import Augment
    from ornstein.domains.images.classifier import PictureClassifier, train_classifier
    from ornstein.domains.images.data import ImageData, ImageReference
    from ornstein.domains.images.datasets import FolderPictures, ObjectPictures
    from ornstein.domains.images.grids import grid, noise_levels, save_gif, save_grid
    from ornstein.domains.images.interop import DiffusersDenoiser, load_pipeline, read_scheduler, times_of_steps
    from ornstein.domains.images.metrics import ImageJudge, LabelJudge, RandomFeatures, evaluate, inception_frechet
    from ornstein.domains.images.pictures import to_pil
    from ornstein.domains.images.sources import (
        ArrayData,
        DigitsData,
        FashionMNISTData,
        FolderData,
        IDXData,
        PicturesData,
    )

__all__ = [
    "ArrayData",
    "ArrayPictures",
    "Augment",
    "DiffusersDenoiser",
    "DigitsData",
    "FashionMNISTData",
    "FolderData",
    "FolderPictures",
    "IDXData",
    "ImageData",
    "ImageDiffusion",
    "ImageJudge",
    "ImageReference",
    "LabelJudge",
    "ObjectPictures",
    "PictureClassifier",
    "PicturesData",
    "RandomFeatures",
    "default_network",
    "evaluate",
    "grid",
    "inception_frechet",
    "load_arrays",
    "load_pipeline",
    "noise_levels",
    "read_scheduler",
    "save_gif",
    "save_grid",
    "times_of_steps",
    "to_pil",
    "train_classifier",
]

_PLACES = {
    "arrays": ("ArrayPictures", "load_arrays"),
    "augment": ("Augment",),
    "classifier": ("PictureClassifier", "train_classifier"),
    "data": ("ImageData", "ImageReference"),
    "datasets": ("FolderPictures", "ObjectPictures"),
    "grids": ("grid", "noise_levels", "save_gif", "save_grid"),
    "interop": ("DiffusersDenoiser", "load_pipeline", "read_scheduler", "times_of_steps"),
    "metrics": ("ImageJudge", "LabelJudge", "RandomFeatures", "evaluate", "inception_frechet"),
    "pictures": ("to_pil",),
    "sources": ("ArrayData", "DigitsData", "FashionMNISTData", "FolderData", "IDXData", "PicturesData"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
