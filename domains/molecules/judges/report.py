"""All figures of a list of generated molecules at once, with how many count, real ones' figures beside, and reasons."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem
from ornstein.domains.molecules.judges._moses_files import SPLITS
from ornstein.domains.molecules.judges._samples import Sample, as_molecules, as_samples, present
from ornstein.domains.molecules.judges.distinct import KnownMolecules, molecule_key, novelty, uniqueness
from ornstein.domains.molecules.judges.fcd import chemnet_moments, fcd_between
from ornstein.domains.molecules.judges.filters import check_filters
from ornstein.domains.molecules.judges.geometry import geometry_distances
from ornstein.domains.molecules.judges.guacamol import guacamol_divergences, guacamol_fcd_score, guacamol_score
from ornstein.domains.molecules.judges.moses import moses_diversity, moses_scores
from ornstein.domains.molecules.judges.nspdk import nspdk_mmd
from ornstein.domains.molecules.judges.posebusters import CHECKS, check_geometries
from ornstein.domains.molecules.judges.reference import MosesReference, moses_reference
from ornstein.domains.molecules.judges.stability import bond_stability, distance_stability
from ornstein.domains.molecules.judges.validity import KINDS, Validity, check_validity

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["MEASURES", "judge_molecules", "score_rows"]

Figures = dict[str, float]
Reference = MosesReference | str | Iterable[Sample]
UNIQUE_AT = (1000, 10_000)


@dataclass(frozen=True)
class _Side:
    """A reference, molecules drawn from it as many as are valid (or none), and what it is without them."""

    reference: MosesReference
    drawn: list["Mol"]
    rest: MosesReference

    def real(self, n: int) -> list["Mol"]:
        """Up to ``n`` molecules, spread over what was not drawn."""
        smiles = self.rest.smiles
        return as_molecules(smiles[:: max(1, len(smiles) // n)][:n], self.reference.name)


@dataclass(frozen=True)
class _Case:
    """What is judged, against what."""

    samples: list[Sample]
    valid: list["Mol"]
    sides: list[_Side]
    solids: list["Mol"]
    """Real molecules with positions."""
    floors: bool


def judge_molecules(
    samples: Iterable[Sample],
    training: KnownMolecules | Iterable[Sample] | None = None,
    reference: Reference | Sequence[MosesReference | str] | None = None,
    measures: Sequence[str] | None = None,
    *,
    kind: str = "parse",
    floors: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of generated molecules by name, see the tables of the modules.

    | measure | figures | needs |
    | --- | --- | --- |
    | ``validity`` | ``validity/<kind>``, ``unique``, ``unique@1000``, ``novel``, ``vun`` | training for the last two |
    | ``diversity`` | ``intdiv``, ``intdiv2`` | |
    | ``filters`` | ``filters`` | MOSES' wheel |
    | ``moses`` | ``snn/..``, ``frag/..``, ``scaf/..``, ``w1_logP/..`` and others | reference |
    | ``fcd`` | ``fcd/..``, ``fcd_score/..`` | reference |
    | ``guacamol`` | ``kl_score/..``, ``kl_BertzCT/..`` and others | reference |
    | ``nspdk`` | ``nspdk/..`` | reference |
    | ``stability`` | ``atom_stability/valence``, ``molecule_stability/midi``, ``../edm`` | hydrogens; positions |
    | ``geometry`` | ``w1_bond_length``, ``w1_bond_length_worst``; angles, torsions | positions on both sides |
    | ``checks`` | ``checks``, ``checks/no_clash`` and others | samples with positions |

    Args:
        samples: molecules, SMILES, or None for what could not be built; all of them count.
        training: what the model learned from, as `KnownMolecules` where they are many.
        reference: real molecules: ``"Test"``, ``"TestSF"``, references from `MosesReference.of`, several of these, or a
            list of molecules.
        measures: some of `MEASURES`; None: those of the first four that can be had.
        kind: of validity whose molecules are judged further, one of `KINDS`; the last three judge samples as they are.
        floors: also the figures of real molecules, which takes as long again.
        seed: of the draws of real molecules.

    Returns:
        The figures, with ``n`` samples, ``n_valid``, ``kind``; ``floors`` (the same figures of real molecules drawn
        from the reference against its others, ``n/<reference>`` many); ``reasons`` of refusals by kind of validity, of
        filters and checks; and ``left_out``, why a measure has no figures.

    Raises:
        ImportError: a library or MOSES' wheel is missing for what is asked.
        TypeError, ValueError: samples or references of another kind, an unknown measure, or one that asks for what was
            not given.
    """
    require(kind in KINDS, "kind", kind, f"one of {', '.join(KINDS)}")
    given = as_samples(samples)
    asked, left_out = _asked(measures, reference is not None)
    found = check_validity(given, KINDS if "validity" in asked else (kind,))
    references, solids = _references(reference, "fcd" in asked)
    valid = present(found[kind].molecules)
    compared = any(name in COMPARED for name in asked)
    sides = [_side(one, len(valid) if floors and compared else 0, seed) for one in references]
    case = _Case(given, valid, sides, solids, floors)
    judged: dict[str, Any] = {"n": len(given), "n_valid": found[kind].valid, "kind": kind}
    real: Figures = {f"n/{side.reference.name}": float(len(side.drawn)) for side in sides if side.drawn}
    reasons: dict[str, dict[str, int]] = {}
    if "validity" in asked:
        judged |= _validity(found, kind, training)
        reasons |= {name: verdict.reasons for name, verdict in found.items()}
    for measure in [name for name in asked if name != "validity"]:
        if measure not in AS_THEY_ARE and len(valid) < 2:
            left_out[measure] = f"{len(valid)} valid molecules of kind {kind!r}"
            continue
        figures, beside, why = _JUDGES[measure](case)
        judged, real, reasons = judged | figures, real | beside, reasons | why
    return judged | {"floors": real, "reasons": reasons, "left_out": left_out}


def score_rows(judged: Mapping[str, Any]) -> list[list[str]]:
    """Rows of name, figure and that of real molecules, as text, of what `judge_molecules` found."""
    rows = []
    for name, value in judged.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            floor = judged["floors"].get(name)
            rows.append([name, _text(value), "" if floor is None else _text(floor)])
    return rows


def _text(value: float) -> str:
    return f"{value:d}" if isinstance(value, int) else f"{value:.4g}"


def _asked(measures: Sequence[str] | None, referenced: bool) -> tuple[list[str], dict[str, str]]:
    """Measures, and why those of the default that cannot be had are left out."""
    if measures is not None:
        for name in measures:
            require(name in MEASURES, "measures", name, f"some of {', '.join(MEASURES)}")
        return [name for name in MEASURES if name in measures], {}
    left_out = {}
    if find_spec("moses") is None:
        left_out["filters"] = "MOSES' wheel is missing: pip install --no-deps molsets"
    if not referenced:
        left_out["moses"] = "no reference was given"
    return [name for name in ("validity", "diversity", "filters", "moses") if name not in left_out], left_out


def _references(reference: Any, chemnet: bool) -> tuple[list[MosesReference], list["Mol"]]:
    """References, and molecules with positions if a list of them was given."""
    if reference is None:
        return [], []
    if isinstance(reference, (str, MosesReference)):
        reference = [reference]
    found = list(reference)
    if found and all(isinstance(one, MosesReference) or one in SPLITS for one in found):
        known = [moses_reference(one) if isinstance(one, str) else one for one in found]
        names = [one.name for one in known]
        require(len(set(names)) == len(names), "names of references", names, "different ones")
        return known, []
    mols = as_samples(found, "reference")
    kind = chem().Mol
    solids = [mol for mol in mols if isinstance(mol, kind) and mol.GetNumConformers()]
    return [MosesReference.of(mols, chemnet=chemnet)], solids


def _side(reference: MosesReference, n: int, seed: int) -> _Side:
    n = min(n, len(reference) // 2)
    return _Side(reference, *reference.split(n, seed=seed)) if n else _Side(reference, [], reference)


Outcome = tuple[Figures, Figures, dict[str, dict[str, int]]]
"""Figures, those of real molecules, and reasons."""


def _validity(
    found: Mapping[str, Validity], kind: str, training: KnownMolecules | Iterable[Sample] | None
) -> dict[str, float]:
    figures = {f"validity/{name}": verdict.fraction for name, verdict in found.items()}
    molecules = present(found[kind].molecules)
    if not molecules:
        return figures
    figures["unique"] = uniqueness(molecules)
    figures |= {f"unique@{k}": uniqueness(molecules, k) for k in UNIQUE_AT if len(molecules) >= k}
    if training is not None:
        known = training if isinstance(training, KnownMolecules) else KnownMolecules.of(training)
        figures["novel"] = novelty(molecules, known)
        different = len({molecule_key(mol, known.key) for mol in molecules})
        figures["vun"] = figures["novel"] * different / found[kind].n
    return figures


def _diversity(case: _Case) -> Outcome:
    floor = [moses_diversity(side.drawn) for side in case.sides[:1] if len(side.drawn) > 1]
    return moses_diversity(case.valid), floor[0] if floor else {}, {}


def _filters(case: _Case) -> Outcome:
    found = check_filters(case.valid)
    return {"filters": found.fraction}, {}, {"filters": found.reasons}


def _moses(case: _Case) -> Outcome:
    figures, floor = Figures(), Figures()
    for side in _compared(case, "moses"):
        figures |= moses_scores(case.valid, side.reference)
        if side.drawn:
            floor |= moses_scores(side.drawn, side.rest)
    return figures, floor, {}


def _fcd(case: _Case) -> Outcome:
    figures, floor, moments = Figures(), Figures(), chemnet_moments(case.valid)
    for side in _compared(case, "fcd"):
        name, real = side.reference.name, side.reference.chemnet
        if real is None:
            raise ValueError(f"reference {name!r} has no moments of ChemNet: make it with chemnet=True")
        figures |= _fcd_figures(name, fcd_between(moments, real))
        if len(side.drawn) > 1:
            drawn = chemnet_moments(side.drawn)
            floor |= _fcd_figures(name, fcd_between(drawn, real.without(drawn)))
    return figures, floor, {}


def _fcd_figures(name: str, far: float) -> Figures:
    return {f"fcd/{name}": far, f"fcd_score/{name}": guacamol_fcd_score(far)}


def _guacamol(case: _Case) -> Outcome:
    def scores(made: Sequence["Mol"], real: Sequence["Mol"], name: str) -> Figures:
        found = guacamol_divergences(made, real)
        return {f"kl_score/{name}": guacamol_score(found)} | {f"kl_{key}/{name}": far for key, far in found.items()}

    return _beside_real(case, "guacamol", scores)


def _nspdk(case: _Case) -> Outcome:
    return _beside_real(case, "nspdk", lambda made, real, name: {f"nspdk/{name}": nspdk_mmd(made, real)})


def _beside_real(
    case: _Case, measure: str, scores: Callable[[Sequence["Mol"], Sequence["Mol"], str], Figures]
) -> Outcome:
    """Figures against as many real molecules, and of other real ones against these."""
    figures, floor = Figures(), Figures()
    for side in _compared(case, measure):
        real = side.real(len(case.valid))
        figures |= scores(case.valid, real, side.reference.name)
        if len(side.drawn) > 1:
            floor |= scores(side.drawn, real, side.reference.name)
    return figures, floor, {}


def _stability(case: _Case) -> Outcome:
    molecules = _solid(case, "stability", positions=False)
    found = {rule: bond_stability(molecules, rule=rule) for rule in ("valence", "midi")}
    if all(mol is None or not mol.GetNumAtoms() or mol.GetNumConformers() for mol in molecules):
        found["edm"] = distance_stability(molecules)
    figures = Figures()
    for rule, score in found.items():
        figures |= {f"atom_stability/{rule}": score.atom, f"molecule_stability/{rule}": score.molecule}
    return figures, {}, {}


def _geometry(case: _Case) -> Outcome:
    require(len(case.solids) > 0, "reference", "no positions", "a list of molecules with conformers, for 'geometry'")
    molecules = [mol for mol in _solid(case, "geometry") if mol is not None]
    require(len(molecules) > 0, "samples", "no positions", "molecules with conformers, for 'geometry'")
    half = len(case.solids) // 2
    figures, floor = Figures(), Figures()
    pairs = [(molecules, case.solids, figures)]
    if case.floors and half:
        pairs.append((case.solids[:half], case.solids[half:], floor))
    for made, real, side in pairs:
        for name, found in geometry_distances(made, real).items():
            side |= {f"w1_{name}": found.mean, f"w1_{name}_worst": found.worst[1]}
    return {name: far for name, far in figures.items() if not math.isnan(far)}, floor, {}


def _checks(case: _Case) -> Outcome:
    found = check_geometries(_solid(case, "checks"), CHECKS)
    figures = {"checks": found.fraction} | {f"checks/{name}": passed / found.n for name, passed in found.passed.items()}
    return figures, {}, {"checks": found.reasons}


def _solid(case: _Case, measure: str, *, positions: bool = True) -> list["Mol | None"]:
    """Samples as they are, which must be molecules or None; with positions if asked."""
    found: list[Mol | None] = []
    for number, sample in enumerate(case.samples):
        if isinstance(sample, str):
            raise TypeError(f"samples[{number}] is a SMILES: {measure!r} judges molecules with their hydrogens")
        if sample is None or not sample.GetNumAtoms():
            found.append(None)
            continue
        require(not positions or sample.GetNumConformers() > 0, f"samples[{number}]", "no positions", "a conformer")
        found.append(sample)
    return found


def _compared(case: _Case, measure: str) -> list[_Side]:
    require(len(case.sides) > 0, "reference", None, f"real molecules, which {measure!r} compares with")
    return case.sides


_JUDGES: dict[str, Callable[[_Case], Outcome]] = {
    "diversity": _diversity,
    "filters": _filters,
    "moses": _moses,
    "fcd": _fcd,
    "guacamol": _guacamol,
    "nspdk": _nspdk,
    "stability": _stability,
    "geometry": _geometry,
    "checks": _checks,
}
COMPARED = ("diversity", "moses", "fcd", "guacamol", "nspdk")
"""Measures whose figures real molecules have too."""
AS_THEY_ARE = ("stability", "geometry", "checks")
"""Measures of samples as they came, not of their valid molecules."""
MEASURES = ("validity", *_JUDGES)
"""Names of all measures."""
