"""Guidance: denoisers that steer other denoisers."""

from .auto import Autoguidance
from .classifier import ClassifierGuidance, LabelClassifier
from .classifier_free import ClassifierFreeGuidance
from .composition import FixedCondition, MixtureOfDenoisers, ProductOfDenoisers
from .energy import EnergyGuidance
from .thresholding import DynamicThresholding

__all__ = [
    "Autoguidance",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "DynamicThresholding",
    "EnergyGuidance",
    "FixedCondition",
    "LabelClassifier",
    "MixtureOfDenoisers",
    "ProductOfDenoisers",
]
