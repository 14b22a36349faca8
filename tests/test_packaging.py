"""The wheel holds what the source tree holds, and every folder of the source tree is declared."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOPS = {"core": "ornstein.core", "domains": "ornstein.domains"}
PLUGIN = "pytest_ornstein.py"


@pytest.fixture(scope="module")
def settings(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def _sources(repository: Path) -> set[str]:
    """The modules on disk as the paths they must have in a wheel."""
    return {
        (Path(*package.split(".")) / path.relative_to(repository / folder)).as_posix()
        for folder, package in TOPS.items()
        for path in (repository / folder).rglob("*.py")
    }


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from a copy, so that no build folder of the working tree takes part."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", PLUGIN):
        shutil.copy(repository / name, source)
    for folder in TOPS:
        shutil.copytree(repository / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(out),
        ".",
    ]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("ornstein-*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_declared_packages_are_the_folders_on_disk(settings: dict, repository: Path) -> None:
    on_disk = {str(Path(path).parent).replace("/", ".") for path in _sources(repository)}
    assert set(settings["tool"]["setuptools"]["packages"]) == on_disk


def test_every_folder_with_code_is_a_package(repository: Path) -> None:
    folders = {path.parent for folder in TOPS for path in (repository / folder).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_wheel_holds_every_module_and_no_other(wheel: set[str], repository: Path) -> None:
    assert {name for name in wheel if name.endswith(".py")} == _sources(repository) | {PLUGIN}


def test_wheel_holds_types_and_licence(wheel: set[str]) -> None:
    assert {"ornstein/core/py.typed", "ornstein/domains/py.typed"} <= wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_wheel_holds_every_data_file(wheel: set[str], repository: Path) -> None:
    """Files beside the code that are no code (templates, style sheets) reach an installed copy."""
    data = {
        (Path(*package.split(".")) / path.relative_to(repository / folder)).as_posix()
        for folder, package in TOPS.items()
        for path in (repository / folder).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert data <= wheel


def test_all_extra_brings_every_domain(settings: dict) -> None:
    extras = settings["project"]["optional-dependencies"]
    domains = set(extras) - {"all", "bench", "dev", "docs"}
    assert extras["all"] == [f"ornstein[{','.join(sorted(domains, key=list(extras).index))}]"]


def test_every_registered_domain_is_importable(settings: dict, repository: Path) -> None:
    for name, target in settings["project"]["entry-points"]["ornstein.domains"].items():
        module, attribute = target.split(":")
        assert module == f"ornstein.domains.{name}"
        code = f"from {module} import {attribute}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
