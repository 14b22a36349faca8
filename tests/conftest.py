"""What every test shares: shapes checked at run time, fixed threads and seeds, and data that pip does not bring."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

REPOSITORY = Path(__file__).resolve().parents[1]

# Networks are left out: a wrapped forward cannot be compiled without graph breaks, which is what their tests ask.
_UNCHECKED = {"nn"}
_CHECKED = sorted(
    f"ornstein.core.{path.stem}"
    for path in (REPOSITORY / "core").iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem not in _UNCHECKED | {"__init__"}
)
if any(name == "ornstein.core" or name.startswith("ornstein.core.") for name in sys.modules):
    raise RuntimeError("ornstein was imported before tests/conftest.py could install the check of shapes")
install_import_hook(_CHECKED, "shape_check.check")

# Two threads, or one in each worker of pytest-xdist: the suite is written for two cores.
torch.set_num_threads(1 if os.environ.get("PYTEST_XDIST_WORKER") else 2)


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Start every test from the same global random state, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (scikit-learn reads the global state)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def external_data() -> Callable[[str], Path]:
    """``external_data("fashion-mnist")`` is the folder of a data set that pip does not bring, or skips the test.

    Looked for in the folders of ``ORNSTEIN_DATA`` (separated as in ``PATH``), in ``shared/data`` beside the repository
    and in ``/usr/share/datasets``, where Debian's packages put them.
    """
    roots = [Path(root) for root in os.environ.get("ORNSTEIN_DATA", "").split(os.pathsep) if root]
    roots += [REPOSITORY.parent / "shared" / "data", Path("/usr/share/datasets")]

    def find(name: str) -> Path:
        for root in roots:
            if (root / name).is_dir():
                return root / name
        pytest.skip(f"no data set {name!r}: put its folder into one that ORNSTEIN_DATA names")

    return find
