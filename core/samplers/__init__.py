"""Samplers: reverse processes on a time grid, one family a file."""

from .ancestral import DDIM, DDPM
from .base import LinearSampler, Sampler, SampleStep
from .dpm_solver import DPMSolver
from .edm import EDMSampler
from .ode import Euler, Heun
from .sde import EulerMaruyama

__all__ = [
    "DDIM",
    "DDPM",
    "DPMSolver",
    "EDMSampler",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "LinearSampler",
    "SampleStep",
    "Sampler",
]
