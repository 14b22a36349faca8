"""Each posterior method with a sampler that suits it, by name, for a given number of evaluations."""

from collections.abc import Callable

from ..denoisers import Denoiser
from ..grids import UniformLogSNR
from ..samplers.ancestral import DDIM
from ..samplers.base import Sampler
from ..samplers.dpm_solver import DPMSolver
from ..schedules import require
from .dps import DPS
from .gradient import MMPS, PiGDM
from .measurement import Measurement
from .projections import MeasuredReplacement, ScoreMRI
from .proximal import DDNM, DDS, DiffPIR
from .replacement import RePaint, Replacement
from .spectral import DDRM, DDNMPlus
from .tds import TDS

__all__ = ["POSTERIOR_METHODS", "SPECTRAL_METHODS", "posterior_sampler"]

SPECTRAL_METHODS = ("ddnm", "ddnm_plus", "ddrm", "replacement", "repaint")
"""Names of the methods that need an operator's decomposition or its pseudo-inverse."""

Preset = Callable[[Denoiser, Measurement, int], tuple[Sampler, Denoiser]]


def _repaint(denoiser: Denoiser, measurement: Measurement, evaluations: int) -> tuple[Sampler, Denoiser]:
    """The longest run of jumps of a tenth of it, ten descents each in the paper and four here, that stays within the
    evaluations.
    """
    best = RePaint(1, measurement=measurement, jump_length=1, resamplings=4)
    for steps in range(2, evaluations + 1):
        longer = RePaint(steps, measurement=measurement, jump_length=max(1, steps // 10), resamplings=4)
        best = longer if longer.nfe() <= evaluations else best
    return best, denoiser


def _alternating(kind: type[ScoreMRI] | type[MeasuredReplacement]) -> Preset:
    """The most levels whose predictions and corrections stay within the evaluations; one is a prediction alone."""

    def build(denoiser: Denoiser, measurement: Measurement, evaluations: int) -> tuple[Sampler, Denoiser]:
        best: Sampler = kind(1, measurement=measurement, corrections=0)
        for steps in range(evaluations // 2, evaluations):
            longer = kind(max(1, steps), measurement=measurement)
            if longer.nfe(process=denoiser.process) > evaluations:
                break
            best = longer
        return best, denoiser

    return build


def _second_order(steps: int, eta: float) -> Sampler:
    """Stochastic steps of order 2 from log-SNR -10 to 10: as many of order 1 lose 3 to 8 % of the spread.

    DiffPIR's own steps, `Renoise`, do so too; in their place it takes those with three times the noise of the SDE,
    which takes back what its white prior gets wrong on the way.
    """
    return DPMSolver(steps, eta=eta, grid=UniformLogSNR())


POSTERIOR_METHODS: dict[str, Preset] = {
    "mmps": lambda d, m, n: (_second_order(n, 1.0), MMPS(d, m, iterations=5)),
    "pigdm": lambda d, m, n: (_second_order(n, 1.0), PiGDM(d, m)),
    "dps": lambda d, m, n: (DPS(n, measurement=m), d),
    "ddnm": lambda d, m, n: (DDIM(n, eta=0.85), DDNM(d, m)),
    "ddnm_plus": lambda d, m, n: (DDNMPlus(n, measurement=m), d),
    "ddrm": lambda d, m, n: (DDRM(n, measurement=m, eta=0.95), d),
    "diffpir": lambda d, m, n: (_second_order(n, 3.0), DiffPIR(d, m)),
    "dds": lambda d, m, n: (DDIM(n, eta=0.85), DDS(d, m)),
    "replacement": lambda d, m, n: (Replacement(n, measurement=m), d),
    "repaint": _repaint,
    "score_mri": _alternating(ScoreMRI),
    "measured_replacement": _alternating(MeasuredReplacement),
    "tds": lambda d, m, n: (TDS(max(1, n // 2), measurement=m), d),
}
"""For each name, the sampler and the denoiser to run it with, of a prior, a measurement and a number of evaluations."""


def posterior_sampler(
    method: str, denoiser: Denoiser, measurement: Measurement, evaluations: int = 50
) -> tuple[Sampler, Denoiser]:
    """The sampler and the denoiser of a method from `POSTERIOR_METHODS`: ``sampler.sample(denoiser, shape)`` draws
    from ``p(x_0 | y)``.

    Args:
        method: its name.
        denoiser: the prior.
        measurement: what was seen.
        evaluations: calls of the denoiser in a run, at most; MMPS, PiGDM, DPS and TDS take gradients through it as
            well.

    Raises:
        ValueError: an unknown method.
        TypeError, NotImplementedError: a method that cannot take the measurement's operator or noise.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, GaussianDenoiser, VPSchedule, posterior_sampler
        >>> from ornstein.core.inverse import GaussianNoise, Mask, Measurement
        >>> prior = GaussianDenoiser(SDE(VPSchedule()), [0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])
        >>> seen = Measurement(torch.tensor([[1.0, 0.0]]), Mask(torch.tensor([True, False])), GaussianNoise(0.1))
        >>> sampler, denoiser = posterior_sampler("mmps", prior, seen)
        >>> sampler.sample(denoiser, (1000, 2), seed=0)[:, 1].mean() > 0.8
        tensor(True)
    """
    require(method in POSTERIOR_METHODS, "method", method, f"one of {', '.join(POSTERIOR_METHODS)}")
    require(evaluations >= 1, "evaluations", evaluations, "at least 1")
    return POSTERIOR_METHODS[method](denoiser, measurement, evaluations)
