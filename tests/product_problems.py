"""Two Gaussian components that are correlated, each noised by its own schedule, with the exact denoiser."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.core import SDE, Denoiser, GaussianPosterior
from ornstein.core.products import ProductPosterior, ProductProcess


class CorrelatedDenoiser(Denoiser[ProductProcess]):
    """``E[x_0 | x_t] = m + C A (A C A + S^2)^-1 (x_t - A m)`` with ``A`` and ``S`` diagonal, by component."""

    def __init__(self, process: ProductProcess, mean: Tensor, cov: Tensor) -> None:
        super().__init__(process)
        self.mean, self.cov = mean, cov

    def forward(self, x_t: Mapping[str, Tensor], t: Any, **condition: Any) -> ProductPosterior:
        x = torch.cat([x_t["a"], x_t["b"]], 1).double()
        levels = {name: process.level(t) for name, process in self.process.components.items()}
        batch = len(x)
        alpha, sigma = (
            torch.cat(
                [
                    torch.as_tensor(getattr(level, of), dtype=torch.float64).expand(batch)[:, None].expand(batch, 2)
                    for level in levels.values()
                ],
                1,
            )
            for of in ("alpha", "sigma")
        )
        total = alpha[:, :, None] * self.cov * alpha[:, None] + torch.diag_embed(sigma**2)
        gain = torch.linalg.solve(total, alpha[:, :, None] * self.cov)
        mean = self.mean + ((x - alpha * self.mean)[:, None] @ gain)[:, 0]
        parts = {"a": mean[:, :2].to(x_t["a"].dtype), "b": mean[:, 2:].to(x_t["b"].dtype)}
        return ProductPosterior(
            {
                name: GaussianPosterior(x_t[name], process, levels[name], parts[name])
                for name, process in self.process.components.items()
            }
        )


def correlated(a: SDE, b: SDE, num: int) -> tuple[CorrelatedDenoiser, dict[str, Tensor]]:
    """The problem, and draws of its data."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([0.5, -1.0, 0.3, 0.8], dtype=torch.float64)
    cov = torch.tensor(
        [[1.0, 0.2, 0.8, 0.0], [0.2, 0.5, 0.0, -0.5], [0.8, 0.0, 0.9, 0.1], [0.0, -0.5, 0.1, 0.7]], dtype=torch.float64
    )
    x = mean + torch.randn(num, 4, dtype=torch.float64, generator=generator) @ torch.linalg.cholesky(cov).T
    return CorrelatedDenoiser(ProductProcess({"a": a, "b": b}), mean, cov), {"a": x[:, :2], "b": x[:, 2:]}
