"""The command: what each verb does, and that every mistake is one line and exit status 2."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ornstein.core.cli import main
from ornstein.core.training import load_state

CONFIG = """
adapter:
  class_path: ornstein_toy.ToyDiffusion
  init_args:
    network: {class_path: ornstein_toy.ToyNetwork, init_args: {width: 8}}
    schedule: {class_path: ornstein.core.VPSchedule}
data: {class_path: ornstein_toy.ToyData, init_args: {batch_size: 4}}
training:
  lr: 0.001
  sample_every: 0
  ema: {class_path: ornstein.core.training.PowerEMA, init_args: {sigma_rels: [0.1]}}
trainer: {max_steps: 4, accelerator: cpu}
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and a finished run of it."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "toy.yaml").write_text(CONFIG)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["fit", "--config", "toy.yaml", "--training.lr=0.01"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command in that folder and returns what it printed; asserts its status."""
    monkeypatch.chdir(place)

    def command(line: str, status: int = 0) -> str:
        capsys.readouterr()
        assert main(line.split()) == status
        printed = capsys.readouterr()
        if status == 2:
            assert printed.out == ""
            assert printed.err.startswith("ornstein: error: ")
            assert printed.err.count("\n") == 1
            return printed.err.removeprefix("ornstein: error: ").rstrip()
        return printed.out

    return command


def test_fit_takes_file_and_overrides(place: Path) -> None:
    config = yaml.safe_load((place / "runs" / "toy" / "config.yaml").read_text())
    assert config["training"]["lr"] == 0.01
    assert config["training"]["ema"]["init_args"]["sigma_rels"] == [0.1]
    assert config["adapter"]["init_args"]["network"]["init_args"]["width"] == 8
    assert config["adapter"]["init_args"]["schedule"]["class_path"] == "ornstein.core.VPSchedule"
    assert config["trainer"]["max_steps"] == 4
    assert load_state(place / "runs" / "toy" / "checkpoints" / "last.ckpt")["global_step"] == 4


def test_fit_continues_a_run_from_its_own_file(run: Callable[..., str], place: Path) -> None:
    run("fit --config toy.yaml --run runs/other --trainer.max_steps=2")
    message = run("fit --config runs/other/config.yaml", 2)
    assert message.startswith("runs/other holds a finished run")
    run("fit --config runs/other/config.yaml --overwrite")


def test_fit_starts_from_weights_that_the_seed_gives(run: Callable[..., str], place: Path) -> None:
    lines = {"first": "", "again": "", "other": "--training.seed=1"}
    for name, line in lines.items():
        torch.rand(len(name))
        run(f"fit --config toy.yaml --run seeds/{name} --trainer.max_steps=1 --overwrite {line}")
    first, again, other = ((place / "seeds" / name / "model" / "model.safetensors").read_bytes() for name in lines)
    assert first == again != other


def test_print_config_shows_every_default(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", "toy.yaml", "--adapter.steps=9", "--print_config"])
    assert ended.value.code == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["adapter"]["init_args"]["steps"] == 9
    assert tree["adapter"]["init_args"]["network"]["init_args"] == {"width": 8, "dropout": 0.1, "classes": 2}
    assert tree["training"]["betas"] == [0.9, 0.99]
    assert tree["trainer"]["gradient_clip_val"] == 1.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--config toy.yaml --trainer.max_step=3", "trainer has no key 'max_step' (did you mean 'max_steps'?)"),
        ("--config toy.yaml --training.lrr=3", "training has no key 'lrr' (did you mean 'lr'?)"),
        (
            "--config toy.yaml --adapter.netwrk.width=3",
            "ToyDiffusion has no argument 'netwrk' (did you mean 'network'?)",
        ),
        ("--config toy.yaml --adapter.network.widht=3", "ToyNetwork has no argument 'widht' (did you mean 'width'?)"),
        (
            "--config toy.yaml --training.schedule=cosin",
            "training.schedule must be constant or cosine or linear, got 'cosin'",
        ),
        ("--config toy.yaml --data.batch_size=many", "data.batch_size must be int, got 'many'"),
        ("--config toy.yaml --trainer.precision=bf17", "got 'bf17' (did you mean 'bf16'?)"),
        (
            "--config toy.yaml --adapter.schedule CosinSchedule",
            "there is no Schedule 'CosinSchedule' (did you mean 'CosineS",
        ),
        (
            "--config toy.yaml --data.class_path=ornstein_toy.ToyDiffusion",
            "data: ornstein_toy.ToyDiffusion is no DataModule",
        ),
        ("--config toy.yaml --training.lr=-1", "lr must be positive, got -1.0"),
        ("--config toy.yaml --trainer.max_steps=0 --run new", "max_steps must be an integer of at least 1, got 0"),
        ("--config toy.yaml --trainer.devices=9999 --run new", "devices=9999: this machine has"),
        ("--config toy.yaml --trainer.accelerator=gqu --run new", "the trainer cannot be set up"),
        ("--config toy.yaml", "runs/toy holds a run of another configuration (training.lr: 0.01 there, 0.001 now)"),
        ("--config nowhere.yaml", "File does not exist"),
        ("", "the following arguments are required: adapter, data; give them in a file, --config FILE"),
    ],
)
def test_fit_says_what_is_wrong(line: str, message: str, run: Callable[..., str]) -> None:
    assert message in run(f"fit {line}", 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONFIG.replace("trainer:", "trainr:"), "unknown key 'trainr' (did you mean 'trainer'?)"),
        (CONFIG.replace("network:", "netwrk:"), "ToyDiffusion has no argument 'netwrk' (did you mean 'network'?)"),
        (CONFIG.replace("width:", "widht:"), "ToyNetwork has no argument 'widht' (did you mean 'width'?)"),
        (
            CONFIG.replace("ToyDiffusion", "ToyDifusion"),
            "ornstein_toy has no 'ToyDifusion' (did you mean 'ToyDiffusion'?)",
        ),
        (CONFIG.replace("lr:", "learning_rate:"), "training has no key 'learning_rate'"),
        (CONFIG.replace("VPSchedule", "DDIM"), "ornstein.core.DDIM is no Schedule"),
        ("adapter: [", ""),
        ("3", ""),
    ],
)
def test_fit_says_what_is_wrong_in_a_file(text: str, message: str, run: Callable[..., str], place: Path) -> None:
    (place / "bad.yaml").write_text(text)
    assert message in run("fit --config bad.yaml", 2)


def test_sample_writes_files_arrays_and_a_picture(run: Callable[..., str], place: Path) -> None:
    assert run("sample --num 3 --seed 5 --label 1,0 --output out") == "3 samples in out\n"
    names = sorted(path.name for path in (place / "out").iterdir())
    assert names == ["000000.txt", "000001.txt", "000002.txt", "samples.npz", "samples.png"]
    arrays = np.load(place / "out" / "samples.npz")
    assert arrays["samples"].shape == (3, 2)
    assert arrays["label"].tolist() == [1, 0, 1]
    assert "is not empty" in run("sample --num 3 --output out", 2)
    run("sample --num 3 --output out --overwrite")


@pytest.mark.slow
def test_samples_are_the_same_on_two_processes_and_at_any_batch_size(run: Callable[..., str], place: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPU cores")
    run("sample --num 5 --seed 3 --output one")
    run("sample --num 5 --seed 3 --output single --batch_size 1")
    run("sample --num 5 --seed 3 --output two --devices 2")
    one, single, two = (np.load(place / name / "samples.npz")["samples"] for name in ("one", "single", "two"))
    np.testing.assert_allclose(one, single, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_sampler_steps_and_guidance_are_used(run: Callable[..., str], place: Path) -> None:
    lines = ["", "--steps 3", "--sampler Heun", "--guidance 3", "--seed 1", "--label 0", "--condition label=1"]
    drawn = []
    for i, line in enumerate(lines):
        run(f"sample --num 2 --output variant{i} {line}")
        drawn.append(np.load(place / f"variant{i}" / "samples.npz")["samples"])
    assert all(not np.allclose(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--steps 0", "steps=0: expected an integer of at least 1"),
        ("--num 0", "--num must be at least 1, got 0"),
        ("--batch_size 0", "batch_size must be at least 1, got 0"),
        ("--devices 0", "--devices must be at least 1, got 0"),
        ("--devices 9999", "--devices 9999: this machine has"),
        ("--sampler DDI", "no sampler 'DDI' (did you mean 'DDIM'?); there are"),
        ("--sampler Sampler", "no sampler 'Sampler'"),
        ("--label 7", "label must be -1, 0 or 1"),
        ("--label cat", "label=['cat', 'cat'"),
        ("--condition label", "condition 'label': expected NAME=VALUE"),
        ("--checkpoint nowhere", "no checkpoint folder 'nowhere'"),
        ("--checkpoint runs/toy/checkpoints/last.ckpt", "is a file; give the folder of a model"),
        ("--checkpoint broken", "broken/model.safetensors is truncated"),
        ("--checkpoint foreign", "ornstein.core.CosineSchedule is no DomainAdapter"),
        ("--nmu 3", "unknown argument '--nmu' (did you mean '--num'?)"),
        ("--num many", "argument --num: invalid int value: 'many'"),
    ],
)
def test_sample_says_what_is_wrong(line: str, message: str, run: Callable[..., str], place: Path) -> None:
    model = place / "runs" / "toy" / "model"
    for name in ("broken", "foreign"):
        (place / name).mkdir(exist_ok=True)
        (place / name / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-9])
    (place / "broken" / "config.json").write_text((model / "config.json").read_text())
    (place / "foreign" / "config.json").write_text('{"class_path": "ornstein.core.CosineSchedule"}')
    assert message in run(f"sample --output never {line}", 2)
    assert not (place / "never").exists()


def test_without_a_run_sample_asks_for_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample"]) == 2
    assert "no trained model under runs/; train one with 'ornstein fit'" in capsys.readouterr().err


def test_evaluate_prints_and_writes_the_measures(run: Callable[..., str], place: Path) -> None:
    printed = run("evaluate --num 20 --checkpoint runs/toy")
    measures = json.loads((place / "runs" / "toy" / "evaluation.json").read_text())
    assert printed.split() == ["mean_distance", f"{measures['mean_distance']:.4g}"]
    run("sample --num 20 --output judged --checkpoint runs/toy")
    again = run("evaluate --samples judged --output judged/measures.json --checkpoint runs/toy")
    assert again == printed
    assert json.loads((place / "judged" / "measures.json").read_text()) == measures


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--samples nowhere", "no samples nowhere; make some with 'ornstein sample'"),
        ("--samples broken.npz", "broken.npz is damaged or no .npz file"),
        ("--config nowhere.yaml", "no configuration nowhere.yaml"),
        ("--config adapter_only.yaml", "adapter_only.yaml has no section 'data'"),
        ("--config other.yaml --num 2", "holds a ToyDiffusion, other.yaml is for ornstein_toy.ToyNetwork"),
        ("--config wrong.yaml", "ToyData has no argument 'sise' (did you mean 'size'?)"),
    ],
)
def test_evaluate_says_what_is_wrong(line: str, message: str, run: Callable[..., str], place: Path) -> None:
    (place / "broken.npz").write_bytes(b"no arrays")
    (place / "adapter_only.yaml").write_text("adapter: {class_path: ornstein_toy.ToyDiffusion}")
    (place / "other.yaml").write_text(CONFIG.replace("ToyDiffusion", "ToyNetwork"))
    (place / "wrong.yaml").write_text("data: {class_path: ornstein_toy.ToyData, init_args: {sise: 3}}")
    assert message in run(f"evaluate --checkpoint runs/toy {line}", 2)


def test_domains_lists_ours_and_third_parties(run: Callable[..., str]) -> None:
    lines = {line.split()[0]: line for line in run("domains").splitlines()}
    assert lines["toy"].endswith("ornstein-toy 1.2  ready")
    assert "ornstein.domains.images:ImageDiffusion" in lines["images"]
    assert "No module named 'a_library_that_nobody_has'" in lines["brokentoy"]


def test_demo_is_the_domains_own(run: Callable[..., str], place: Path) -> None:
    run("demo toy --quick --run shown")
    assert (place / "shown" / "report.html").read_text() == "quick=True"
    assert "no domain 'tooy' is installed (did you mean 'toy'?)" in run("demo tooy", 2)
    assert "brokentoy" in run("demo brokentoy", 2)


def test_unknown_commands(run: Callable[..., str]) -> None:
    assert run("smaple", 2).startswith("no command 'smaple' (did you mean 'sample'?)")
    assert "required: COMMAND" in run("", 2)


def test_debug_shows_where_an_error_came_from(run: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="steps=0"):
        main(["sample", "--steps", "0", "--debug"])


def test_help_and_version_load_no_heavy_library() -> None:
    code = (
        "import sys\nfrom ornstein.core.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "heavy = ('lightning', 'jsonargparse', 'matplotlib', 'yaml', 'PIL', 'safetensors')\n"
        "assert not [name for name in heavy if name in sys.modules]"
    )
    helped = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert all(verb in helped.stdout for verb in ("fit", "sample", "evaluate", "domains", "demo"))


def test_a_tuned_grid_is_written_and_used(run: Callable[..., str], place: Path) -> None:
    common = "--num 8 --steps 4 --iterations 3 --reference 10 --checkpoint runs/toy"
    for criterion in (
        "distribution",
        "trajectory --sampler DPMSolver",
        "bound --resolution 12",
        "align --resolution 12",
    ):
        printed = run(f"tune-grid --output tuned/grid.json --criterion {criterion} {common}")
        before, after = (float(word) for word in printed.replace(";", "").split() if word[0].isdigit())
        assert 0 < after < 10
        assert 0 < before < 10
        assert printed.endswith("after; times in tuned/grid.json\n")
    tree = json.loads((place / "tuned" / "grid.json").read_text())
    assert tree["class_path"] == "ornstein.core.Times"
    assert len(tree["init_args"]["values"]) == 5
    drawn = []
    for i, line in enumerate(("--steps 4", "--grid tuned/grid.json", "--grid tuned/grid.json --steps 4")):
        run(f"sample --num 2 --checkpoint runs/toy --output tuned/{i} {line}")
        drawn.append(np.load(place / "tuned" / str(i) / "samples.npz")["samples"])
    assert not np.allclose(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[1], drawn[2])


def test_a_grid_is_tuned_on_given_data(run: Callable[..., str], place: Path) -> None:
    for criterion in ("distribution", "bound --resolution 12"):
        line = f"tune-grid --config toy.yaml --num 6 --steps 3 --iterations 2 --reference 5 --criterion {criterion}"
        assert "before" in run(f"{line} --output data.json --checkpoint runs/toy")
    assert len(json.loads((place / "data.json").read_text())["init_args"]["values"]) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tune-grid --criterion fid", "criterion='fid': expected one of distribution, trajectory, bound, align"),
        ("tune-grid --criterion trajectory --sampler DDPM", "a deterministic one, or criterion='distribution'"),
        ("tune-grid --criterion trajectory --config toy.yaml --sampler DDIM", "none with criterion='trajectory'"),
        ("tune-grid --config toy.yaml --label 1", "the data have conditions of their own"),
        ("tune-grid --num 0", "num=0: expected at least 1"),
        ("sample --output never --grid broken.json", "broken.json is no JSON"),
        ("sample --output never --grid list.json", "list.json holds no configuration of a grid"),
        ("sample --output never --grid other.json", "ornstein.core.CosineSchedule is no Grid"),
        ("sample --output never --grid five.json --steps 3", "steps=3: this grid has 3 times, for steps=2"),
    ],
)
def test_grids_say_what_is_wrong(line: str, message: str, run: Callable[..., str], place: Path) -> None:
    (place / "broken.json").write_text("{")
    (place / "list.json").write_text("[]")
    (place / "other.json").write_text('{"class_path": "ornstein.core.CosineSchedule"}')
    times = '{"class_path": "ornstein.core.Times", "init_args": {"values": [1.0, 0.5, 0.0]}}'
    (place / "five.json").write_text(times)
    assert message in run(f"{line} --checkpoint runs/toy", 2)
