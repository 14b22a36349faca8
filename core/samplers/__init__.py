"""Samplers: reverse processes on a time grid, one family a file."""

from .ancestral import DDIM, DDPM
from .base import LinearSampler, Sampler, SampleStep
from .deis import DEIS, LMS
from .dpm_solver import DPMSolver
from .edm import EDMSampler
from .multistep import Multistep
from .ode import Euler, Heun
from .pndm import PNDM
from .sa_solver import SASolver
from .runge_kutta import RungeKutta, Tableau
from .sde import EulerMaruyama
from .singlestep import DPMSolverSinglestep
from .unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "LMS",
    "PNDM",
    "DPMSolver",
    "DPMSolverSinglestep",
    "EDMSampler",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "LinearSampler",
    "RungeKutta",
    "Multistep",
    "SASolver",
    "SampleStep",
    "Sampler",
    "Tableau",
    "UniPC",
]
