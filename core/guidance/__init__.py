"""Guidance: denoisers that steer other denoisers."""

from .classifier_free import ClassifierFreeGuidance

__all__ = ["ClassifierFreeGuidance"]
