"""The demonstration at a size of seconds, and the configuration that it shares with ``configs/images/digits.yaml``."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from ornstein.core.config import from_config, to_config
from ornstein.core.training import TrainingOptions
from ornstein.domains.images import demo, metrics
from ornstein.domains.images.adapter import ImageDiffusion


@pytest.fixture
def tiny(monkeypatch, judge):
    """Settings of seconds, and the judge that other tests use as well."""
    monkeypatch.setattr(metrics.ImageJudge, "train", lambda reference, seed=0: judge)
    return {"steps": 4, "batch_size": 8, "samples": 20, "evaluations": (3,), "compared": 20}


def test_the_demo_writes_report_and_metrics(tiny, tmp_path, capsys):
    ImageDiffusion.demo(tmp_path / "demo", quick=True, **tiny)
    result = json.loads((tmp_path / "demo/metrics.json").read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result
    assert {"name", "commit", "machine", "seeds", "figures", "passed"} <= result.keys()
    named = {"class_agreement", "frechet_ratio", "recall", "copy_excess", "seconds"}
    assert named == result["passed"].keys()
    assert named <= result["figures"].keys()
    assert result["quick"] is True
    assert result["passed"]["frechet_ratio"] is False  # four steps teach nothing
    page = (tmp_path / "demo/report.html").read_text()
    for title in ("Samples by class", "Loss", "reverse process", "Nearest training pictures", "Quality against steps"):
        assert re.search(rf"<h2>[^<]*{title}", page)
    assert page.count("data:image/gif") == 1
    assert all(name in page for name in demo.COMPARED)
    # The run folder is an ordinary one.
    assert ImageDiffusion.from_pretrained(tmp_path / "demo/model").sample(1, label=3, seed=0).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("figures", "passed"),
    [
        ({"class_agreement": 0.97, "frechet_ratio": 2.0, "recall": 0.7, "copy_excess": 0.0, "seconds": 360.0}, True),
        (
            {"class_agreement": 0.969, "frechet_ratio": 2.1, "recall": 0.69, "copy_excess": 0.001, "seconds": 361.0},
            False,
        ),
    ],
)
def test_the_goals_are_those_of_the_readme(figures, passed):
    result = demo._result(figures, demo.Settings(), quick=False)
    assert set(result["passed"].values()) == {passed}


def test_the_configuration_file_is_the_demo(repository: Path):
    config = yaml.safe_load((repository / "configs/images/digits.yaml").read_text())
    settings = demo.Settings()
    assert to_config(from_config(config["adapter"])) == to_config(demo.digits_model())
    assert from_config(config["data"]).batch_size == settings.batch_size
    options = demo.training_options(settings)
    ema = from_config(config["training"].pop("ema"))
    assert ema == options["ema"]
    assert config["trainer"]["max_steps"] == options["max_steps"]
    for name, value in config["training"].items():
        assert getattr(TrainingOptions(), name) is not None
        assert options[name] == value


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "folder"])
def test_configurations_build_models_that_fit_their_data(repository: Path, name):
    config = yaml.safe_load((repository / f"configs/images/{name}.yaml").read_text())
    model, data = from_config(config["adapter"]), from_config(config["data"])
    assert isinstance(model, ImageDiffusion)
    batch = {"image": torch.rand(2, *model.shape), "label": torch.zeros(2, dtype=torch.int64)}
    example = model.encode(batch)
    assert model.objective(model.denoiser, example.state, **example.condition).isfinite().all()
    if name == "digits":
        assert data.shape == model.shape
        assert data.classes == model.class_names
    if name == "fashion_mnist":
        assert data.class_names == model.class_names
