"""The model beside classical methods: figures against judges, the page, the command line."""

from pathlib import Path

import pytest
import torch
import yaml
from medical_models import SIDE, gaussian, tiny

from ornstein.core.cli import main
from ornstein.core.config import from_config, resolve_class
from ornstein.core.inverse import GaussianNoise
from ornstein.core.nn import UNet
from ornstein.core.training import TrainingOptions
from ornstein.domains.medical import (
    EllipseData,
    MedicalReconstruction,
    Problem,
    SliceData,
    judge_problem,
    judge_slices,
    reconstruction_figure,
    reconstruction_report,
    standard_problem,
)
from ornstein.domains.medical.classical import CGLS, ZeroFilled
from ornstein.domains.medical.figures import Panel, deviation_figure, panels_figure, slices_figure
from ornstein.domains.medical.judges import coverage, psnr, ssim
from ornstein.domains.medical.judges.certainty import DeviationBin
from ornstein.domains.medical.judging import judge_prior
from ornstein.domains.medical.physics import CartesianMRI, LogCounts, Projector, random_mask
from ornstein.domains.medical.scale import Scale

pytest.importorskip("matplotlib")
PNG = b"\x89PNG"


def problem() -> Problem:
    operator = CartesianMRI(random_mask(SIDE, 2.0, 0.3), rows=SIDE)
    baselines = {"zero-filled": (ZeroFilled(), {}), "CGLS": (CGLS(), {"iterations": (1, 3)})}
    return Problem("MRI", operator, GaussianNoise(0.05), baselines, "columns of k-space")


def test_the_model_is_judged_beside_tuned_baselines() -> None:
    model, prior = gaussian(2, window=(-1.0, 1.0))
    slices = model.decode(prior.sample(4, generator=torch.Generator().manual_seed(1)).float().unflatten(1, model.shape))
    truth, tuning = slices[:2], slices[2:]
    found = judge_problem(model, problem(), truth, tuning, num=20, evaluations=12)
    assert list(found.scores) == ["model", "zero-filled", "CGLS"]
    row = found.scores["model"]
    assert row["psnr"] == psnr(found.reconstruction.mean.norm(dim=1), truth.norm(dim=1))
    expected = coverage(found.reconstruction.samples.movedim(1, 0), truth, (0.5, 0.9))
    assert (row["coverage_50"], row["coverage_90"]) == tuple(each.share for each in expected)
    assert 0.7 < row["coverage_90"] <= 1
    # The prior is the distribution of the slices: knowing it helps.
    assert row["psnr"] > max(found.scores[name]["psnr"] for name in ("zero-filled", "CGLS"))
    assert found.settings["CGLS"].startswith("CGLS(iterations=")
    assert "coverage_50" not in found.scores["CGLS"]
    named = model.calibrate(tuning, problem().operator, GaussianNoise(0.05), name="mri", num=5, evaluations=4)
    calibrated = judge_problem(model, problem(), truth, tuning, calibration="mri")
    lower, upper = named.interval(calibrated.reconstruction.mean, calibrated.reconstruction.deviation, 0.9)
    share = float(((truth >= lower) & (truth <= upper)).double().mean())
    assert calibrated.scores["model"]["coverage_90"] == pytest.approx(share)


def test_hounsfield_units_are_judged_in_their_window() -> None:
    scale = Scale((-1000.0, 1000.0), "HU")
    truth = 500 * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    x = truth + 20
    figures = judge_slices(x, truth, scale)
    assert figures["psnr"] == pytest.approx(40.0, abs=1e-3)  # 2000 / 20
    assert figures["ssim"] == pytest.approx(ssim(x[:, 0] + 1000, truth[:, 0] + 1000, 2000.0))
    assert figures["nmse"] == pytest.approx(float(400 / (truth + 1000).square().mean()), rel=1e-4)


def test_standard_problems_follow_the_slices() -> None:
    ct = standard_problem(Scale((-1000.0, 1000.0), "HU"), (1, 32, 32))
    assert isinstance(ct.operator, Projector)
    assert ct.noise == LogCounts(1e5)
    # Water across the field of view takes away about 99 % of the photons.
    across = ct.operator(torch.full((1, 1, 32, 32), 0.01929))
    assert float(across.max()) == pytest.approx(240 * 0.01929 * 2**0.5, rel=0.05)
    mri = standard_problem(Scale((-1.0, 1.0)), (2, 32, 24))
    assert mri.operator.shape == (2, 32, 24)


def test_the_prior_is_judged_beside_training_slices() -> None:
    data = EllipseData(size=8, count=20, heldout=20)
    reference = data.reference()
    figures = judge_prior(reference.train, reference)
    assert figures["sliced_wasserstein"] == figures["sliced_wasserstein_train"]
    assert judge_prior(reference.train + 1, reference)["sliced_wasserstein"] > 2 * figures["sliced_wasserstein"]
    with pytest.raises(ValueError, match="shape"):
        judge_prior(torch.zeros(2, 1, 4, 4), reference)


def test_evaluate_sets_baselines_beside_the_model() -> None:
    data = EllipseData(size=16, count=4, heldout=3)
    network = UNet(1, widths=(8,), depths=(1,), attention=(False,))
    model = MedicalReconstruction.for_data(data, network=network)
    figures = model.evaluate({"samples": model.sample(2, seed=0)}, data.reference())
    assert {"model_psnr", "FBP_psnr", "CGLS_ssim", "total variation_chi2", "sliced_wasserstein"} <= set(figures)
    assert all(isinstance(value, float) for value in figures.values())


def test_the_page_says_that_data_were_simulated(tmp_path: Path) -> None:
    model, prior = gaussian(2, window=(-1.0, 1.0))
    slices = model.decode(prior.sample(4, generator=torch.Generator().manual_seed(1)).float().unflatten(1, model.shape))
    found = judge_problem(model, problem(), slices[:2], slices[2:], num=20, evaluations=4)
    reconstruction_report(tmp_path / "a" / "page.html", {"MRI": (problem(), found)})
    page = (tmp_path / "a" / "page.html").read_text(encoding="utf-8")
    for text in ("Simulated: columns of k-space", "simulated from them", "zero-filled", "PSNR", "invented", "pigdm"):
        assert text in page
    assert page.count("data:image/png") == 3  # two slices and the calibration
    with pytest.raises(ValueError, match="judgements"):
        reconstruction_report(tmp_path / "page.html", {})


def test_figures_are_pictures(tmp_path: Path) -> None:
    model, _ = gaussian(window=(0.0, 1.0))
    found = model.reconstruct(
        model.simulate(torch.rand(1, 1, SIDE, SIDE), standard_problem(model.scale, model.shape).operator),
        num=2,
        evaluations=2,
    )
    assert reconstruction_figure(found).startswith(PNG)
    assert reconstruction_figure(found, truth=found.mean, others={"a": found.mean}).startswith(PNG)
    assert panels_figure([Panel("x", torch.zeros(4, 4), (0.0, 1.0))] * 3, columns=2).startswith(PNG)
    assert slices_figure(torch.zeros(5, 2, 4, 6), (-1.0, 1.0)).startswith(PNG)
    assert deviation_figure({"a": (DeviationBin(1.0, 2.0, 3), DeviationBin(2.0, 2.0, 3))}).startswith(PNG)
    for call in (lambda: panels_figure([], 1), lambda: deviation_figure({})):
        with pytest.raises(ValueError, match="at least one"):
            call()
    tiny().render(torch.rand(3, 1, SIDE, SIDE), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


CONFIG = """
adapter:
  class_path: ornstein.domains.medical.MedicalReconstruction
  init_args:
    shape: [1, 16, 16]
    network:
      class_path: ornstein.core.nn.UNet
      init_args: {channels: 1, widths: [8], depths: [1], attention: [false]}
data:
  class_path: ornstein.domains.medical.EllipseData
  init_args: {size: 16, count: 6, heldout: 2, batch_size: 3}
training: {sample_every: 2, num_samples: 2}
trainer: {max_steps: 2, accelerator: cpu}
"""


def test_a_prior_is_trained_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "ellipses.yaml").write_text(CONFIG)
    run = tmp_path / "run"
    assert main(["fit", "--config", str(tmp_path / "ellipses.yaml"), "--run", str(run)]) == 0
    assert list((run / "samples").glob("*.png"))
    out = tmp_path / "out"
    assert main(["sample", "--checkpoint", str(run), "--num", "2", "--output", str(out)]) == 0
    assert (out / "samples.png").exists()


@pytest.mark.parametrize("name", ["ellipses", "brain", "head_ct"])
def test_configurations_name_what_there_is(repository: Path, name: str) -> None:
    config = yaml.safe_load((repository / f"configs/medical/{name}.yaml").read_text())
    data = from_config(config["data"])
    assert isinstance(data, SliceData)
    assert resolve_class(config["adapter"]["class_path"]) is MedicalReconstruction
    from_config(config["training"].pop("ema"))
    TrainingOptions(**config["training"])
    assert config["trainer"]["max_steps"] > 0
    if name == "ellipses":
        model = MedicalReconstruction.for_data(data)
        assert (model.shape, model.window) == ((1, 64, 64), data.window)
