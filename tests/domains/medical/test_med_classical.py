"""Classical reconstructions: against closed forms, dense solutions and long runs."""

import pytest
import torch
from torch import Tensor

from ornstein.core.inverse import GaussianNoise, Mask, MatrixOperator, Measurement
from ornstein.domains.medical.classical import (
    CGLS,
    FBP,
    WAVELETS,
    Classical,
    TotalVariation,
    Wavelet,
    ZeroFilled,
    _analyse,
    _differences,
    _differences_adjoint,
    _synthesise,
    tune,
)
from ornstein.domains.medical.judges import psnr
from ornstein.domains.medical.physics import (
    CartesianMRI,
    LogCounts,
    MulticoilMRI,
    NonCartesianMRI,
    ParallelBeam,
    Projector,
    RealPicture,
    birdcage_maps,
    filtered_back_projection,
    radial_trajectory,
    random_ellipses,
    random_mask,
    spread_angles,
)

SIZE = 32
TRUTH = random_ellipses(5).image(SIZE).clamp(0, 1)
PROJECTOR = Projector(ParallelBeam((SIZE, SIZE), spread_angles(24), pixel=4 / 16))


def scan(seed: int = 0) -> Measurement:
    return Measurement.simulate(TRUTH, PROJECTOR, LogCounts(1e5), torch.Generator().manual_seed(seed))


def echo() -> Measurement:
    picture = torch.cat([0.8 * TRUTH, 0.6 * TRUTH], 1)
    operator = MulticoilMRI(birdcage_maps(4, (SIZE, SIZE)), random_mask(SIZE, 3.0, 0.12))
    return Measurement.simulate(picture, operator, GaussianNoise(0.01), torch.Generator().manual_seed(0))


def whole(picture: Tensor, std: float = 1.0) -> Measurement:
    return Measurement(picture, Mask(torch.ones(picture.shape[1:], dtype=torch.bool)), GaussianNoise(std))


def test_fbp_is_the_function() -> None:
    seen = scan()
    expected = filtered_back_projection(seen.y, PROJECTOR.geometry, "hann")
    torch.testing.assert_close(FBP("hann")(seen), expected)
    with pytest.raises(TypeError, match="FBP needs a Projector"):
        FBP()(echo())


def test_zero_filled() -> None:
    seen = echo()
    torch.testing.assert_close(ZeroFilled()(seen), seen.linear("a test").adjoint(seen.y))
    maps = birdcage_maps(4, (SIZE, SIZE))
    operator = NonCartesianMRI(maps, radial_trajectory(64, (SIZE, SIZE)))
    picture = torch.cat([TRUTH, 0 * TRUTH], 1)
    back = ZeroFilled(50)(Measurement.simulate(picture, operator))
    assert float((back - picture).norm() / picture.norm()) < 0.15
    real = ZeroFilled(50)(Measurement.simulate(TRUTH, operator @ RealPicture((SIZE, SIZE))))
    torch.testing.assert_close(real, back[:, :1])


def test_cgls_solves_the_normal_equations() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(30, 12, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    seen = Measurement(y, MatrixOperator(matrix), GaussianNoise(0.5))
    expected = torch.linalg.lstsq(matrix, y.T).solution.T
    torch.testing.assert_close(CGLS(40)(seen), expected, rtol=1e-5, atol=1e-5)
    ridge = torch.linalg.solve(4 * matrix.T @ matrix + 3 * torch.eye(12), 4 * matrix.T @ y.T).T
    torch.testing.assert_close(CGLS(40, damping=3.0)(seen), ridge, rtol=1e-5, atol=1e-5)


def test_sense_undoes_the_coils() -> None:
    picture = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.arange(16) % 2 == 0
    seen = Measurement.simulate(picture, MulticoilMRI(birdcage_maps(8, (16, 16)), mask))
    torch.testing.assert_close(CGLS(200)(seen), picture, rtol=0, atol=1e-3)


def test_differences() -> None:
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    q = torch.randn(2, 3, 2, 5, 7, dtype=torch.float64)
    torch.testing.assert_close((_differences(x) * q).sum(), (x * _differences_adjoint(q)).sum())


def test_variation_of_two_pixels_in_closed_form() -> None:
    # 1/2 |x - y|^2 + s |x_1 - x_2| moves both by s until they meet.
    seen = whole(torch.tensor([[[[1.0, 4.0]]]]))
    torch.testing.assert_close(TotalVariation(1.0, 2000)(seen), torch.tensor([[[[2.0, 3.0]]]]), rtol=0, atol=1e-4)
    torch.testing.assert_close(TotalVariation(9.0, 2000)(seen), torch.tensor([[[[2.5, 2.5]]]]), rtol=0, atol=1e-4)
    below = whole(torch.tensor([[[[-2.0, 4.0]]]]))
    torch.testing.assert_close(
        TotalVariation(0.5, 2000, nonnegative=True)(below), torch.tensor([[[[0.0, 3.5]]]]), rtol=0, atol=1e-4
    )
    # Two channels turn as one: differences (3, 4) shrink along their direction.
    both = whole(torch.tensor([[[[0.0, 3.0]], [[0.0, 4.0]]]]))
    expected = torch.tensor([[[[0.6, 2.4]], [[0.8, 3.2]]]])
    torch.testing.assert_close(TotalVariation(1.0, 2000)(both), expected, rtol=0, atol=1e-4)


def test_variation_from_a_start_is_where_it_ends_from_zero() -> None:
    seen = scan()
    started = TotalVariation(30.0, 100, nonnegative=True, start=FBP("hann"))
    slow = TotalVariation(30.0, 1500, nonnegative=True)
    least = float(slow.objective(seen, slow(seen)))
    assert float(slow.objective(seen, started(seen))) < 1.02 * least
    both = Measurement(torch.cat([seen.y, 0.3 * seen.y]), seen.operator, seen.noise)
    alone = torch.cat([started(both[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(started(both), alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("make", "strength"), [(scan, 30.0), (scan, 3.0), (echo, 100.0)])
def test_variation_is_near_its_optimum(make: object, strength: float) -> None:
    seen: Measurement = make()  # type: ignore[operator]
    short, long = TotalVariation(strength), TotalVariation(strength, 1500)
    least = float(long.objective(seen, long(seen)))
    assert float(short.objective(seen, short(seen))) < 1.01 * least
    # And no neighbour is lower.
    x, generator = long(seen), torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2):
        other = x + size * torch.randn(x.shape, generator=generator)
        assert float(long.objective(seen, other)) > least


def test_samples_do_not_depend_on_their_batch() -> None:
    pair = torch.cat([scan(0).y, 2 * scan(1).y])
    method = TotalVariation(3.0, 40)
    both = method(Measurement(pair, PROJECTOR, GaussianNoise(0.05)))
    alone = method(Measurement(pair[1:], PROJECTOR, GaussianNoise(0.05)))
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WAVELETS)
def test_wavelets_are_orthonormal(name: str) -> None:
    low = torch.tensor(WAVELETS[name], dtype=torch.float64)
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    coarse, details = _analyse(x, low)
    assert coarse.shape == (2, 3, 4, 6)
    assert details.shape == (2, 3, 3, 4, 6)
    torch.testing.assert_close(coarse.square().sum() + details.square().sum(), x.square().sum())
    torch.testing.assert_close(_synthesise(coarse, details, low), x)
    flat = _analyse(torch.ones(1, 1, 8, 8, dtype=torch.float64), low)[1]
    torch.testing.assert_close(flat, torch.zeros_like(flat), rtol=0, atol=1e-12)


def test_wavelet_shrinks_in_closed_form() -> None:
    # Without an operator, one level and no shifts: details of a 2 x 2 block are shortened by the strength.
    block = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]]]])
    found = Wavelet(0.5, 200, levels=1, spin=False)(whole(block))
    # Each of the three details, and the mean, is 2.
    expected = torch.tensor([[[[2 + 3 * 1.5, 0.5], [0.5, 0.5]]]]) / 2
    torch.testing.assert_close(found, expected.clone(), rtol=0, atol=1e-4)


def test_penalties_beat_direct_inversion() -> None:
    seen = scan()
    direct, best = psnr(FBP()(seen), TRUTH), psnr(TotalVariation(20.0)(seen), TRUTH)
    assert best > direct + 3
    assert psnr(Wavelet(30.0)(seen), TRUTH) > direct + 1


def test_tuning_tries_all_and_keeps_the_best() -> None:
    seen = echo()
    truth = torch.cat([0.8 * TRUTH, 0.6 * TRUTH], 1)
    tried: list[Tensor] = []

    def score(x: Tensor, _: Tensor) -> float:
        tried.append(x)
        return -float((x - truth).norm())

    best, value = tune(CGLS(), {"iterations": [1, 5], "damping": [0.0, 1e4]}, [(seen, truth)], score)
    assert len(tried) == 4
    assert value == max(-float((x - truth).norm()) for x in tried)
    assert isinstance(best, Classical)
    torch.testing.assert_close(best(seen), tried[[-float((x - truth).norm()) for x in tried].index(value)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TotalVariation(-1.0), "strength"),
        (lambda: Wavelet(1.0, wavelet="sym8"), "wavelet"),
        (lambda: Wavelet(1.0, levels=6)(scan()), "multiples of 64"),
        (lambda: CGLS(0), "iterations"),
        (lambda: FBP("box"), "window"),
        (lambda: tune(CGLS(), {}, [(scan(), TRUTH)]), "grid"),
        (lambda: tune(CGLS(), {"iterations": [1]}, []), "cases"),
    ],
)
def test_bad_settings(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_one_coil_takes_all_methods() -> None:
    operator = CartesianMRI(random_mask(SIZE, 2.0, 0.2), rows=SIZE)
    picture = torch.cat([TRUTH, 0 * TRUTH], 1)
    seen = Measurement.simulate(picture, operator, GaussianNoise(0.01), torch.Generator().manual_seed(0))
    plain = psnr(ZeroFilled()(seen), picture)
    assert psnr(TotalVariation(100.0, 200)(seen), picture) > plain + 1
    assert psnr(Wavelet(100.0, 60)(seen), picture) > plain + 0.5
