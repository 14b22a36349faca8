"""Krylov solvers against torch's direct ones, sample by sample."""

import pytest
import torch
from torch import Tensor

from ornstein.core.inverse import conjugate_gradient, gmres

G = torch.Generator().manual_seed(0)
ROOT = torch.randn(4, 6, 6, generator=G, dtype=torch.float64)
SYMMETRIC = ROOT @ ROOT.mT + 0.1 * torch.eye(6, dtype=torch.float64)
GENERAL = ROOT + 3 * torch.eye(6, dtype=torch.float64)
B = torch.randn(4, 2, 3, generator=G, dtype=torch.float64)


def product(matrix: Tensor):
    return lambda v: (matrix @ v.flatten(1).unsqueeze(2)).reshape(v.shape)


def direct(matrix: Tensor) -> Tensor:
    return torch.linalg.solve(matrix, B.flatten(1)).reshape(B.shape)


def test_both_solve_in_as_many_iterations_as_unknowns() -> None:
    cg = conjugate_gradient(product(SYMMETRIC), B, iterations=8)
    torch.testing.assert_close(cg, direct(SYMMETRIC), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(gmres(product(SYMMETRIC), B, iterations=6), direct(SYMMETRIC), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(gmres(product(GENERAL), B, iterations=6), direct(GENERAL), rtol=1e-8, atol=1e-8)


def test_a_start_that_is_right_stays() -> None:
    x = direct(SYMMETRIC)
    torch.testing.assert_close(conjugate_gradient(product(SYMMETRIC), B, x, iterations=3, tolerance=1e-10), x)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_gmres_has_the_smallest_residual_in_the_krylov_space(iterations: int) -> None:
    found = gmres(product(GENERAL), B, iterations=iterations)
    for i, b in enumerate(B.flatten(1)):
        space = torch.stack([torch.linalg.matrix_power(GENERAL[i], k) @ b for k in range(iterations)], 1)
        best = space @ torch.linalg.lstsq(GENERAL[i] @ space, b[:, None]).solution
        torch.testing.assert_close(found[i].flatten(), best[:, 0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solve", [conjugate_gradient, gmres])
def test_samples_do_not_depend_on_their_batch(solve) -> None:
    # One sample is solved at once (its matrix is the identity); the others go on.
    matrix = torch.cat([torch.eye(6, dtype=torch.float64)[None], SYMMETRIC[1:]])
    together = solve(product(matrix), B, iterations=4, tolerance=1e-3)
    for i in range(4):
        alone = solve(product(matrix[i : i + 1]), B[i : i + 1], iterations=4, tolerance=1e-3)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together[0], B[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("solve", [conjugate_gradient, gmres])
def test_a_right_side_of_zero_and_a_singular_system(solve) -> None:
    assert (solve(product(SYMMETRIC), torch.zeros_like(B), iterations=3) == 0).all()
    half = torch.diag(torch.tensor([1.0, 2, 3, 0, 0, 0], dtype=torch.float64)).expand(4, 6, 6)
    b = torch.cat([B[:, :1], torch.zeros_like(B[:, :1])], 1)  # within the range
    x = solve(product(half), b, iterations=10)
    torch.testing.assert_close(product(half)(x), b, rtol=0, atol=1e-10)
