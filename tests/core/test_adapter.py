"""Adapters: sampling by number, and checkpoints that say what is wrong with them."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import ornstein_toy as toy
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ornstein.core import DDPM, Heun
from ornstein.core.adapter import DomainAdapter
from ornstein.core.weights import load_weights


@pytest.fixture
def adapter() -> toy.ToyDiffusion:
    return toy.ToyDiffusion(toy.ToyNetwork(width=8))


def test_sample_i_depends_on_its_number_and_condition_alone(adapter: toy.ToyDiffusion) -> None:
    label = [0, 1, 1, 0, 1]
    for sampler in (Heun(3), DDPM(4)):
        whole = adapter.sample(5, sampler=sampler, seed=3, label=label)
        ones = adapter.sample(5, sampler=sampler, seed=3, label=label, batch_size=1)
        late = adapter.sample(2, sampler=sampler, seed=3, first=3, label=label[3:])
        torch.testing.assert_close(whole, ones, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(whole[3:], late, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(whole, adapter.sample(5, sampler=sampler, seed=4, label=label))


def test_one_value_serves_all_samples_and_guidance_acts(adapter: toy.ToyDiffusion) -> None:
    one = adapter.sample(3, seed=0, label=1)
    assert torch.equal(one, adapter.sample(3, seed=0, label=torch.ones(3, dtype=torch.int32)))
    assert torch.equal(one, adapter.sample(3, seed=0, label=1, guidance=1.0))
    assert not torch.allclose(one, adapter.sample(3, seed=0, label=1, guidance=3.0))


def test_without_a_seed_samples_differ(adapter: toy.ToyDiffusion) -> None:
    assert not torch.equal(adapter.sample(2), adapter.sample(2))


def test_sampling_is_in_evaluation_mode_and_leaves_modes_as_they_were(adapter: toy.ToyDiffusion) -> None:
    adapter.network = toy.ToyNetwork(dropout=0.9)
    adapter.denoiser.network = adapter.network
    adapter.train()
    adapter.network.drop.eval()
    first = adapter.sample(3, seed=0)
    assert torch.equal(first, adapter.sample(3, seed=0))
    assert adapter.training
    assert not adapter.network.drop.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 0}, "num must be at least 1, got 0"),
        ({"num": 2, "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num": 3, "label": [0, 1]}, "label has 2 rows for 3 samples"),
    ],
)
def test_impossible_requests(adapter: toy.ToyDiffusion, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapter.sample(**options)


def test_hidden_conditions(adapter: toy.ToyDiffusion) -> None:
    condition = {
        "label": torch.tensor([3, 4]),
        "context": torch.ones(2, 3, 4),
        "context_mask": torch.ones(2, 3, dtype=torch.bool),
    }
    rows = torch.tensor([True, False])
    hidden = adapter.drop_condition(condition, {"label": rows, "context": rows})
    assert hidden["label"].tolist() == [-1, 4]
    assert hidden["context"].sum((1, 2)).tolist() == [0, 12]
    assert hidden["context_mask"].sum(1).tolist() == [0, 3]
    assert condition["label"].tolist() == [3, 4]


def test_saved_and_loaded_it_is_the_same(adapter: toy.ToyDiffusion, tmp_path: Path) -> None:
    adapter.save_pretrained(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    for cls in (toy.ToyDiffusion, DomainAdapter):
        loaded = cls.from_pretrained(tmp_path / "model")
        assert isinstance(loaded, toy.ToyDiffusion)
        assert not loaded.training
        assert loaded.network is loaded.denoiser.network
        assert torch.equal(loaded.sample(4, seed=1), adapter.sample(4, seed=1))


@pytest.fixture
def saved(adapter: toy.ToyDiffusion, tmp_path: Path) -> Path:
    adapter.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _rewrite(saved: Path, change: Any) -> None:
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("scale"), "lacks the tensor 'scale'; it is of another model"),
        (lambda t: t.update(spare=torch.zeros(1)), "has a tensor 'spare' that the model has not"),
        (lambda t: t.update(scale=torch.zeros(3)), r"tensor 'scale' is \(3,\) in the file, \(\) in the model"),
        (lambda t: t.update(scal=t.pop("scale")), r"lacks the tensor 'scale' \(did you mean 'scal'"),
    ],
)
def test_weights_that_do_not_fit(change: Any, message: str, saved: Path) -> None:
    _rewrite(saved, change)
    with pytest.raises(ValueError, match=message):
        toy.ToyDiffusion.from_pretrained(saved)


def test_shared_weights_are_stored_once_under_either_name(saved: Path, adapter: toy.ToyDiffusion) -> None:
    stored = load_file(saved / "model.safetensors")
    assert len(stored) == len(list(adapter.parameters())) + 1
    other = {name.replace("network.", "denoiser.network."): value for name, value in stored.items()}
    save_file(other, saved / "model.safetensors")
    load_weights(toy.ToyDiffusion(toy.ToyNetwork(width=8)), saved / "model.safetensors")
    first = (saved / "model.safetensors").read_bytes()
    adapter.save_pretrained(saved)
    again = (saved / "model.safetensors").read_bytes()
    adapter.save_pretrained(saved)
    assert (saved / "model.safetensors").read_bytes() == again != first


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda d: _truncate(d / "model.safetensors"), ValueError, "model.safetensors is truncated or no safetensors"),
        (lambda d: (d / "model.safetensors").write_bytes(b""), ValueError, "truncated or no safetensors file"),
        (lambda d: (d / "model.safetensors").unlink(), FileNotFoundError, "has no model.safetensors"),
        (lambda d: (d / "config.json").unlink(), FileNotFoundError, "has no config.json"),
        (lambda d: (d / "config.json").write_text("{"), ValueError, "config.json is no JSON"),
        (lambda d: (d / "config.json").write_text("[]"), ValueError, "holds no configuration"),
        (
            lambda d: (d / "config.json").write_text('{"class_path": "os.system"}'),
            ValueError,
            "config.json: .* refused",
        ),
        (
            lambda d: (d / "config.json").write_text('{"class_path": "ornstein.core.CosineSchedule"}'),
            TypeError,
            "ornstein.core.CosineSchedule is no ToyDiffusion",
        ),
    ],
)
def test_damaged_checkpoints(damage: Any, error: type[Exception], message: str, saved: Path) -> None:
    damage(saved)
    with pytest.raises(error, match=message) as caught:
        toy.ToyDiffusion.from_pretrained(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


def test_a_checkpoint_of_another_domain(saved: Path) -> None:
    class Other(toy.ToyDiffusion):
        pass

    with pytest.raises(TypeError, match=r"ornstein_toy\.ToyDiffusion is no Other"):
        Other.from_pretrained(saved)


def test_a_folder_that_is_not_there() -> None:
    for source in ("./nowhere", "nowhere", "/nowhere/at/all"):
        with pytest.raises(FileNotFoundError, match="no checkpoint folder"):
            toy.ToyDiffusion.from_pretrained(source)


def test_a_model_of_the_hub_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*arguments: Any, **options: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline\nindeed")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(FileNotFoundError, match="'me/model' is neither a folder nor a model on the Hub"):
        toy.ToyDiffusion.from_pretrained("me/model")


def test_a_model_of_the_hub(saved: Path, monkeypatch: pytest.MonkeyPatch, adapter: toy.ToyDiffusion) -> None:
    asked = []

    def download(repository: str, name: str, **options: Any) -> str:
        asked.append((repository, name, options["revision"]))
        return str(saved / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    loaded = toy.ToyDiffusion.from_pretrained("me/model", revision="v1")
    assert asked == [("me/model", "config.json", "v1"), ("me/model", "model.safetensors", "v1")]
    assert torch.equal(loaded.sample(2, seed=0), adapter.sample(2, seed=0))


def test_push_to_hub_uploads_what_from_pretrained_reads(
    adapter: toy.ToyDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: dict[str, Any] = {}

    class Api:
        def __init__(self, token: str | None) -> None:
            uploaded["token"] = token

        def create_repo(self, repo_id: str, private: bool, **options: Any) -> SimpleNamespace:
            uploaded["private"] = private
            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def upload_folder(self, repo_id: str, folder_path: str, **options: Any) -> str:
            uploaded["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            uploaded["weights"] = load_file(f"{folder_path}/model.safetensors")
            uploaded["card"] = (Path(folder_path) / "README.md").read_text()
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert isinstance(adapter, huggingface_hub.ModelHubMixin)
    assert adapter.push_to_hub("model", private=True, token="t") == "https://hub/me/model"
    assert uploaded["files"] == ["README.md", "config.json", "model.safetensors"]
    assert (uploaded["private"], uploaded["token"]) == (True, "t")
    assert "library_name: ornstein" in uploaded["card"]
    assert torch.equal(uploaded["weights"]["scale"], adapter.scale)


def test_a_network_of_ones_own_needs_trust(tmp_path: Path) -> None:
    adapter = toy.ToyDiffusion()
    adapter.network = adapter.denoiser.network = _Foreign()  # type: ignore[assignment]
    adapter.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["init_args"]["network"]["class_path"].endswith("._Foreign")
    with pytest.raises(ValueError, match="is refused"):
        toy.ToyDiffusion.from_pretrained(tmp_path)


class _Foreign(nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.width = width


def test_packing(adapter: toy.ToyDiffusion) -> None:
    samples = adapter.sample(3, seed=0)
    assert torch.equal(adapter.unpack(adapter.pack(samples)), samples)
    both = adapter.unpack(adapter.pack({"samples": samples, "label": torch.arange(3)}))
    assert torch.equal(both["samples"], samples)
    assert both["label"].tolist() == [0, 1, 2]


def test_a_domain_without_a_demo_says_so() -> None:
    with pytest.raises(ValueError, match="DomainAdapter has no demo"):
        DomainAdapter.demo("runs/demo")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("ornstein.core.cli", ["lightning", "huggingface_hub", "jsonargparse", "safetensors", "yaml"]),
        ("ornstein.core.adapter", ["lightning", "jsonargparse", "safetensors"]),
    ],
)
def test_importing_is_light(module: str, unwanted: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {unwanted} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
