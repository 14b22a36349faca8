"""Conformal factors: against order statistics, their guarantees on new data, and where a model keeps them."""

import pytest
import torch
from medical_models import SIDE, gaussian, scanner

from ornstein.core.adapter import DomainAdapter
from ornstein.core.config import from_config, to_config
from ornstein.core.inverse import GaussianNoise
from ornstein.domains.medical import FBP, Calibration, Finish, MedicalReconstruction, TotalVariation, conformal_factor


def test_the_factor_is_the_order_statistic_of_split_conformal_prediction() -> None:
    scores = torch.rand(1, 99, generator=torch.Generator().manual_seed(0))
    ordered = scores.flatten().sort().values
    assert conformal_factor(scores, 0.9) == pytest.approx(float(ordered[89]))  # ceil(100 * 0.9) = 90th
    assert conformal_factor(scores, 0.5) == pytest.approx(float(ordered[49]))
    assert conformal_factor(scores[:, :9], 0.9) == float(scores[:, :9].max())
    mask = scores < 0.5
    kept = scores[mask][None]
    assert conformal_factor(scores, 0.8, mask=mask) == conformal_factor(kept, 0.8)
    for level, guarantee, text in (
        (0.9, "pixels", "8 pixels"),
        (0.9, "slices", "1 slices"),
        (0.9, "hoeffding", "1 sl"),
    ):
        with pytest.raises(ValueError, match=text):
            conformal_factor(scores[:, :8], level, guarantee)
    with pytest.raises(ValueError, match="mask"):
        conformal_factor(scores, 0.5, mask=torch.zeros_like(mask))


@pytest.mark.parametrize("guarantee", ["pixels", "slices"])
def test_new_slices_are_covered_as_claimed(guarantee) -> None:
    # Slices differ in scale, so pixels of one are not exchangeable with those of another; slices are.
    generator = torch.Generator().manual_seed(1)

    def draw(slices: int) -> torch.Tensor:
        scale = torch.exp(0.5 * torch.randn(slices, 1, generator=generator))
        return (scale * torch.randn(slices, 50, generator=generator)).abs()

    shares = [float((draw(60) <= conformal_factor(draw(24), 0.8, guarantee)).double().mean()) for _ in range(150)]
    mean = sum(shares) / len(shares)
    # The bound of "slices" holds on average, and is at most (1 + 24 * 0) / 25 too careful.
    assert mean == pytest.approx(0.8, abs=0.03) if guarantee == "pixels" else 0.8 <= mean < 0.8 + 2 / 25 + 0.01


def test_hoeffdings_bound_holds_for_most_calibrations() -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(40, 400, 30, generator=generator).abs()
    new = torch.randn(20000, generator=generator).abs()
    shares = [float((new <= conformal_factor(one, 0.8, "hoeffding")).double().mean()) for one in scores]
    assert sum(share >= 0.8 for share in shares) >= 36
    assert max(shares) < 0.9


def test_a_model_keeps_its_calibrations(tmp_path) -> None:
    model = MedicalReconstruction((1, SIDE, SIDE))
    pictures = torch.rand(6, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    fitted = model.calibrate(
        pictures, scanner(), GaussianNoise(0.5), name="six views", num=4, evaluations=2, levels=(0.5, 0.9)
    )
    assert fitted.factors[0] < fitted.factors[1]
    assert model.calibrations == (fitted,)
    assert from_config(to_config(fitted)) == fitted
    model.save_pretrained(tmp_path)
    loaded = DomainAdapter.from_pretrained(tmp_path)
    assert loaded.calibrations == (fitted,)
    found = loaded.reconstruct(model.simulate(pictures, scanner(), GaussianNoise(0.5)), calibration="six views", seed=0)
    assert found.samples.shape[1] == 4
    assert found.evaluations == 2
    lower, upper = found.interval(0.9)
    torch.testing.assert_close(upper - lower, 2 * fitted.factors[1] * found.deviation.clamp(min=fitted.floor))
    assert "six views" in repr(found)
    again = model.calibrate(pictures, scanner(), GaussianNoise(0.5), name="six views", num=4, evaluations=3)
    assert model.calibrations == (again,)


def test_calibrated_intervals_cover_slices_of_a_prior_that_is_wrong() -> None:
    # The model believes in a spread that the slices do not have; samples' own intervals are too narrow.
    model, prior = gaussian()
    draws = prior.sample(16, generator=torch.Generator().manual_seed(5)).float().unflatten(1, model.shape)
    pictures = model.decode(2.5 * draws)
    noise = GaussianNoise(20.0)
    fitted = model.calibrate(pictures[:8], scanner(3), noise, name="wide", num=19, evaluations=12)
    seen = model.simulate(pictures[8:], scanner(3), noise, seed=9)
    shares = {}
    for name in (None, "wide"):
        found = model.reconstruct(seen, num=19, evaluations=12, seed=3, calibration=name)
        lower, upper = found.interval(0.9)
        shares[name] = float(((pictures[8:] >= lower) & (pictures[8:] <= upper)).double().mean())
    assert shares[None] < 0.75
    assert shares["wide"] == pytest.approx(0.9, abs=0.05)
    assert fitted.factors[1] > 2


def test_a_finish_moves_means_and_samples_and_belongs_to_the_calibration(tmp_path) -> None:
    model, prior = gaussian()
    draws = prior.sample(3, generator=torch.Generator().manual_seed(5)).float().unflatten(1, model.shape)
    pictures, noise = model.decode(draws), GaussianNoise(0.05)
    finish = Finish(TotalVariation(1e-3, iterations=30), share=0.5)
    model.calibrate(pictures[:2], scanner(), noise, name="finished", num=2, evaluations=2, finish=finish)
    seen = model.simulate(pictures[2:], scanner(), noise, seed=9)
    plain = model.reconstruct(seen, num=2, evaluations=2, seed=3)
    found = model.reconstruct(seen, calibration="finished", seed=3)
    assert (found.finish, plain.finish) == (finish, None)
    assert "finished by TotalVariation" in repr(found)
    whole = Finish(finish.method, 1.0)(seen, plain.mean)
    torch.testing.assert_close(found.mean, (plain.mean + whole) / 2)
    moved = (found.mean - plain.mean)[:, None]
    torch.testing.assert_close(found.samples, plain.samples + moved)
    torch.testing.assert_close(found.deviation, plain.deviation)
    assert found.consistency.ratio.mean() < plain.consistency.ratio.mean()
    other = MedicalReconstruction((1, SIDE, SIDE), calibrations=model.calibrations)
    other.save_pretrained(tmp_path / "model")
    assert MedicalReconstruction.from_pretrained(tmp_path / "model").calibrations == model.calibrations
    with pytest.raises(ValueError, match="calibrated for Finish"):
        model.reconstruct(seen, calibration="finished", finish=Finish(finish.method, 0.1))
    with pytest.raises(TypeError, match="expected a Finish"):
        model.reconstruct(seen, finish=finish.method)
    with pytest.raises(TypeError, match="expected a TotalVariation"):
        Finish(FBP())
    with pytest.raises(ValueError, match="share"):
        Finish(finish.method, 1.5)


def test_errors_name_what_is_wrong() -> None:
    model, _ = gaussian()
    pictures = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    fitted = model.calibrate(pictures, scanner(), GaussianNoise(0.5), name="a", num=3, evaluations=2)
    seen = model.simulate(pictures, scanner(), GaussianNoise(0.5))
    for call, text in (
        (lambda: model.calibrate(pictures[:, :, :4], scanner(), name="b"), "pictures of shape"),
        (lambda: model.calibrate(pictures[:0], scanner(), name="b"), "at least 1"),
        (lambda: model.reconstruct(seen, calibration="b"), "the model has 'a'"),
        (lambda: model.reconstruct(seen, calibration="a", num=5), "calibrated for 3"),
        (lambda: model.reconstruct(model.simulate(pictures, scanner(5)), calibration="a"), "is for measurements"),
        (lambda: model.reconstruct(seen, calibration="a").interval(0.7), "level=0.7"),
        (lambda: Calibration("x", (0.5,), (), 1.0, "pigdm", 5, 5, (3,), 5), "factors"),
        (lambda: Calibration("x", (0.5,), (1.0,), 0.0, "pigdm", 5, 5, (3,), 5), "floor"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    assert fitted.method == "pigdm"
