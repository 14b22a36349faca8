r"""Averages of the weights over training: exponential with warm-up, and power functions with post-hoc widths.

Both update ``average <- decay_t * average + (1 - decay_t) * weights`` after optimiser step t = 1, 2, ...

The power-function average of Karras et al. (2024, arXiv 2312.02696) weights step tau of t in proportion to
``tau^gamma``; its width is the relative standard deviation of that profile,

    sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)).

From stored snapshots of two such averages, that of any other width can be reconstructed after training: the profile
wanted is fitted by least squares on the profiles stored, and the same combination is taken of the weights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "EMA",
    "PowerEMA",
    "Reconstruction",
    "gamma_of_width",
    "profile_inner_product",
    "reconstruct",
    "width_of_gamma",
]

WIDEST = 1 / math.sqrt(12)  # sigma_rel of gamma = 0, the plain mean of all steps


@dataclass(frozen=True)
class EMA:
    """Exponential moving average, ``decay_t = min(decay, (1 + t) / (10 + t))``.

    The second term is a warm-up: until it reaches ``decay``, the average reaches back over about a ninth of the run.

    Args:
        decay: final decay a step, in [0, 1).
    """

    decay: float = 0.9999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")

    @property
    def profiles(self) -> int:
        """Number of averages kept."""
        return 1

    def decays(self, step: int) -> tuple[float, ...]:
        """The decay of each average at optimiser step ``step`` = 1, 2, ..."""
        return (min(self.decay, (1 + step) / (10 + step)),)


@dataclass(frozen=True)
class PowerEMA:
    """Power-function averages (Karras et al., 2024, arXiv 2312.02696), ``decay_t = (1 - 1 / t)^(gamma + 1)``.

    Args:
        sigma_rels: relative widths of the averages, in (0, 0.2887]; validation, pictures and model use the first.
        snapshot_every: steps between snapshots, from which ``reconstruct`` makes other widths; 0 for none.
    """

    sigma_rels: tuple[float, ...] = (0.05, 0.10)
    snapshot_every: int = 0

    def __post_init__(self) -> None:
        if not self.sigma_rels:
            raise ValueError("sigma_rels is empty; give at least one width, such as 0.05")
        for width in self.sigma_rels:
            gamma_of_width(width)
        if self.snapshot_every < 0:
            raise ValueError(f"snapshot_every must not be negative, got {self.snapshot_every}")

    @property
    def profiles(self) -> int:
        """Number of averages kept."""
        return len(self.sigma_rels)

    def decays(self, step: int) -> tuple[float, ...]:
        """The decay of each average at optimiser step ``step`` = 1, 2, ..."""
        return tuple((1 - 1 / step) ** (gamma_of_width(width) + 1) for width in self.sigma_rels)


def width_of_gamma(gamma: float) -> float:
    """The relative standard deviation ``sigma_rel`` of the profile ``tau^gamma``."""
    return math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))


def gamma_of_width(sigma_rel: float) -> float:
    """The exponent of the profile of relative width ``sigma_rel``.

    It is the largest root of ``gamma^3 + 7 gamma^2 + (16 - s) gamma + (12 - s)`` with ``s = sigma_rel^-2``, taken from
    the trigonometric solution of the cubic.

    >>> round(gamma_of_width(0.10), 4), round(width_of_gamma(gamma_of_width(0.10)), 12)
    (6.9372, 0.1)

    Raises:
        ValueError: no profile with gamma >= 0 has this width.
    """
    if not 0 < sigma_rel <= WIDEST:
        raise ValueError(f"sigma_rel must lie in (0, {WIDEST:.4f}], got {sigma_rel}")
    s = sigma_rel**-2
    # gamma = x - 7/3 removes the square: x^3 - p x + q with p = s + 1/3, q = 4 s / 3 + 2 / 27; three real roots.
    p, q = s + 1 / 3, 4 * s / 3 + 2 / 27
    angle = math.acos(max(-1.0, -1.5 * q / p * math.sqrt(3 / p))) / 3
    return 2 * math.sqrt(p / 3) * math.cos(angle) - 7 / 3


def profile_inner_product(step_a: float, gamma_a: float, step_b: float, gamma_b: float) -> float:
    r"""Inner product of the normalised profiles ``(gamma + 1) tau^gamma / t^(gamma + 1)`` on [0, t]:

    ``(ga + 1) (gb + 1) / (ga + gb + 1) * (t_min / t_max)^(gamma of t_max) / t_max`` (appendix C of the paper).
    """
    longest, gamma = max((step_a, gamma_a), (step_b, gamma_b))
    scale = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    return scale * (min(step_a, step_b) / longest) ** gamma / longest


@dataclass(frozen=True)
class Reconstruction:
    """Weights of an average that was not stored.

    Attributes:
        weights: tensors by name.
        residual: ``|p - fit|^2 / |p|^2`` of the profile wanted and its fit; 0 is exact.
    """

    weights: dict[str, Tensor]
    residual: float


def profile_coefficients(stored: Sequence[tuple[int, float]], step: int, sigma_rel: float) -> tuple[np.ndarray, float]:
    """Coefficients of stored profiles ``(step, sigma_rel)`` that fit another one best, and the relative residual."""
    points = [(t, gamma_of_width(width)) for t, width in stored]
    target = (step, gamma_of_width(sigma_rel))
    norms = np.sqrt([profile_inner_product(*point, *point) for point in points])
    gram = np.array([[profile_inner_product(*a, *b) for b in points] for a in points]) / np.outer(norms, norms)
    inner = np.array([profile_inner_product(*point, *target) for point in points]) / norms
    scaled = np.linalg.lstsq(gram, inner, rcond=1e-14)[0]
    square = profile_inner_product(*target, *target)
    residual = (square - 2 * scaled @ inner + scaled @ gram @ scaled) / square
    return scaled / norms, max(float(residual), 0.0)


def reconstruct(snapshots: str | Path | Sequence[Path], sigma_rel: float, *, step: int | None = None) -> Reconstruction:
    """The average of any width at any stored step, from the snapshots that ``PowerEMA`` left in ``RUN/ema``.

    Args:
        snapshots: the folder, or the files.
        sigma_rel: the width wanted.
        step: the training step at which the average ends; by default that of the last snapshot.

    Raises:
        FileNotFoundError: there are no snapshots.
        ValueError: a width or step out of range.
    """
    from safetensors import safe_open

    paths = sorted(Path(snapshots).glob("*.safetensors")) if isinstance(snapshots, (str, Path)) else list(snapshots)
    if not paths:
        raise FileNotFoundError(f"no EMA snapshots in {snapshots}; train with ema=PowerEMA(snapshot_every=...)")
    files = [safe_open(path, framework="pt") for path in paths]
    stored = []
    for file in files:
        metadata = file.metadata()
        stored += [(int(metadata["step"]), float(width)) for width in metadata["sigma_rels"].split()]
    last = max(t for t, _ in stored)
    step = last if step is None else step
    if not 1 <= step <= last:
        raise ValueError(f"step must lie in [1, {last}], the range of the snapshots, got {step}")
    coefficients, residual = profile_coefficients(stored, step, sigma_rel)
    totals: dict[str, Tensor] = {}
    remaining = iter(coefficients)
    for file in files:
        for profile in range(len(file.metadata()["sigma_rels"].split())):
            coefficient, prefix = float(next(remaining)), f"{profile}."
            for key in (key for key in file.keys() if key.startswith(prefix)):  # noqa: SIM118 (not a dict)
                # Coefficients of both signs nearly cancel, so the sum is taken in float64.
                term = coefficient * file.get_tensor(key).to(torch.float64)
                name = key.removeprefix(prefix)
                totals[name] = totals[name] + term if name in totals else term
    return Reconstruction({name: value.to(torch.float32) for name, value in totals.items()}, residual)
