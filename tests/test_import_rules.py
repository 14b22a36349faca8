"""Who may import whom: the contracts of ``[tool.importlinter]`` hold, see every module, and are able to fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

FOUNDATION = [
    *("process", "schedules", "schedule_transforms", "sdes", "parameterisations", "denoisers", "closed_form", "noise"),
    *("objectives", "weightings", "training_times", "grids", "samplers", "guidance", "nn"),
]
# Torch brings tqdm; torchdiffeq is imported where it is used, as the last test here sees.
LIGHT = {"torch", "numpy", "jaxtyping", "tqdm", "torchdiffeq", "typing_extensions"}
HEAVY = [
    *("PIL", "datasets", "diffusers", "h5py", "huggingface_hub", "jsonargparse", "lightning", "matplotlib", "nibabel"),
    *("pandas", "pydicom", "pytorch_lightning", "rdkit", "scipy", "sklearn", "soundfile", "tensorboard", "tokenizers"),
    *("torch_geometric", "torchaudio", "torchdiffeq", "torchmetrics", "torchvision", "tqdm", "transformers", "yaml"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in ``folder``, whose ``ornstein`` (if it has one) goes before the installed one."""
    code = "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports_command as main; main()"
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("ornstein.core", "ornstein.domains", include_external_packages=True, cache_dir=None)


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """A copy of the package, laid out as it is installed, for tests that break it."""
    shutil.copy(repository / "pyproject.toml", tmp_path)
    for folder in ("core", "domains"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / folder, tmp_path / "ornstein" / folder, ignore=ignored)
    return tmp_path


def test_contracts_hold(repository: Path) -> None:
    done = lint(repository)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


def test_graph_sees_every_module(graph: grimp.ImportGraph, repository: Path) -> None:
    files = [path for folder in ("core", "domains") for path in (repository / folder).rglob("*.py")]
    on_disk = {
        "ornstein." + ".".join(path.relative_to(repository).with_suffix("").parts).removesuffix(".__init__")
        for path in files
    }
    assert {module for module in graph.modules if module.startswith("ornstein.")} == on_disk


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("core/schedules.py", "from ornstein.core.sdes import SDE"),
        ("core/denoisers.py", "import ornstein.core.samplers"),
        ("core/samplers/__init__.py", "from ornstein.core.training import ema"),
        ("core/evaluation/__init__.py", "from ornstein.core import cli"),
        ("core/adapter.py", "def late():\n    from ornstein.domains import images"),
        ("core/newcomer.py", ""),
    ],
)
def test_contracts_refuse(copy: Path, module: str, line: str) -> None:
    with (copy / "ornstein" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout


def test_contracts_refuse_a_domain_that_imports_another(copy: Path) -> None:
    other = copy / "ornstein" / "domains" / "sketches"
    other.mkdir()
    (other / "__init__.py").write_text("from ornstein.domains.images import ImageDiffusion\n", encoding="utf-8")
    done = lint(copy)
    assert done.returncode == 1
    assert "A domain never imports another BROKEN" in done.stdout


@pytest.mark.parametrize("name", FOUNDATION)
def test_foundation_imports_torch_alone(graph: grimp.ImportGraph, name: str) -> None:
    package = f"ornstein.core.{name}"
    modules = {package, *graph.find_descendants(package)}
    imported = {target for module in modules for target in graph.find_modules_directly_imported_by(module)}
    external = {target for target in imported if not target.startswith("ornstein")}
    assert external - LIGHT - sys.stdlib_module_names == set()


def test_foundation_does_not_import_the_face(graph: grimp.ImportGraph) -> None:
    """``from ornstein.core import X`` in a lower layer would go around the layers."""
    importers = graph.find_modules_that_directly_import("ornstein.core")
    assert not {module.split(".")[2] for module in importers if module.startswith("ornstein.core.")} & set(FOUNDATION)


def test_domains_use_public_modules_of_the_core(graph: grimp.ImportGraph) -> None:
    private = {
        f"{module} imports {target}"
        for module in graph.modules
        if module.startswith("ornstein.domains.")
        for target in graph.find_modules_directly_imported_by(module)
        if target.startswith("ornstein.core.") and "._" in target
    }
    assert private == set()


def test_importing_the_core_loads_no_heavy_library() -> None:
    """Beyond what torch loads by itself."""
    code = "import sys, torch; old = set(sys.modules); import ornstein.core; print(*sys.modules.keys() - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in done.stdout.split()} & set(HEAVY)
