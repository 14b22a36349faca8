"""The square-root schedule against the paper's formula, beside the conformance suite."""

import pytest
import torch

import ornstein.core.conformance as conformance
from ornstein.core.embedded import SqrtSchedule


def test_it_is_the_papers_up_to_the_shift_that_ends_it_at_zero() -> None:
    t, schedule = torch.linspace(0, 0.999, 50, dtype=torch.float64), SqrtSchedule()
    torch.testing.assert_close(schedule.alpha(t) ** 2, 1 - (t + 1e-4).sqrt(), rtol=0, atol=5e-5)
    assert float(schedule.alpha(1.0)) == 0
    assert abs(float(schedule.sigma(0.0)) - 0.1) < 1e-5


@pytest.mark.parametrize("schedule", [SqrtSchedule(), SqrtSchedule(0.0), SqrtSchedule(0.1)], ids=repr)
def test_it_keeps_the_contract_of_schedules(schedule: SqrtSchedule) -> None:
    """Also for offsets that the suite's default instance has not."""
    conformance.test_schedule_log_snr_falls_and_is_that_of_alpha_and_sigma(schedule)
    conformance.test_schedule_time_is_the_inverse_of_log_snr(schedule)
    conformance.test_schedule_derivatives_are_those_of_autograd(schedule)
    conformance.test_schedule_keeps_shape_and_dtype_and_takes_floats(schedule)
    conformance.test_schedule_scaling_is_what_it_says(schedule)
    for dtype in (torch.float32, torch.float64):
        conformance.test_schedule_has_no_nan_at_its_ends(schedule, dtype)


def test_bad_offsets_are_refused() -> None:
    with pytest.raises(ValueError, match="s=-1"):
        SqrtSchedule(-1.0)
