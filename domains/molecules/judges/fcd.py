r"""Fréchet ChemNet distance (Preuer et al. 2018, 1803.09518): of two sets of molecules in ChemNet's features.

    FCD = |m - m'|^2 + tr(C) + tr(C') - 2 tr((C C')^{1/2})

with mean and covariance of the 512 activations of ChemNet's last hidden layer, from fcd-torch. MOSES reports the
distance; GuacaMol `exp(-0.2 FCD)`, where more is better.

Its bias falls only as one over the number of molecules: two draws of 2,000 real molecules of MOSES' test set have 0.6.
Compare figures of one size, beside the floor (`MosesReference`). ChemNet reads 349 symbols of a SMILES, and of a salt
only what stands before the first dot: that is part of the definition.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ornstein.core.evaluation import frechet_distance_from_moments
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["ChemNetMoments", "chemnet_activations", "chemnet_moments", "fcd_between"]

READ = 349
"""Symbols of a SMILES that ChemNet reads."""


@dataclass(frozen=True)
class ChemNetMoments:
    """Mean ``(512,)`` and covariance ``(512, 512)`` of ChemNet's activations, of ``n`` molecules."""

    mean: np.ndarray
    covariance: np.ndarray
    n: int

    def without(self, part: "ChemNetMoments") -> "ChemNetMoments":
        """Moments of what is left of a set without a part of it, exactly.

        Raises:
            ValueError: fewer than two molecules left.
        """
        n = self.n - part.n
        require(n > 1, "molecules left", n, "at least 2")
        mean = (self.n * self.mean - part.n * part.mean) / n
        scatter = self._scatter() - part._scatter() - n * np.outer(mean, mean)
        return ChemNetMoments(mean, scatter / (n - 1), n)

    def _scatter(self) -> np.ndarray:
        """Sum of outer products about zero."""
        return (self.n - 1) * self.covariance + self.n * np.outer(self.mean, self.mean)


def chemnet_activations(molecules: Sequence["Mol"], *, batch_size: int = 128, device: str = "cpu") -> np.ndarray:
    """ChemNet's last hidden layer, ``(n, 512)`` float32, of sanitised molecules; about 50 a second on two cores.

    Args:
        molecules: they are read as canonical SMILES; a warning says how many are too long to be read whole.
        batch_size: molecules at a time.
        device: of torch.

    Raises:
        ImportError: fcd-torch is missing.
        ValueError: no molecules.
    """
    require(len(molecules) > 0, "molecules", "none", "at least one")
    smiles = [chem().MolToSmiles(mol) for mol in molecules]
    # An upper bound: ChemNet reads Cl, Br and Si as one symbol.
    long = sum(len(text.split(".")[0]) > READ for text in smiles)
    if long:
        warnings.warn(
            f"{long} of {len(smiles)} SMILES are longer than {READ}, of which ChemNet reads no more", stacklevel=2
        )
    network = _chemnet()
    network.batch_size, network.device = batch_size, device
    kinds, places = np.unique(smiles, return_inverse=True)
    with torch.random.fork_rng(devices=[]):  # loaders draw a seed
        found = np.asarray(network.get_predictions([str(text) for text in kinds]))
    return found[places]


def chemnet_moments(molecules: Sequence["Mol"], *, batch_size: int = 128, device: str = "cpu") -> ChemNetMoments:
    """Mean and covariance of `chemnet_activations`, at least two molecules."""
    require(len(molecules) > 1, "molecules", len(molecules), "at least 2, for a covariance")
    found = chemnet_activations(molecules, batch_size=batch_size, device=device).astype(float)
    return ChemNetMoments(found.mean(0), np.cov(found.T), len(found))


def fcd_between(moments: ChemNetMoments, reference: ChemNetMoments) -> float:
    """FCD of two sets; 0 if they are equal, and never below."""
    return frechet_distance_from_moments(
        *(
            torch.from_numpy(np.array(part, float))
            for side in (moments, reference)
            for part in (side.mean, side.covariance)
        )
    )


@lru_cache(maxsize=1)
def _chemnet() -> Any:
    return need("fcd_torch", to="compute the Fréchet ChemNet distance", extra="molecules").FCD(device="cpu", n_jobs=1)
