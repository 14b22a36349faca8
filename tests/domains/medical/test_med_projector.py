"""CT: rays, line integrals against closed forms, exact adjoints, filtered back-projection, counts and units."""

import math

import pytest
import torch
from torch import Tensor

from ornstein.core.inverse import GaussianNoise, Measurement
from ornstein.domains.medical.classical import FBP
from ornstein.domains.medical.judges import psnr, ssim
from ornstein.domains.medical.physics.counts import (
    LogCounts,
    from_hounsfield,
    log_transform,
    log_variance,
    to_hounsfield,
)
from ornstein.domains.medical.physics.fbp import FILTERS, filtered_back_projection, ramp_kernel, view_weights
from ornstein.domains.medical.physics.geometry import FanBeam, Geometry, ParallelBeam, spread_angles
from ornstein.domains.medical.physics.lowdose import add_dose_noise, low_dose_measurement, noise_power_spectrum
from ornstein.domains.medical.physics.phantoms import Ellipse, Phantom, random_ellipses, shepp_logan
from ornstein.domains.medical.physics.projector import Projector

DISC = Phantom([Ellipse(1.0, 0.35, 0.35, 0.2, -0.1)])

GEOMETRIES: dict[str, Geometry] = {
    "parallel": ParallelBeam((20, 20), spread_angles(9)),
    "wide picture": ParallelBeam((12, 23), spread_angles(7), pixel=(2.0, 0.7)),
    "interior": ParallelBeam((21, 20), (10.0, 200.0, -33.0, 45.0, 90.0), cells=7, spacing=0.8, shift=0.3),
    "flat fan": FanBeam((20, 20), spread_angles(9, 360), source=40.0, detector=30.0),
    "arc fan": FanBeam((16, 20), spread_angles(9, 360), source=40.0, arc=True, pixel=(0.5, 1.5)),
}


def adjoint_error(operator: Projector, dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *operator.shape, generator=generator, dtype=dtype)
    y = torch.randn(3, *operator.measured, generator=generator, dtype=dtype)
    forth, back = operator(x), operator.adjoint(y)
    assert forth.dtype == back.dtype == dtype
    difference = (forth.double() * y.double()).sum() - (x.double() * back.double()).sum()
    return float(difference.abs() / (forth.double().norm() * y.double().norm()))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_adjoint(name: str) -> None:
    operator = Projector(GEOMETRIES[name], channels=2)
    assert adjoint_error(operator, torch.float32) < 1e-6
    assert adjoint_error(operator, torch.float64) < 1e-12


def test_derivatives_are_the_adjoint() -> None:
    operator = Projector(GEOMETRIES["flat fan"], dtype=torch.float64)
    x = torch.randn(2, 1, 20, 20, dtype=torch.float64, requires_grad=True)
    v = torch.randn(2, *operator.measured, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(operator(x), x, v, create_graph=True)
    torch.testing.assert_close(grad, operator.adjoint(v))
    # The gradient is linear in v: its derivative is the operator again.
    w = torch.randn_like(x)
    torch.testing.assert_close(torch.autograd.grad(grad, v, w)[0], operator(w))
    tangent = torch.func.jvp(lambda z: operator(z), (x.detach(),), (w,))[1]
    torch.testing.assert_close(tangent, operator(w))


def test_one_sample_or_many_complex_or_real() -> None:
    operator = Projector(GEOMETRIES["parallel"], dtype=torch.float64)
    x = torch.randn(4, 1, 20, 20, dtype=torch.float64)
    torch.testing.assert_close(operator(x), torch.cat([operator(one[None]) for one in x]))
    z = torch.complex(x[:2], x[2:])
    torch.testing.assert_close(operator(z), torch.complex(operator(x[:2]), operator(x[2:])))


@pytest.mark.parametrize("beam", ["parallel", "flat", "arc"])
def test_line_integrals_of_a_disc(beam: str) -> None:
    size = 128
    angles = spread_angles(60, 180 if beam == "parallel" else 360)
    geometry: Geometry = ParallelBeam((size, size), angles)
    if beam != "parallel":
        geometry = FanBeam((size, size), angles, source=250.0, detector=150.0, arc=beam == "arc")
    exact = DISC.line_integrals(geometry)
    ours = Projector(geometry)(DISC.image(size, supersample=8))
    assert float((ours - exact).norm() / exact.norm()) < 0.012


def test_chords_by_hand() -> None:
    # Rays of a fan at 0 degrees through a disc of radius 3 at (1, -2), by the distance from the line.
    geometry = FanBeam((10, 10), (0.0, 90.0), cells=5, spacing=2.0, source=20.0, detector=10.0)
    exact = Phantom([Ellipse(2.0, 0.6, 0.6, 0.2, -0.4)]).line_integrals(geometry)[0, 0]
    for view, (source, along) in enumerate([((0.0, -20.0), (1.0, 0.0)), ((20.0, 0.0), (0.0, 1.0))]):
        for cell in range(5):
            s = 2.0 * (cell - 2)
            end = (along[0] * s - source[0] / 2, along[1] * s - source[1] / 2)
            d = (end[0] - source[0], end[1] - source[1])
            h = abs(d[0] * (-2 - source[1]) - d[1] * (1 - source[0])) / math.hypot(*d)
            assert float(exact[view, cell]) == pytest.approx(2 * 2 * math.sqrt(max(0, 9 - h * h)), abs=1e-12)


def test_a_distant_source_is_a_parallel_beam() -> None:
    parallel = Projector(ParallelBeam((24, 24), spread_angles(5), cells=30), dtype=torch.float64)
    fan = Projector(FanBeam((24, 24), spread_angles(5), cells=30, spacing=1.0, source=1e9), dtype=torch.float64)
    x = shepp_logan().image(24, dtype=torch.float64)
    torch.testing.assert_close(parallel(x), fan(x), rtol=1e-6, atol=1e-6)


def test_weights_of_axis_parallel_rays_are_sums_of_rows() -> None:
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    y = Projector(ParallelBeam((8, 8), (0.0, 90.0), cells=8, pixel=(2.0, 3.0), spacing=3.0), dtype=torch.float64)(x)
    torch.testing.assert_close(y[0, 0, 0], 2.0 * x[0, 0].sum(0))
    tall = Projector(ParallelBeam((8, 8), (90.0,), cells=8, pixel=(2.0, 3.0), spacing=2.0), dtype=torch.float64)(x)
    torch.testing.assert_close(tall[0, 0, 0], 3.0 * x[0, 0].sum(1).flip(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParallelBeam((8, 8), ()), "angles"),
        (lambda: ParallelBeam((8, 8), (math.nan,)), "angles"),
        (lambda: ParallelBeam((0, 8), (0.0,)), "shape"),
        (lambda: ParallelBeam((8, 8), (0.0,), spacing=-1.0), "spacing"),
        (lambda: ParallelBeam((8, 8), (0.0,), pixel=(1.0, 0.0)), "pixel"),
        (lambda: FanBeam((8, 8), (0.0,), source=3.0), "outside the picture"),
        (lambda: FanBeam((8, 8), (0.0,), source=10.0, arc=True, cells=100), "90 degrees"),
        (lambda: Projector(GEOMETRIES["parallel"])(torch.zeros(1, 20, 20)), "x of shape"),
        (lambda: filtered_back_projection(torch.zeros(1, 1, 9, 4), GEOMETRIES["parallel"]), "y of shape"),
        (lambda: filtered_back_projection(torch.zeros(1, 1, 9, 29), GEOMETRIES["parallel"], "box"), "window"),
        (
            lambda: filtered_back_projection(
                torch.zeros(1, 1, 9, 5), FanBeam((8, 8), spread_angles(9, 180), cells=5, source=20.0)
            ),
            "whole circle",
        ),
        (
            lambda: filtered_back_projection(
                torch.zeros(1, 1, 9, 5), FanBeam((8, 8), spread_angles(9, 360), cells=5, source=20.0), adjoint=abs
            ),
            "adjoint: rays of a fan beam",
        ),
        (lambda: Phantom([(1.0, 0.0, 1.0, 0.0, 0.0, 0.0)]), "ellipses"),
    ],
)
def test_bad_input(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_filtered_back_projection_of_shepp_logan() -> None:
    geometry = ParallelBeam((128, 128), spread_angles(180))
    truth = shepp_logan().image(128)
    picture = filtered_back_projection(Projector(geometry)(truth), geometry)
    assert psnr(picture[0], truth[0]) >= 28.6
    assert ssim(picture[0], truth[0]) >= 0.94
    # A scale gone wrong would show in the mean first.
    assert float(picture.mean() / truth.mean()) == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize(("pixel", "spacing", "least"), [(1.0, 1.0, 29.0), (0.5, 0.5, 29.0), (0.5, 0.75, 25.0)])
def test_filtered_back_projection_by_the_adjoint(pixel: float, spacing: float, least: float) -> None:
    projector = Projector(ParallelBeam((128, 128), spread_angles(180), pixel=pixel, spacing=spacing))
    truth = shepp_logan().image(128)
    seen = Measurement(projector(truth), projector)
    picture = FBP(matched=True)(seen)
    assert psnr(picture[0], truth[0]) >= least
    assert psnr(picture[0], truth[0]) >= psnr(FBP()(seen)[0], truth[0]) - 0.5
    assert float(picture.mean() / truth.mean()) == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("arc", [False, True])
def test_filtered_back_projection_of_fans(arc: bool) -> None:
    geometry = FanBeam((128, 128), spread_angles(270, 360), source=200.0, detector=100.0, arc=arc)
    truth = shepp_logan().image(128)
    picture = filtered_back_projection(Projector(geometry)(truth), geometry)
    assert psnr(picture[0], truth[0]) >= 28.6
    assert float(picture.mean() / truth.mean()) == pytest.approx(1, abs=0.002)


def test_pictures_and_sinograms_are_judged() -> None:
    A = Projector(ParallelBeam((8, 8), spread_angles(3)))
    with pytest.raises(ValueError, match="x of shape"):
        A(torch.ones(1, 1, 8, 9))
    with pytest.raises(TypeError, match=r"x of torch\.int64"):
        A(torch.ones(1, 1, 8, 8, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"y of torch\.bool"):
        A.adjoint(torch.ones(1, *A.measured, dtype=torch.bool))


def test_ramp_kernel_is_the_ramp() -> None:
    # Its transform over a long row is |f| up to the highest frequency, in cycles per unit of length.
    kernel = ramp_kernel(2000, 0.5)
    response = 0.5 * torch.fft.fft(kernel.roll(-1999))[:2000].real
    frequency = torch.arange(2000) / len(kernel) / 0.5
    torch.testing.assert_close(response, frequency.double(), rtol=0, atol=2e-4)


@pytest.mark.parametrize("window", FILTERS)
def test_windows_fall_from_one(window: str) -> None:
    values = FILTERS[window](torch.linspace(0, 1, 50, dtype=torch.float64))
    assert float(values[0]) == pytest.approx(1)
    assert bool((values.diff() <= 1e-12).all())


def test_weights_of_views() -> None:
    torch.testing.assert_close(
        view_weights(ParallelBeam((8, 8), spread_angles(6))), torch.full((6,), math.pi / 6, dtype=torch.float64)
    )
    # Any order, any turn of 180 degrees; two views near one another share what they stand for.
    uneven = view_weights(ParallelBeam((8, 8), (150.0, 0.0, 210.0, 60.0, 90.0, 120.0, 15.0)))
    assert float(uneven.sum()) == pytest.approx(math.pi)
    assert float(uneven[1]) == pytest.approx(math.radians(22.5))
    limited = view_weights(ParallelBeam((8, 8), spread_angles(30, 90)))
    torch.testing.assert_close(limited, torch.full((30,), math.radians(3), dtype=torch.float64))


def test_log_transform_and_its_variance() -> None:
    noise = LogCounts(2e4, dark=30.0)
    clean = torch.tensor([0.0, 1.0, 3.0, 5.0], dtype=torch.float64).expand(1, 20000, 4)
    draws = noise.sample(clean, torch.Generator().manual_seed(0))
    stated = noise.variance(clean[:, :1])[0, 0]
    torch.testing.assert_close(draws.mean((0, 1)), clean[0, 0], rtol=0, atol=0.01)
    torch.testing.assert_close(draws.var((0, 1)), stated, rtol=0.06, atol=0)
    counts = noise.counts(clean, torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_variance(counts, 30.0).mean((0, 1)), stated, rtol=0.06, atol=0)
    torch.testing.assert_close(log_transform(counts, 2e4, 30.0), draws)


def test_likelihood_of_counts() -> None:
    noise = LogCounts(100.0, dark=3.0)
    y = noise.sample(torch.tensor([[0.3, 1.0]], dtype=torch.float64), torch.Generator().manual_seed(0))
    clean = torch.tensor([[0.4, 0.9]], dtype=torch.float64)
    rate = 100 * torch.exp(-clean) + 3
    counts = (100 * torch.exp(-y) + 3).round()
    poisson = torch.distributions.Poisson(rate).log_prob(counts).sum(1)
    constant = torch.lgamma(counts + 1).sum(1)
    torch.testing.assert_close(noise.log_likelihood(y, clean), poisson + constant)


def test_a_ray_that_nothing_came_through() -> None:
    counts = torch.tensor([0.0, 2.0, 100.0])
    y = log_transform(counts, 100.0, dark=2.0)
    torch.testing.assert_close(y, torch.tensor([math.log(200), math.log(200), math.log(100 / 98)]))
    flat = torch.tensor([50.0, 100.0, 200.0])
    torch.testing.assert_close(log_transform(counts + 1, flat), -torch.log((counts + 1) / flat))


@pytest.mark.parametrize(
    ("counts", "flat", "message"),
    [([-1.0], 10.0, "counts reach -1"), ([math.nan], 10.0, "NaN"), ([1.0], 0.0, "flat reaches 0")],
)
def test_bad_counts(counts: list[float], flat: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_transform(torch.tensor(counts), flat)


def test_hounsfield_units() -> None:
    mu = torch.tensor([0.0, 0.01929, 0.03858], dtype=torch.float64)
    torch.testing.assert_close(to_hounsfield(mu), torch.tensor([-1000.0, 0.0, 1000.0], dtype=torch.float64))
    torch.testing.assert_close(from_hounsfield(to_hounsfield(mu)), mu)


def low_dose_pictures() -> tuple[Tensor, Tensor]:
    geometry = ParallelBeam((32, 32), spread_angles(60))
    truth = 0.05 * random_ellipses(3).image(32).expand(200, 1, 32, 32)
    noisy = add_dose_noise(truth, Projector(geometry), LogCounts(1e4), generator=torch.Generator().manual_seed(0))
    return truth, noisy


def test_low_dose_noise_is_white_after_whitening() -> None:
    truth, noisy = low_dose_pictures()
    spectrum = noise_power_spectrum((noisy - truth)[:100])
    # Back-projected noise has little at low frequencies.
    assert float(spectrum[0, 0]) < 0.3 * float(spectrum.mean())
    measured = low_dose_measurement(noisy[100:], spectrum)
    residual = measured.y - measured.operator(truth[100:])
    power = (torch.fft.fft2(residual, norm="ortho").abs() ** 2).mean((0, 1))
    assert float(power.mean()) == pytest.approx(1, abs=0.03)
    assert float(power[:4, :4].mean()) == pytest.approx(float(power[10:20, 10:20].mean()), rel=0.15)


def test_low_dose_takes_spectral_methods() -> None:
    truth, noisy = low_dose_pictures()
    measured = low_dose_measurement(noisy[:1], noise_power_spectrum((noisy - truth)[:100]))
    assert isinstance(measured.noise, GaussianNoise)
    assert isinstance(measured, Measurement)
    back = measured.spectral("a test").pseudo_inverse(measured.y)
    torch.testing.assert_close(back, noisy[:1], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="spectrum of shape"):
        low_dose_measurement(noisy, torch.ones(3, 3))
