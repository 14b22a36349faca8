"""Unrolled networks against closed forms: a step that is known makes them the iteration that they are named after."""

import math

import pytest
import torch
from torch import Tensor

from ornstein.core import SDE, CosineSchedule, NetworkDenoiser
from ornstein.core.inverse import FunctionOperator, GaussianNoise, Measurement, UnrolledNetwork
from ornstein.core.inverse.linear import MatrixOperator
from ornstein.core.nn import Refiner

SHAPE = (1, 4, 6)
MATRIX = torch.randn(10, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 24**0.5
A = MatrixOperator(MATRIX, SHAPE)
NOISE = 1.0 - 1e-9


class Landweber(Refiner):
    """Each step adds a share of what is left over, which is the last of what it is shown."""

    def __init__(self, steps: int, share: float) -> None:
        super().__init__(4, 1, steps, widths=(4,))
        self.share, self.seen = share, []

    def forward(self, step: int, x: Tensor, c: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.seen.append((step, x, memory))
        return self.share * x[:, 3:], torch.full((len(x), 16, 2, 3), float(step))


def back(seen: Measurement) -> Tensor:
    return seen.linear("back").adjoint(seen.y)


def test_a_known_step_is_landwebers_iteration() -> None:
    network = Landweber(7, 0.4)
    denoiser = NetworkDenoiser(UnrolledNetwork(network, back, 0.2), SDE(CosineSchedule()), "v").double()
    truth = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    guess = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    seen = Measurement(A(truth), A, GaussianNoise(0.1))
    # In noise that hides the data the answer starts as the guess; each step is x <- x + share A^T (y - A x).
    x = guess.flatten(1)
    for _ in range(7):
        x = x + 0.4 * (seen.y.flatten(1) - x @ MATRIX.T) @ MATRIX
    found = denoiser(torch.zeros(3, *SHAPE, dtype=torch.float64), NOISE, guess=guess, seen=seen).mean
    # Networks are told of no more noise than that of alpha = exp(-10).
    torch.testing.assert_close(found.flatten(1), x, rtol=0, atol=10 * math.exp(-10))
    assert [step for step, _, _ in network.seen] == list(range(7))
    assert network.seen[0][2] is None
    assert torch.equal(network.seen[4][2], torch.full((3, 16, 2, 3), 3.0))


def test_where_noise_is_low_steps_start_from_the_state_and_count_for_little() -> None:
    network, process = Landweber(1, 0.4), SDE(CosineSchedule())
    denoiser = NetworkDenoiser(UnrolledNetwork(network, back, 0.2), process, "v").double()
    truth, guess = (torch.randn(2, *SHAPE, dtype=torch.float64) for _ in range(2))
    seen, t = Measurement(A(truth), A, GaussianNoise(0.1)), 0.15
    level = process.level(t)
    alpha, sigma = float(level.alpha), float(level.sigma)
    x_t = alpha * truth + sigma * torch.randn_like(truth)
    # The posterior mean under N(guess, 0.2^2), moved by sin times a step along what it leaves over.
    width = (sigma**2 + (alpha * 0.2) ** 2) ** 0.5
    start = guess + alpha * 0.2**2 / width**2 * (x_t - alpha * guess)
    rest = ((seen.y.flatten(1) - start.flatten(1) @ MATRIX.T) @ MATRIX).reshape(2, *SHAPE)
    found = denoiser(x_t, t, guess=guess, seen=seen).mean
    # Networks are told the level in float32.
    torch.testing.assert_close(found, start + sigma / width * 0.4 * rest, rtol=1e-6, atol=1e-6)


def test_one_measurement_serves_many_samples_and_none_leaves_nothing_over() -> None:
    refiner = Refiner(4, 1, steps=2, widths=(8,))
    for block in refiner.blocks:
        torch.nn.init.normal_(block.leave.weight, std=0.1)
    network, operator = UnrolledNetwork(refiner, back, 0.2), MatrixOperator(MATRIX.float(), SHAPE)
    seen = Measurement(torch.randn(1, *operator.measured), operator, GaussianNoise(0.1))
    x, guess, c = torch.randn(3, *SHAPE), torch.zeros(3, *SHAPE), torch.zeros(3)
    whole = network(x, c, guess=guess, seen=seen)
    alone = torch.cat([network(x[i : i + 1], c[:1], guess=guess[:1], seen=seen) for i in range(3)])
    torch.testing.assert_close(whole, alone)
    blind = network(x, c, guess=guess)
    assert not torch.allclose(blind, whole, atol=1e-3)
    nothing = Measurement(torch.zeros(1, *operator.measured), MatrixOperator(0 * MATRIX.float(), SHAPE))
    torch.testing.assert_close(network(x, c, guess=guess, seen=nothing), blind)
    whole.sum().backward()
    assert all(p.grad is not None for p in refiner.blocks[1].parameters())


def test_a_fresh_refiner_answers_nothing_and_its_sides_are_checked() -> None:
    refiner = Refiner(4, 2, steps=3, widths=(8, 12), memory=5)
    answer, memory = refiner(2, torch.randn(2, 4, 10, 6), torch.zeros(2))
    assert answer.shape == (2, 2, 10, 6)
    assert memory.shape == (2, 5, 5, 3)  # odd, and half of it at the coarse level
    assert not answer.any()
    with pytest.raises(ValueError, match=r"sides multiples of 2"):
        refiner(0, torch.randn(2, 4, 9, 6), torch.zeros(2))
    with pytest.raises(ValueError, match=r"expected \(batch, 4, rows"):
        refiner(0, torch.randn(2, 3, 8, 6), torch.zeros(2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="spread"):
        UnrolledNetwork(Refiner(4, 1), back, 0.0)
    with pytest.raises(ValueError, match=r"network\.shown=3: expected 4"):
        UnrolledNetwork(Refiner(3, 1), back, 0.1)
    network = UnrolledNetwork(Refiner(4, 1, widths=(8,)), back, 0.1)
    with pytest.raises(ValueError, match="widths"):
        Refiner(4, 1, widths=())
    with pytest.raises(ValueError, match="guess none"):
        network(torch.zeros(1, *SHAPE), torch.zeros(1))
    curved = FunctionOperator(lambda x: x**2, SHAPE, SHAPE)
    with pytest.raises(TypeError, match="UnrolledNetwork needs a linear operator"):
        network(
            torch.zeros(1, *SHAPE),
            torch.zeros(1),
            guess=torch.zeros(1, *SHAPE),
            seen=Measurement(torch.zeros(1, *SHAPE), curved),
        )
