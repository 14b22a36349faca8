"""Averages of the weights against their closed forms, and post-hoc widths against averages kept from the start."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.integrate import quad

from ornstein.core.training import (
    EMA,
    EMACallback,
    PowerEMA,
    gamma_of_width,
    profile_inner_product,
    reconstruct,
    width_of_gamma,
)
from ornstein.core.training.ema import profile_coefficients


class _Trainer:
    global_step = 0
    is_global_zero = True


class _Module(torch.nn.Module):
    """What the callback sees of a Lightning module."""

    def __init__(self, values: list[float], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.adapter = torch.nn.Module()
        self.adapter.weight = torch.nn.Parameter(torch.tensor(values, dtype=dtype))
        self.adapter.frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)


def _run(callback: EMACallback, weights: torch.Tensor) -> _Module:
    """Let the callback see the weights ``(steps + 1, D)``, the first being those before training."""
    module, trainer = _Module(weights[0].tolist()), _Trainer()
    callback.on_fit_start(trainer, module)  # type: ignore[arg-type]
    for step, value in enumerate(weights[1:], start=1):
        module.adapter.weight.data = value.clone()
        trainer.global_step = step
        callback.on_train_batch_end(trainer, module, None, None, step - 1)  # type: ignore[arg-type]
    return module


def _average(callback: EMACallback, profile: int = 0) -> torch.Tensor:
    return callback.state_dict()["averages"][profile]["weight"]


WEIGHTS = torch.randn(41, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_exponential_average_is_its_sum() -> None:
    callback = EMACallback(EMA(decay=0.8))
    _run(callback, WEIGHTS)
    decays = np.array([min(0.8, (1 + t) / (10 + t)) for t in range(1, 41)])
    shares = np.append(1.0, 1 - decays) * np.append(np.cumprod(decays[::-1])[::-1], 1.0)
    assert shares.sum() == pytest.approx(1)
    torch.testing.assert_close(_average(callback), torch.from_numpy(shares) @ WEIGHTS, rtol=0, atol=1e-14)


def test_power_average_weights_steps_by_their_power() -> None:
    callback = EMACallback(PowerEMA((0.05, 0.2)))
    _run(callback, WEIGHTS)
    for profile, width in enumerate((0.05, 0.2)):
        edges = (np.arange(41) / 40) ** (gamma_of_width(width) + 1)
        expected = torch.from_numpy(np.diff(edges)) @ WEIGHTS[1:]
        torch.testing.assert_close(_average(callback, profile), expected, rtol=0, atol=1e-13)


def test_the_widest_power_average_is_the_mean() -> None:
    callback = EMACallback(PowerEMA((1 / math.sqrt(12),)))
    _run(callback, WEIGHTS)
    torch.testing.assert_close(_average(callback), WEIGHTS[1:].mean(0), rtol=0, atol=1e-7)


@pytest.mark.parametrize("width", [1e-3, 0.01, 0.05, 0.1, 0.2, 0.28, 0.2886751])
def test_width_and_exponent_are_inverse(width: float) -> None:
    gamma = gamma_of_width(width)
    assert width_of_gamma(gamma) == pytest.approx(width, rel=1e-12)
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    assert gamma == pytest.approx(roots.real.max(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 6.94, 16.97])
def test_width_is_the_relative_deviation_of_the_profile(gamma: float) -> None:
    moment = [quad(lambda t, k=k: (gamma + 1) * t ** (gamma + k), 0, 1)[0] for k in range(3)]
    assert moment[0] == pytest.approx(1)
    assert width_of_gamma(gamma) == pytest.approx(math.sqrt(moment[2] - moment[1] ** 2), rel=1e-8)


@pytest.mark.parametrize(("a", "b"), [((3.0, 2.0), (5.0, 7.0)), ((5.0, 7.0), (3.0, 2.0)), ((4.0, 1.5), (4.0, 0.5))])
def test_inner_products_against_quadrature(a: tuple[float, float], b: tuple[float, float]) -> None:
    def profile(t: float, step: float, gamma: float) -> float:
        return (gamma + 1) * t**gamma / step ** (gamma + 1)

    integral = quad(lambda t: profile(t, *a) * profile(t, *b), 0, min(a[0], b[0]))[0]
    assert profile_inner_product(*a, *b) == pytest.approx(integral, rel=1e-9)


def test_a_stored_profile_is_reconstructed_exactly(tmp_path: Path) -> None:
    callback = EMACallback(PowerEMA((0.05, 0.10), snapshot_every=10), tmp_path)
    _run(callback, WEIGHTS)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"{s:08d}.safetensors" for s in (10, 20, 30, 40)]
    for profile, width in enumerate((0.05, 0.10)):
        answer = reconstruct(tmp_path, width)
        assert answer.residual < 1e-10
        expected = _average(callback, profile).float()
        torch.testing.assert_close(answer.weights["weight"], expected, rtol=0, atol=1e-7)
    coefficients, residual = profile_coefficients([(s, w) for s in (10, 20, 30, 40) for w in (0.05, 0.1)], 30, 0.1)
    np.testing.assert_allclose(coefficients, np.eye(8)[5], atol=1e-10)
    assert residual < 1e-10


def test_a_width_that_was_not_stored(tmp_path: Path) -> None:
    """It is close to the average kept from the start, and the closer the more snapshots there are."""
    steps = 2000
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[:, None]
    weights = torch.cat([time.sqrt(), (6 * time).sin(), time**3], 1)
    direct = EMACallback(PowerEMA((0.15,)))
    _run(direct, weights)
    errors, residuals = [], []
    for every in (500, 100):
        folder = tmp_path / str(every)
        _run(EMACallback(PowerEMA((0.05, 0.10), snapshot_every=every), folder), weights)
        answer = reconstruct(folder, 0.15)
        residuals.append(answer.residual)
        errors.append(float((answer.weights["weight"] - _average(direct).float()).abs().max()))
    assert residuals[1] < residuals[0] / 10
    assert residuals[1] < 1e-4
    assert errors[1] < min(errors[0], 2e-3)


def test_reconstruction_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no EMA snapshots"):
        reconstruct(tmp_path, 0.1)
    save_file({"0.weight": torch.ones(1)}, tmp_path / "a.safetensors", {"step": "5", "sigma_rels": "0.1"})
    with pytest.raises(ValueError, match=r"step must lie in \[1, 5\]"):
        reconstruct(tmp_path, 0.1, step=6)
    with pytest.raises(ValueError, match="sigma_rel must lie in"):
        reconstruct(tmp_path, 0.3)


@pytest.mark.parametrize("ema", [EMA(0.9), PowerEMA((0.05, 0.1))])
def test_state_is_taken_up_where_it_was(ema: EMA | PowerEMA) -> None:
    whole = EMACallback(ema)
    _run(whole, WEIGHTS)
    first = EMACallback(ema)
    _run(first, WEIGHTS[:21])
    second, module, trainer = EMACallback(ema), _Module(WEIGHTS[20].tolist()), _Trainer()
    second.load_state_dict(first.state_dict())
    second.on_fit_start(trainer, module)  # type: ignore[arg-type]
    for step in range(21, 41):
        module.adapter.weight.data = WEIGHTS[step].clone()
        trainer.global_step = step
        second.on_train_batch_end(trainer, module, None, None, step)  # type: ignore[arg-type]
    for profile in range(ema.profiles):
        assert torch.equal(_average(second, profile), _average(whole, profile))


def test_a_batch_without_a_step_changes_nothing() -> None:
    callback = EMACallback(EMA(0.5))
    module = _run(callback, WEIGHTS)
    trainer = _Trainer()
    trainer.global_step = 40
    before = _average(callback).clone()
    module.adapter.weight.data += 1
    callback.on_train_batch_end(trainer, module, None, None, 41)  # type: ignore[arg-type]
    assert torch.equal(_average(callback), before)


def test_averages_are_lent_and_put_back_even_after_an_error() -> None:
    callback = EMACallback(EMA(0.5))
    module = _run(callback, WEIGHTS)
    trained = module.adapter.weight.detach().clone()
    pointer = module.adapter.weight.data_ptr()

    def fail() -> None:
        with callback.averaged(module):  # type: ignore[arg-type]
            assert torch.equal(module.adapter.weight, _average(callback))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(module.adapter.weight, trained)
    assert module.adapter.weight.data_ptr() == pointer
    callback.on_validation_start(None, module)  # type: ignore[arg-type]
    assert torch.equal(module.adapter.weight, _average(callback))
    callback.on_exception(None, module, RuntimeError())  # type: ignore[arg-type]
    assert torch.equal(module.adapter.weight, trained)


def test_low_precision_weights_are_averaged_in_float32() -> None:
    callback, module, trainer = EMACallback(EMA(0.999)), _Module([1.0], torch.bfloat16), _Trainer()
    callback.on_fit_start(trainer, module)  # type: ignore[arg-type]
    module.adapter.weight.data += 1
    for trainer.global_step in range(1, 31):
        callback.on_train_batch_end(trainer, module, None, None, 0)  # type: ignore[arg-type]
    exact = 2 - math.prod((1 + t) / (10 + t) for t in range(1, 31))
    assert _average(callback).dtype == torch.float32
    assert float(_average(callback)) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EMA(1.0), "decay must lie in"),
        (lambda: PowerEMA(()), "sigma_rels is empty"),
        (lambda: PowerEMA((0.3,)), "sigma_rel must lie in"),
        (lambda: PowerEMA(snapshot_every=-1), "snapshot_every must not be negative"),
    ],
)
def test_impossible_averages(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_checkpoint_of_other_averages_is_refused() -> None:
    callback = EMACallback(EMA())
    _run(callback, WEIGHTS)
    with pytest.raises(ValueError, match="keeps 1 averages"):
        EMACallback(PowerEMA()).load_state_dict(callback.state_dict())
    other = EMACallback(EMA())
    other.load_state_dict({"updates": 1, "averages": [{"another": torch.zeros(1)}]})
    with pytest.raises(ValueError, match="of other parameters"):
        other.on_fit_start(_Trainer(), _Module([1.0]))  # type: ignore[arg-type]
