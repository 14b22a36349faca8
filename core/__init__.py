"""Ornstein's core: forward processes, denoisers and samplers, independent of any domain.

The public names are here; networks are in `ornstein.core.nn`, training in `ornstein.core.training`, measures in
`ornstein.core.evaluation` and exact test problems in `ornstein.core.testing`.
"""

from .closed_form import ClosedFormDenoiser, EmpiricalDenoiser, GaussianDenoiser, MixtureDenoiser
from .denoisers import Denoiser, GaussianPosterior, LinearPosterior, NetworkDenoiser, Posterior
from .distillation import (
    AnnealedPairs,
    ConsistencyDenoiser,
    ConsistencyGrid,
    ConsistencyObjective,
    ConsistencySampler,
    GridPairs,
    ProgressiveObjective,
    TimePairs,
    progressive_distillation,
)
from .grids import Grid, Karras, Quadratic, Times, UniformLogSNR, UniformTime
from .guidance import ClassifierFreeGuidance
from .noise import BrownianNoise, IndependentNoise, NoiseSource, SeededNoise
from .objectives import DenoisingObjective, Objective
from .parameterisations import Parameterisation, Prediction
from .process import Gaussian, Process, State
from .samplers import DDIM, DDPM, DPMSolver, EDMSampler, Euler, EulerMaruyama, Heun, LinearSampler, Sampler, SampleStep
from .schedule_transforms import ShiftedSchedule, TableSchedule, ZeroTerminalSNR
from .schedules import (
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    PolynomialSchedule,
    Schedule,
    SigmoidSchedule,
    SubVPSchedule,
    VESchedule,
    VPSchedule,
)
from .sdes import SDE, Level
from .training_times import (
    DiscreteTimes,
    ImportanceTimes,
    LogNormalTimes,
    StratifiedTimes,
    TrainingTimes,
    UniformTimes,
)
from .weightings import (
    EDMWeighting,
    LikelihoodWeighting,
    MinSNRWeighting,
    SigmoidWeighting,
    SNRWeighting,
    TruncatedSNRWeighting,
    UniformWeighting,
    Weighting,
)

__all__ = [
    "DDIM",
    "DDPM",
    "SDE",
    "AnnealedPairs",
    "BrownianNoise",
    "ClassifierFreeGuidance",
    "ClosedFormDenoiser",
    "ConsistencyDenoiser",
    "ConsistencyGrid",
    "ConsistencyObjective",
    "ConsistencySampler",
    "CosineSchedule",
    "DPMSolver",
    "Denoiser",
    "DenoisingObjective",
    "DiscreteTimes",
    "EDMSampler",
    "EDMSchedule",
    "EDMWeighting",
    "EmpiricalDenoiser",
    "Euler",
    "EulerMaruyama",
    "FlowSchedule",
    "Gaussian",
    "GaussianDenoiser",
    "GaussianPosterior",
    "Grid",
    "GridPairs",
    "Heun",
    "ImportanceTimes",
    "IndependentNoise",
    "Karras",
    "Level",
    "LikelihoodWeighting",
    "LinearPosterior",
    "LinearSampler",
    "LogNormalTimes",
    "MinSNRWeighting",
    "MixtureDenoiser",
    "NetworkDenoiser",
    "NoiseSource",
    "Objective",
    "Parameterisation",
    "PolynomialSchedule",
    "Posterior",
    "Prediction",
    "Process",
    "ProgressiveObjective",
    "Quadratic",
    "SNRWeighting",
    "SampleStep",
    "Sampler",
    "Schedule",
    "SeededNoise",
    "ShiftedSchedule",
    "SigmoidSchedule",
    "SigmoidWeighting",
    "State",
    "StratifiedTimes",
    "SubVPSchedule",
    "TableSchedule",
    "TimePairs",
    "Times",
    "TrainingTimes",
    "TruncatedSNRWeighting",
    "UniformLogSNR",
    "UniformTime",
    "UniformTimes",
    "UniformWeighting",
    "VESchedule",
    "VPSchedule",
    "Weighting",
    "ZeroTerminalSNR",
    "progressive_distillation",
]
