"""Small models of slices for tests: a network that knows nothing, and Gaussian priors with exact posteriors."""

import torch
from torch import Tensor

from ornstein.core import DPMSolver, GaussianDenoiser
from ornstein.core.inverse import MatrixOperator, Measurement
from ornstein.core.nn import UNet
from ornstein.domains.medical import MedicalReconstruction
from ornstein.domains.medical.physics import ParallelBeam, Projector, spread_angles

SIDE = 8


def tiny(channels: int = 1, **options: object) -> MedicalReconstruction:
    network = UNet(channels, widths=(8,), depths=(1,), attention=(False,), groups=4)
    return MedicalReconstruction((channels, SIDE, SIDE), network=network, sampler=DPMSolver(3), **options)


def smooth(channels: int = 1, white: bool = False) -> Tensor:
    """A covariance of slices whose neighbours are alike, or of independent pixels of deviation 1."""
    if white:
        return torch.eye(channels * SIDE**2, dtype=torch.float64)
    place = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
    square = (place[:, None] - place[None]).double().square().sum(-1)
    one = 0.2 * torch.exp(-square / 8) + 0.02 * torch.eye(SIDE**2, dtype=torch.float64)
    return torch.block_diag(*[one] * channels)


def gaussian(
    channels: int = 1, white: bool = False, **options: object
) -> tuple[MedicalReconstruction, GaussianDenoiser]:
    model = tiny(channels, **options)
    prior = GaussianDenoiser(model.process, torch.zeros(channels * SIDE**2), smooth(channels, white))
    model.denoiser = prior
    return model, prior


def scanner(views: int = 6, pixel: float = 20.0) -> Projector:
    return Projector(ParallelBeam((SIDE, SIDE), spread_angles(views), pixel=pixel))


def exact(seen: Measurement, white: bool = False) -> tuple[Tensor, Tensor, float]:
    """Mean and deviation of the posterior of states, and a sample's mean chi-square a value, by dense algebra."""
    operator = seen.linear("test")
    a = MatrixOperator.of(operator).matrix.double()
    covariance = smooth(operator.shape[0], white)
    variance = torch.as_tensor(seen.variance, dtype=torch.float64).expand(seen.y.shape).flatten()
    gain = covariance @ a.T @ torch.linalg.inv(a @ covariance @ a.T + variance.diag())
    mean, left = gain @ seen.y.double().flatten(), covariance - gain @ a @ covariance
    measured = operator.restrict(torch.ones_like(seen.y)).flatten() != 0
    chi2 = ((seen.y.double().flatten() - a @ mean) ** 2 + (a @ left @ a.T).diag()) / variance
    return mean, left.diag().sqrt(), float(chi2[measured].mean())
