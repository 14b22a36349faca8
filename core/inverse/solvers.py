r"""Batched Krylov solvers of ``M x = b``, one system a sample, for operators known by their products alone.

Samples are independent: one that has converged stays as it is while others go on, so that an answer does not depend
on its batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["conjugate_gradient", "gmres"]

Product = Callable[[Tensor], Tensor]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products ``(B, 1, ...)`` of the samples of two tensors."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """``a / b``, zero where ``b`` is not positive: a sample that is solved, or cannot go on, stays."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)


def conjugate_gradient(
    product: Product, b: Tensor, x: Tensor | None = None, *, iterations: int, tolerance: float = 0.0
) -> Tensor:
    """Solve ``M x = b`` for symmetric, positive semi-definite ``M``.

    Hestenes and Stiefel 1952.

    Args:
        product: ``v -> M v`` for ``v`` ``(B, *event)``.
        b: right-hand sides ``(B, *event)``.
        x: where to start; zero by default.
        iterations: at most; each takes one product.
        tolerance: stop a sample whose residual is at most this part of ``|b|``.
    """
    r = b if x is None else b - product(x)
    x = torch.zeros_like(b) if x is None else x
    p, square = r, _dot(r, r)
    bound = tolerance**2 * _dot(b, b)
    for _ in range(iterations):
        active = square > bound
        if not active.any():
            break
        q = product(p)
        step = torch.where(active, _ratio(square, _dot(p, q)), 0.0)
        x = x + step * p
        r = r - step * q
        new = _dot(r, r)
        # The direction stays as it is where the sample does, and with it the residual.
        p = torch.where(active, r + _ratio(new, square) * p, p)
        square = torch.where(step > 0, new, torch.zeros_like(new))
    return x


def gmres(product: Product, b: Tensor, *, iterations: int, tolerance: float = 0.0) -> Tensor:
    """Solve ``M x = b`` for any square ``M``: the smallest residual in the Krylov space of ``b``.

    Saad and Schultz 1986, from a start at zero and without restarts; for products that are symmetric in theory and not
    in practice, such as a network's Jacobian.

    Args:
        product: ``v -> M v`` for ``v`` ``(B, *event)``.
        b: right-hand sides ``(B, *event)``.
        iterations: at most; each takes one product and keeps one vector.
        tolerance: stop once the residuals are at most this part of ``|b|``.
    """
    shape, flat = b.shape, b.flatten(1)
    size = flat.norm(dim=1, keepdim=True)
    basis = [_ratio(flat, size.expand_as(flat))]
    columns: list[Tensor] = []
    solution = torch.zeros_like(flat)
    done = torch.zeros_like(size, dtype=torch.bool)
    for k in range(iterations):
        w = product(basis[k].reshape(shape)).flatten(1)
        column = []
        for q in basis:
            h = (q * w).sum(1, keepdim=True)
            w = w - h * q
            column.append(h)
        height = w.norm(dim=1, keepdim=True)
        # What is left over after an invariant space was found is rounding.
        height = torch.where(height > 1e-12 * torch.cat(column, 1).norm(dim=1, keepdim=True), height, 0.0)
        basis.append(_ratio(w, height.expand_as(w)))
        columns.append(torch.cat([*column, height], 1))
        y, residual = _least_squares(columns, size)
        update = (torch.stack(basis[:-1], 2) @ y.unsqueeze(2)).squeeze(2)
        solution = torch.where(done, solution, update)
        done = done | (residual <= tolerance * size) | (height == 0)
        if done.all():
            break
    return solution.reshape(shape)


def _least_squares(columns: list[Tensor], size: Tensor) -> tuple[Tensor, Tensor]:
    """The ``y`` of smallest ``|size e_1 - H y|`` for the Hessenberg matrix of these columns, and that residual."""
    rows = len(columns) + 1
    h = torch.stack([torch.nn.functional.pad(c, (0, rows - c.shape[1])) for c in columns], 2)
    right = torch.nn.functional.pad(size, (0, rows - 1)).unsqueeze(2)
    y = torch.linalg.pinv(h) @ right
    return y.squeeze(2), (right - h @ y).flatten(1).norm(dim=1, keepdim=True)
