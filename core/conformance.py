"""One conformance suite a contract, run on every class that fulfils it.

Every imported, concrete subclass of `Schedule`, `Grid`, `Weighting`, `TrainingTimes` and `Sampler` is found and tested,
so that adding a class adds its tests.  Classes whose constructor needs arguments give instances in `EXAMPLES`.

A third party tests an adapter that it registered (entry point group ``ornstein.domains``) with

    pytest --pyargs ornstein.core.conformance --adapter NAME

where ``--adapter-args '{"size": 8}'`` gives the arguments that its constructor cannot do without.  A training batch is
what the adapter's method ``example_batch(num)`` returns, if it has one, and otherwise ``num`` decoded states, in a
tuple with the values of ``preview_condition`` where there are any.
"""

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

import ornstein.core as core
from ornstein.core.config import from_config, to_config
from ornstein.core.conformance_adapters import (
    adapter,
    test_adapter_encodes_what_it_decoded,
    test_adapter_is_rebuilt_from_its_configuration,
    test_adapter_packs_and_unpacks,
    test_adapter_refuses_no_steps_and_no_samples,
    test_adapter_samples_do_not_depend_on_the_batch,
    test_adapter_saves_and_loads,
)
from ornstein.core.conformance_examples import EXAMPLES, instances
from ornstein.core.registry import load_domain

__all__ = [
    "EXAMPLES",
    "adapter",
    "instances",
    "test_adapter_encodes_what_it_decoded",
    "test_adapter_is_rebuilt_from_its_configuration",
    "test_adapter_packs_and_unpacks",
    "test_adapter_refuses_no_steps_and_no_samples",
    "test_adapter_samples_do_not_depend_on_the_batch",
    "test_adapter_saves_and_loads",
]

T = TypeVar("T")


def _name(instance: Any) -> str:
    return repr(instance).replace("\n", " ")[:70]


def _each(*contracts: type, gaussian: bool = True) -> Callable[[T], T]:
    """Mark a test to run for every instance of the contracts; of samplers, those that move Gaussian states, or those
    that move others.
    """

    def mark(test: T) -> T:
        test.contracts, test.gaussian = contracts, gaussian  # type: ignore[attr-defined]
        return test

    return mark


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give marked tests their instances, at collection, when the adapter asked for has brought its classes."""
    if contracts := getattr(metafunc.function, "contracts", ()):
        if name := metafunc.config.getoption("--adapter", default=None):
            load_domain(name)
        found = [one for contract in contracts for one in instances(contract)]
        if contracts == (core.Sampler,):
            found = [one for one in found if issubclass(core.SDE, one.moves) == metafunc.function.gaussian]
        metafunc.parametrize("subject", found, ids=_name)


def _process(schedule: core.Schedule | None = None) -> core.SDE:
    return core.SDE(schedule if schedule is not None else core.FlowSchedule())


@_each(core.Schedule, core.Grid, core.Weighting, core.TrainingTimes, core.Sampler)
def test_component_survives_configuration_and_copy(subject: Any) -> None:
    config = to_config(subject)
    rebuilt = from_config(json.loads(json.dumps(config)), type(subject))
    for other in (rebuilt, copy.deepcopy(subject)):
        assert type(other) is type(subject)
        assert to_config(other) == config


# Schedules.

INNER = torch.linspace(0.02, 0.98, 97, dtype=torch.float64)


@_each(core.Schedule)
def test_schedule_log_snr_falls_and_is_that_of_alpha_and_sigma(subject: core.Schedule) -> None:
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    log_snr = subject.log_snr(t)
    assert (log_snr[1:] < log_snr[:-1]).all()
    expected = 2 * (subject.alpha(t).log() - subject.sigma(t).log())
    torch.testing.assert_close(log_snr, expected, rtol=1e-11, atol=1e-11)
    assert (subject.alpha(t) >= 0).all()
    assert (subject.sigma(t) >= 0).all()


@_each(core.Schedule)
def test_schedule_time_is_the_inverse_of_log_snr(subject: core.Schedule) -> None:
    t = torch.cat([INNER.new_tensor([1e-9, 1e-4]), INNER, INNER.new_tensor([1 - 1e-6])])
    log_snr = subject.log_snr(t)
    # Where log-SNR hardly depends on t, its own rounding error moves t by this much.
    rounding = 4 * torch.finfo(torch.float64).eps * log_snr.abs() / subject.d_log_snr(t).abs()
    assert ((subject.time(log_snr) - t).abs() <= 1e-12 + rounding).all()


@_each(core.Schedule)
def test_schedule_derivatives_are_those_of_autograd(subject: core.Schedule) -> None:
    t = INNER.clone().requires_grad_()
    for name in ("alpha", "sigma", "log_snr"):
        value = getattr(subject, name)(t) + 0 * t
        (slope,) = torch.autograd.grad(value.sum(), t)
        torch.testing.assert_close(getattr(subject, f"d_{name}")(INNER), slope, rtol=1e-9, atol=1e-9)


@_each(core.Schedule)
def test_schedule_keeps_shape_and_dtype_and_takes_floats(subject: core.Schedule) -> None:
    for name in ("alpha", "sigma", "log_snr", "d_alpha", "d_sigma", "d_log_snr", "time"):
        function = getattr(subject, name)
        reference = function(0.37)
        assert reference.dtype == torch.float64
        assert reference.shape == ()
        for shape in ((), (1,), (3,), (3, 1), (2, 3)):
            for dtype, rtol in ((torch.float32, 2e-3), (torch.float64, 1e-12)):
                out = function(torch.full(shape, 0.37, dtype=dtype))
                assert out.shape == shape
                assert out.dtype == dtype
                torch.testing.assert_close(out.double(), reference.expand(shape), rtol=rtol, atol=1e-6)


@_each(core.Schedule)
def test_schedule_stays_on_the_device_of_its_times(subject: core.Schedule) -> None:
    """On the meta device, which refuses to be mixed with others and needs no hardware."""
    t = torch.empty(3, device="meta")
    for name in ("alpha", "sigma", "log_snr", "d_alpha", "d_sigma", "d_log_snr", "time"):
        out = getattr(subject, name)(t)
        assert out.device == t.device
        assert (out.shape, out.dtype) == (t.shape, t.dtype)


@_each(core.Schedule)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_schedule_has_no_nan_at_its_ends(subject: core.Schedule, dtype: torch.dtype) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=dtype)
    for name in ("alpha", "sigma", "log_snr", "d_alpha", "d_sigma", "d_log_snr"):
        assert not getattr(subject, name)(ends).isnan().any(), name
    assert torch.isfinite(subject.alpha(ends)).all()
    assert torch.isfinite(subject.sigma(ends)).all()
    inside = subject.time(subject.log_snr(ends))
    torch.testing.assert_close(inside, ends, rtol=0, atol=1e-12 if dtype == torch.float64 else 2e-4)


@_each(core.Schedule)
def test_schedule_scaling_is_what_it_says(subject: core.Schedule) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = subject.alpha(t), subject.sigma(t)
    constant = {"vp": torch.hypot(alpha, sigma), "ve": alpha, "flow": alpha + sigma}.get(subject.scaling)
    if constant is not None:
        torch.testing.assert_close(constant, torch.ones_like(t), rtol=0, atol=1e-14)


# Grids.


@_each(core.Grid)
@pytest.mark.parametrize(
    "schedule", [core.FlowSchedule(), core.VESchedule(), core.CosineSchedule(), core.EDMSchedule()], ids=_name
)
def test_grid_falls_within_the_unit_interval(subject: core.Grid, schedule: core.Schedule) -> None:
    for steps in (1, 2, 3, 17, 200):
        if isinstance(subject, core.Times) and steps != len(subject.values) - 1:
            with pytest.raises(ValueError, match="steps"):
                subject(steps, _process(schedule))
            continue
        times = subject(steps, _process(schedule))
        assert times.shape == (steps + 1,)
        assert times.dtype == torch.float64
        assert times.device.type == "cpu"
        assert (times[1:] < times[:-1]).all()
        assert 0 <= times[-1] < times[0] <= 1
        assert torch.equal(times, subject(steps, _process(schedule)))


@_each(core.Grid)
@pytest.mark.parametrize("steps", [0, -1, 2.5, True, None])
def test_grid_refuses_what_is_no_number_of_steps(subject: core.Grid, steps: Any) -> None:
    with pytest.raises(ValueError, match="steps="):
        subject(steps, _process())


# Weightings.


@_each(core.Weighting)
@pytest.mark.parametrize("schedule", instances(core.Schedule), ids=_name)
def test_weighting_is_finite_in_the_shape_of_time(subject: core.Weighting, schedule: core.Schedule) -> None:
    for dtype in (torch.float32, torch.float64):
        t = torch.linspace(0, 1, 33, dtype=dtype)
        held = schedule.log_snr(t).clamp(-70, 70)
        log_weight = subject.log_weight(schedule, t, held)
        assert log_weight.shape == t.shape
        assert log_weight.dtype == dtype
        assert log_weight.isfinite().all()


# Training times.


@_each(core.TrainingTimes)
def test_training_times_lie_in_the_unit_interval_and_repeat(subject: core.TrainingTimes) -> None:
    def draw(seed: int, batch: int) -> tuple[Tensor, Tensor | float]:
        return subject.draw(batch, _process(), torch.Generator().manual_seed(seed))

    for batch in (1, 2, 513):
        times, factor = draw(3, batch)
        assert times.shape == (batch,)
        assert times.dtype == torch.float64
        assert ((times >= 0) & (times <= 1)).all()
        factor = torch.as_tensor(factor)
        assert factor.shape in ((), (batch,))
        assert (factor > 0).all()
        assert torch.equal(times, draw(3, batch)[0])
        assert not torch.equal(times, draw(4, batch)[0])


@_each(core.TrainingTimes)
def test_training_times_keep_what_they_learned(subject: core.TrainingTimes) -> None:
    learned, fresh = copy.deepcopy(subject), from_config(to_config(subject))
    for _ in range(30):
        times = torch.rand(64, dtype=torch.float64)
        learned.update(times, times**2)
    fresh.load_state_dict(learned.state_dict())
    draws = [one.draw(9, _process(), torch.Generator().manual_seed(0))[0] for one in (learned, fresh)]
    assert torch.equal(*draws)


# Samplers.


class _Counted(core.Denoiser[Any]):
    """Counts the calls of another denoiser, and remembers the keywords of the last."""

    def __init__(self, inner: core.Denoiser[Any]) -> None:
        super().__init__(inner.process)
        self.inner, self.calls = inner, 0

    def forward(self, x_t: Any, t: Any, **condition: Any) -> Any:
        self.calls += 1
        self.condition = condition
        return self.inner(x_t, t, **condition)


def _gaussian(schedule: core.Schedule, variance: float = 0.5) -> core.GaussianDenoiser:
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    return core.GaussianDenoiser(_process(schedule), mean, variance * torch.eye(3, dtype=torch.float64))


@_each(core.Sampler)
@pytest.mark.parametrize("schedule", instances(core.Schedule), ids=_name)
def test_sampler_lands_on_data_of_one_point(subject: core.Sampler, schedule: core.Schedule) -> None:
    denoiser = _gaussian(schedule, variance=0.0)
    out = dataclasses.replace(subject, steps=4, denoise=True).sample(denoiser, (5, 3), seed=0)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, denoiser.mean.float().expand(5, 3), rtol=0, atol=1e-6)


@_each(core.Sampler)
def test_sampler_depends_on_seed_and_sample_alone(subject: core.Sampler) -> None:
    denoiser, sampler = _gaussian(core.CosineSchedule()), dataclasses.replace(subject, steps=4)
    together = sampler.sample(denoiser, (5, 3), seed=11)
    apart = torch.cat([sampler.sample(denoiser, (1, 3), seed=11, first=i) for i in range(5)])
    # A method with error control may share its steps over the batch; samples then agree to its tolerance.
    slack = 1e-3 if subject.adaptive else 1e-6
    torch.testing.assert_close(together, apart, rtol=slack, atol=slack)
    assert torch.equal(together, sampler.sample(denoiser, (5, 3), seed=11))
    assert not torch.allclose(together, sampler.sample(denoiser, (5, 3), seed=12))


@_each(core.Sampler)
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("grid", [core.UniformLogSNR(), core.UniformTime(0.9, 0.1), core.UniformTime()], ids=_name)
def test_sampler_calls_the_denoiser_as_often_as_it_declares(subject: core.Sampler, steps: int, grid: core.Grid) -> None:
    if subject.adaptive:
        with pytest.raises(TypeError, match="error"):
            subject.nfe(process=_process())
        return
    for denoise in (False, True):
        counted = _Counted(_gaussian(core.FlowSchedule()))
        sampler = dataclasses.replace(subject, steps=steps, grid=grid, denoise=denoise)
        sampler.sample(counted, (2, 3), seed=0)
        assert counted.calls == sampler.nfe(process=counted.process)


@_each(core.Sampler)
def test_sampler_is_stochastic_if_it_says_so(subject: core.Sampler) -> None:
    denoiser, x = _gaussian(core.CosineSchedule()), torch.randn(4, 3, dtype=torch.float64)
    sampler = dataclasses.replace(subject, steps=5)
    runs = [sampler.sample(denoiser, x.shape, x=x, seed=seed) for seed in (0, 1)]
    assert runs[0].dtype == torch.float64
    assert torch.equal(*runs) != sampler.stochastic


@_each(core.Sampler)
def test_sampler_keeps_padding_zero_and_the_start_as_it_was(subject: core.Sampler) -> None:
    counted = _Counted(_gaussian(core.FlowSchedule()))
    x, mask = torch.randn(2, 3), torch.tensor([[True, True, True], [True, False, False]])
    start = x.clone()
    out = dataclasses.replace(subject, steps=3).sample(counted, x.shape, x=x, mask=mask, seed=0)
    assert torch.equal(x, start)
    assert (out[~mask] == 0).all()
    assert (out[mask] != 0).all()
    assert torch.equal(counted.condition["mask"], mask)


@_each(core.Sampler)
@pytest.mark.parametrize("steps", [0, -3, 1.5, True, "10"])
def test_sampler_refuses_what_is_no_number_of_steps(subject: core.Sampler, steps: Any) -> None:
    with pytest.raises(ValueError, match="steps="):
        dataclasses.replace(subject, steps=steps)


# Samplers of other states.


def _other(sampler: core.Sampler) -> tuple[core.Denoiser[Any], Callable[[int], Any]]:
    """A denoiser on a process that the sampler moves, and the shape of that many states."""
    if issubclass(core.AbsorbingChain, sampler.moves):
        table = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0))
        return core.EnumeratedDenoiser(core.AbsorbingChain(4, core.PowerSchedule()), table), lambda num: (num, 3)
    if issubclass(core.RiemannianProcess, sampler.moves):
        process = core.RiemannianProcess(core.Torus(3), core.VESchedule(0.01, 5.0))
        centers = torch.tensor([[0.0, 1.0, 2.0], [-1.0, 0.5, 3.0]])
        return core.HeatMixtureDenoiser(process, [0.5, 0.5], centers, [0.1, 0.2]), lambda num: (num, 3)
    both = core.IndependentDenoisers({"a": _gaussian(core.FlowSchedule()), "b": _gaussian(core.VPSchedule())})
    return both, lambda num: {"a": (num, 3), "b": (num, 3)}


def _cat(states: list[Any]) -> Any:
    return (
        {k: torch.cat([s[k] for s in states]) for k in states[0]} if isinstance(states[0], dict) else torch.cat(states)
    )


def _equal(a: Any, b: Any) -> bool:
    return all(_equal(a[k], b[k]) for k in a) if isinstance(a, dict) else torch.allclose(a, b, rtol=1e-6, atol=1e-6)


@_each(core.Sampler, gaussian=False)
def test_sampler_of_other_states_depends_on_seed_and_sample_alone(subject: core.Sampler) -> None:
    (denoiser, shape), sampler = _other(subject), dataclasses.replace(subject, steps=4)
    together = sampler.sample(denoiser, shape(5), seed=11)
    assert _equal(together, _cat([sampler.sample(denoiser, shape(1), seed=11, first=i) for i in range(5)]))
    assert _equal(together, sampler.sample(denoiser, shape(5), seed=11))
    assert not _equal(together, sampler.sample(denoiser, shape(5), seed=12))
    denoiser.process.check_state(together)


@_each(core.Sampler, gaussian=False)
@pytest.mark.parametrize("steps", [2, 5])
def test_sampler_of_other_states_calls_as_often_as_it_declares(subject: core.Sampler, steps: int) -> None:
    for denoise in (False, True):
        denoiser, shape = _other(subject)
        counted = _Counted(denoiser)
        sampler = dataclasses.replace(subject, steps=steps, denoise=denoise)
        sampler.sample(counted, shape(2), seed=0)
        assert counted.calls == sampler.nfe(process=counted.process)


@_each(core.Sampler, gaussian=False)
def test_sampler_of_other_states_is_stochastic_if_it_says_so(subject: core.Sampler) -> None:
    (denoiser, shape), sampler = _other(subject), dataclasses.replace(subject, steps=5)
    x = subject.sample(denoiser, shape(40), seed=9) if not issubclass(core.AbsorbingChain, subject.moves) else None
    runs = [sampler.sample(denoiser, shape(40), x=x, seed=seed) for seed in (0, 1)]
    assert _equal(*runs) != sampler.stochastic
