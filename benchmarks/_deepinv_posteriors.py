"""deepinv's posterior samplers at their defaults on the tasks of `_gaussian_tasks`, with the exact denoiser.

Inpainting, blur and MRI are deepinv's own operators; the projector is ours as a matrix, so that both see the same rays.
All are checked against our matrices.  The methods of the SDE take 500 steps, DDRM and DiffPIR their 100.
"""

import math
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from _gaussian_tasks import SIDE, GaussianTask, blur_kernel, inpainting_mask, line_mask
from torch import Tensor

STEPS = 500

RECORDED: dict[str, dict[str, tuple[float, float]]] = {
    "inpaint50": {
        "dps": (1.62, 1.75),
        "pigdm": (0.39, 1.07),
        "mmps": (0.11, 0.97),
        "ddrm": (0.17, 0.60),
        "diffpir": (0.45, 1.17),
    },
    "blur": {
        "dps": (2.00, 2.07),
        "pigdm": (0.17, 0.97),
        "mmps": (0.14, 0.95),
        "ddrm": (0.55, 0.60),
        "diffpir": (0.17, 1.04),
    },
    "ct8": {"dps": (1.86, 1.91), "pigdm": (0.24, 0.98), "mmps": (0.18, 0.96), "diffpir": (0.21, 1.06)},
    "mri3x": {
        "dps": (0.84, 1.30),
        "pigdm": (0.095, 0.99),
        "mmps": (0.092, 0.99),
        "ddrm": (0.052, 0.60),
        "diffpir": (0.083, 0.98),
    },
}
"""Mean error (with the noise of 128 draws) and spread as they were measured once, for runs without deepinv."""


class _Prior(torch.nn.Module):
    """The exact denoiser in deepinv's form: of pictures with noise of deviation ``sigma``."""

    def __init__(self, task: GaussianTask) -> None:
        super().__init__()
        self.values, self.vectors = torch.linalg.eigh(task.prior)

    def forward(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
        square = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1) ** 2
        c = (x.double().flatten(1) - 0.5) @ self.vectors
        return (0.5 + (c * (self.values / (self.values + square))) @ self.vectors.T).reshape(x.shape).to(x.dtype)


def import_deepinv() -> Any:
    """The package, with a torchvision that has no compiled operators, which it does not need here."""
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    warnings.filterwarnings("ignore", module="deepinv")
    import deepinv

    return deepinv


def physics(task: GaussianTask) -> Any:
    """deepinv's operator of a task.

    Raises:
        ValueError: if it is not the same matrix as ours.
    """
    deepinv = import_deepinv()
    noise = deepinv.physics.GaussianNoise(task.std)
    shape = task.operator.shape
    if task.name == "inpaint50":
        found = deepinv.physics.Inpainting(img_size=shape, mask=inpainting_mask().float()[None], noise_model=noise)
    elif task.name == "blur":
        found = deepinv.physics.BlurFFT(img_size=shape, filter=blur_kernel().float()[None, None], noise_model=noise)
    elif task.name == "mri3x":
        mask = line_mask().float().expand(1, 1, SIDE, SIDE).contiguous()
        found = deepinv.physics.MRI(mask=mask, img_size=shape, noise_model=noise)
    else:
        matrix = task.matrix
        found = deepinv.physics.LinearPhysics(
            A=lambda x, **_: (x.flatten(1) @ matrix.to(x).T).unflatten(1, task.operator.measured),
            A_adjoint=lambda y, **_: (y.flatten(1) @ matrix.to(y)).unflatten(1, shape),
            noise_model=noise,
        )
    seen = found.A(torch.eye(math.prod(shape)).unflatten(1, shape)).flatten(1).T.double()
    if seen.shape != task.matrix.shape or (seen - task.matrix).abs().max() > 1e-5:
        raise ValueError(f"{task.name}: deepinv's operator is another than ours")
    return found


def deepinv_methods(task: GaussianTask) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """By our names: draws ``(N, *shape)`` for a measurement ``(1, *measured)`` and a seed."""
    deepinv, prior, operator = import_deepinv(), _Prior(task), physics(task)
    sampling = deepinv.sampling

    def of_sde(fidelity: Any) -> Callable[[Tensor, torch.Generator], Tensor]:
        def draw(y: Tensor, generator: torch.Generator) -> Tensor:
            solver = sampling.DDPMSolver(timesteps=torch.linspace(1, 0, STEPS, dtype=torch.float64), rng=generator)
            model = sampling.PosteriorDiffusion(
                data_fidelity=fidelity(),
                denoiser=prior,
                sde=sampling.VariancePreservingDiffusion(alpha=1.0),
                solver=solver,
            )
            return model(y, operator, x_init=(len(y), *task.operator.shape))

        return draw

    def dps(y: Tensor, generator: torch.Generator) -> Tensor:
        model = sampling.DPS(prior, num_steps=STEPS, rng=generator)
        return model(y, operator, x_init=(len(y), *task.operator.shape))

    found: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
        "dps": dps,
        "pigdm": of_sde(sampling.PiGDMDataFidelity),
        "mmps": of_sde(sampling.MomentMatchingDataFidelity),
        "diffpir": lambda y, _: sampling.DiffPIR(prior, data_fidelity=deepinv.optim.L2())(y, operator),
    }
    if task.name != "ct8":  # which has no decomposition there
        found["ddrm"] = lambda y, _: sampling.DDRM(prior)(y, operator)

    def seeded(draw: Callable[[Tensor, torch.Generator], Tensor]) -> Callable[[Tensor, int], Tensor]:
        def run(y: Tensor, seed: int) -> Tensor:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return draw(y, torch.Generator().manual_seed(seed)).detach()

        return run

    return {name: seeded(draw) for name, draw in found.items()}
