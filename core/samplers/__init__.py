"""Samplers: reverse processes on a time grid, one family a file."""

from .adaptive_ode import RK45, AdaptiveStep
from .adaptive_sde import AdaptiveSDE
from .ancestral import DDIM, DDPM
from .base import LinearSampler, Sampler, SampleStep
from .categorical import CategoricalAncestral, TauLeaping
from .choices import TokenChoice
from .constraints import DrawnStep, StateConstraint
from .controlled import ControlledSampler
from .deis import DEIS, LMS
from .dpm_adaptive import DPMSolverAdaptive
from .dpm_solver import DPMSolver
from .edm import EDMSampler
from .geodesic import GeodesicODE, GeodesicRandomWalk
from .langevin import AnnealedLangevin
from .multistep import Multistep
from .ode import Euler, Heun
from .pndm import PNDM
from .predictor_corrector import PredictorCorrector
from .product import ProductSampler
from .remasking import Remasking
from .restart import Restart, RestartInterval
from .runge_kutta import RungeKutta, Tableau
from .sa_solver import SASolver
from .sde import EulerMaruyama
from .sequential import SequentialSampler
from .singlestep import DPMSolverSinglestep
from .tilting import TiltedDraws
from .unipc import UniPC
from .unmasking import (
    Blockwise,
    ConfidentFirst,
    LeftToRight,
    MarginFirst,
    RandomOrder,
    SureFirst,
    Unmasking,
    UnmaskingOrder,
)

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "LMS",
    "PNDM",
    "RK45",
    "AdaptiveSDE",
    "AdaptiveStep",
    "AnnealedLangevin",
    "Blockwise",
    "CategoricalAncestral",
    "ConfidentFirst",
    "ControlledSampler",
    "DPMSolver",
    "DPMSolverAdaptive",
    "DPMSolverSinglestep",
    "DrawnStep",
    "EDMSampler",
    "Euler",
    "EulerMaruyama",
    "GeodesicODE",
    "GeodesicRandomWalk",
    "Heun",
    "LeftToRight",
    "LinearSampler",
    "MarginFirst",
    "Multistep",
    "PredictorCorrector",
    "ProductSampler",
    "RandomOrder",
    "Remasking",
    "Restart",
    "RestartInterval",
    "RungeKutta",
    "SASolver",
    "SampleStep",
    "Sampler",
    "SequentialSampler",
    "StateConstraint",
    "SureFirst",
    "Tableau",
    "TauLeaping",
    "TiltedDraws",
    "TokenChoice",
    "UniPC",
    "Unmasking",
    "UnmaskingOrder",
]
