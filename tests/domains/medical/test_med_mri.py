"""MRI: transforms, masks, one coil and several, any trajectory, coil maps and white noise."""

import math

import pytest
import torch
from torch import Tensor

from ornstein.core.inverse import LinearOperator, MatrixOperator
from ornstein.domains.medical.physics.coils import (
    birdcage_maps,
    combine,
    espirit_maps,
    root_sum_of_squares,
    walsh_maps,
)
from ornstein.domains.medical.physics.fourier import centred_fft, centred_ifft, centring, to_channels, to_complex
from ornstein.domains.medical.physics.masks import equispaced_mask, poisson_disc_mask, random_mask
from ornstein.domains.medical.physics.mri import CartesianMRI, ColumnSpectrum, MulticoilMRI
from ornstein.domains.medical.physics.nufft import NonCartesianMRI, NonUniformFFT, radial_trajectory
from ornstein.domains.medical.physics.phantoms import shepp_logan
from ornstein.domains.medical.physics.whitening import noise_covariance, whiten, whitening_matrix

G = torch.Generator().manual_seed(0)
COLUMNS = random_mask(12, 2.0, 0.2, seed=3)
MAPS = birdcage_maps(4, (9, 12)).to(torch.complex128)
BOTH_MAPS = torch.randn(3, 2, 6, 8, generator=G, dtype=torch.complex128)

OPERATORS: dict[str, LinearOperator] = {
    "one coil": CartesianMRI(COLUMNS, rows=9),
    "a mask for each sample": CartesianMRI(torch.rand(3, 6, 8, generator=G) > 0.5, per_sample=True),
    "coils": MulticoilMRI(MAPS, COLUMNS),
    "coils for each sample": MulticoilMRI(BOTH_MAPS, torch.rand(3, 6, 8, generator=G) > 0.5, per_sample=True),
    "columns": MulticoilMRI(MAPS, COLUMNS).spectrum(),
    "rows": MulticoilMRI(MAPS.mT.contiguous(), COLUMNS[:, None].expand(12, 9)).spectrum(),
    "points": NonUniformFFT(radial_trajectory(5, (9, 12)), (9, 12)),
    "coils at points": NonCartesianMRI(MAPS, radial_trajectory(5, (9, 12), golden=False)),
}


def pair(operator: LinearOperator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (operator.shape, operator.measured)
    x, y = (torch.randn(3, *shape, generator=generator, dtype=dtype) for shape in shapes)
    return x, y


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_adjoint(name: str, dtype: torch.dtype, most: float) -> None:
    operator = OPERATORS[name]
    x, y = pair(operator, dtype)
    forth, back = operator(x), operator.adjoint(y)
    assert forth.shape == y.shape
    assert back.shape == x.shape
    assert forth.dtype == back.dtype == dtype
    difference = (forth.double() * y.double()).sum() - (x.double() * back.double()).sum()
    assert float(difference.abs() / (forth.double().norm() * y.double().norm())) < most
    # The adjoint is the transposed Jacobian, which autograd knows.
    other = super(LinearOperator, operator).vjp(x, y)
    torch.testing.assert_close(back, other, rtol=0, atol=100 * most)


@pytest.mark.parametrize("name", ["one coil", "a mask for each sample", "columns", "rows"])
def test_decomposition(name: str) -> None:
    operator = OPERATORS[name]
    x, y = pair(operator, torch.float64)
    s, c = operator.singular_values, operator.vt(x)
    assert s.shape[-1] == c.shape[1] == math.prod(operator.shape)
    torch.testing.assert_close(operator.v(c), x)
    torch.testing.assert_close(c.norm(dim=1), x.flatten(1).norm(dim=1))
    seen = operator.reliable
    torch.testing.assert_close(operator.u(torch.where(seen, c, 0.0) * s), operator(x), rtol=0, atol=1e-4)
    torch.testing.assert_close(operator.spectral_filter(operator.ut(y), s), operator.adjoint(y), rtol=0, atol=1e-4)
    kept = torch.where(seen, c, 0.0)
    torch.testing.assert_close(operator.ut(operator.u(kept)), kept, rtol=0, atol=1e-8)


def test_values_of_coils_are_those_of_the_matrix() -> None:
    operator = MulticoilMRI(birdcage_maps(3, (4, 6)), random_mask(6, 2.0, 0.2, seed=1))
    spectrum = operator.spectrum()
    dense = MatrixOperator.of(operator)
    torch.testing.assert_close(
        spectrum.singular_values.sort().values, dense.singular_values.sort().values, rtol=0, atol=2e-7
    )
    y = operator(torch.randn(2, 2, 4, 6, dtype=torch.float64))
    torch.testing.assert_close(spectrum.pseudo_inverse(y), dense.pseudo_inverse(y), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (9, 5)])
def test_centred_transforms(shape: tuple[int, int]) -> None:
    z = torch.randn(2, *shape, dtype=torch.complex128)
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in shape)
    by_sum = torch.einsum(
        "ki,lj,bij->bkl",
        torch.exp(-2j * math.pi * rows[:, None] * rows / shape[0]),
        torch.exp(-2j * math.pi * columns[:, None] * columns / shape[1]),
        z,
    ) / math.sqrt(math.prod(shape))
    torch.testing.assert_close(centred_fft(z), by_sum)
    torch.testing.assert_close(centred_ifft(by_sum), z)
    before, after = centring(*shape)
    torch.testing.assert_close(after * torch.fft.fft2(before * z, norm="ortho"), by_sum)


def test_channels_are_views() -> None:
    z = torch.randn(2, 3, 4, dtype=torch.complex64)
    x = to_channels(z)
    assert x.shape == (2, 2, 3, 4)
    assert x.data_ptr() == z.data_ptr() == to_complex(x).data_ptr()
    torch.testing.assert_close(to_complex(x.contiguous()), z)
    torch.testing.assert_close(to_complex(x.contiguous()[..., 1:]), z[..., 1:])
    with pytest.raises(ValueError, match="real and imaginary"):
        to_complex(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="complex numbers"):
        to_channels(torch.zeros(2, 3))


def test_coils_by_their_definition() -> None:
    operator = OPERATORS["coils"]
    x = torch.randn(2, 2, 9, 12, dtype=torch.float64)
    expected = centred_fft(MAPS * to_complex(x)[:, None]) * COLUMNS
    torch.testing.assert_close(operator(x), to_channels(expected))
    # Coil maps with a sum of squares of 1 and all of k-space: the adjoint is the inverse.
    whole = MulticoilMRI(MAPS, torch.ones(9, 12, dtype=torch.bool))
    torch.testing.assert_close(whole.adjoint(whole(x)), x)


def test_parts_of_a_batch() -> None:
    x = torch.randn(3, 2, 6, 8, dtype=torch.float64)
    for name in ("a mask for each sample", "coils for each sample"):
        operator = OPERATORS[name]
        torch.testing.assert_close(operator.part(slice(1, 3))(x[1:]), operator(x)[1:])
        y = torch.full((3, *operator.measured), math.nan, dtype=torch.float64)
        assert bool((operator.restrict(y).isnan() == (operator(x) != 0)).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CartesianMRI(torch.ones(4, 4)), "dtype"),
        (lambda: CartesianMRI(torch.ones(4, dtype=torch.bool)), "rows="),
        (lambda: CartesianMRI(torch.zeros(4, 4, dtype=torch.bool)), "measures nothing"),
        (lambda: MulticoilMRI(MAPS.abs(), COLUMNS), "complex"),
        (lambda: MulticoilMRI(MAPS * torch.tensor([1, 0, 1, 1])[:, None, None], COLUMNS), "coil 1 are zero"),
        (lambda: MulticoilMRI(MAPS * math.nan, COLUMNS), "NaN"),
        (lambda: MulticoilMRI(MAPS, COLUMNS[:-1]), "mask of shape"),
        (lambda: MulticoilMRI(MAPS, torch.eye(9, 12, dtype=torch.bool)).spectrum(), "whole columns"),
        (lambda: ColumnSpectrum(OPERATORS["coils for each sample"]), "each sample"),
        (lambda: NonUniformFFT(torch.tensor([[5.0, 0.0]]), (9, 12)), "at most"),
        (lambda: NonCartesianMRI(MAPS * 0, radial_trajectory(2, (9, 12))), "zero everywhere"),
        (lambda: random_mask(32, 8.0, 0.2), "centre"),
        (lambda: equispaced_mask(32, 4.0, 0.08, offset=9), "offset"),
        (lambda: espirit_maps(torch.zeros(2, 8, 8, dtype=torch.complex64), (16, 16)), "empty"),
        (lambda: espirit_maps(torch.ones(2, 5, 5, dtype=torch.complex64), (16, 16)), "kernel"),
        (lambda: walsh_maps(torch.ones(2, 5, 5)), "complex"),
        (lambda: noise_covariance(torch.ones(4, 5, dtype=torch.complex64)), "two for each coil"),
        (lambda: whitening_matrix(torch.zeros(2, 2, dtype=torch.complex64)), "positive definite at coil 0"),
        (lambda: whitening_matrix(torch.tensor([[1.0, 1j], [1j, 1.0]])), "Hermitian"),
    ],
)
def test_bad_input(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_random_masks() -> None:
    masks = torch.stack([random_mask(320, 4.0, 0.08, seed) for seed in range(200)])
    middle = round(320 * 0.08)
    first = (320 - middle + 1) // 2
    assert bool(masks[:, first : first + middle].all())
    assert float(masks.double().mean()) == pytest.approx(0.25, abs=0.005)
    outside = torch.cat([masks[:, :first], masks[:, first + middle :]], 1).double().mean(0)
    share = (80 - middle) / (320 - middle)
    assert float(outside.std()) == pytest.approx(math.sqrt(share * (1 - share) / 200), rel=0.2)
    assert bool((random_mask(320, 4.0, 0.08, 5) == masks[5]).all())


def test_equispaced_masks() -> None:
    for columns, acceleration, centre in ((320, 4.0, 0.08), (368, 8.0, 0.04), (64, 2.0, 0.0)):
        middle = round(columns * centre)
        counts = [int(equispaced_mask(columns, acceleration, centre, seed=seed).sum()) for seed in range(10)]
        assert sum(counts) / 10 == pytest.approx(columns / acceleration, abs=1.5)
        mask = equispaced_mask(columns, acceleration, centre, offset=1)
        first = (columns - middle + 1) // 2
        gaps = mask[:first].nonzero().flatten().diff()
        assert int(gaps.max() - gaps.min()) <= 1
        assert bool(mask[1])
        assert bool(mask[first : first + middle].all())


@pytest.mark.parametrize("shape", [128, (48, 64)])
def test_poisson_discs_keep_their_distance(shape: int | tuple[int, int]) -> None:
    mask = poisson_disc_mask(shape, 4.0, centre=0.0, seed=2, decay=2.0)
    assert 4 / mask.double().mean().reciprocal() == pytest.approx(1, abs=0.03)
    points = mask.reshape(-1, mask.shape[-1]).nonzero().double()
    gaps = torch.cdist(points, points).fill_diagonal_(math.inf).amin(1)
    middle = torch.tensor([(mask.reshape(-1, mask.shape[-1]).shape[i]) // 2 for i in range(2)], dtype=torch.float64)
    away = ((points - middle) / middle.clamp(min=1)).norm(dim=1)
    # Nearest neighbours are further apart outside, by the radius that grows threefold.
    assert float(gaps[away > 0.8].mean()) > 1.7 * float(gaps[away < 0.2].mean())
    # And none is nearer than the scale: the smallest ratio of gap and radius is the same in and out.
    scale = gaps / (1 + 2 * away)
    assert float(scale[away > 0.8].min()) >= 0.95 * float(scale.min())
    centred = poisson_disc_mask(shape, 4.0, centre=0.1, seed=2)
    last = centred.shape[-1]
    line = centred if centred.ndim == 1 else centred[24]
    assert bool(line[(last - round(0.1 * last) + 1) // 2 :][: round(0.1 * last)].all())


def exact_transform(z: Tensor, points: Tensor) -> Tensor:
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in z.shape[-2:])
    turns = points[:, 0, None, None] * rows[:, None] / len(rows) + points[:, 1, None, None] * columns / len(columns)
    return torch.einsum("mij,bij->bm", torch.exp(-2j * math.pi * turns), z) / math.sqrt(len(rows) * len(columns))


def test_non_uniform_transform_is_the_sum() -> None:
    points = radial_trajectory(13, (24, 31))
    z = torch.randn(2, 24, 31, dtype=torch.complex128)
    exact = exact_transform(z, points)
    errors = []
    for width in (4, 6, 8):
        ours = NonUniformFFT(points, (24, 31), width).transform(z)
        errors.append(float((ours - exact).norm() / exact.norm()))
    assert errors[0] < 2e-3
    assert errors[1] < 2e-5
    assert errors[2] < 1e-6


def test_density_of_a_grid_is_one_and_spokes_come_back() -> None:
    rows, columns = torch.arange(16.0) - 8, torch.arange(20.0) - 10
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)
    torch.testing.assert_close(NonUniformFFT(grid, (16, 20)).density(), torch.ones(320), rtol=0, atol=0.01)
    # Smooth enough for the corners of k-space, which spokes do not reach, to be empty.
    line = torch.arange(64.0) - 32
    picture = torch.exp(-(line[:, None] ** 2 + (line - 7) ** 2) / 72).to(torch.complex64)[None]
    transform = NonUniformFFT(radial_trajectory(128, (64, 64)), (64, 64))
    for iterations, most in ((20, 0.04), (100, 0.01)):
        back = transform.transform_adjoint(transform.transform(picture) * transform.density(iterations))
        assert float((back - picture).norm() / picture.norm()) < most


def test_kspace_of_the_phantom_in_closed_form() -> None:
    size = 256
    points = radial_trajectory(16, (size, size), samples=32) / 16  # low frequencies, which pixels do not smooth
    exact = shepp_logan().kspace(torch.stack([points[:, 1], -points[:, 0]], -1)) * size
    # Pixels are about a middle half a pixel from that of the transform.
    exact = exact * torch.exp(1j * math.pi * points.sum(1) / size)
    picture = shepp_logan().image(size, dtype=torch.float64)[:, 0].to(torch.complex128)
    ours = NonUniformFFT(points, (size, size)).transform(picture)[0]
    assert float((ours - exact).norm() / exact.norm()) < 1e-3


def scene(size: int = 64, coils: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, coil pictures and where there is signal."""
    maps = birdcage_maps(coils, (size, size))
    phase = torch.linspace(0, 2, size)
    picture = shepp_logan().image(size)[0, 0] * torch.polar(torch.ones(size), phase)
    return maps, maps * picture, picture.abs() > 0.05


def alike(ours: Tensor, maps: Tensor, where: Tensor) -> float:
    """The smallest ``|<S, S'>|`` over pixels of unit vectors: 1 where they differ in phase alone."""
    return float((ours.conj() * maps).sum(0).abs()[where].min())


def test_espirit() -> None:
    maps, pictures, where = scene()
    middle = centred_fft(pictures)[:, 20:44, 20:44]
    ours = espirit_maps(middle, (64, 64))
    assert alike(ours, maps, where) > 0.999
    picture = combine(pictures, ours)
    assert float((picture.abs() - root_sum_of_squares(pictures)).norm() / pictures.norm()) < 1e-3
    # Far from the head nothing tells the maps, and they are left out.
    assert float((ours.abs().sum(0) == 0).float().mean()) > 0.02
    noisy = middle + 0.02 * middle.abs().mean() * torch.randn(middle.shape, dtype=torch.complex64, generator=G)
    assert alike(espirit_maps(noisy, (64, 64), threshold=0.05), maps, where) > 0.995


def test_walsh() -> None:
    maps, pictures, where = scene()
    ours = walsh_maps(pictures)
    # Maps that vary within a window are averaged; a small window keeps them.
    assert alike(ours, maps, where) > 0.995
    assert alike(walsh_maps(pictures, window=3), maps, where) > 0.999
    torch.testing.assert_close((ours.abs() ** 2).sum(0)[where], torch.ones(int(where.sum())))
    assert float(ours[:, 0, 0].abs().max()) == 0


def test_whitening() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, dtype=torch.complex128, generator=generator) + 2 * torch.eye(4)
    noise = mix @ torch.randn(4, 40000, dtype=torch.complex128, generator=generator)
    covariance = noise_covariance(noise)
    torch.testing.assert_close(covariance, mix @ mix.mH, rtol=0.05, atol=0.1)
    white = whiten(noise.reshape(4, 200, 200), covariance)
    torch.testing.assert_close(noise_covariance(white), 2 * torch.eye(4, dtype=torch.complex128), rtol=0, atol=1e-10)
    # Real and imaginary parts each have variance 1, as a Measurement's channels want.
    assert float(white.real.var()) == pytest.approx(1, abs=0.02)
    assert float(white.imag.var()) == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="3 coils"):
        whiten(white[:3], covariance)
