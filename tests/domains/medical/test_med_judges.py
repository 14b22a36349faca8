"""Judges: fastMRI's definitions against direct sums, and certainty against exact posteriors."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.core.inverse import GaussianNoise, Mask, Measurement, PoissonNoise
from ornstein.domains.medical.judges import (
    coverage,
    data_consistency,
    error_versus_deviation,
    haarpsi,
    nmse,
    psnr,
    sample_interval,
    ssim,
)
from ornstein.domains.medical.physics.phantoms import shepp_logan


def pair(size: int = 32) -> tuple[Tensor, Tensor]:
    truth = torch.cat([shepp_logan().image(size)[:, 0], 2 * shepp_logan(False).image(size)[:, 0]]).clamp(min=0)
    noise = 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return truth + noise, truth


def test_psnr_and_nmse() -> None:
    x, truth = (v.double().numpy() for v in pair())
    error = ((x - truth) ** 2).sum()
    assert nmse(x, truth) == pytest.approx(error / (truth**2).sum())
    # The range is that of the volume, not of each slice.
    assert psnr(x, truth) == pytest.approx(10 * math.log10(truth.max() ** 2 * truth.size / error))
    assert psnr(x, truth, data_range=2.0) == pytest.approx(10 * math.log10(4 * truth.size / error))
    assert psnr(truth, truth) == math.inf


def test_ssim_by_windows() -> None:
    x, truth = (v.double().numpy() for v in pair(16))
    span, values = truth.max(), []
    for a, b in zip(x, truth):
        for i in range(10):
            for j in range(10):
                u, v = a[i : i + 7, j : j + 7].ravel(), b[i : i + 7, j : j + 7].ravel()
                (uu, uv), (_, vv) = np.cov(u, v)
                c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
                top = (2 * u.mean() * v.mean() + c1) * (2 * uv + c2)
                values.append(top / ((u.mean() ** 2 + v.mean() ** 2 + c1) * (uu + vv + c2)))
    assert ssim(x, truth) == pytest.approx(np.mean(values), abs=1e-12)
    assert ssim(truth, truth) == pytest.approx(1)


def test_haarpsi() -> None:
    truth = shepp_logan().image(64)[0].clamp(0, 1)
    x = (truth + 0.05 * torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    # piq 0.8's haarpsi of the same pictures gives 0.6720.
    assert haarpsi(x, truth, 1.0) == pytest.approx(0.6720, abs=1e-4)
    assert haarpsi(truth, truth) == pytest.approx(1)
    assert haarpsi(x, truth) < haarpsi(0.5 * (x + truth), truth) < 1
    flat = torch.ones(1, 32, 32)
    inner = haarpsi(flat, flat)
    assert inner == pytest.approx(1)


@pytest.mark.parametrize("judge", [psnr, ssim, haarpsi, nmse])
def test_bad_pictures(judge: object) -> None:
    with pytest.raises(ValueError, match="expected that of truth"):
        judge(torch.ones(2, 16, 16), torch.ones(16, 16))  # type: ignore[operator]
    with pytest.raises(ValueError, match="complex"):
        judge(torch.ones(16, 16), torch.ones(16, 16) * 1j)  # type: ignore[operator]
    with pytest.raises(ValueError, match="NaN"):
        judge(torch.ones(16, 16) * math.nan, torch.ones(16, 16))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"data_range|truth"):
        judge(torch.ones(16, 16), torch.zeros(16, 16))  # type: ignore[operator]


@pytest.mark.parametrize("count", [3, 19, 99])
def test_intervals_of_exact_samples_cover_as_they_claim(count: int) -> None:
    draws = torch.randn(count + 1, 20000, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    levels = [0.5] if count == 3 else [0.5, 0.9]
    for row in coverage(draws[1:], draws[0], levels):
        spread = math.sqrt(row.level * (1 - row.level) / 20000)
        assert row.share == pytest.approx(row.level, abs=4 * spread)
    half = coverage(draws[1:], draws[0], [0.5], mask=torch.arange(20000) < 10000)[0]
    assert half.share == pytest.approx(0.5, abs=0.015)


def test_too_few_samples_for_a_level() -> None:
    with pytest.raises(ValueError, match="draw more samples"):
        sample_interval(torch.randn(10, 3), 0.9)
    lower, upper = sample_interval(torch.arange(19.0)[:, None], 0.9)
    assert (float(lower), float(upper)) == (0.0, 18.0)


def test_errors_of_stated_deviations() -> None:
    generator = torch.Generator().manual_seed(0)
    deviation = torch.rand(100, 200, generator=generator, dtype=torch.float64) + 0.1
    truth = torch.zeros(100, 200, dtype=torch.float64)
    mean = deviation * torch.randn(100, 200, generator=generator, dtype=torch.float64)
    bins = error_versus_deviation(mean, deviation, truth, bins=8)
    assert sum(row.pixels for row in bins) == 20000
    assert [row.deviation for row in bins] == sorted(row.deviation for row in bins)
    for row in bins:
        assert row.error == pytest.approx(row.deviation, rel=0.08)
    assert error_versus_deviation(2 * mean, deviation, truth, bins=1)[0].error > 1.9 * bins[3].deviation
    with pytest.raises(ValueError, match="deviation"):
        error_versus_deviation(mean, -deviation, truth)


def test_consistency_with_the_data() -> None:
    operator = Mask(torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(0)) > 0.5)
    truth = torch.randn(400, 1, 20, 20)
    measured = Measurement.simulate(truth, operator, GaussianNoise(0.3), torch.Generator().manual_seed(1))
    found = data_consistency(truth, measured)
    assert found.measured == int(operator.mask.sum())
    assert float(found.ratio.mean()) == pytest.approx(1, abs=0.02)
    # p-values of the truth are uniform.
    assert float(found.p_value.mean()) == pytest.approx(0.5, abs=0.06)
    assert float(found.p_value.var()) == pytest.approx(1 / 12, abs=0.015)
    assert float(data_consistency(truth + 0.3, measured).p_value.max()) < 1e-3
    assert float(data_consistency(measured.y, measured).chi2.max()) == pytest.approx(0)
    counts = Measurement(torch.full((1, 1, 20, 20), 4.0), operator, PoissonNoise(1.0))
    assert float(data_consistency(torch.full((1, 1, 20, 20), 6.0), counts).ratio) == pytest.approx(1)
    with pytest.raises(ValueError, match="no noise"):
        data_consistency(truth, Measurement.simulate(truth, operator))
