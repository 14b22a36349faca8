r"""Progressive distillation: a student learns to do in one DDIM step what its teacher does in two.

Salimans and Ho 2022 (arXiv 2202.00512), algorithm 2.  With the teacher's times ``t > u > s``, two DDIM steps (`DDIM`,
eta = 0) lead from ``x_t`` over ``x_u`` to ``x_s``.  One DDIM step of a student that answers ``x0`` arrives there if

    x_s = a x_t + b x0,   a = sigma_s / sigma_t,   b = alpha_s - a alpha_t,   so   x0* = (x_s - a x_t) / b

(appendix G, eq. 36), and ``w(t) |x0* - mean(x_t, t)|^2 / D`` is the loss.  The student begins with the teacher's
weights and becomes the teacher of the next round, of half as many steps.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..denoisers import Denoiser
from ..grids import Times
from ..guidance import ClassifierFreeGuidance
from ..objectives import check_data, event_mean, noise_like, shaped_mask
from ..ode_steps import ode_step
from ..parameterisations import FAR
from ..process import broadcast
from ..samplers import DDIM
from ..schedules import require
from ..sdes import SDE
from ..weightings import TruncatedSNRWeighting, Weighting
from ._teaching import TaughtObjective, noised

if TYPE_CHECKING:
    from ..adapter import DomainAdapter
    from ..training.run import Run

__all__ = ["ProgressiveObjective", "halved", "progressive_distillation"]


def halved(sampler: DDIM, process: SDE) -> DDIM:
    """The sampler that stops at every second time of another: what the student of a round is sampled with.

    Raises:
        TypeError: another sampler than `DDIM`.
        ValueError: an odd number of steps, or noise (``eta``), which two steps cannot agree on.
    """
    if not isinstance(sampler, DDIM):
        raise TypeError(f"sampler={sampler!r}: expected DDIM, whose two steps can be one")
    require(sampler.eta == 0, "eta", sampler.eta, "0: progressive distillation is of the deterministic sampler")
    require(sampler.steps % 2 == 0, "steps", sampler.steps, "an even number of steps, to be halved")
    times = sampler.grid(sampler.steps, process)[::2]
    return DDIM(steps=sampler.steps // 2, grid=Times(tuple(times.tolist())), denoise=sampler.denoise)


class ProgressiveObjective(TaughtObjective):
    """One round of progressive distillation; see the module's text for the loss.

    The student is trained at the times of ``halved(sampler, process)``, each equally likely, and is to be sampled with
    that.

    Args:
        teacher: the denoiser to learn from, guided or not; it is copied.
        sampler: the teacher's, of an even number of steps.
        weighting: weight of each noise level on the data's error; the paper's are ``max(SNR, 1)`` (default) and
            ``SNR + 1``, which is ``UniformWeighting("v")``.

    Raises:
        TypeError: a teacher or sampler of another kind.
        ValueError: a sampler whose steps cannot be halved.
    """

    def __init__(self, teacher: Denoiser, sampler: DDIM, weighting: Weighting | None = None) -> None:
        super().__init__(teacher)
        self.sampler = sampler
        self.weighting = weighting if weighting is not None else TruncatedSNRWeighting()
        halved(sampler, teacher.process)

    def forward(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        mask: Bool[Tensor, "batch n"] | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        check_data(x0, mask)
        self.check_student(denoiser)
        keep = None
        real = None if mask is None else denoiser.process.expand_mask(mask)
        eps = denoiser.process.white(noise_like(x0, generator), real)
        if real is not None:
            condition["mask"], keep = mask, shaped_mask(real, x0)
            x0, eps = x0 * keep, eps * keep
        t, u, s = self._times(denoiser.process, len(x0), generator, x0.device)
        x_t, _ = noised(denoiser.process, x0, eps, t)
        target = self.target(x_t, t, u, s, keep, **condition)
        square = (target - denoiser(x_t, t, **condition).mean) ** 2
        schedule = denoiser.process.schedule
        log_weight = self.weighting.log_weight(schedule, t, schedule.log_snr(t).clamp(-FAR, FAR))
        return log_weight.exp().to(square.dtype) * event_mean(square, real)

    @torch.no_grad()
    def target(
        self, x_t: Tensor, t: Tensor, u: Tensor, s: Tensor, keep: Tensor | None = None, **condition: Any
    ) -> Tensor:
        """``x0*``, with which one DDIM step from ``x_t`` ends where the teacher's two do; shape of ``x_t``.

        Args:
            x_t: states, ``(B, *event)``.
            t, u, s: falling times, ``(B,)``.
            keep: multiplies states, to keep padding at zero.
            condition: for the teacher.
        """
        assert self.teacher is not None
        x_u = ode_step(self.teacher, x_t, t, u, "euler", keep, **condition)
        x_s = ode_step(self.teacher, x_u, u, s, "euler", keep, **condition)
        schedule = self.teacher.process.schedule
        a = schedule.sigma(s) / schedule.sigma(t)
        b = schedule.alpha(s) - a * schedule.alpha(t)
        return (x_s - broadcast(a, x_t) * x_t) / broadcast(b, x_t)

    def _times(
        self, process: SDE, batch: int, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Three neighbouring times of the teacher for each sample, ``(B,)`` each."""
        times = self.sampler.grid(self.sampler.steps, process)
        drawn_on = generator.device if generator is not None else None
        first = 2 * torch.randint(self.sampler.steps // 2, (batch,), device=drawn_on, generator=generator)
        times = times.to(device, torch.float32 if device.type == "mps" else torch.float64)
        first = first.to(device)
        return times[first], times[first + 1], times[first + 2]


def progressive_distillation(
    adapter: "DomainAdapter",
    data: Any,
    *,
    sampler: DDIM,
    steps: int = 4,
    guidance: float | None = None,
    weighting: Weighting | None = None,
    run: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> list["Run"]:
    """Halve the steps of a trained adapter, round by round, until its sampler takes ``steps``.

    Each round trains in ``run/8-steps``, ``run/4-steps`` ...; an interrupted call is continued by the same call, from
    the same teacher.  The adapter ends with the student's weights and its sampler, so ``save_pretrained`` keeps both.

    Args:
        adapter: the teacher, which becomes the student.
        data: the data module.
        sampler: the first teacher's; its number of steps is ``steps`` times a power of two.
        steps: of the last student.
        guidance: scale of classifier-free guidance of the first teacher, which the student learns as its own
            conditional model (Meng et al. 2023, arXiv 2210.03142, at one scale).
        weighting: as for `ProgressiveObjective`.
        run: the folder of the rounds; by default ``runs/progressive``.
        overwrite: start anew, whatever the folder holds.
        options: of each round, as for ``adapter.fit``.

    Returns:
        The runs, the last one the student's.

    Raises:
        ValueError: ``steps`` is not ``sampler.steps`` halved a few times.
    """
    rounds = (sampler.steps // steps).bit_length() - 1 if steps >= 1 else 0
    require(rounds >= 1 and steps * 2**rounds == sampler.steps, "steps", steps, f"{sampler.steps} halved a few times")
    runs: list[Run] = []
    for number in range(rounds):
        teacher: Denoiser = adapter.denoiser
        if guidance is not None and number == 0:
            teacher = ClassifierFreeGuidance(teacher, guidance)
        objective = ProgressiveObjective(teacher, sampler, weighting)
        sampler = halved(sampler, adapter.denoiser.process)
        adapter.sampler = sampler
        folder = Path(run if run is not None else "runs/progressive") / f"{sampler.steps}-steps"
        runs.append(_round(adapter, data, folder, overwrite, objective, options))
    return runs


def _round(
    adapter: "DomainAdapter",
    data: Any,
    folder: Path,
    overwrite: bool,
    objective: ProgressiveObjective,
    options: dict[str, Any],
) -> "Run":
    """Train a round, or take the weights of one that was finished earlier."""
    from ..training.run import Run
    from ..weights import load_weights

    status = folder / "status.json"
    if not overwrite and status.is_file():
        state = json.loads(status.read_text(encoding="utf-8"))
        if state["state"] == "finished":
            load_weights(adapter, folder / "model" / "model.safetensors")
            return Run(folder, int(state["step"]), True)
    return adapter.fit(data, run=folder, overwrite=overwrite, objective=objective, **options)
