r"""What SELFIES have said so far, token by token: how many atoms there are, which of them is bonded to next, how much
of a branch is left.

SELFIES count (Krenn et al. 2020, 1905.13741, section 2): a branch says how many symbols it has, a ring how many atoms
back it closes.  A network would have to count too, over long ways, and to draw a ring of five for one of six is to draw
another molecule.  The rules are known, and so they are read: behind each token

* ``atoms``: how many atoms there are;
* ``tip``: the number of the atom that the next one is bonded to, to which rings count back from;
* ``left``: symbols left of the innermost branch that is open, 0 for none;
* ``depth``: how many branches are open.

Where tokens are derived in another way than SELFIES' own rules for spent valences would have it, this is off by a
little, and the network learns with it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ornstein.core.nn import Reading
from ornstein.domains.molecules.pieces import expand_pieces
from ornstein.domains.molecules.selfies import SelfiesVocabulary, index_of, symbols_of

__all__ = ["Derivation", "DerivationReader", "derive"]

DEEPEST = 4  # branches within branches that are told apart
LARGEST = 40  # counts that are told apart, from 0


class Derivation(NamedTuple):
    """The state behind the tokens so far, of each row.

    Attributes:
        atoms, tip, depth: ``(B,)``, see the module's text.
        left, roots: of each branch that is open, the outermost first, symbols left and the atom it starts at, ``(B,
            DEEPEST)``.
    """

    atoms: Tensor
    tip: Tensor
    depth: Tensor
    left: Tensor
    roots: Tensor

    @classmethod
    def start(cls, batch: int, device: torch.device) -> "Derivation":
        """Before the first token."""
        none, open_ = (torch.zeros(batch, *more, dtype=torch.int64, device=device) for more in ((), (DEEPEST,)))
        return cls(none, none, none, open_, open_)

    @property
    def counts(self) -> Int[Tensor, "batch 4"]:
        """``atoms``, ``tip``, ``left`` and ``depth``."""
        top = self.left.gather(1, (self.depth - 1).clamp(min=0)[:, None])[:, 0]
        left = torch.where(self.depth > 0, top, torch.zeros_like(top))
        return torch.stack([self.atoms, self.tip, left, self.depth], 1)

    def after(self, rules: Int[Tensor, "batch 4"], real: Tensor) -> "Derivation":
        """The state behind one more token of these rules (`rules_of`), where it is ``real`` ``(B,)``."""
        atom, cost, nested, parts = (rules * real[:, None]).unbind(1)
        atoms = self.atoms + atom
        tip = torch.where(atom > 0, atoms, self.tip)
        left, depth = self.left - cost[:, None], torch.where(parts > 0, torch.zeros_like(self.depth), self.depth)
        into = torch.nn.functional.one_hot(depth.clamp(max=DEEPEST - 1), DEEPEST) * (nested > 0)[:, None]
        left = torch.where(into > 0, nested[:, None], left)
        roots = torch.where(into > 0, tip[:, None], self.roots)
        depth = (depth + (nested > 0)).clamp(max=DEEPEST)
        for _ in range(DEEPEST):
            top = (depth - 1).clamp(min=0)[:, None]
            done = (depth > 0) & (left.gather(1, top)[:, 0] <= 0)
            tip = torch.where(done, roots.gather(1, top)[:, 0], tip)
            depth = depth - done.long()
        return Derivation(atoms, tip, depth, left, roots)


def rules_of(token: str) -> tuple[int, int, int, int]:
    """Of a token: atoms that it adds, symbols that it takes, symbols of the branch that it opens (0 for none), and
    whether it begins another molecule.
    """
    if token == ".":
        return 0, 0, 0, 1
    first, *rest = symbols_of(token)
    if not rest:
        return int(token != "[nop]"), 1, 0, 0
    return 0, 1 + len(rest), index_of(rest) + 1 if "Branch" in first else 0, 0


def derive(
    tokens: Int[Tensor, "batch n"], lengths: Tensor, rules: Tensor, state: Derivation
) -> tuple[Int[Tensor, "batch n 4"], Derivation]:
    """The counts behind each of the next tokens or pieces, and the state behind all.

    Args:
        tokens: numbers of a vocabulary.
        lengths: tokens of each number, ``(K,)``.
        rules: of these, ``(K, longest, 4)``.
        state: behind the tokens before.
    """
    sizes = lengths[tokens]
    ends = sizes.cumsum(1)
    longest = int(ends[:, -1].max()) if ends.numel() else 0
    # All tokens of a row's pieces one behind the other: token j is the (j - start)-th of the piece that holds it.
    place = torch.arange(longest, device=tokens.device).expand(len(tokens), longest).contiguous()
    piece = torch.searchsorted(ends, place, right=True).clamp(max=tokens.shape[1] - 1)
    within = (place - (ends - sizes).gather(1, piece)).clamp(0, rules.shape[1] - 1)
    each, real = rules[tokens.gather(1, piece), within], place < ends[:, -1:]
    counts = []
    for j in range(longest):
        state = state.after(each[:, j], real[:, j])
        counts.append(state.counts)
    return torch.stack(counts, 1).gather(1, (ends - 1)[..., None].expand(-1, -1, 4)), state


class DerivationReader(nn.Module):
    """Reads SELFIES for a `TokenTransformer`: embeddings of the counts, and rotary positions that count atoms.

    Attention then finds what stands so many atoms back, whatever branches are between.

    Args:
        vocabulary: whose numbers, less one, the tokens are; one more is the mask, which says nothing.
        width: length of a token inside of the network.
    """

    lengths: Tensor
    rules: Tensor

    def __init__(self, vocabulary: SelfiesVocabulary, width: int) -> None:
        super().__init__()
        self.vocabulary, self.width = vocabulary, width
        self.left, self.back = nn.Embedding(LARGEST, width), nn.Embedding(LARGEST, width)
        self.depth = nn.Embedding(DEEPEST + 1, width)
        for table in (self.left, self.back, self.depth):
            nn.init.normal_(table.weight, std=0.3)
        runs = [*expand_pieces(len(vocabulary.tokens), vocabulary.pieces)[1:], (0,)]
        longest = max(map(len, runs))
        each = [rules_of(token) for token in vocabulary.tokens]
        each[0] = (0, 0, 0, 0)
        rules = [[each[number] for number in run] + [each[0]] * (longest - len(run)) for run in runs]
        self.register_buffer("lengths", torch.tensor([len(run) for run in runs]), persistent=False)
        self.register_buffer("rules", torch.tensor(rules), persistent=False)

    def forward(self, x: Int[Tensor, "batch n"], state: Derivation | None) -> Reading:
        """See `TokenTransformer`.

        Args:
            x: the next tokens.
            state: behind those before.
        """
        with torch.no_grad():
            state = Derivation.start(len(x), x.device) if state is None else state
            counts, state = derive(x, self.lengths, self.rules, state)
        atoms, tip, left, depth = counts.unbind(-1)
        back = (atoms - tip).clamp(max=LARGEST - 1)
        vectors = self.left(left.clamp(0, LARGEST - 1)) + self.back(back) + self.depth(depth)
        return Reading(vectors, tip, state)
