"""The judges of molecules on inputs whose figures are known: real molecules, a model of character n-grams, and graphs
that respect valences and nothing else.

Each is 2,000 molecules against MOSES' published statistics of its test set:

* ``real``: drawn from the test set itself; its FCD is 0.63, the floor of every figure at this number;
* ``ngram``: SMILES drawn character by character given the eight before, from the counts of the first 200,000 training
  molecules; elsewhere 0.159 of them were valid, with FCD 12.6;
* ``random``: as many atoms as a real molecule has, drawn from the frequencies of its elements, on a random tree with
  random bonds as valences allow: all valid, all new, and nothing that a chemist would draw; elsewhere FCD 37.7 for one
  of this kind.

Figures: ``NAME_valid``, ``NAME_vun`` and what `moses_scores` and `moses_diversity` say of the valid ones. It passes if
real molecules' FCD is 0.63 within 0.05, the n-grams' validity and FCD are within a tenth of theirs, and random graphs
are all valid and at least as far as 30: validity is no measure of molecules.
"""

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from common import parser, record, set_threads

from ornstein.domains.molecules.judges import (
    KnownMolecules,
    check_validity,
    molecule_key,
    moses_diversity,
    moses_reference,
    moses_scores,
)
from ornstein.domains.molecules.moses import moses_smiles

REAL, NGRAM_VALID, NGRAM_FCD, RANDOM_FCD, ORDER = 0.63, 0.159, 12.6, 30.0, 9
VALENCES = {"C": 4, "N": 3, "O": 2, "F": 1, "S": 2, "Cl": 1, "Br": 1}


def ngrams(texts: Sequence[str], num: int, draws: random.Random) -> list[str]:
    """Texts of a model of ``ORDER`` characters, without smoothing; each ends by itself."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        padded = "^" * (ORDER - 1) + text + "$"
        for i in range(ORDER - 1, len(padded)):
            counts[padded[i - ORDER + 1 : i]][padded[i]] += 1
    choices = {before: (list(after), list(after.values())) for before, after in counts.items()}
    found = []
    for _ in range(num):
        text = "^" * (ORDER - 1)
        while text[-1] != "$" and len(text) < 200:
            symbols, weights = choices[text[-(ORDER - 1) :]]
            text += draws.choices(symbols, weights)[0]
        found.append(text.strip("^$"))
    return found


def random_graphs(texts: Sequence[str], num: int, draws: random.Random) -> list[Any]:
    """Random trees of elements as frequent as in real molecules, with bonds added wherever valences are left."""
    from rdkit import Chem

    real = [Chem.MolFromSmiles(text) for text in texts]
    elements = Counter(atom.GetSymbol() for mol in real for atom in mol.GetAtoms())
    rings = [mol.GetNumBonds() - mol.GetNumAtoms() + 1 for mol in real]
    found = []
    while len(found) < num:
        size = real[draws.randrange(len(real))].GetNumAtoms()
        symbols = draws.choices(list(elements), list(elements.values()), k=size)
        left = [VALENCES[symbol] for symbol in symbols]
        orders: dict[tuple[int, int], int] = {}
        for i in range(1, size):
            free = [j for j in range(i) if left[j]]
            if not free or not left[i]:
                break
            j = draws.choice(free)
            orders[j, i] = 1
            left[i], left[j] = left[i] - 1, left[j] - 1
        if len(orders) < size - 1:  # a tree that had nowhere to grow
            continue
        for _ in range(draws.choice(rings)):
            free = [i for i in range(size) if left[i]]
            if len(free) < 2:
                break
            i, j = sorted(draws.sample(free, 2))
            orders[i, j] = min(orders.get((i, j), 0) + 1, 3)
            left[i], left[j] = left[i] - 1, left[j] - 1
        mol = Chem.RWMol()
        for symbol in symbols:
            mol.AddAtom(Chem.Atom(symbol))
        kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
        for (i, j), order in orders.items():
            mol.AddBond(i, j, kinds[order])
        found.append(mol.GetMol())
    return found


def main() -> int:
    """Judge all three, print and record."""
    options = parser(__doc__)
    options.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    given = options.parse_args()
    set_threads(given.threads)
    num, count = (100, 5000) if given.quick else (2000, 200_000)
    reference = moses_reference("Test")
    draws, texts = random.Random(given.seed), list(moses_smiles("train", count))
    known = KnownMolecules.of(texts if given.quick else moses_smiles("train"), canonical=True)
    contestants = {
        "real": draws.sample(reference.smiles, num),
        "ngram": ngrams(texts, num, draws),
        "random": random_graphs(texts[:2000], num, draws),
    }
    figures: dict[str, float] = {}
    for name, samples in contestants.items():
        valid = [mol for mol in check_validity(samples, ("parse",))["parse"].molecules if mol is not None]
        new = ~known.holds(sorted({molecule_key(mol) for mol in valid}))
        scores = {"valid": len(valid) / num, "vun": int(new.sum()) / num}
        scores |= moses_scores(valid, reference, fcd=True) | moses_diversity(valid)
        figures |= {f"{name}_{key.replace('/Test', '')}": value for key, value in scores.items()}
        print({key: round(value, 4) for key, value in figures.items() if key.startswith(name)}, file=sys.stderr)
    passed = {
        "real": abs(figures["real_fcd"] - REAL) <= 0.05,
        "ngram_valid": abs(figures["ngram_valid"] - NGRAM_VALID) <= 0.1 * NGRAM_VALID,
        "ngram_fcd": abs(figures["ngram_fcd"] - NGRAM_FCD) <= 0.1 * NGRAM_FCD,
        "random": figures["random_valid"] == 1.0 and figures["random_fcd"] >= RANDOM_FCD,
    }
    return record(
        "molecule_judges", figures, passed, seeds=[given.seed], quick=given.quick, threads=given.threads,
        packages=("rdkit", "fcd-torch"),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
