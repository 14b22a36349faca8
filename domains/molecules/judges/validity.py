"""Five kinds of validity that papers call by the same word, side by side, with the reason of each refusal.

| kind | a sample counts if | judged further is |
| --- | --- | --- |
| ``parse`` | it has atoms, RDKit sanitises it and its SMILES parse; ``A.B`` counts | all of it |
| ``largest_fragment`` | RDKit sanitises it; debris beside the molecule is free | its largest fragment |
| ``relaxed`` | as before, after N, O and S with one bond too many got the charge +1 | its largest fragment |
| ``uncorrected`` | valences are allowed after the same charges; rings may lack a Kekulé form | its largest fragment |
| ``strict`` | RDKit sanitises it; one component, no radical, an InChI that reads back | all of it |

The first is MOSES' (1811.12823) and GuacaMol's (1811.09621), the next two are DiGress' (2209.14734) without and with
its "relaxed" charges, the fourth is GDSS' "validity without correction" (2202.02514), the last is the chemistry of
PoseBusters (2308.05777). In ``uncorrected`` a sample can count and yet have no molecule that could be judged further.
Say which kind a figure is of: on one set of samples they differ by tens of percents.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import bond_orders, chem, problem_name, quiet, sanitised
from ornstein.domains.molecules.judges._samples import Sample, as_samples, by_smiles, read_raw

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["KINDS", "Validity", "check_validity"]

ORDINARY_VALENCE = {7: 3, 8: 2, 16: 2}
"""Of the atoms that may get a charge for one bond too many, by atomic number."""


@dataclass(frozen=True)
class Validity:
    """What one kind of validity says of a list of samples.

    Attributes:
        kind: its name.
        counts: which samples count.
        molecules: what is judged further, sanitised and with implicit hydrogens; None where there is nothing.
        reasons: of refusals, with how often each occurs, the most frequent first.
        first: the number of the first sample that was refused for that reason.
    """

    kind: str
    counts: tuple[bool, ...]
    molecules: tuple["Mol | None", ...]
    reasons: dict[str, int]
    first: dict[str, int]

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.counts)

    @property
    def valid(self) -> int:
        """Number of those that count."""
        return sum(self.counts)

    @property
    def fraction(self) -> float:
        """``valid / n``."""
        return self.valid / self.n


Verdict = tuple[bool, "Mol | None", str]
"""Whether it counts, what is judged further, and the reason if it does not count."""


def _parse(raw: "Mol") -> Verdict:
    mol, reason = sanitised(raw)
    if mol is not None:
        mol, reason = by_smiles(mol)
    return mol is not None, mol, reason


def _largest_fragment(raw: "Mol") -> Verdict:
    mol, reason = sanitised(raw)
    return mol is not None, None if mol is None else _largest(mol), reason


def _relaxed(raw: "Mol") -> Verdict:
    return _largest_fragment(_charged(raw))


def _uncorrected(raw: "Mol") -> Verdict:
    mol = _charged(raw)
    problems = chem().DetectChemistryProblems(mol, sanitizeOps=chem().SanitizeFlags.SANITIZE_PROPERTIES)
    if problems:
        return False, None, problem_name(mol, problems[0])
    whole, _ = sanitised(mol)
    return True, None if whole is None else _largest(whole), ""


def _strict(raw: "Mol") -> Verdict:
    mol, reason = sanitised(raw)
    if mol is None:
        return False, None, reason
    if len(chem().GetMolFrags(mol)) > 1:
        return False, None, "several components"
    if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        return False, None, "radical"
    if not has_inchi(mol):
        return False, None, "no InChI that reads back"
    mol, reason = by_smiles(mol)
    return mol is not None, mol, reason


_JUDGES: dict[str, Callable[["Mol"], Verdict]] = {
    "parse": _parse,
    "largest_fragment": _largest_fragment,
    "relaxed": _relaxed,
    "uncorrected": _uncorrected,
    "strict": _strict,
}

KINDS = tuple(_JUDGES)
"""Names of the five kinds."""


def check_validity(samples: Iterable[Sample], kinds: Sequence[str] = KINDS) -> dict[str, Validity]:
    """Each kind of validity of each sample.

    Args:
        samples: molecules, sanitised or not, SMILES, or None for what could not be built.
        kinds: some of `KINDS`.

    Raises:
        ImportError: rdkit is missing.
        TypeError, ValueError: samples of another kind, none at all, or an unknown kind of validity.
    """
    for kind in kinds:
        require(kind in _JUDGES, "kinds", kind, f"some of {', '.join(KINDS)}")
    with quiet():
        raws = [read_raw(sample) for sample in as_samples(samples)]
        return {kind: _judge(kind, raws) for kind in kinds}


def _judge(kind: str, raws: Sequence[tuple["Mol | None", str]]) -> Validity:
    verdicts = [(False, None, reason) if raw is None else _JUDGES[kind](raw) for raw, reason in raws]
    reasons = [reason for counts, _, reason in verdicts if not counts]
    first: dict[str, int] = {}
    for number, (counts, _, reason) in enumerate(verdicts):
        if not counts:
            first.setdefault(reason, number)
    return Validity(
        kind,
        tuple(counts for counts, _, _ in verdicts),
        tuple(mol for _, mol, _ in verdicts),
        dict(Counter(reasons).most_common()),
        first,
    )


def _charged(raw: "Mol") -> "Mol":
    """A copy in which neutral N, O and S that RDKit refuses for one bond above their ordinary valence are cations."""
    mol = chem().Mol(raw)
    flag = chem().SanitizeFlags.SANITIZE_PROPERTIES
    for problem in chem().DetectChemistryProblems(mol, sanitizeOps=flag):
        atom = mol.GetAtomWithIdx(problem.GetAtomIdx())
        ordinary = ORDINARY_VALENCE.get(atom.GetAtomicNum())
        if ordinary is not None and atom.GetFormalCharge() == 0 and bond_orders(atom) == ordinary + 1:
            atom.SetFormalCharge(1)
    return mol


def _largest(mol: "Mol") -> "Mol | None":
    """The fragment of most atoms, the first of several."""
    fragments = chem().GetMolFrags(mol, asMols=True, sanitizeFrags=False)
    return by_smiles(max(fragments, key=lambda fragment: fragment.GetNumAtoms()))[0]


def has_inchi(mol: "Mol") -> bool:
    """Whether InChI has a name for a sanitised molecule that reads back."""
    inchi = need("rdkit.Chem.inchi", to="judge molecules", extra="molecules")
    written = inchi.MolToInchi(mol)
    return bool(written) and inchi.MolFromInchi(written) is not None
