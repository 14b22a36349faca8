"""Files of MOSES' wheel (molsets), found without loading its code, which needs what can no longer be built.

MOSES: Polykovskiy et al. 2020 (arXiv 1811.12823). MIT licence.
"""

import csv
import gzip
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from ornstein.core.schedules import require

__all__ = ["MOSESPart", "moses_file", "moses_smiles"]

MOSESPart = Literal["train", "test", "test_scaffolds"]


def moses_file(name: str) -> Path:
    """A file of the wheel.

    Raises:
        ImportError: the wheel is missing, or lacks the file.
    """
    try:  # by the wheel's name: a script called moses.py would come before its package
        path = Path(str(distribution("molsets").locate_file(f"moses/{name}")))
    except PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise ImportError(f"MOSES' {name} is missing: pip install --no-deps molsets (its files are read, not its code)")
    return path


_HEAVY = re.compile("Cl|Br|[CNOSFcnos]")  # all the symbols that MOSES' SMILES have, hydrogen apart


def moses_smiles(
    part: MOSESPart = "train", count: int | None = None, max_heavy_atoms: int | None = None, spread: bool = False
) -> Iterator[str]:
    """MOSES' SMILES, in their order, which is not random: neighbours are alike.

    Args:
        part: ``"train"``, ``"test"``, or ``"test_scaffolds"``, whose scaffolds training has not.
        count: how many at most.
        max_heavy_atoms: larger molecules are passed over.
        spread: take ``count`` of them evenly from the whole file, not its first; the file is read twice.

    Raises:
        ImportError: the wheel is missing.
        ValueError: another part.
    """
    require(part in get_args(MOSESPart), "part", part, " or ".join(map(repr, get_args(MOSESPart))))
    path = moses_file(f"dataset/data/{part}.csv.gz")

    def rows() -> Iterator[str]:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if max_heavy_atoms is None or len(_HEAVY.findall(row["SMILES"])) <= max_heavy_atoms:
                    yield row["SMILES"]

    if not spread or count is None:
        return islice(rows(), count)
    total = sum(1 for _ in rows())
    # Of every total / count one: row i where the whole part of i count / total goes up.
    return (row for i, row in enumerate(rows()) if (i + 1) * count // total > i * count // total)
