r"""Gaussian forward processes: ``x_t = alpha(t) x_0 + sigma(t) eps`` and the diffusion that has these marginals.

Any schedule defines one linear SDE ``dx = f(t) x dt + g(t) dw`` (Kingma et al. 2021, 2107.00630, eqs. 26-28; Song et
al. 2021, 2011.13456) with

    f(t)   = d log alpha / dt,
    g(t)^2 = d sigma^2 / dt - 2 f(t) sigma^2 = -sigma^2 d log_snr / dt,

so variance-preserving, variance-exploding, sub-variance-preserving and rectified-flow processes are one class with
different schedules.  Run backwards with score ``s``, and with stochasticity ``eta`` free to choose (Song et al., eqs.
6 and 13; Albergo et al. 2023, 2303.08797),

    dx = [f x - (1 + eta^2) / 2 g^2 s] dt + eta g dw,

which is the reverse SDE at ``eta = 1`` and the probability-flow ODE at ``eta = 0``.

What will join this module without a change of shape: matrix-valued schedules (critically damped Langevin), as a
process whose level holds a 2 x 2 block per coordinate in the place of ``alpha`` and ``sigma``; bridges between two
data sets, as a process whose marginal takes both ends of the pair.
"""

from typing import ClassVar

import torch
from torch import Tensor

from .levels import Level, Scheduled
from .noise import NoiseStream
from .process import Gaussian, broadcast
from .schedules import Schedule, Time, as_tensor

__all__ = ["SDE", "Level"]


class SDE(Scheduled):
    """The Gaussian process of a schedule; see the module's text for the mathematics.

    Args:
        schedule: gives ``alpha`` and ``sigma``.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, FlowSchedule
        >>> process = SDE(FlowSchedule())
        >>> process.marginal(torch.ones(1, 2), 0.25).mean
        tensor([[0.7500, 0.7500]])
    """

    whole: ClassVar[bool] = True
    """Whether it lives in all of space, so that every number of a state is a coordinate of its density."""

    def __repr__(self) -> str:
        return f"SDE({self.schedule!r})"

    def prior(self, shape: tuple[int, ...], t: Time = 1.0) -> Gaussian:
        """``N(0, sigma(t)^2)`` for states of ``shape``: the marginal where the data are negligible."""
        sigma = as_tensor(t if isinstance(t, Tensor) else float(t))
        return Gaussian(torch.zeros(shape), self.schedule.sigma(sigma).to(torch.get_default_dtype()))

    def marginal(self, x0: Tensor, t: Time) -> Gaussian:  # type: ignore[override]  # this process moves one tensor
        """``q(x_t | x_0) = N(alpha(t) x_0, sigma(t)^2)``; ``t`` a float or ``(B,)``."""
        t = as_tensor(t)
        alpha, sigma = broadcast(self.schedule.alpha(t), x0), broadcast(self.schedule.sigma(t), x0)
        return Gaussian(alpha * x0, sigma.to(x0.dtype))

    def posterior(self, x0: Tensor, xt: Tensor, s: Time, t: Time) -> Gaussian:  # type: ignore[override]  # this process moves one tensor
        """``q(x_s | x_t, x_0)`` for ``s <= t``: with ``e = SNR(t) / SNR(s)`` it has

        mean ``sqrt(e) (sigma_s / sigma_t) x_t + alpha_s (1 - e) x_0`` and variance ``sigma_s^2 (1 - e)``

        (Ho et al. 2020, 2006.11239, eqs. 6-7; Kingma et al. 2021, 2107.00630, eqs. 32-33, rewritten so that the ends
        are regular).

        Raises:
            ValueError: if ``s`` is above ``t``.
        """
        s, t = as_tensor(s), as_tensor(t)
        if s.device.type == t.device.type == "cpu" and (s > t).any():
            raise ValueError(f"s={s.max().item():.6g} above t={t.min().item():.6g}: expected s <= t, towards the data")
        ratio_x, ratio_x0, std = posterior_coefficients(self.schedule, t, s)
        mean = broadcast(ratio_x, xt) * xt + broadcast(ratio_x0, x0) * x0
        return Gaussian(mean, broadcast(std, xt).to(xt.dtype))

    def initial(self, like: Tensor, t: float, stream: NoiseStream) -> Tensor:
        """Noise of the level at ``t``."""
        return stream.draw(like) * self.level(t).sigma

    def check_state(self, x: Tensor) -> None:
        """Raise ``ValueError`` for states other than float32 or float64, or not finite."""
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"x of dtype {x.dtype}: expected float32 or float64; the network alone may run in lower precision"
            )
        if not x.isfinite().all():
            raise ValueError("x holds NaN or infinite numbers: expected a finite state")

    def check_data(self, x0: Tensor, mask: Tensor | None = None) -> None:
        """Raise ``ValueError`` for clean data that lie where the process does not live; by default there are none."""

    def white(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Standard normal numbers ``z`` ``(B, *event)`` made standard normal where the process lives; by default as
        they are.
        """
        return z

    def dual(self, x: Tensor) -> Tensor:
        """``x`` weighed so that ``dual(x) y`` summed over all numbers is a sum over the density's coordinates."""
        return x

    def dim(self, like: Tensor, mask: Tensor | None = None) -> Tensor:
        """The number of real coordinates of each sample shaped ``like``, ``(B,)``."""
        ones = torch.ones_like(like)
        if mask is not None:
            ones = ones * mask.reshape(*mask.shape, *[1] * (like.ndim - mask.ndim))
        return self.dual(ones).flatten(1).sum(1)

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """``f(t) x`` of the forward SDE; infinite where ``alpha`` is zero."""
        t = as_tensor(t)
        return broadcast(self.schedule.d_alpha(t) / self.schedule.alpha(t), x) * x

    def diffusion(self, t: Time) -> Tensor:
        """``g(t)`` of the forward SDE, in the shape of ``t``; infinite where ``alpha`` is zero."""
        t, schedule = as_tensor(t), self.schedule
        drift = schedule.d_alpha(t) / schedule.alpha(t)
        if schedule.scaling == "vp":  # then sigma sigma' = -alpha alpha', which has a limit where sigma is zero
            return (-2 * drift).sqrt()
        sigma = schedule.sigma(t)
        return (2 * sigma * (schedule.d_sigma(t) - drift * sigma)).sqrt()

    def reverse_drift(self, x: Tensor, t: Time, score: Tensor, eta: float = 1.0) -> Tensor:
        """Drift of the reverse process with respect to ``dt`` (negative): ``f x - (1 + eta^2) / 2 g^2 score``.

        ``eta = 1`` is the reverse SDE, whose diffusion is ``g``; ``eta = 0`` the probability-flow ODE; in between it
        is ``eta g``.
        """
        g = broadcast(self.diffusion(t), x)
        return self.drift(x, t) - 0.5 * (1 + eta**2) * g**2 * score


def check_whole(process: SDE, what: str) -> None:
    """Refuse a process in a subspace, for what counts every number of a state as a coordinate."""
    if not process.whole:
        raise TypeError(
            f"{what} on {process}: expected a process in all of space; for a subspace there is ODELikelihood"
        )


def posterior_coefficients(schedule: Schedule, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of ``x_t`` and ``x_0`` in the mean of ``q(x_s | x_t, x_0)``, and its standard deviation."""
    # At s = t, where both may be infinite or zero, the posterior is x_t itself.
    same = s == t
    log_ratio = torch.where(same, 0.0, schedule.log_snr(t) - schedule.log_snr(s))
    rest = -torch.expm1(log_ratio)
    sigma = schedule.sigma(s)
    ratio_x = torch.where(same, 1.0, (0.5 * log_ratio).exp() * sigma / schedule.sigma(t))
    return ratio_x, schedule.alpha(s) * rest, sigma * rest.sqrt()
