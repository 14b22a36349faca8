"""What SELFIES have derived, against the molecules that they derive; and the network that is told."""

import pytest
import torch
from molecule_models import SMILES

from ornstein.core.nn import TokenTransformer
from ornstein.domains.molecules.data import MoleculeData
from ornstein.domains.molecules.derivation import Derivation, DerivationReader, derive
from ornstein.domains.molecules.selfies import INDEX, SelfiesVocabulary, index_of, selfies_of, symbols_of

pytest.importorskip("selfies")
pytest.importorskip("rdkit")
import selfies
from rdkit import Chem

HARD = [
    "CC(C)(C)OC(=O)N1CCC(N(C)C(=O)c2cc3ccccc3[nH]2)CC1", "O=C(NCc1ccc(C(F)(F)F)cc1)C1CC2(CCNCC2)C1",
    "C1CC2CCC1CC2", "c1ccc2c(c1)ccc1ccccc12", "CC(C(C(C(=O)O)N)O)S", "CCCCCCCCCCCCCCCCCCCC1CCCCCCCCCCCCCCCCCC1",
    "C(C(C(C(C(N)O)F)Cl)Br)S",
]  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return MoleculeData(SMILES + HARD, representation="selfies", heldout=0, validation=0, pieces=12)


def read(reader, tokens):
    lengths, rules = reader.lengths, reader.rules
    return derive(tokens, lengths, rules, Derivation.start(len(tokens), tokens.device))[0]


def test_numbers_of_branches_and_rings_are_selfies_own():
    assert tuple(INDEX) == tuple(selfies.constants.INDEX_ALPHABET)
    assert index_of(["[O]"]) == 9
    for count in (1, 5, 17, 40):  # a ring closes so many atoms back, and one more
        ring = f"C1{'C' * count}C1"
        token = next(token for token in selfies_of(ring) if "Ring" in token)
        assert index_of(symbols_of(token)[1:]) == count
    assert selfies_of("CC(F)C") == ["[C]", "[C]", "[Branch1][C]", "[C]", "[F]"]


def test_atoms_are_bonded_to_the_tip_and_rings_closed_from_it(data):
    vocabulary = data.facts.vocabulary
    reader = DerivationReader(vocabulary, 8)
    assert vocabulary.pieces
    for text in data.train_dataset().smiles:
        tokens = selfies_of(text)
        numbers = torch.tensor([[vocabulary.numbers[token] - 1 for token in tokens]])
        counts = read(reader, numbers)[0]
        mol = Chem.MolFromSmiles(selfies.decoder("".join(tokens)), sanitize=False)  # atoms in the order of tokens
        tip = 0
        for token, (atoms, after, _, _) in zip(tokens, counts.tolist()):
            first, *rest = symbols_of(token)
            if not rest:
                assert tip == 0 or mol.GetBondBetweenAtoms(atoms - 1, tip - 1) is not None
            elif "Ring" in first:
                assert mol.GetBondBetweenAtoms(tip - 1, tip - 2 - index_of(rest)) is not None
            tip = after
        assert int(counts[-1, 0]) == mol.GetNumAtoms()
        assert counts[:, 3].amax() <= 4


def test_what_is_left_of_a_branch_is_counted():
    tokens = ["[O]", "[C]", "[Branch1][Ring2]", "[C]", "[C]", "[N]", "[Branch1][C]", "[F]", "[C]"]  # OC(CCN)(F)C
    vocabulary = SelfiesVocabulary(("[nop]", *dict.fromkeys(tokens)))
    numbers = torch.tensor([[vocabulary.numbers[token] - 1 for token in tokens]])
    counts = read(DerivationReader(vocabulary, 8), numbers)[0].tolist()
    assert counts == [
        [1, 1, 0, 0], [2, 2, 0, 0], [2, 2, 3, 1], [3, 3, 2, 1], [4, 4, 1, 1], [5, 2, 0, 0], [5, 2, 1, 1], [6, 2, 0, 0],
        [7, 7, 0, 0],
    ]  # fmt: skip


def test_pieces_and_parts_say_what_their_tokens_say(data):
    vocabulary = data.facts.vocabulary
    reader = DerivationReader(vocabulary, 8)
    batch = data.train_dataset().__getitems__(list(range(len(data.train_dataset()))))
    numbers = (batch["tokens"] - 1).clamp(min=0)
    counts = read(reader, numbers)
    state, parts = Derivation.start(len(numbers), numbers.device), []
    for part in numbers.split([1, 3, 1, numbers.shape[1] - 5], 1):
        found, state = derive(part, reader.lengths, reader.rules, state)
        parts.append(found)
    assert torch.equal(torch.cat(parts, 1), counts)
    for row, text in enumerate(data.train_dataset().smiles):
        plain = torch.tensor([[vocabulary.numbers[token] - 1 for token in selfies_of(text)]])
        last = int(batch["mask"][row].sum()) - 1
        assert torch.equal(counts[row, last], read(reader, plain)[0, -1])
    mask = torch.full((1, 2), len(vocabulary) - 1)
    assert not read(reader, mask).any()


def test_a_network_that_is_told_remembers_it(data):
    torch.manual_seed(0)
    vocabulary = data.facts.vocabulary
    network = TokenTransformer(
        len(vocabulary), reader=DerivationReader(vocabulary, 32), timed=False, causal=True, width=32, depth=2, kernel=3
    ).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randint(len(vocabulary) - 1, (4, 9))
    whole, memory, parts = network(x), None, []
    for part in x.split([2, 1, 6], 1):
        out, memory = network.remember(part, memory)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)
    changed = x.clone()
    changed[:, 5] = (x[:, 5] + 1) % (len(vocabulary) - 1)
    assert torch.equal(network(changed)[:, :5], whole[:, :5])
    with pytest.raises(ValueError, match="a reader goes from the left"):
        TokenTransformer(5, reader=DerivationReader(vocabulary, 32), width=32, depth=1)
