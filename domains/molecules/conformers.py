r"""`ConformerDiffusion`: conformers of given molecules, by diffusion of their torsions (Jing et al. 2022, 2206.01729).

Lengths, angles and rings of a conformer, its local structure, are quick to get right by distance geometry and a force
field; what it is about are the angles of the bonds that turn. These live on a torus, one circle a bond, where Brownian
motion is known in closed form (`core.manifolds`):

    a local structure (`embed`)  ->  torsions drawn given it, from uniform ones  ->  set in it exactly (`set_torsions`).

The local structures of training are those of the data, of sampling those of ETKDG and MMFF94. Data from elsewhere (xTB,
crystals) should be brought to such local structures first, as the paper does by matching; ours in `FragmentData` are.
Alkynes' turns and what a molecule leaves open of its stereo come with the local structure, drawn anew for each
conformer.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.core import SeededNoise, VESchedule
from ornstein.core.adapter import DomainAdapter, Example
from ornstein.core.manifolds import RiemannianDenoiser, RiemannianProcess, RiemannianScoreMatching, Torus
from ornstein.core.objectives import Objective
from ornstein.core.optional import need
from ornstein.core.samplers import GeodesicRandomWalk, Sampler
from ornstein.core.training.seeds import derive_seed, seeded
from ornstein.domains.molecules.facts import MoleculeFacts
from ornstein.domains.molecules.geometry import embed, whole_molecule, with_conformers
from ornstein.domains.molecules.graphs import collate, encode_graph
from ornstein.domains.molecules.pairs import as_matrix
from ornstein.domains.molecules.torsion_network import TorsionNetwork
from ornstein.domains.molecules.torsions import Rotors, find_rotors, measure_torsions, set_torsions

__all__ = ["ConformerDiffusion", "default_torus"]

SHOWN = ("CC(=O)NCCO", "CCCCC", "OCCO", "NCCN")
"""Molecules for pictures, the first whose atoms the data know."""
TOLD = ("positions", "atoms", "bonds", "real", "ends", "sides")


def default_torus() -> RiemannianProcess:
    """Brownian motion on circles, with noise from ``0.01 pi`` to ``pi`` as in the paper, section 3.2."""
    return RiemannianProcess(Torus(), VESchedule(0.01 * np.pi, np.pi))


class ConformerDiffusion(DomainAdapter):
    """Diffusion of torsions; `conformers` is what it is for.

    Args:
        facts: what the training data tell; needed, but that `for_data` and ``ornstein fit`` take it from the data.
        network: see `TorsionNetwork`, which is the default.
        process: on `Torus`; `default_torus` when not given.
        objective: the training loss.
        sampler: of conformers.
        seed: of the initial weights.

    Raises:
        TypeError: facts of another kind, or a process that is on no torus.

    Example:
        >>> from rdkit import Chem
        >>> from ornstein.domains.molecules.geometry import embed, whole_molecule, with_conformers
        >>> from ornstein.domains.molecules.space import ConformerData
        >>> mols = [embed(Chem.MolFromSmiles(smiles)).mol for smiles in ("CCCO", "CCCC")]
        >>> model = ConformerDiffusion.for_data(ConformerData(mols, heldout=0, validation=0))
        >>> model.conformers("CCCO", 3, seed=0).GetNumConformers()
        3
    """

    from_data: ClassVar[tuple[str, ...]] = ("facts",)
    default_batch_size: ClassVar[int] = 64

    def __init__(
        self,
        facts: MoleculeFacts | None = None,
        network: nn.Module | None = None,
        process: RiemannianProcess | None = None,
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(facts, MoleculeFacts):
            raise TypeError(
                f"facts={facts!r}: expected MoleculeFacts; ConformerDiffusion.for_data(data) takes them from the data"
            )
        process = default_torus() if process is None else process
        if not isinstance(process, RiemannianProcess) or process.manifold != Torus():
            raise TypeError(f"process={process!r}: expected a RiemannianProcess on Torus()")
        self.facts, self.process, self.seed = facts, process, seed
        if network is None:
            with seeded(derive_seed(seed, "initialisation")):
                network = TorsionNetwork(len(facts.atoms), len(facts.bonds))
        self.denoiser = RiemannianDenoiser(network, process)
        self.objective = RiemannianScoreMatching() if objective is None else objective
        self.sampler = GeodesicRandomWalk(20) if sampler is None else sampler

    @property
    def network(self) -> nn.Module:
        """The network inside the denoiser."""
        return self.denoiser.network

    # Batches and states.

    def encode(self, batch: Any) -> Example:
        """Conformers as torsions ``(B, M)`` in radians; what they are set in are the conditions of `TorsionNetwork`.

        Args:
            batch: of `SpaceData`; or a list of RDKit molecules with a conformer each.

        Raises:
            TypeError: another kind of batch.
            ValueError: molecules that the model cannot hold, or without coordinates.
        """
        if isinstance(batch, Sequence) and not isinstance(batch, str):
            batch = self._collate(batch)
        if not isinstance(batch, Mapping) or not all(n in batch for n in ("positions", "atoms", "bonds", "mask")):
            came = ", ".join(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise TypeError(f"the batch holds {came}: expected 'positions', 'atoms', 'bonds' and 'mask'")
        table = torch.tensor(self.facts.vocabulary.orders, device=batch["bonds"].device)
        rotors = find_rotors(as_matrix(table[batch["bonds"]] * batch["mask"]["bonds"]))
        torsions = measure_torsions(batch["positions"], rotors)
        told = {name: batch[name] for name in ("positions", "atoms", "bonds")}
        return Example(
            torsions, {**told, "real": batch["mask"]["atoms"], "ends": rotors.ends, "sides": rotors.sides}, rotors.mask
        )

    def _collate(self, mols: Sequence[Any]) -> dict[str, Any]:
        graphs, places = [], []
        for number, mol in enumerate(mols):
            if not getattr(mol, "GetNumConformers", lambda: 0)() or not mol.GetConformer().Is3D():
                raise ValueError(f"molecule {number}: expected an RDKit molecule with a conformer in space")
            try:
                graphs.append(encode_graph(mol, self.facts.vocabulary))
            except ValueError as error:
                raise ValueError(f"molecule {number}: {error}") from error
            if len(graphs[-1]["atoms"]) != mol.GetNumAtoms():
                raise ValueError(
                    f"molecule {number} has hydrogens without coordinates; give Chem.AddHs(mol, addCoords=True)"
                )
            places.append(torch.from_numpy(mol.GetConformer().GetPositions()).float())
        if not graphs:
            raise ValueError("no molecules: expected at least one")
        batch = collate(graphs)
        real = batch["mask"]["atoms"]
        batch["positions"] = torch.zeros(*real.shape, 3)
        batch["positions"][real] = torch.cat([place - place.mean(0) for place in places])
        return batch

    def decode(self, state: Any) -> np.ndarray:
        """Torsions ``(N, M)`` in degrees, float64."""
        return np.degrees(state.detach().cpu().double().numpy())

    def state_shape(self, num: int, condition: Mapping[str, Tensor]) -> tuple[int, ...]:
        """``(num, M)``, for as many bonds that turn as the molecules of the condition have at most."""
        return (num, condition["ends"].shape[1])

    # Sampling.

    def preview_condition(self, num: int) -> dict[str, Any]:
        """A small molecule whose atoms the data know.

        Raises:
            ValueError: there is none.
        """
        for smiles in SHOWN:
            try:
                encode_graph(whole_molecule(smiles), self.facts.vocabulary)
            except ValueError:
                continue
            return {"mol": smiles}
        raise ValueError(f"the data know none of {', '.join(SHOWN)}: give mol=, the molecule to draw conformers of")

    def sample(
        self,
        num: int,
        *,
        mol: Any = None,
        sampler: Any = None,
        seed: int | None = None,
        batch_size: int | None = None,
        first: int = 0,
        guidance: float | None = None,
        progress: bool = False,
        relax: int = 0,
        **condition: Any,
    ) -> list[Any]:
        """Draw conformers of one molecule, each an RDKit molecule of its own; see `conformers`.

        Raises:
            ValueError: no molecule, guidance or other conditions, of which the model knows nothing, or as `conformers`.
        """
        if mol is None or guidance is not None or condition:
            given = "no mol" if mol is None else f"{'guidance' if guidance is not None else next(iter(condition))}"
            raise ValueError(f"{given}: expected mol, a molecule to draw conformers of, and nothing else to hold to")
        drawn = self.conformers(
            mol, num, seed=seed, first=first, sampler=sampler, batch_size=batch_size, progress=progress, relax=relax
        )
        Chem = need("rdkit.Chem", to="draw conformers", extra="molecules")
        return [Chem.Mol(drawn, confId=conformer.GetId()) for conformer in drawn.GetConformers()]

    @torch.no_grad()
    def conformers(
        self,
        mol: Any,
        num: int,
        *,
        seed: int | None = None,
        first: int = 0,
        sampler: Any = None,
        batch_size: int | None = None,
        relax: int = 0,
        redraws: int = 8,
        progress: bool = False,
    ) -> Any:
        """Conformers of a molecule.

        One in which atoms clash (``no_clash`` of `ornstein.domains.molecules.judges.posebusters`) is drawn again, so
        that draws are of the model's distribution among conformers without a clash.

        Args:
            mol: RDKit molecule or SMILES; conformers that it has are not looked at.
            num: how many.
            seed: conformer ``i`` depends on ``(seed, first + i)`` alone; without one, a fresh one is drawn.
            first: number of the first.
            sampler: the adapter's own when not given.
            batch_size: at a time; `default_batch_size` when not given.
            relax: steps of MMFF94 in the end; 0 leaves torsions as they were drawn.
            redraws: how often a conformer with a clash is drawn again, at most; 0 to take each as it comes.
            progress: show a bar.

        Returns:
            The molecule, with hydrogens if the data have them, and ``num`` centred conformers in ångström. A warning
            tells how many still clash.

        Raises:
            ValueError: SMILES that do not parse, numbers below 1, atoms that the data do not know, or a molecule that
                distance geometry or the force field cannot place.
        """
        if num < 1 or relax < 0 or redraws < 0:
            raise ValueError(
                f"num={num}, relax={relax}, redraws={redraws}: expected at least 1 conformer, and no number below 0"
            )
        if relax and self.facts.vocabulary.form.hydrogens == "implicit":
            raise ValueError(f"relax={relax}: the data have no hydrogens, which the force field needs; expected 0")
        size = self.default_batch_size if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        seed = int(torch.randint(2**31, ()).item()) if seed is None else seed
        whole = whole_molecule(mol)
        encode_graph(whole, self.facts.vocabulary)  # a molecule that the model cannot hold is refused before any work
        bare, numbers = self._bare(whole), np.arange(first, first + num)

        def drawn(seed: int, numbers: np.ndarray) -> list[np.ndarray]:
            parts = [numbers[start : start + size].tolist() for start in range(0, len(numbers), size)]
            made = [([self._local(whole, seed, number) for number in part], part) for part in parts]
            return [place for mols, part in made for place in self._draw(mols, seed, part, sampler, progress)]

        with self.evaluating():
            places = drawn(seed, numbers)
            bad = np.flatnonzero([_clashes(bare, place) for place in places]) if redraws else np.zeros(0, int)
            for attempt in range(redraws):
                if not len(bad):
                    break
                fresh = drawn(derive_seed(seed, "again", attempt), numbers[bad])
                for i, place in zip(bad, fresh):
                    places[i] = place
                bad = bad[[_clashes(bare, place) for place in fresh]]
        if len(bad):
            warnings.warn(
                f"{len(bad)} of {num} conformers clash after {redraws} redraws; give more, or relax=", stacklevel=2
            )
        return with_conformers(bare, places, relax)

    def _draw(
        self, mols: list[Any], seed: int, numbers: Sequence[int], sampler: Any, progress: bool
    ) -> list[np.ndarray]:
        """Positions of all atoms, one array for each local structure."""
        example = self.encode(mols)
        assert isinstance(example.state, Tensor)
        assert example.mask is not None
        if bool(example.mask.any()):
            condition = {name: example.condition[name].to(self.device) for name in TOLD}
            torsions = (sampler or self.sampler).sample(
                self.denoiser,
                tuple(example.state.shape),
                noise=SeededNoise(seed, tuple(numbers)),
                condition=condition,
                mask=example.mask.to(self.device),
                progress=progress,
            )
            rotors = Rotors(condition["ends"], condition["sides"], example.mask.to(self.device))
            placed = set_torsions(
                condition["positions"].double(), rotors, torsions.double().cos(), torsions.double().sin()
            )
        else:
            placed = example.condition["positions"].double()
        placed = placed - placed.mean(1, keepdim=True)  # conformers of one molecule: nothing is padded
        return list(placed.cpu().numpy())

    def _bare(self, whole: Any) -> Any:
        Chem = need("rdkit.Chem", to="draw conformers", extra="molecules")
        return whole if self.facts.vocabulary.form.hydrogens == "explicit" else Chem.RemoveHs(whole)

    def _local(self, whole: Any, seed: int, number: int) -> Any:
        """A local structure."""
        found = embed(whole, seed=derive_seed(seed, "local structure", number))
        if found.mol is None:
            raise ValueError(f"mol cannot be put in space: {found.reason}")
        return self._bare(found.mol)

    # Files, pictures and judges.

    def render(self, samples: Sequence[Any], path: str | Path) -> None:
        """Where torsions are, as histograms (PNG): one panel for each bond that turns, up to six."""
        from ornstein.core.evaluation.drawing import COLOURS, INK, axes_grid, figure_bytes

        example = self.encode(list(samples))
        assert example.mask is not None
        angles = self.decode(example.state)[:, : max(1, min(6, int(example.mask[0].sum())))]
        figure, rows = axes_grid(angles.shape[1], extra="molecules", width=5.0, height=1.4)
        for axes, column, ends in zip(rows, angles.T, example.condition["ends"][0].tolist()):
            axes.hist(column, bins=36, range=(-180, 180), color=COLOURS[0])
            axes.set_ylabel("-".join(map(str, ends)), color=INK, fontsize=8)
        rows[-1].set_xlabel("degrees", color=INK)
        Path(path).write_bytes(figure_bytes(figure))

    def write(self, samples: Sequence[Any], directory: str | Path, *, first: int = 0) -> list[Path]:
        """Each conformer as ``000000.sdf`` and so on."""
        Chem = need("rdkit.Chem", to="write conformers", extra="molecules")
        Path(directory).mkdir(parents=True, exist_ok=True)
        paths = [Path(directory) / f"{first + i:06d}.sdf" for i in range(len(samples))]
        for path, mol in zip(paths, samples):
            path.write_text(f"{Chem.MolToMolBlock(mol)}$$$$\n", encoding="utf-8")
        return paths

    def pack(self, samples: Sequence[Any]) -> dict[str, np.ndarray]:
        """Conformers as molblocks, with the digits that those keep (1e-4 Å)."""
        Chem = need("rdkit.Chem", to="write conformers", extra="molecules")
        return {"samples": np.array([Chem.MolToMolBlock(mol) for mol in samples], dtype=np.str_)}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        """The conformers that ``pack`` stored."""
        Chem = need("rdkit.Chem", to="read conformers", extra="molecules")
        return [Chem.MolFromMolBlock(str(block), removeHs=False) for block in arrays["samples"]]

    def evaluate(self, samples: Any, reference: Any) -> dict[str, float]:
        """Coverage and matching of conformers (`judge_conformers`), by molecule.

        Args:
            samples: RDKit molecules with conformers, some of the same molecule perhaps.
            reference: a data module's ``reference()``, whose held-out molecules count, or molecules with conformers.

        Raises:
            ValueError: samples of no molecule of the reference.
        """
        from ornstein.domains.molecules.judges import judge_conformers

        real = gather_conformers(getattr(reference, "heldout", reference))
        made = gather_conformers(samples["samples"] if isinstance(samples, Mapping) else samples)
        shared = [name for name in real if name in made]
        if not shared:
            raise ValueError("samples are of no molecule of the reference; draw conformers(mol, n) of its molecules")
        return judge_conformers([(made[name], real[name]) for name in shared])


def _clashes(mol: Any, place: np.ndarray) -> bool:
    from ornstein.domains.molecules.judges.posebusters import check_geometry

    return check_geometry(with_conformers(mol, [place]), ("no_clash",))["no_clash"] is False


def gather_conformers(mols: Sequence[Any]) -> dict[str, Any]:
    """One molecule with all conformers for each SMILES."""
    Chem = need("rdkit.Chem", to="gather conformers", extra="molecules")
    found: dict[str, Any] = {}
    for mol in mols:
        name = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
        if name not in found:
            found[name] = Chem.Mol(mol)
            continue
        order = mol.GetSubstructMatch(found[name])
        if len(order) != mol.GetNumAtoms():
            raise ValueError(f"{name}: its conformers have different atoms, some with hydrogens and some without")
        for conformer in mol.GetConformers():
            moved = Chem.Conformer(conformer)
            moved.SetPositions(conformer.GetPositions()[list(order)])
            found[name].AddConformer(moved, assignId=True)
    return found
