"""Schedules against closed forms, quadrature and diffusers' tables; the contract they share is in conformance."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ornstein.core import (
    SDE,
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    PolynomialSchedule,
    Schedule,
    ShiftedSchedule,
    SigmoidSchedule,
    SubVPSchedule,
    TableSchedule,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNR,
)
from ornstein.core.conformance import instances
from ornstein.core.schedules import Time

T = torch.linspace(0, 1, 101, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-12, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


# Closed forms of the papers, written as they stand there.


def test_vp_is_song_eq_29() -> None:
    schedule = VPSchedule(0.1, 20.0)
    integral = 0.1 * T + 0.5 * 19.9 * T**2
    close(schedule.alpha(T), torch.exp(-0.5 * integral))
    close(schedule.sigma(T) ** 2, 1 - torch.exp(-integral))


def test_sub_vp_is_song_eq_29() -> None:
    schedule = SubVPSchedule(0.1, 20.0)
    integral = 0.1 * T + 0.5 * 19.9 * T**2
    close(schedule.alpha(T), torch.exp(-0.5 * integral))
    close(schedule.sigma(T), 1 - torch.exp(-integral))


def test_constant_rate_is_the_ornstein_uhlenbeck_process() -> None:
    schedule = VPSchedule(4.0, 4.0)
    close(schedule.alpha(T), torch.exp(-2 * T))
    close(schedule.time(schedule.log_snr(T)), T)


@pytest.mark.parametrize("s", [0.0, 0.008, 0.3])
def test_cosine_is_nichol_eq_17(s: float) -> None:
    def f(t: Tensor) -> Tensor:
        return torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2

    alpha_bar = f(T) / f(torch.zeros((), dtype=torch.float64))
    close(CosineSchedule(s).alpha(T) ** 2, alpha_bar)
    close(CosineSchedule(s).sigma(T) ** 2, 1 - alpha_bar)


def test_cosine_without_offset_is_the_trigonometric_path() -> None:
    close(CosineSchedule(0.0).alpha(T), torch.cos(math.pi / 2 * T))
    close(CosineSchedule(0.0).sigma(T), torch.sin(math.pi / 2 * T))
    close(CosineSchedule(0.0).log_snr(T[1:-1]), -2 * torch.tan(math.pi / 2 * T[1:-1]).log(), atol=1e-11)


def test_polynomial_is_hoogeboom_appendix_b() -> None:
    alpha = (1 - 2e-5) * (1 - T**2) + 1e-5
    close(PolynomialSchedule().alpha(T), alpha)
    close(PolynomialSchedule().sigma(T) ** 2, 1 - alpha**2)
    assert PolynomialSchedule().alpha(1.0).item() == pytest.approx(1e-5, rel=1e-14, abs=0)
    in_float32 = PolynomialSchedule().alpha(torch.ones(()))
    assert in_float32.item() == pytest.approx(1e-5, rel=1e-6, abs=0)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.3), (-3.0, 3.0, 0.1)])
def test_sigmoid_is_jabri_algorithm_4(start: float, end: float, tau: float) -> None:
    def v(t: Tensor) -> Tensor:
        return torch.sigmoid((start + t * (end - start)) / tau)

    zero, one = T[:1], T[-1:]
    close(SigmoidSchedule(start, end, tau).alpha(T) ** 2, (v(one) - v(T)) / (v(one) - v(zero)))


def test_ve_is_song_eq_30_and_edm_is_time() -> None:
    close(VESchedule(0.01, 50.0).sigma(T), 0.01 * 5000**T)
    close(EDMSchedule(80.0).sigma(T), 80 * T)
    for schedule in (VESchedule(), EDMSchedule()):
        close(schedule.alpha(T), torch.ones_like(T))


def test_flow_is_a_straight_line() -> None:
    close(FlowSchedule().alpha(T), 1 - T)
    close(FlowSchedule().sigma(T), T)


@pytest.mark.parametrize("schedule", instances(Schedule), ids=lambda s: repr(s)[:60])
def test_drift_and_diffusion_give_alpha_and_sigma_back(schedule: Schedule) -> None:
    """Moments of dx = f x dt + g dw: alpha = exp int f, sigma^2(t) = (alpha_t / alpha_s)^2 sigma_s^2 + int (alpha_t /
    alpha_u)^2 g_u^2 du, by Gauss-Legendre quadrature between the knots of the schedule."""
    process = SDE(schedule)
    start, stop = 0.1, 0.9
    steps = max(1, 160 // (table_steps := _table_steps(schedule))) * table_steps
    inner = [i / steps for i in range(steps + 1) if start < i / steps < stop]
    knots = torch.tensor([start, *inner, stop], dtype=torch.float64)
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(8))
    half = (knots[1:] - knots[:-1])[:, None] / 2
    u = (knots[:-1, None] + half * (1 + nodes)).flatten()
    w = (half * weights).flatten()
    f = process.drift(torch.ones(len(u), 1, dtype=torch.float64), u)[:, 0]
    ratio = schedule.alpha(stop) / schedule.alpha(start)
    close((w * f).sum().exp(), ratio, rtol=1e-10, atol=0)
    noise = (w * (schedule.alpha(stop) / schedule.alpha(u)) ** 2 * process.diffusion(u) ** 2).sum()
    close(ratio**2 * schedule.sigma(start) ** 2 + noise, schedule.sigma(stop) ** 2, rtol=1e-10, atol=0)


def _table_steps(schedule: Schedule) -> int:
    inner = getattr(schedule, "schedule", schedule)
    return len(inner.betas) if isinstance(inner, TableSchedule) else 1


# Ends.

ENDS = [
    (VPSchedule(), math.inf, None),
    (SubVPSchedule(), math.inf, None),
    (CosineSchedule(), math.inf, -math.inf),
    (CosineSchedule(0.0), math.inf, -math.inf),
    (PolynomialSchedule(), None, None),
    (SigmoidSchedule(), math.inf, -math.inf),
    (VESchedule(0.01, 50.0), 2 * math.log(100), -2 * math.log(50)),
    (EDMSchedule(80.0), math.inf, -2 * math.log(80)),
    (FlowSchedule(), math.inf, -math.inf),
    (TableSchedule.linear(), math.inf, None),
    (TableSchedule((0.1, 0.5, 1.0)), math.inf, -math.inf),
    (ZeroTerminalSNR(VPSchedule()), math.inf, -math.inf),
    (ZeroTerminalSNR(PolynomialSchedule()), None, -math.inf),
    (ZeroTerminalSNR(SigmoidSchedule()), math.inf, -math.inf),
    (ShiftedSchedule(FlowSchedule(), 3.0), math.inf, -math.inf),
]


@pytest.mark.parametrize(("schedule", "at_data", "at_noise"), ENDS, ids=lambda v: repr(v)[:50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends(schedule: Schedule, at_data: float | None, at_noise: float | None, dtype: torch.dtype) -> None:
    # In a vector, where the arithmetic is another than for single numbers.
    t = torch.linspace(0, 1, 33, dtype=dtype)
    log_snr = schedule.log_snr(t)
    for end, expected in ((log_snr[0], at_data), (log_snr[-1], at_noise)):
        if expected is None:
            assert end.isfinite()
        else:
            assert end.item() == pytest.approx(expected, rel=1e-6)
    if at_data == math.inf:
        assert schedule.sigma(t)[0] == 0
        assert not torch.signbit(schedule.sigma(t)[0])
    if at_noise == -math.inf:
        assert schedule.alpha(t)[-1] == 0


@pytest.mark.parametrize(
    "schedule",
    [VPSchedule(), SubVPSchedule(), CosineSchedule(), CosineSchedule(0.0), SigmoidSchedule(), EDMSchedule(),
     FlowSchedule(), TableSchedule.linear(), ShiftedSchedule(CosineSchedule(), 2.0), ZeroTerminalSNR(VPSchedule())],
    ids=lambda s: repr(s)[:50],
)  # fmt: skip
def test_log_snr_of_sixty_survives_the_round_trip(schedule: Schedule) -> None:
    x = torch.linspace(15, 60, 10, dtype=torch.float64)
    close(schedule.log_snr(schedule.time(x)), x, rtol=1e-12)
    narrow = schedule.log_snr(schedule.time(x.float()))
    close(narrow.double(), x, rtol=1e-5)


@pytest.mark.parametrize(
    "schedule", [FlowSchedule(), CosineSchedule(), SigmoidSchedule(tau=0.1), TableSchedule((0.1, 1.0))]
)
def test_times_of_infinite_log_snr_are_the_ends(schedule: Schedule) -> None:
    ends = schedule.time(torch.tensor([math.inf, -math.inf], dtype=torch.float64))
    close(ends, torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-15)


@pytest.mark.parametrize("error", [-1e-15, 1e-15])
def test_zero_terminal_snr_is_zero_where_the_device_rounds_otherwise(error: float) -> None:
    """alpha(1) of the base is known from the CPU; another device, or a vector unit, may differ in the last digit."""

    class Other(VPSchedule):
        def alpha(self, t: Time) -> Tensor:
            alpha = super().alpha(t)
            return alpha * (1 + error) if alpha.ndim else alpha

    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    schedule = ZeroTerminalSNR(Other())
    assert schedule.alpha(t)[-1] == 0
    assert schedule.log_snr(t)[-1] == -math.inf


def test_gradients_of_a_table_are_finite_at_the_last_time() -> None:
    t = torch.tensor([0.5, 1.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(TableSchedule.linear().alpha(t).sum(), t)
    close(slope, TableSchedule.linear().d_alpha(t.detach()), rtol=1e-9)


# Tables.


def test_table_hits_its_products_and_its_indices() -> None:
    betas = torch.tensor([0.1, 0.3, 0.02, 0.5, 1.0], dtype=torch.float64)
    schedule = TableSchedule(betas)  # type: ignore[arg-type]
    t = (torch.arange(5, dtype=torch.float64) + 1) / 5
    close(schedule.alpha(t) ** 2, torch.cumprod(1 - betas, 0))
    close(schedule.index(t), torch.arange(5, dtype=torch.float64))
    # The rate is constant within a step, and alpha linear over the step to zero.
    close(schedule.alpha(0.3), (schedule.alpha(0.2) * schedule.alpha(0.4)).sqrt())
    close(schedule.alpha(0.9), 0.5 * schedule.alpha(0.8))


def test_table_from_running_products() -> None:
    table = TableSchedule.linear()
    products = table.alpha((torch.arange(1000, dtype=torch.float64) + 1) / 1000) ** 2
    close(
        torch.tensor(TableSchedule.from_alphas_cumprod(products.tolist()).betas), torch.tensor(table.betas), rtol=1e-10
    )


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("linear", TableSchedule.linear()),
        ("scaled_linear", TableSchedule.scaled_linear()),
    ],
)
def test_table_is_that_of_diffusers(name: str, table: TableSchedule) -> None:
    scheduler = _ddpm(beta_schedule=name, beta_start=table.betas[0], beta_end=table.betas[-1])
    close(torch.tensor(table.betas, dtype=torch.float64), scheduler.betas.double(), rtol=1e-6, atol=0)
    t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    close(table.alpha(t) ** 2, scheduler.alphas_cumprod.double(), rtol=1e-5, atol=0)


def test_cosine_is_that_of_diffusers() -> None:
    betas = _ddpm(beta_schedule="squaredcos_cap_v2").betas.double()
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    square = CosineSchedule().alpha(t) ** 2
    ours = (1 - square[1:] / square[:-1]).clamp(max=0.999)  # the cap of their table
    close(ours, betas, rtol=1e-4, atol=1e-7)
    # Theirs is a table: in steps of 1/1000 it and the continuous schedule agree but for the capped last one.
    table = TableSchedule(betas)  # type: ignore[arg-type]
    close(table.alpha(t[:-1]), CosineSchedule().alpha(t[:-1]), rtol=1e-5, atol=1e-6)


def test_zero_terminal_snr_is_that_of_diffusers() -> None:
    from_table = _ddpm(beta_schedule="linear", rescale_betas_zero_snr=True).alphas_cumprod.double()
    schedule = ZeroTerminalSNR(TableSchedule.linear())
    t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    # They hold alpha_bar of the first step, we that of clean data; the difference is the shift of the first step.
    first, last = (schedule.schedule.alpha(u) for u in (t[0], t[-1]))
    theirs = (schedule.schedule.alpha(t) - last) * first / (first - last)
    close(theirs[:-1] ** 2, from_table[:-1], rtol=1e-4, atol=1e-8)
    close(schedule.alpha(t), (schedule.schedule.alpha(t) - last) / (1 - last), rtol=1e-10)
    assert schedule.alpha(t)[-1] == 0


def test_discrete_table_is_close_to_continuous_vp_but_another() -> None:
    t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    table, continuous = TableSchedule.linear(), VPSchedule()
    difference = (table.alpha(t) ** 2 - continuous.alpha(t) ** 2).abs().max()
    assert 5e-4 < difference < 1e-3
    assert 0.05 < (table.log_snr(t) - continuous.log_snr(t)).abs().max() < 0.15
    for other, square in ((TableSchedule.linear(), 4.036e-5), (TableSchedule.scaled_linear(), 4.66e-3)):
        assert other.alpha(1.0).item() ** 2 == pytest.approx(square, rel=1e-2)


def _ddpm(**options: object) -> object:
    diffusers = pytest.importorskip("diffusers", reason="diffusers gives the reference tables: pip install diffusers")
    return diffusers.DDPMScheduler(num_train_timesteps=1000, **options)


# Shifts.


@pytest.mark.parametrize(
    "base",
    [
        VPSchedule(),
        SubVPSchedule(),
        CosineSchedule(),
        VESchedule(),
        EDMSchedule(),
        FlowSchedule(),
        TableSchedule.linear(),
    ],
    ids=lambda s: repr(s)[:40],
)
def test_shift_multiplies_the_noise_and_keeps_the_scaling(base: Schedule) -> None:
    shifted = ShiftedSchedule(base, 3.0)
    t = T[1:-1]
    close(shifted.sigma(t) / shifted.alpha(t), 3 * base.sigma(t) / base.alpha(t), rtol=1e-11)
    assert shifted.scaling == ("vp" if base.scaling == "none" else base.scaling)
    back = ShiftedSchedule(shifted, 1 / 3)
    if base.scaling != "none":
        close(back.alpha(t), base.alpha(t))
        close(back.sigma(t), base.sigma(t))


def test_shift_of_flow_is_a_change_of_time() -> None:
    moved = 3 * T / (1 + 2 * T)
    close(ShiftedSchedule(FlowSchedule(), 3.0).sigma(T), FlowSchedule().sigma(moved))
    close(ShiftedSchedule(FlowSchedule(), 3.0).alpha(T), FlowSchedule().alpha(moved))
    assert ShiftedSchedule.for_resolution(FlowSchedule(), 256).shift == 4.0


# Properties.

SMOOTH = st.sampled_from(instances(Schedule))


@settings(max_examples=150, deadline=None)
@given(SMOOTH, st.floats(0, 1), st.floats(0, 1))
def test_more_time_is_less_snr(schedule: Schedule, t: float, s: float) -> None:
    low, high = sorted((t, s))
    assert schedule.log_snr(high) <= schedule.log_snr(low)
    if high - low > 1e-6 and high > 1e-3:
        assert schedule.log_snr(high) < schedule.log_snr(low)


@settings(max_examples=150, deadline=None)
@given(SMOOTH, st.floats(-12, 40))
def test_time_and_log_snr_are_inverse(schedule: Schedule, x: float) -> None:
    if schedule.log_snr(1.0) < x < schedule.log_snr(0.0):
        t = schedule.time(x)
        assert -1e-12 <= t <= 1 + 1e-12
        # A rounding error of t moves log-SNR by its slope.
        slack = 1e-11 + 4e-16 * schedule.d_log_snr(t).abs().item() * t.item()
        assert abs(schedule.log_snr(t).item() - x) < slack


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 5), st.floats(0.0, 40), st.floats(1e-4, 1 - 1e-4))
def test_vp_of_any_rates(beta_min: float, more: float, t: float) -> None:
    schedule = VPSchedule(beta_min, beta_min + more)
    assert schedule.time(schedule.log_snr(t)).item() == pytest.approx(t, abs=1e-11)
    close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones((), dtype=torch.float64))


# Use.


def test_schedules_are_values() -> None:
    assert TableSchedule.linear() == TableSchedule.linear()
    assert hash(CosineSchedule()) == hash(CosineSchedule())
    used = TableSchedule.linear(10)
    used.alpha(T)
    assert copy.deepcopy(used) == used == TableSchedule.linear(10)
    with pytest.raises(AttributeError):
        used.betas = (0.1, 0.2)  # type: ignore[misc]


def test_a_table_made_in_inference_mode_serves_training() -> None:
    schedule = TableSchedule.linear(10)
    with torch.inference_mode():
        schedule.alpha(T)
    t = T[1:].clone().requires_grad_()
    schedule.alpha(t).sum().backward()
    assert t.grad is not None


def test_threads_share_a_schedule() -> None:
    schedule = TableSchedule.linear()
    expected = TableSchedule.linear().log_snr(T)
    with ThreadPoolExecutor(8) as pool:
        assert all(torch.equal(one, expected) for one in pool.map(lambda _: schedule.log_snr(T), range(32)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VPSchedule(-1.0), "beta_min=-1.0"),
        (lambda: VPSchedule(2.0, 1.0), "beta_max=1.0: expected at least beta_min=2.0"),
        (lambda: VPSchedule(float("nan")), "beta_min=nan"),
        (lambda: CosineSchedule(-0.1), "s=-0.1"),
        (lambda: PolynomialSchedule(0.0), "power=0.0"),
        (lambda: PolynomialSchedule(2.0, 0.5), "precision=0.5"),
        (lambda: SigmoidSchedule(3.0, -3.0), "end=-3.0"),
        (lambda: SigmoidSchedule(-math.inf, 3.0), "start=-inf"),
        (lambda: SigmoidSchedule(tau=0.0), "tau=0.0"),
        (lambda: VESchedule(0.0), "sigma_max"),
        (lambda: EDMSchedule(math.inf), "sigma_max=inf"),
        (lambda: TableSchedule((0.1,)), "betas"),
        (lambda: TableSchedule((0.1, 1.0, 0.2)), r"betas\[1\]=1.0"),
        (lambda: TableSchedule((0.1, float("nan"))), r"betas\[1\]=nan"),
        (lambda: ShiftedSchedule(FlowSchedule(), 0.0), "shift=0.0"),
        (lambda: ZeroTerminalSNR(FlowSchedule()), "variance-preserving"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named_in_one_line(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrapper", [ShiftedSchedule, ZeroTerminalSNR])
def test_wrappers_take_schedules_only(wrapper: type) -> None:
    with pytest.raises(TypeError, match="schedule='cosine': expected a Schedule"):
        wrapper("cosine")
