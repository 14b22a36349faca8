r"""Predictor-corrector sampling: a step of a reverse process, then Langevin steps at the new noise level.

Between the levels ``t`` and ``s`` data are noised by ``x_t = k x_s + G z`` with ``k = alpha_t / alpha_s`` and
``G^2 = sigma_t^2 - k^2 sigma_s^2``.  Predictors, with the score of ``x_t``:

    reverse diffusion    x_s = (2 - k) x_t + G^2 score + G z,
    ancestral            x_s ~ q(x_s | x_t, x_0 = mean),
    Euler-Maruyama       x_s = x_t - [f x_t - g^2 score] (t - s) + g sqrt(t - s) z.

The corrector repeats ``x <- x + h score + sqrt(2 h) z`` at ``s``.  Song et al. 2021 (arXiv 2011.13456), algorithms 1 to
5, eqs. 4, 46 and 47.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..schedules import require
from ..sdes import SDE, posterior_coefficients
from .base import STANDARD, Row, Run, Sampler
from .langevin import added
from .long_steps import divide, long_steps
from .sde import EulerMaruyama

__all__ = ["PredictorCorrector"]

LONGEST = 0.5
NOISE = -10.0  # log-SNR that pure noise counts as


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    r"""Song's predictor-corrector sampler under any schedule; see the module's text.

    With ``r`` for the corrector's signal-to-noise ratio its step ``h`` is, by ``rule``,

        "norms"    2 (r |z| / |score|)^2, with the norms of the one sample,
        "level"    2 (r sigma)^2, which is the same where the norms are what they are on average in many dimensions.

    Algorithms 4 and 5 take the norms' means over the batch, which makes a sample depend on its neighbours; here it
    does not.  In few dimensions the norm of one score may come near zero, and the step has no bound: prefer "level"
    there.  Algorithm 5's further factor ``1 - beta_i``, one but for 2 % at its 1,000 steps, depends on the grid and is
    left out.

    Steps from pure noise and to clean data, and those that gain more than `LONGEST` in log-SNR, where both other
    predictors leave much more noise than belongs there, are ancestral; the last is then the mean.  Ancestral steps have
    the smaller variance of DDPM.  A long step leaves nothing to correct for: instead of its corrections it is divided
    into as many more ancestral steps, so a run of few steps is `DDPM` of as many evaluations.
    Converges at order 1.

    Args:
        predictor: "reverse_diffusion", "ancestral", "euler", or "none": no step but the change of the state's scale
            (corrector-only sampling), ``x_s = x_t sqrt((alpha_s^2 + sigma_s^2) / (alpha_t^2 + sigma_t^2))``, which
            under variance-preserving schedules leaves the state as it is.
        corrections: Langevin steps at each level, 0 for predictor-only sampling.
        r: the corrector's signal-to-noise ratio, positive; 0.16 in the paper.
        rule: "norms" or "level".
    """

    steps: int = 100
    predictor: Literal["reverse_diffusion", "ancestral", "euler", "none"] = field(
        default="reverse_diffusion", kw_only=True
    )
    corrections: int = field(default=1, kw_only=True)
    r: float = field(default=0.16, kw_only=True)
    rule: Literal["norms", "level"] = field(default="level", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("reverse_diffusion", "ancestral", "euler", "none")
        require(self.predictor in names, "predictor", self.predictor, f"one of {', '.join(names)}")
        whole = isinstance(self.corrections, int) and not isinstance(self.corrections, bool) and self.corrections >= 0
        require(whole, "corrections", self.corrections, "an integer of at least 0")
        silent = self.predictor == "none" and self.corrections == 0
        require(not silent, "corrections", self.corrections, "at least 1 for predictor='none'")
        require(self.r > 0, "r", self.r, "a positive number")
        require(self.rule in ("norms", "level"), "rule", self.rule, "'norms' or 'level'")

    @property
    def stochastic(self) -> bool:
        return True

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        process = process or STANDARD
        times = self.grid(steps, process)
        clean = bool(process.schedule.sigma(times[-1]) == 0)
        whole = clean and bool(self._divided(process, times)[-1:, :1].any())  # the last step is divided
        predictions = int(clean) if self.predictor == "none" else steps
        return predictions + self.corrections * (steps - clean + whole) + self.denoise

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: the predictor's ``a, b, g`` of ``x_s = a x_t + b mean + g z``; ``alpha_s`` and ``sigma_s``; and for
        each part of a step that is divided, its first time and ``a, b, g``, zeros where none is.
        """
        schedule, t, s = process.schedule, times[:-1], times[1:]
        ancestral = torch.stack(posterior_coefficients(schedule, t, s), 1)
        clean = schedule.sigma(s) == 0
        if self.predictor == "none":
            size = torch.hypot(schedule.alpha(times), schedule.sigma(times))
            scale = size[1:] / size[:-1]
            usual, ends = torch.stack([scale, 0 * scale, 0 * scale], 1), clean
        elif self.predictor == "ancestral":
            usual, ends = ancestral, clean
        else:
            if self.predictor == "euler":
                usual = EulerMaruyama().plan(process, times)
            else:
                k = schedule.alpha(t) / schedule.alpha(s)
                square = schedule.sigma(t) ** 2 * -torch.expm1(schedule.log_snr(t) - schedule.log_snr(s))
                pull = square / schedule.sigma(t) ** 2
                usual = torch.stack([2 - k - pull, schedule.alpha(t) * pull, square.sqrt()], 1)
            ends = ~(schedule.log_snr(s) - schedule.log_snr(t) <= LONGEST)
        level = torch.stack([schedule.alpha(s), schedule.sigma(s)], 1)
        return torch.cat([torch.where(ends[:, None], ancestral, usual), level, self._divided(process, times)], 1)

    def _divided(self, process: SDE, times: Tensor) -> Tensor:
        if self.predictor == "none" or self.corrections == 0:
            return times.new_zeros(len(times) - 1, 0)
        schedule, t, s, parts = process.schedule, times[:-1], times[1:], self.corrections + 1
        long = schedule.log_snr(s) - schedule.log_snr(t).clamp(min=NOISE) > LONGEST
        long = torch.where(schedule.sigma(s) > 0, long, long_steps(process, t, s))
        inner = torch.where(long[:, None], divide(process, t, s, parts), t[:, None])
        ends = torch.cat([t[:, None], inner, s[:, None]], 1)
        rows = [
            torch.stack([ends[:, i], *posterior_coefficients(schedule, ends[:, i], ends[:, i + 1])], 1)
            for i in range(parts)
        ]
        return torch.where(long[:, None], torch.cat(rows, 1), 0.0)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        a, b, g, alpha, sigma, *parts = row
        if parts and parts[0] != 0:
            return self._settle(self._ancestral(run, x, s, parts), alpha)
        if self.predictor == "none" and sigma != 0:
            x = x * a
        else:
            x = run.posterior(x, t).affine(a, b)
            if sigma != 0:
                x = added(x, run.noise.step(x, t, s), g)
        x = self._settle(x, alpha)
        for _ in range(self.corrections if sigma != 0 else 0):
            x = self._settle(self._correct(run, x, s, alpha, sigma), alpha)
        return x

    def _settle(self, x: Tensor, alpha: float | Tensor) -> Tensor:
        """The state at ``alpha`` after a prediction or a correction; methods that know more of it change it here."""
        return x

    def _ancestral(self, run: Run, x: Tensor, s: Tensor | float, parts: Row) -> Tensor:
        """The steps of a divided one."""
        for i in range(0, len(parts), 4):
            t, a, b, g = parts[i : i + 4]
            end = parts[i + 4] if i + 4 < len(parts) else s
            x = x if run.keep is None else x * run.keep
            x = added(run.posterior(x, t).affine(a, b), run.noise.step(x, t, end), g)
        return x

    def _correct(self, run: Run, x: Tensor, s: Tensor | float, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
        """One Langevin step at ``s``: ``x + h score = (1 - h / sigma^2) x + (h alpha / sigma^2) mean``."""
        if run.keep is not None:
            x = x * run.keep
        posterior, z = run.posterior(x, s), run.noise.draw(x)
        share = 2 * self.r**2
        if self.rule == "level":
            return added(posterior.affine(1 - share, share * alpha), z, 2 * self.r * sigma)
        keep = 1.0 if run.keep is None else run.keep
        ratio = _norm(z * keep) / _norm(posterior.eps * keep)
        ratio = torch.where(ratio.isfinite(), ratio, 0.0)  # where the score is zero there is no way to go
        return x - (share * sigma) * ratio**2 * posterior.eps + (2 * self.r * sigma) * ratio * z


def _norm(x: Tensor) -> Tensor:
    """Norm of each sample ``(B, *event)``, shaped to multiply it."""
    return x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
