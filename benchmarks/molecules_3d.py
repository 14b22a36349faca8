"""Molecules in space: stability of generated fragments and coverage of conformers, after an hour of training.

Fragments of at most nine heavy atoms are cut from MOSES and placed by ETKDG and MMFF94 (`FragmentData`); a tenth of the
molecules is held out. Two models are trained one after the other in ``--seconds`` of wall-clock time:

* ``MoleculeDiffusion(representation="space")`` on atoms, positions and bonds, in five sixths of it. It draws
  ``--samples`` molecules, with sizes as the data have them. Stability is that of the bonds drawn, every atom with a
  valence that RDKit allows, hydrogens explicit (``atom_stability``, ``molecule_stability``); beside it that of bonds
  perceived from the positions alone (``perceived_..``), and by EDM's tables of distances (``edm_..``), by which half
  of the real fragments are unstable (``real_edm_..``). Bond lengths are compared with held-out molecules' by type,
  elements and order, over the samples that RDKit accepts: ``bond_length_distance`` is the mean over bonds and
  ``bond_length_worst`` that of the type farthest off which both sides have 50 times, in Å.
* ``ConformerDiffusion`` on several conformers of each training molecule, in the rest. For ``--molecules`` held-out
  molecules with a bond between heavy atoms that turns, the reference are relaxed conformers that differ by more than
  0.3 Å of ``--pool`` embeddings, and twice as many are drawn. ``coverage_ratio`` is the mean recall at 0.75 Å over that
  of as many conformers by ETKDGv3; ``tight_ratio`` the same at 0.25 Å. Uniform torsions in the same local structures
  show what training is worth (``uniform_..``), and the first model draws positions for the same atoms and bonds
  (``joint_..``). ``clashes`` is the share of conformers that fail PoseBusters' check; by that same check `conformers`
  draws again what clashes, which the uniform torsions are spared.

``equivariance`` is the largest difference of the trained network's answer to turned and reflected molecules from the
turned answer, over the largest entry. Passed: atoms 0.95, molecules 0.6, 0.05 Å for the mean and for each type, 1e-5,
0.8, and no clash.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import TRAINING, parser, record, recorded, set_threads, steps_within

OPTIONS = TRAINING | {"lr": 0.01, "warmup": 100}


def trained(make: Any, data: Any, seconds: float, folder: Path, device: str, seed: int) -> tuple[Any, int, float]:
    """A model trained for about ``seconds``, the steps and the seconds that they took."""
    from ornstein.core.training import EMA

    def fit(model: Any, steps: int, run: Path) -> float:
        start = time.perf_counter()
        accelerator = "gpu" if device == "cuda" else device
        model.fit(data, run=run, max_steps=steps, seed=seed, ema=EMA(0.998), accelerator=accelerator, **OPTIONS)
        return time.perf_counter() - start

    steps = steps_within(seconds, lambda n: fit(make(), n, folder / f"calibration-{n}"), 3, 12)
    model = make()
    return model, steps, fit(model, steps, folder / "run")


def saved(model: type, folder: Path, prefix: str) -> tuple[Any, int, float]:
    """A model of the run that was recorded last, with its steps and seconds."""
    figures = recorded("molecules_3d")[0]
    found = (figures[f"{prefix}{name}"] for name in ("steps", "seconds"))
    return model.from_pretrained(folder / "run" / "model"), *found  # type: ignore[attr-defined]


def space_figures(model: Any, reference: list[Any], samples: int, seed: int) -> dict[str, float]:
    """Stability and bond lengths of samples."""
    from ornstein.domains.molecules.judges import bond_stability, distance_stability, geometry_distances
    from ornstein.domains.molecules.perception import perceive_bonds

    start = time.perf_counter()
    drawn = model.generate(samples, seed=seed)
    taken = time.perf_counter() - start
    raw = drawn.raw
    alone = [
        perceive_bonds([a.GetSymbol() for a in mol.GetAtoms()], mol.GetConformer().GetPositions()).raw for mol in raw
    ]
    figures = {"ms_per_molecule": 1000 * taken / samples, "valid": drawn.validity}
    for name, found in (
        ("", bond_stability(raw)),
        ("perceived_", bond_stability(alone)),
        ("edm_", distance_stability(raw)),
        ("real_edm_", distance_stability(reference)),
    ):
        figures |= {f"{name}atom_stability": found.atom, f"{name}molecule_stability": found.molecule}
    figures["unique"] = len({text for text in drawn.smiles if text}) / max(1, len(drawn.valid))
    figures |= {"bond_length_distance": float("inf"), "bond_length_worst": float("inf")}
    if drawn.valid:
        lengths = geometry_distances(drawn.valid, reference, at_least=50 if samples >= 500 else 5)
        print({name: found.by_type for name, found in lengths.items()}, file=sys.stderr)
        figures["bond_length_distance"] = lengths["bond_length"].mean
        figures["bond_length_worst"] = lengths["bond_length"].worst[1]
        figures |= {f"{name}_distance": lengths[name].mean for name in ("bond_angle", "torsion")}
    return figures


def equivariance(model: Any, batch: Any) -> float:
    """How far the denoiser is from turning with its input, over all noise levels of a few."""
    import torch

    example, worst = model.encode(batch), 0.0
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for t in (0.05, 0.3, 0.8):
            state = model.process.marginal(example.state, t).sample()
            state["positions"] = model.process.components["positions"].project(
                state["positions"], example.mask["positions"]
            )
            turn = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
            answers = []
            for matrix in (torch.eye(3), turn):
                moved = {**state, "positions": state["positions"] @ matrix.T}
                x, c = {}, {}
                for name, head in model.denoiser.heads.items():
                    x[name], c[name] = head.inputs(moved[name], t)
                answers.append(model.network(x, c, mask=example.mask))
            plain, turned = answers
            for name, expected in plain.items():
                expected = expected @ turn.T if name == "positions" else expected
                real = example.mask[name][..., None]
                gap = ((turned[name] - expected) * real).abs().max() / (expected * real).abs().max()
                worst = max(worst, float(gap))
    return worst


def ensembles(smiles: list[str], count: int, seed: int) -> list[Any]:
    """Each molecule with relaxed conformers, hydrogens explicit; those that cannot be placed are left out."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    found = []
    for text in smiles:
        mol = Chem.AddHs(Chem.MolFromSmiles(text))
        settings = rdDistGeom.ETKDGv3()
        settings.randomSeed = seed
        if len(rdDistGeom.EmbedMultipleConfs(mol, count, settings)) and rdForceFieldHelpers.MMFFHasAllMoleculeParams(
            mol
        ):
            rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=2000)
            found.append(mol)
    return found


def distinct(mol: Any, apart: float = 0.3) -> Any:
    """The molecule with those conformers that differ from all before by more than so many Å."""
    from rdkit import Chem
    from rdkit.Chem import rdMolAlign

    heavy, kept = Chem.RemoveHs(mol), []
    for conformer in heavy.GetConformers():
        number = conformer.GetId()
        if all(rdMolAlign.GetBestRMS(heavy, heavy, number, other) > apart for other in kept):
            kept.append(number)
    out = Chem.Mol(mol)
    for conformer in mol.GetConformers():
        if conformer.GetId() not in kept:
            out.RemoveConformer(conformer.GetId())
    return out


def turns(smiles: str) -> bool:
    """Whether a bond between heavy atoms turns heavy atoms."""
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors

    return rdMolDescriptors.CalcNumRotatableBonds(Chem.MolFromSmiles(smiles), strict=False) > 0


def conformer_figures(model: Any, untrained: Any, joint: Any, references: list[Any], seed: int) -> dict[str, float]:
    """Coverage of reference conformers by ETKDG, by uniform torsions and by both models."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    from ornstein.domains.molecules.judges import check_geometries, judge_conformers

    def embedded(mol: Any, count: int) -> Any:
        settings = rdDistGeom.ETKDGv3()
        settings.randomSeed = seed + 1
        made = Chem.Mol(mol)
        rdDistGeom.EmbedMultipleConfs(made, count, settings)
        return made

    makers = {
        "etkdg": embedded,
        "uniform": lambda mol, count: untrained.conformers(mol, count, seed=seed, redraws=0),
        "joint": lambda mol, count: joint.conformers(mol, count, seed=seed),
        "": lambda mol, count: model.conformers(mol, count, seed=seed),
    }
    figures: dict[str, float] = {"reference_conformers": sum(mol.GetNumConformers() for mol in references)}
    for name, make in makers.items():
        made = [make(mol, 2 * mol.GetNumConformers()) for mol in references]
        label = f"{name}_" if name else ""
        for kind, threshold in (("coverage", 0.75), ("tight", 0.25)):
            judged = judge_conformers(list(zip(made, references)), threshold=threshold)
            figures[f"{label}{kind}"] = judged["cov_r"]
            figures[f"{label}precision_{kind}"] = judged["cov_p"]
        figures[f"{label}matching"] = judged["mat_r"]
        single = [Chem.Mol(mol, confId=c.GetId()) for mol in made for c in mol.GetConformers()]
        report = check_geometries(single, ("no_clash",))
        figures[f"{label}clashes"] = 1 - report.passed["no_clash"] / report.n
    for kind in ("coverage", "tight"):
        figures[f"{kind}_ratio"] = figures[kind] / max(figures[f"etkdg_{kind}"], 1e-9)
        for name in ("uniform", "joint"):
            figures[f"{name}_{kind}_ratio"] = figures[f"{name}_{kind}"] / max(figures[f"etkdg_{kind}"], 1e-9)
    return figures


def settings() -> Any:
    """What the command line asks for."""
    options = parser(__doc__)
    options.set_defaults(threads=2)
    # A minute of the hour is left for the short runs that find what a step costs.
    options.add_argument("--seconds", type=float, default=3540.0, help="of training in all (default: %(default)s)")
    options.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    options.add_argument("--count", type=int, default=20_000, help="molecules to cut (default: %(default)s)")
    options.add_argument("--samples", type=int, default=2000, help="molecules to draw (default: %(default)s)")
    options.add_argument("--molecules", type=int, default=60, help="with reference conformers (default: %(default)s)")
    options.add_argument("--pool", type=int, default=50, help="embeddings for a reference (default: %(default)s)")
    options.add_argument("--file", help="SDF that keeps the fragments (default: none)")
    options.add_argument("--run", help="folder for the models (default: a temporary one)")
    options.add_argument("--checkpoint", help="the --run that was recorded last, whose models are judged again")
    options.add_argument("--seed", type=int, default=0, help="of training and samples (default: %(default)s)")
    given = options.parse_args()
    if given.quick:
        given.seconds, given.count, given.samples, given.molecules, given.pool = 12.0, 120, 16, 3, 8
    return given


def bars(figures: dict[str, float]) -> dict[str, bool]:
    """Which of the bars are reached."""
    return {
        "atom_stability": figures["atom_stability"] >= 0.95,
        "molecule_stability": figures["molecule_stability"] >= 0.6,
        "bond_length_distance": max(figures["bond_length_distance"], figures["bond_length_worst"]) <= 0.05,
        "equivariance": figures["equivariance"] <= 1e-5,
        "coverage_ratio": figures["coverage_ratio"] >= 0.8,
        "clashes": figures["clashes"] == 0,
    }


def main() -> int:
    """Train both models, judge them, print and record."""
    given = settings()
    set_threads(given.threads)

    from ornstein.domains.molecules.conformers import ConformerDiffusion
    from ornstein.domains.molecules.diffusion import MoleculeDiffusion
    from ornstein.domains.molecules.sources import FragmentData
    from ornstein.domains.molecules.space import ConformerData

    data = FragmentData(given.count, file=given.file, validation=0.0, width_step=4, seed=given.seed)
    reference = data.reference()
    smiles = {name: [_smiles(mol) for mol in getattr(reference, name)] for name in ("train", "heldout")}
    figures: dict[str, float] = {"train": len(smiles["train"]), "heldout": len(smiles["heldout"])}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.checkpoint or given.run or scratch)

        def space() -> Any:
            return MoleculeDiffusion.for_data(data, representation="space", seed=given.seed)

        if given.checkpoint:
            model, steps, spent = saved(MoleculeDiffusion, folder / "space", "")
        else:
            model, steps, spent = trained(
                space, data, given.seconds * 5 / 6, folder / "space", given.device, given.seed
            )
        joint = model.to(given.device)
        figures |= {"steps": steps, "seconds": spent} | space_figures(
            model, reference.heldout, given.samples, given.seed
        )
        rows = data.heldout_dataset()
        figures["equivariance"] = equivariance(model.cpu(), rows.__getitems__(list(range(min(32, len(rows))))))

        flexible = [text for text in smiles["train"] if turns(text)][: 10 if given.quick else 1500]
        shapes = ConformerData(
            ensembles(flexible, 3 if given.quick else 8, given.seed), heldout=0, validation=0, width_step=4
        )

        def torsions() -> Any:
            return ConformerDiffusion.for_data(shapes, seed=given.seed)

        if given.checkpoint:
            model, steps, spent = saved(ConformerDiffusion, folder / "torsions", "conformer_")
        else:
            model, steps, spent = trained(
                torsions, shapes, given.seconds / 6, folder / "torsions", given.device, given.seed
            )
        figures |= {"conformer_steps": steps, "conformer_seconds": spent}
        known = set(shapes.facts.atoms) & set(data.facts.atoms)
        chosen = [t for t in smiles["heldout"] if turns(t) and set(_symbols(t)) <= known]
        chosen = [t for t in chosen if len(_symbols(t)) <= data.facts.largest][: given.molecules]
        references = [distinct(mol) for mol in ensembles(chosen, given.pool, given.seed + 1000)]
        figures |= conformer_figures(
            model.to(given.device), torsions().to(given.device), joint.to(given.device), references, given.seed
        )
    packages = ("torch", "rdkit")
    return record(
        "molecules_3d",
        figures,
        bars(figures),
        seeds=[given.seed],
        quick=given.quick,
        threads=given.threads,
        packages=packages,
    )


def _smiles(mol: Any) -> str:
    from rdkit import Chem

    return Chem.MolToSmiles(Chem.RemoveHs(mol))


def _symbols(smiles: str) -> list[str]:
    from rdkit import Chem

    return [atom.GetSymbol() for atom in Chem.AddHs(Chem.MolFromSmiles(smiles)).GetAtoms()]


if __name__ == "__main__":
    sys.exit(main())
