"""Models that are shown a guess: their data, what they draw, and what they refuse."""

from pathlib import Path

import pytest
import torch
from medical_models import SIDE, scanner, tiny
from torch import nn

from ornstein.core import DPMSolver, conformance
from ornstein.core.config import from_config, to_config
from ornstein.core.inverse import GaussianNoise, Measurement
from ornstein.core.nn import Refiner, UNet
from ornstein.domains.medical import CGLS, FBP, EllipseData, MedicalReconstruction, Scan, ScanData
from ornstein.domains.medical.physics import (
    CartesianMRI,
    LogCounts,
    ParallelBeam,
    Projector,
    random_mask,
    spread_angles,
)
from ornstein.domains.medical.scale import Scale
from ornstein.domains.medical.scans import first_guess, turned

SHAPE = (1, 16, 16)
CHECKS = [check for name, check in vars(conformance).items() if name.startswith("test_adapter_")]


def views(count: int) -> Projector:
    return Projector(ParallelBeam(SHAPE[1:], spread_angles(count), pixel=0.1))


def data(**options: object) -> ScanData:
    slices = EllipseData(size=16, count=6, heldout=3, batch_size=4)
    return ScanData(slices, [Scan(views(12), LogCounts(1e5)), Scan(views(5), GaussianNoise(0.03))], FBP(), **options)


class Silent(nn.Module):
    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, :1])


def guessing(network: nn.Module, **options: object) -> MedicalReconstruction:
    return MedicalReconstruction(SHAPE, network=network, guess=FBP(), **options)


def small() -> UNet:
    return UNet(2, out_channels=1, widths=(8,), depths=(1,), attention=(False,), groups=4)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_adapter_keeps_the_contract(check) -> None:
    check(guessing(small(), sampler=DPMSolver(3)).eval())


def test_scans_repeat_and_their_guesses_are_those_of_the_method() -> None:
    scanned = data(rounds=2, augment=False).train_dataset()
    assert len(scanned) == 6 * 2 * 2
    whole = scanned.__getitems__(list(range(24)))
    assert torch.equal(whole["guess"][5], scanned[5]["guess"])
    assert torch.equal(whole["image"][:2], whole["image"][12:14])  # the same slice again,
    assert not torch.equal(whole["guess"][:2], whole["guess"][12:14])  # scanned anew
    # Without noise to speak of, the guess is filtered back-projection of the slice's projections.
    slices, operator = EllipseData(size=16, count=2, heldout=1), views(12)
    clean = ScanData(slices, [Scan(operator, GaussianNoise(0.0))], FBP(), augment=False).train_dataset()[1]
    seen = Measurement(operator(slices.parts[0][1:2]), operator, GaussianNoise(0.0))
    expected = 2 * FBP()(seen)[0] - 1
    torch.testing.assert_close(clean["guess"], expected)
    torch.testing.assert_close(clean["image"], 2 * slices.parts[0][1] - 1)


def test_kept_scans_are_made_once() -> None:
    anew, kept = data(rounds=1), data(rounds=1, keep=True)
    first = kept.train_dataset()[3]
    again = kept.train_dataset()[3]
    assert again["guess"] is first["guess"]
    assert torch.equal(first["guess"], anew.train_dataset()[3]["guess"])
    assert not torch.equal(kept.validation_dataset()[3]["guess"], first["guess"])
    with pytest.raises(ValueError, match="num_workers=1: expected 0, to keep"):
        data(keep=True, num_workers=1)


def test_what_is_still_lies_over_bodies_that_are_moved() -> None:
    rests = torch.full((2, *SHAPE), -2.0)
    rests[0, 0, 1], rests[1, 0, 14] = 3.0, 5.0
    scale = Scale((0.0, 1.0), "")
    plain, beside = data(rounds=4).train_dataset(), data(rounds=4, still=rests).train_dataset()
    drawn = []
    for index in range(len(plain)):
        body, whole = (scale.to_units(items[index]["image"]) for items in (plain, beside))
        found = [torch.allclose(whole, torch.maximum(body, rest), atol=1e-6) for rest in rests]
        assert sum(found) == 1
        drawn.append(found.index(True))
    assert 10 < sum(drawn) < 38  # of 48: four standard deviations
    heldout = [data(**options).validation_dataset()[2]["image"] for options in ({}, {"still": rests})]
    assert torch.equal(*heldout)
    with pytest.raises(ValueError, match=r"still of shape \(1, 8, 8\): expected \(M, 1, 16, 16\)"):
        data(still=torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="still='slices': expected None without augmentation"):
        data(still=rests, augment=False)


def test_measurements_come_in_batches_of_one_scan() -> None:
    module = data(augment=False, residual=FBP("hann", matched=True), rounds=1)
    items = module.train_dataset()
    batch = items.__getitems__([3, 4, 6])  # of both scans; all become those of the first one's
    assert batch["seen"].operator is module.scans[1].operator
    plain = data(augment=False, rounds=1).train_dataset().__getitems__([3, 5, 7])
    for name in ("image", "guess"):
        assert torch.equal(batch[name], plain[name])
    # A measurement of states: without noise it is what the operator makes of them.
    clean = ScanData(module.data, [Scan(views(12), GaussianNoise(0.0))], FBP(), augment=False, residual=FBP())
    for kept in (False, True):
        clean.keep = kept
        found = clean.train_dataset().__getitems__([0, 2])
        torch.testing.assert_close(found["seen"].y, found["seen"].operator(found["image"]), rtol=1e-4, atol=1e-4)
    moved = found["seen"].to("cpu")
    assert torch.equal(moved.y, found["seen"].y)
    assert moved.operator is found["seen"].operator
    with pytest.raises(ValueError, match="num_workers=1: expected 0, to give"):
        data(residual=FBP(), num_workers=1)


def unrolled(**options: object) -> MedicalReconstruction:
    return MedicalReconstruction(
        SHAPE, network=Refiner(4, 1, steps=2, widths=(8,)), guess=FBP(), residual=FBP("hann", matched=True), **options
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_adapter_keeps_the_contract_where_it_is_unrolled(check) -> None:
    check(unrolled(sampler=DPMSolver(3)).eval())


def test_an_unrolled_model_learns_from_measurements_and_is_saved(tmp_path: Path) -> None:
    module = data(batch_size=8, residual=FBP("hann", matched=True))
    model = MedicalReconstruction.for_data(module, network=Refiner(4, 1, steps=2, widths=(8,)))
    assert model.residual == FBP("hann", matched=True)
    options = {"sample_every": 0, "accelerator": "cpu", "lr": 0.02, "ema": None, "log_every_n_steps": 100}
    model.fit(module, run=tmp_path / "run", max_steps=150, **options)
    told = model.encode(module.validation_dataset().__getitems__([0, 2, 4]))
    assert set(told.condition) == {"guess", "seen"}
    noise = torch.randn(told.state.shape, generator=torch.Generator().manual_seed(0))

    def error(x: torch.Tensor) -> float:
        return float((x - told.state).square().mean())

    with torch.no_grad():
        found = model.denoiser(noise, 0.999, **told.condition).mean
        blind = model.denoiser(noise, 0.999, guess=told.condition["guess"]).mean
    assert error(found) < 0.75 * error(told.condition["guess"])
    assert error(found) < 0.8 * error(blind)  # it is the measurement that tells
    model.save_pretrained(tmp_path / "model")
    loaded = MedicalReconstruction.from_pretrained(tmp_path / "model")
    seen = model.simulate(module.reference().heldout[:2], views(12), LogCounts(1e5))
    pictures = [one.reconstruct(seen, num=2, evaluations=3, seed=0) for one in (model, loaded)]
    torch.testing.assert_close(pictures[0].mean, pictures[1].mean)
    assert pictures[0].method == "conditional"
    assert float(model.reconstruct(seen, method="dds", num=2, evaluations=4, seed=0).mean.isfinite().all()) == 1


def test_what_an_unrolled_model_is_not_shown_is_refused() -> None:
    model = unrolled()
    with pytest.raises(ValueError, match="ScanData with a residual"):
        model.encode(data().train_dataset().__getitems__([0, 1]))
    with pytest.raises(ValueError, match="unknown condition 'label'"):
        model.sample(2, label=1)
    with pytest.raises(ValueError, match=r"residual=.* of no guess"):
        MedicalReconstruction(SHAPE, residual=FBP())
    with pytest.raises(TypeError, match="network is a UNet: with a residual it must be a Refiner"):
        MedicalReconstruction(SHAPE, network=small(), guess=FBP(), residual=FBP())


def seen_of(y: torch.Tensor, operator: Projector) -> Measurement:
    return Measurement(y, operator, GaussianNoise(0.0))


def test_training_slices_are_turned_and_held_out_ones_are_not() -> None:
    found = data()
    batch = found.validation_dataset().__getitems__([0, 1, 2, 3, 4, 5])
    torch.testing.assert_close(batch["image"][::2], 2 * found.reference().heldout - 1)
    turned_ones = found.train_dataset().__getitems__(list(range(0, 12, 2)))["image"]
    assert not torch.allclose(turned_ones, 2 * found.reference().train - 1, atol=0.1)


def test_turns_move_a_disc_and_keep_what_it_holds() -> None:
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = 3.0 + ((row - 31.5) ** 2 + (column - 20) ** 2 < 64).float()[None, None].expand(200, -1, -1, -1)
    moved = turned(disc, torch.Generator().manual_seed(0), 3.0) - 3
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    area = moved.sum((1, 2, 3))
    assert float(area.min()) > 0.7 * 64 * torch.pi
    assert float(area.max()) < 1.45 * 64 * torch.pi  # zoomed by at most 15 % either way
    wide = (turned(disc, torch.Generator().manual_seed(0), 3.0, 0.4) - 3).sum((1, 2, 3))
    assert float(wide.min()) < 0.6 * 64 * torch.pi
    still = (turned(disc, torch.Generator().manual_seed(0), 3.0, 0.0) - 3).sum((1, 2, 3))
    assert float((still / (64 * torch.pi) - 1).abs().max()) < 0.1
    middle = torch.stack([(moved[:, 0] * axis).sum((1, 2)) / area for axis in (row, column)], 1) - 31.5
    across = middle[:, 1].abs() < 6
    assert 0.1 < float(across.double().mean()) < 0.6  # half are turned by any angle
    assert 0.3 < float((middle[:, 1] > 6).double().mean()) / float((~across).double().mean()) < 0.7  # or mirrored


def test_a_silent_network_draws_around_its_guess() -> None:
    model, operator = guessing(Silent(), window=(-1.0, 3.0), spread=0.3), views(12)
    seen = Measurement.simulate(torch.rand(1, *SHAPE), operator, GaussianNoise(0.05), torch.Generator().manual_seed(0))
    found = model.reconstruct(seen, num=200, evaluations=20, seed=0)
    assert found.method == "conditional"
    guess, deviation = FBP()(seen), 0.3 * 2  # a state's unit is two of the data's
    assert float((found.mean - guess).abs().max()) < 5 * deviation / 200**0.5
    assert abs(float(found.deviation.mean()) / deviation - 1) < 0.02
    again = model.reconstruct(seen, num=4, evaluations=20, seed=0, batch_size=2)
    torch.testing.assert_close(again.samples, found.samples[:, :4], rtol=1e-4, atol=1e-4)
    # Raised to what there is at least, samples are what they were else.
    floored = guessing(Silent(), window=(-1.0, 3.0), spread=0.3, least=0.2)
    raised = floored.reconstruct(seen, num=4, evaluations=20, seed=0)
    torch.testing.assert_close(raised.samples, again.samples.clamp(min=0.2), rtol=1e-4, atol=1e-4)
    assert float(raised.mean.min()) >= 0.2
    # Another method holds the same draws to the measurement: closer to it than the guess's spread allows.
    held = model.reconstruct(seen, method="pigdm", num=8, evaluations=20, seed=0)
    assert float(held.sample_consistency.ratio.mean()) < 0.1 * float(found.sample_consistency.ratio.mean())


def test_a_model_learns_from_scans_and_is_saved_with_its_guess(tmp_path: Path) -> None:
    module = data(batch_size=8)
    model = MedicalReconstruction.for_data(module, network=small())
    assert model.guess == FBP()
    told = model.encode(module.validation_dataset().__getitems__([0, 1, 2, 3, 4, 5]))
    options = {"sample_every": 0, "accelerator": "cpu", "lr": 0.01, "ema": None, "log_every_n_steps": 100}
    model.fit(module, run=tmp_path / "run", max_steps=200, **options)
    with torch.no_grad():  # what the network makes of the guess alone, in pure noise
        noise = torch.randn(told.state.shape, generator=torch.Generator().manual_seed(0))
        found = model.denoiser(noise, 0.999, **told.condition).mean

    def error(x: torch.Tensor) -> float:
        return float((x - told.state).square().mean())

    assert error(found) < 0.9 * error(told.condition["guess"])
    model.save_pretrained(tmp_path / "model")
    loaded = MedicalReconstruction.from_pretrained(tmp_path / "model")
    assert loaded.guess == FBP()
    seen = model.simulate(module.reference().heldout[:1], views(12), LogCounts(1e5))
    pictures = [one.reconstruct(seen, num=2, evaluations=3, seed=0).mean for one in (model, loaded)]
    torch.testing.assert_close(*pictures)
    assert from_config(to_config(FBP("hann")), FBP) == FBP("hann")


def test_guesses_are_states_whatever_the_units() -> None:
    scale, operator = Scale((-1000.0, 1000.0), "HU"), scanner()
    x = 1000 * torch.rand(1, 1, SIDE, SIDE)
    seen = Measurement(operator(scale.to_operator(x, operator)), operator, GaussianNoise(0.0))
    guess = scale.to_units(first_guess(seen, CGLS(200), scale))
    assert float((operator(scale.to_operator(guess, operator)) - seen.y).abs().max()) < 2e-3 * float(seen.y.max())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="scans"):
        ScanData(EllipseData(size=16, count=2, heldout=1), [], FBP())
    with pytest.raises(ValueError, match=r"scans\[0\]"):
        ScanData(EllipseData(size=16, count=2, heldout=1), [Scan(scanner(), GaussianNoise(0.1))], FBP())
    model = guessing(small())
    with pytest.raises(ValueError, match="ScanData"):
        model.encode({"image": torch.zeros(1, *SHAPE)})
    with pytest.raises(ValueError, match="reconstruct"):
        model.sample(2)
    with pytest.raises(ValueError, match="unknown condition 'label'"):
        model.sample(2, label=1)
    plain = tiny()
    seen = plain.simulate(torch.rand(1, 1, SIDE, SIDE), scanner(), GaussianNoise(0.1))
    with pytest.raises(ValueError, match="method='conditional'"):
        plain.reconstruct(seen, method="conditional")
    mri = Measurement(torch.zeros(1, 2, 16, 16), CartesianMRI(random_mask(16), rows=16), GaussianNoise(0.1))
    both = MedicalReconstruction(
        (2, 16, 16), network=UNet(4, out_channels=2, widths=(8,), depths=(1,), attention=(False,)), guess=FBP()
    )
    with pytest.raises(TypeError, match="FBP needs a Projector"):
        both.reconstruct(mri)
    with pytest.raises(ValueError, match="spread"):
        guessing(small(), spread=-1.0)
