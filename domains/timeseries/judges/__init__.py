"""Judges of time series."""
