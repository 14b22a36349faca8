"""A sampler's run as a differentiable function of its inner log-SNR levels."""

from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..noise import NoiseStream
from ..samplers import Sampler
from ..samplers.base import Row, Run
from ..sdes import SDE

__all__ = ["run_from"]

_STEP = 1e-4


def run_from(
    sampler: Sampler,
    denoiser: Denoiser,
    x: Tensor,
    levels: Tensor,
    stream: NoiseStream,
    condition: dict[str, Any],
) -> Tensor:
    """The state at the end of a run from ``x``, with gradients to the ``levels`` of the sampler's inner times.

    Gradients pass through states and denoiser as autograd takes them.  The coefficients of the steps are cheap and
    their formulas have branches for singular ends, where autograd gives NaN; their derivative is a central difference.

    Args:
        sampler: on the grid that has these levels.
        denoiser: what is sampled from.
        x: state at the grid's first time.
        levels: log-SNR of the times between the ends, ``(K - 1,)``, float64.
        stream: the noise of the run.
        condition: tensors for the denoiser, by name.
    """
    process = denoiser.process
    times = sampler.grid(sampler.steps, process)
    rows = _rows(sampler, process, times, levels)
    at = levels.detach()
    slope = process.schedule.d_log_snr(times[1:-1]).to(at)
    inner = times[1:-1] + (levels - at) / slope
    clock: list[Tensor | float] = [float(times[0]), *inner.unbind(), float(times[-1])]
    with torch.enable_grad():
        run = Run(denoiser, condition, stream)
        end = sampler.walk(run, x, clock, rows)  # type: ignore[arg-type]
        return run.posterior(end, clock[-1]).mean if sampler.denoise else end


def _rows(sampler: Sampler, process: SDE, times: Tensor, levels: Tensor) -> list[Row]:
    """The plan with its derivative by central differences; coefficients that do not move are floats, as in any run, so
    that samplers which branch on them (no correction, no noise) take the same branch.
    """
    at = levels.detach()
    slopes = []
    for i in range(len(at)):
        ends = []
        for side in (_STEP, -_STEP):
            moved = at.clone()
            moved[i] += side
            ends.append(sampler.plan(process, torch.cat([times[:1], process.schedule.time(moved), times[-1:]])))
        slopes.append((ends[0] - ends[1]) / (2 * _STEP))
    # A coefficient that is infinite, or that stands for none, in every grid has no slope.
    slope = torch.stack(slopes, -1).nan_to_num(0.0, 0.0, 0.0)
    still = sampler.plan(process, times)
    moving = still + (slope * (levels - at)).sum(-1)
    moves = (slope != 0).any(-1)
    return [
        [moving[i, j] if moves[i, j] else float(still[i, j]) for j in range(still.shape[1])] for i in range(len(still))
    ]
