"""`MedicalReconstruction`: the contract of adapters, scales, exact posteriors, certificates, errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from medical_models import SIDE, exact, gaussian, scanner, tiny

from ornstein.core import conformance
from ornstein.core.adapter import DomainAdapter
from ornstein.core.inverse import (
    POSTERIOR_METHODS,
    SPECTRAL_METHODS,
    FunctionOperator,
    GaussianNoise,
    MatrixOperator,
    Measurement,
    PoissonNoise,
    UnequalNoise,
    posterior_sampler,
)
from ornstein.core.nn import UNet
from ornstein.core.training.seeds import derive_seed
from ornstein.domains.medical import EllipseData, MedicalReconstruction, default_method
from ornstein.domains.medical.adapter import default_network
from ornstein.domains.medical.judges import data_consistency
from ornstein.domains.medical.methods import decomposed
from ornstein.domains.medical.physics import (
    CartesianMRI,
    LogCounts,
    MulticoilMRI,
    RealPicture,
    birdcage_maps,
    random_mask,
)
from ornstein.domains.medical.physics.counts import WATER
from ornstein.domains.medical.scale import Scale, shown

# The contract of adapters.

CHECKS = [check for name, check in vars(conformance).items() if name.startswith("test_adapter_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_adapter_keeps_the_contract(check, channels: int) -> None:
    check(tiny(channels, window=(-1000.0, 1000.0), units="HU"))


def test_it_is_registered() -> None:
    from ornstein.core.registry import load_domain

    assert load_domain("medical") is MedicalReconstruction


def test_the_prior_is_trained_on_what_a_data_module_knows(tmp_path: Path) -> None:
    data = EllipseData(size=16, count=8, heldout=3, window=(0.0, 0.8), batch_size=4)
    model = MedicalReconstruction.for_data(data, network=UNet(1, widths=(8,), depths=(1,), attention=(False,)))
    assert (model.shape, model.window, model.units) == ((1, 16, 16), (0.0, 0.8), "")
    before = model.objective(model.denoiser, data.scale(data.parts[0]), generator=torch.Generator().manual_seed(0))
    model.fit(data, run=tmp_path / "run", max_steps=30, accelerator="cpu", lr=0.01, sample_every=30, num_samples=2)
    after = model.objective(model.denoiser, data.scale(data.parts[0]), generator=torch.Generator().manual_seed(0))
    assert after.mean().item() < 0.8 * before.mean().item()
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    loaded = DomainAdapter.from_pretrained(tmp_path / "run" / "model")
    assert isinstance(loaded, MedicalReconstruction)
    slices = loaded.sample(2, seed=0)
    assert slices.shape == (2, 1, 16, 16)
    paths = loaded.write(slices, tmp_path / "out", first=3)
    assert [path.name for path in paths] == ["000003.npy", "000004.npy"]
    np.testing.assert_array_equal(np.load(paths[1], allow_pickle=False), slices[1].numpy())


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 64, 48), (1, 192, 192), (1, 6, 5)])
def test_the_default_network_takes_any_size(shape: tuple[int, int, int]) -> None:
    network = default_network(shape)
    small = (shape[0], min(shape[1], 40), min(shape[2], 40))
    assert network(torch.zeros(1, *small), torch.zeros(1)).shape == (1, *small)
    assert sum(p.numel() for p in network.parameters()) < 8e6
    assert max(shape[1:]) / 2 ** (len(network.widths) - 1) <= 8


# Scales.


def test_scales_are_inverses_of_one_another() -> None:
    scale = Scale((-1000.0, 1000.0), "HU")
    pictures = torch.tensor([-1000.0, 0.0, 1000.0])
    torch.testing.assert_close(scale.to_state(pictures), torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(scale.to_units(scale.to_state(pictures)), pictures)
    attenuation = scale.to_operator(pictures, scanner())
    torch.testing.assert_close(attenuation, torch.tensor([0.0, WATER, 2 * WATER]))
    torch.testing.assert_close(scale.from_operator(attenuation, scanner()), pictures)
    whole = MatrixOperator(torch.eye(scanner().measured[1] * scanner().measured[2]))
    assert scale.to_operator(pictures, whole) is pictures  # of Hounsfield units themselves


@pytest.mark.parametrize("units", ["", "HU"])
def test_a_measurement_of_pictures_is_one_of_states(units: str) -> None:
    window = (-1000.0, 1000.0) if units else (0.0, 3.0)
    scale = Scale(window, units)
    state = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    operator = scanner(pixel=20.0 if units else 0.3)
    clean = operator(scale.to_operator(scale.to_units(state), operator))
    gain = WATER if units else 1.5
    for noise, variance in (
        (GaussianNoise(0.3), torch.full_like(clean, 0.09)),
        (LogCounts(1e5), LogCounts(1e5).variance(clean)),
        (UnequalNoise(clean.square() + 0.1), clean.square() + 0.1),
    ):
        seen = scale.measurement_of_states(Measurement(clean, operator, noise))
        assert seen.operator is operator
        torch.testing.assert_close(seen.y, operator(state), rtol=1e-4, atol=2e-3)
        torch.testing.assert_close(torch.as_tensor(seen.variance).expand(clean.shape), variance / gain**2)
    bent = FunctionOperator(lambda x: x**2, (1, SIDE, SIDE))
    seen = scale.measurement_of_states(Measurement(bent(scale.to_units(state)), bent, PoissonNoise()))
    torch.testing.assert_close(seen.operator(state), seen.y)
    assert seen.noise == PoissonNoise()


def test_shown_is_the_value_or_the_magnitude() -> None:
    assert torch.equal(shown(torch.full((3, 1, 2, 2), -2.0)), torch.full((3, 2, 2), -2.0))
    torch.testing.assert_close(shown(torch.tensor([3.0, 4.0])[:, None, None].expand(2, 5, 5)), torch.full((5, 5), 5.0))


# Reconstruction.


@pytest.mark.parametrize("white", [True, False])
def test_ct_in_hounsfield_units_has_the_exact_posterior(white: bool) -> None:
    model, prior = gaussian(white=white, window=(-1000.0, 1000.0), units="HU")
    state = prior.sample(2, generator=torch.Generator().manual_seed(3)).float().unflatten(1, model.shape)
    seen = model.simulate(model.decode(state), scanner(), LogCounts(1e4), seed=1)
    found = model.reconstruct(seen, method="pigdm", num=64, evaluations=80 if white else 30, seed=0)
    for i in range(2):
        mean, deviation, chi2 = exact(model.scale.measurement_of_states(seen[i : i + 1]), white)
        error = (model.scale.to_state(found.mean[i]).flatten().double() - mean) / deviation
        # For white data the method is exact: what is left are 64 draws (0.125) and the steps.
        assert float(error.square().mean().sqrt()) < (0.16 if white else 0.25)
        ratio = found.deviation[i].flatten().double() / 1000 / deviation
        assert float(ratio.mean()) == pytest.approx(1, abs=0.07 if white else 0.15)
        # Correlated data, taken for white, are trusted more than they should be: samples fit the measurement less.
        assert 0.93 * chi2 < float(found.sample_consistency.ratio[i].mean()) < (1.07 if white else 1.2) * chi2


def test_samples_fit_the_data_as_they_should_in_few_steps_and_in_many() -> None:
    model, prior = gaussian(white=True, window=(-1000.0, 1000.0), units="HU")
    state = prior.sample(1, generator=torch.Generator().manual_seed(3)).float().unflatten(1, model.shape)
    seen = model.simulate(model.decode(state), scanner(), LogCounts(1e4), seed=1)
    chi2 = exact(model.scale.measurement_of_states(seen), True)[2]
    for steps in (20, 80):
        found = model.reconstruct(seen, num=64, evaluations=steps, seed=0)
        # The mean over 64 draws is known to 0.02; twenty ancestral steps would miss it by 0.3.
        assert float(found.sample_consistency.ratio.mean()) == pytest.approx(chi2, abs=0.06)


def test_mri_by_a_decomposition_has_a_posterior_that_fits() -> None:
    model, prior = gaussian(2, window=(-1.0, 1.0))
    operator = CartesianMRI(random_mask(SIDE, 2.0, 0.3), rows=SIDE)
    truth = prior.sample(1, generator=torch.Generator().manual_seed(3)).float().unflatten(1, model.shape)
    seen = model.simulate(truth, operator, GaussianNoise(0.05))
    assert default_method(seen) == "pigdm"
    found = model.reconstruct(seen, num=128, evaluations=40, seed=0)
    assert (found.method, found.evaluations) == ("pigdm", 40)
    mean, deviation, _ = exact(seen)
    assert float(((found.mean.flatten() - mean) / deviation).square().mean().sqrt()) < 0.5
    # The mean is what was measured and what was invented, and only the first part is seen.
    invented = found.null_space
    assert operator(invented).abs().max() < 1e-5
    torch.testing.assert_close(operator.project(found.mean) + invented, found.mean, rtol=1e-4, atol=1e-5)
    expected = data_consistency(found.mean, seen)
    torch.testing.assert_close(found.consistency.chi2, expected.chi2, rtol=1e-4, atol=0)
    assert found.sample_consistency.chi2.shape == (1, 128)
    assert 0.5 < float(found.sample_consistency.ratio.mean()) < 2
    assert "pigdm" in repr(found)
    # A sample does not depend on how many are drawn, nor on how many at a time.
    again = model.reconstruct(seen, num=3, evaluations=40, seed=0, batch_size=2)
    torch.testing.assert_close(again.samples, found.samples[:, :3], rtol=1e-3, atol=1e-4)


def test_the_invented_part_of_a_projection_changes_no_projection() -> None:
    model, _ = gaussian(units="HU", window=(-1000.0, 1000.0))
    operator = scanner(3)
    seen = model.simulate(torch.zeros(1, *model.shape), operator, LogCounts(1e5))
    found = model.reconstruct(seen, num=2, evaluations=5, seed=0)
    whole = operator(model.scale.to_operator(found.mean, operator))
    change = operator(found.null_space * WATER / 1000)
    assert change.norm() < 1e-3 * whole.norm()
    assert found.null_space.norm() > 0.05 * found.mean.norm()


@pytest.mark.parametrize("name", POSTERIOR_METHODS)
def test_every_method_of_the_core_reconstructs(name: str) -> None:
    model, _ = gaussian(2, window=(-1.0, 1.0))
    operator = CartesianMRI(random_mask(SIDE, 2.0, 0.3), rows=SIDE)
    truth = 0.3 * torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    found = model.reconstruct(model.simulate(truth, operator, GaussianNoise(0.1)), method=name, num=2, evaluations=6)
    assert found.samples.shape == (1, 2, 2, SIDE, SIDE)
    assert found.method == name


def coils(columns: bool, per_sample: bool = False) -> MulticoilMRI:
    mask = random_mask(SIDE, 2.0, 0.3)[None].expand(SIDE, -1).clone()
    mask[0, 0] ^= not columns  # no longer of whole columns
    maps = birdcage_maps(3, (SIDE, SIDE))
    return MulticoilMRI(maps[None], mask[None], True) if per_sample else MulticoilMRI(maps, mask)


@pytest.mark.parametrize("name", ["projections", "counts", "columns", "points", "coils of the slice", "real"])
def test_spectral_methods_take_operators_without_a_known_decomposition(name: str) -> None:
    real = CartesianMRI(random_mask(SIDE, 2.0, 0.3), rows=SIDE) @ RealPicture((SIDE, SIDE))
    operator, noise = {
        "projections": (scanner(), GaussianNoise(0.1)),
        "counts": (scanner(pixel=0.5), LogCounts(1e4)),
        "columns": (coils(True), GaussianNoise(0.1)),
        "points": (coils(False), GaussianNoise(0.1)),
        "coils of the slice": (coils(True, True), GaussianNoise(0.1)),
        "real": (real, GaussianNoise(0.1)),
    }[name]
    model, prior = gaussian(operator.shape[0], window=(-1.0, 1.0))
    truth = 0.3 * torch.rand(1, *model.shape, generator=torch.Generator().manual_seed(0))
    seen = model.simulate(truth, operator, noise)
    found = model.reconstruct(seen, method="ddrm", num=3, evaluations=8, seed=0)
    # The same through the dense matrix of the whitened operator.
    white = model.scale.measurement_of_states(seen).whitened()
    dense = Measurement(white.y, MatrixOperator.of(white.operator), white.noise)
    sampler, denoiser = posterior_sampler("ddrm", prior, dense, 8)
    expected = sampler.sample(denoiser, (3, *model.shape), seed=derive_seed(0, "slice", 0))
    torch.testing.assert_close(found.samples[0], model.scale.to_units(expected), rtol=0, atol=2e-3)
    assert decomposed(dense) is dense


@pytest.mark.parametrize("name", SPECTRAL_METHODS)
def test_every_spectral_method_reconstructs_ct(name: str) -> None:
    model, _ = gaussian(window=(-1.0, 1.0))
    truth = 0.3 * torch.rand(1, *model.shape, generator=torch.Generator().manual_seed(0))
    found = model.reconstruct(model.simulate(truth, scanner(), GaussianNoise(1.0)), method=name, num=2, evaluations=8)
    assert found.samples.shape == (1, 2, *model.shape)


def test_defaults_follow_the_operator() -> None:
    model, _ = gaussian()
    pictures = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert default_method(model.simulate(pictures, scanner(), LogCounts(1e5))) == "pigdm"
    real = CartesianMRI(random_mask(SIDE, 2.0, 0.3), rows=SIDE) @ RealPicture((SIDE, SIDE))
    seen = model.simulate(pictures, real, GaussianNoise(0.05))
    assert default_method(seen) == "pigdm"
    assert model.reconstruct(seen, num=2, evaluations=4).mean.shape == (1, 1, SIDE, SIDE)
    bent = FunctionOperator(torch.square, model.shape)
    seen = model.simulate(pictures, bent, GaussianNoise(0.05))
    found = model.reconstruct(seen, num=2, evaluations=4)
    assert (found.method, found.null_space) == ("dps", None)
    exactly = model.reconstruct(model.simulate(pictures, scanner()), num=2, evaluations=4)
    assert exactly.consistency is None


def test_real_picture_has_an_exact_adjoint() -> None:
    operator = RealPicture((4, 5))
    x, y = torch.randn(2, 1, 4, 5, dtype=torch.float64), torch.randn(2, 2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y)).sum(), rtol=1e-12, atol=0)
    assert torch.equal(operator.project(x), x)


def test_masks_and_coils_of_each_slice_are_its_own() -> None:
    model, _ = gaussian(2, window=(-1.0, 1.0))
    masks = torch.stack([random_mask(SIDE, 2.0, 0.3, seed=i)[None].expand(SIDE, -1) for i in range(2)])
    maps = birdcage_maps(3, (SIDE, SIDE))[None].expand(2, -1, -1, -1).contiguous()
    operator = MulticoilMRI(maps, masks, per_sample=True)
    truth = 0.3 * torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    seen = model.simulate(truth, operator, GaussianNoise(0.05))
    found = model.reconstruct(seen, num=3, evaluations=8, seed=0)
    alone = model.reconstruct(seen[:1], num=3, evaluations=8, seed=0)
    torch.testing.assert_close(found.samples[:1], alone.samples, rtol=1e-3, atol=1e-4)


def test_quantiles_and_intervals_are_of_the_samples() -> None:
    model, _ = gaussian()
    seen = model.simulate(torch.rand(1, 1, SIDE, SIDE), scanner(), GaussianNoise(0.5))
    found = model.reconstruct(seen, num=19, evaluations=4, seed=0)
    torch.testing.assert_close(found.quantile(0.5), found.samples.median(1).values)
    lower, upper = found.interval(0.9)
    torch.testing.assert_close(lower, found.samples.min(1).values)
    torch.testing.assert_close(upper, found.samples.max(1).values)
    torch.testing.assert_close(found.deviation, found.samples.std(1))


def test_errors_name_what_is_wrong() -> None:
    model, _ = gaussian()
    seen = model.simulate(torch.rand(1, 1, SIDE, SIDE), scanner(), GaussianNoise(0.5))
    complex_seen = Measurement(torch.zeros(1, 2, SIDE, SIDE), CartesianMRI(torch.ones(SIDE, SIDE, dtype=torch.bool)))
    for call, error, text in (
        (lambda: model.reconstruct(seen.y), TypeError, "measurement is Tensor"),
        (lambda: model.reconstruct(complex_seen), ValueError, "RealPicture"),
        (lambda: model.reconstruct(seen, method="magic"), ValueError, "method='magic'"),
        (lambda: model.reconstruct(seen, num=1), ValueError, "num=1"),
        (lambda: model.reconstruct(seen, batch_size=0), ValueError, "batch_size=0"),
        (lambda: model.reconstruct(seen, method="tds", num=4, batch_size=2), ValueError, "one population"),
        (lambda: model.reconstruct(seen, calibration="x"), ValueError, "calibration='x'"),
        (lambda: model.encode(torch.zeros(1, 1, SIDE, SIDE)), TypeError, "image"),
        (lambda: model.encode({"image": torch.zeros(1, 1, 4, 4)}), ValueError, "shape"),
        (lambda: model.encode({"image": torch.full((1, 1, SIDE, SIDE), torch.nan)}), ValueError, "NaN"),
        (lambda: model.sample(1, label=3), ValueError, "label"),
        (lambda: MedicalReconstruction((3, 8, 8)), ValueError, "shape"),
        (lambda: MedicalReconstruction((1, 8, 8), window=(1.0, 0.0)), ValueError, "window"),
        (lambda: MedicalReconstruction((1, 8, 8), water=-1.0), ValueError, "water"),
    ):
        with pytest.raises(error, match=text):
            call()
