"""Guidance: denoisers that steer other denoisers."""

from .auto import Autoguidance
from .categorical_classifier import CategoricalClassifierGuidance
from .clamping import ClampedDenoiser
from .classifier import ClassifierGuidance, LabelClassifier
from .classifier_free import ClassifierFreeGuidance
from .composition import FixedCondition, MixtureOfDenoisers, ProductOfDenoisers
from .energy import EnergyGuidance
from .noisy import ClassifierObjective
from .observation import ObservationEnergy
from .thresholding import DynamicThresholding

__all__ = [
    "Autoguidance",
    "CategoricalClassifierGuidance",
    "ClampedDenoiser",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "ClassifierObjective",
    "DynamicThresholding",
    "EnergyGuidance",
    "FixedCondition",
    "LabelClassifier",
    "MixtureOfDenoisers",
    "ObservationEnergy",
    "ProductOfDenoisers",
]
