"""Molecules that obey valences, from the first step of a sampler to the last: a constraint, and no repair after.

Of the categories that a step draws, atoms come first and then bonds in random order. A category is impossible if

* an atom would have more bond orders than it takes,
* what is left undecided could not join all atoms to one molecule any more (``connected``): its pieces need a chain of
  pairs that are undecided and whose atoms take another bond, and ``2 (pieces - 1)`` free valences between them,
* a bond would close a ring of a size that is not wanted (``rings``).

What is impossible is drawn again among what is possible (`core.samplers.constraints`). Under masks the molecule of the
last step is so one piece without an atom that has too many bonds. Under other chains, whose states before the last are
noise, it is the data drawn at each step that obey, in one piece at the last.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.samplers.constraints import DrawnStep, StateConstraint, redraw
from ornstein.core.schedules import require
from ornstein.domains.molecules.joining import Pending, Pieces, outlook
from ornstein.domains.molecules.pairs import as_matrix, pair_indices
from ornstein.domains.molecules.structure import smallest_rings

__all__ = ["ValenceConstraint"]

TINY = 1e-30
LONGEST = 12  # bonds of the longest path that is looked for, where rings are asked about


@dataclass(frozen=True)
class ValenceConstraint(StateConstraint):
    """Draws atoms and bonds so that a molecule can be made of them; see the module's text.

    Args:
        valences: the most bond orders of each category of atoms.
        orders: bond order of each category of bonds.
        connected: make one piece of all atoms.
        atoms: numbers of the categories of atoms that may be drawn; all when not given.
        rings: sizes that the smallest ring through a new bond may have; all when not given.

    Raises:
        ValueError: a category that there is not, or a ring of less than three atoms.
    """

    valences: tuple[float, ...]
    orders: tuple[float, ...]
    connected: bool = True
    atoms: tuple[int, ...] | None = None
    rings: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("valences", "orders", "atoms", "rings"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))
        if self.atoms is not None:
            fine = bool(self.atoms) and all(0 <= number < len(self.valences) for number in self.atoms)
            require(fine, "atoms", self.atoms, f"some of the numbers 0 to {len(self.valences) - 1}")
        if self.rings is not None:
            require(all(size >= 3 for size in self.rings), "rings", self.rings, "sizes of at least 3 atoms")

    def keep(self, step: DrawnStep) -> dict[str, Tensor]:
        case = _Case(self, step)
        case.draw_atoms()
        case.draw_bonds()
        if self.connected:
            case.join()
        return {"atoms": case.atoms, "bonds": case.bonds}

    def allows(self, data: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> Tensor:
        """Which molecules obey; of rings the smallest that each bond is in."""
        atoms, there = data["atoms"], real["atoms"]
        valences, orders = (atoms.new_tensor(table, dtype=torch.float32) for table in (self.valences, self.orders))
        bonds = as_matrix(torch.where(real["bonds"], orders[data["bonds"]], 0.0))
        room = valences[atoms] - bonds.sum(2)
        fine = room >= -1e-6
        if self.atoms is not None:
            fine = fine & torch.isin(atoms, atoms.new_tensor(self.atoms))
        fine = (fine | ~there).all(1)
        if self.connected:
            fine = fine & outlook(bonds, torch.zeros_like(bonds, dtype=torch.bool), room, there).joinable
        if self.rings is not None:
            sizes = smallest_rings((bonds > 0).to(bonds))
            fine = fine & torch.isin(sizes, sizes.new_tensor((0, *self.rings))).all(2).all(1)
        return fine


class _Limits(NamedTuple):
    """Tables by state, with masks among them: the most bond orders of an atom, orders of bonds, what may be drawn."""

    valences: Tensor
    orders: Tensor
    drawable_atoms: Tensor
    drawable_bonds: Tensor


class _Case:
    """One step, with what is decided so far."""

    def __init__(self, rules: ValenceConstraint, step: DrawnStep) -> None:
        self.rules, self.step = rules, step
        self.atoms, self.bonds = step.after["atoms"].clone(), step.after["bonds"].clone()
        device, self.n = self.atoms.device, self.atoms.shape[1]
        self.rows, self.columns = pair_indices(self.n, device)
        self.limits = self._limits(device)
        before, self.drawn = step.before["bonds"], step.after["bonds"].clone()
        self.masked_atoms, self.masked_bonds = step.mask_of("atoms"), step.mask_of("bonds")
        order = self.limits.orders[self.bonds]
        # Bonds that stay are there already; without masks all are drawn anew.
        anew = self.masked_bonds is None
        self.pending = step.free["bonds"] & (anew | (self.bonds != before))
        self.moving = self.pending & (order > 0)
        self.base = torch.where(self.moving, 0.0, order)
        self.sums = as_matrix(self.base).sum(2)
        self.atom_numbers, self.bond_numbers, turn = (
            step.uniform("atoms"), step.uniform("bonds"), step.uniform("bonds")
        )  # fmt: skip
        # The higher, the likelier a bond: of several pairs the highest is each with a probability like its odds.
        probs = step.kernels["bonds"].probs.double()
        none = (probs * (self.limits.orders == 0)).sum(-1)
        odds = (probs.sum(-1) - none).clamp(min=TINY).log() - none.clamp(min=TINY).log()
        self.turn = odds - (-turn.clamp(min=TINY).log()).log()

    def _limits(self, device: torch.device) -> _Limits:
        rules, step = self.rules, self.step
        atom_states, bond_states = (step.processes[name].states for name in ("atoms", "bonds"))
        orders = torch.tensor((*rules.orders, *[0.0] * (bond_states - len(rules.orders))))
        chosen = torch.zeros(atom_states, dtype=torch.bool)
        chosen[list(range(len(rules.valences)) if rules.atoms is None else rules.atoms)] = True
        valences = torch.tensor((*rules.valences, *[0.0] * (atom_states - len(rules.valences))))
        valences[len(rules.valences) :] = valences[chosen].max()  # a mask may become any
        kinds = torch.arange(bond_states) < len(rules.orders)
        return _Limits(valences.to(device), orders.to(device), chosen.to(device), kinds.to(device))

    # Atoms, one by one independent of each other.

    def draw_atoms(self) -> None:
        """Atoms that change take the bonds that they have, and are of those wanted."""
        step, limits = self.step, self.limits
        drawn = step.free["atoms"]
        if self.masked_atoms is not None:
            drawn = drawn & (self.atoms != step.before["atoms"]) & (self.atoms != self.masked_atoms)
        sums = self.sums.clamp(max=float(limits.valences.max()))
        self.atom_choices = (limits.valences >= sums[..., None] - 1e-6) & limits.drawable_atoms
        self.drawn_atoms = drawn
        wrong = drawn & ~self.atom_choices.gather(-1, self.atoms[..., None]).squeeze(-1)
        if bool(wrong.any()):
            probs = step.kernels["atoms"].probs[wrong]
            self.atoms[wrong] = redraw(probs, self.atom_choices[wrong], self.atom_numbers[wrong])

    # Bonds, one after the other.

    def draw_bonds(self) -> None:
        """Bonds that are new, in random order, as far as both their atoms take them."""
        limits, moving = self.limits, self.moving
        room = (limits.valences[self.atoms] - self.sums).clamp(min=0)  # what is given may be more than an atom takes
        self.bonds = torch.where(moving, 0, self.bonds)
        most = int(moving.sum(1).max()) if len(moving) else 0
        ranked = torch.where(moving, self.turn, -torch.inf).argsort(1, descending=True)
        graph = as_matrix((self.base > 0).float()) if self.rules.rings is not None else None
        sample = torch.arange(len(moving), device=moving.device)
        for k in range(most):
            place = ranked[:, k]
            live = moving[sample, place]
            i, j = self.rows[place], self.columns[place]
            limit = torch.minimum(room[sample, i], room[sample, j])
            allowed = (limits.orders <= limit[:, None] + 1e-6) & limits.drawable_bonds
            if graph is not None:
                allowed = allowed & (self._rings_allow(graph, sample, i, j)[:, None] | (limits.orders == 0))
            wanted = self.drawn[sample, place]
            wrong = live & ~allowed.gather(1, wanted[:, None]).squeeze(1)
            if bool(wrong.any()):
                probs = self.step.kernels["bonds"].probs[sample[wrong], place[wrong]]
                wanted = wanted.masked_scatter(
                    wrong, redraw(probs, allowed[wrong], self.bond_numbers[sample[wrong], place[wrong]])
                )
            wanted = torch.where(live, wanted, self.bonds[sample, place])
            self.bonds[sample, place] = wanted
            order = torch.where(live, limits.orders[wanted], 0.0)
            room[sample, i] -= order
            room[sample, j] -= order
            if graph is not None:
                graph[sample, i, j] = graph[sample, j, i] = torch.maximum(graph[sample, i, j], (order > 0).float())
        self.room = room

    def _rings_allow(self, graph: Tensor, sample: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Whether a bond between ``i`` and ``j`` closes no ring, or one of a size that is wanted, ``(B,)``."""
        assert self.rules.rings is not None
        reached = torch.nn.functional.one_hot(i, self.n).to(graph)
        first = torch.full_like(i, 0)
        for length in range(1, LONGEST + 1):
            reached = ((reached[:, None] @ graph).squeeze(1) + reached > 0).to(graph)
            first = torch.where((first == 0) & (reached[sample, j] > 0), length + 1, first)
        wanted = torch.tensor([0, *self.rules.rings], device=i.device)
        return (first[:, None] == wanted).any(1)

    # One piece.

    def join(self) -> None:
        """Draw again those molecules that could not become one piece any more, with that in mind."""
        step = self.step
        if not step.last and self.masked_bonds is None:
            return  # all of it is drawn again
        hidden = -1 if self.masked_bonds is None else self.masked_bonds
        later = step.free["bonds"] & (self.bonds == hidden)
        real = step.real["atoms"]
        orders = as_matrix(self.limits.orders[self.bonds])
        fine, sure = outlook(orders, as_matrix(later), self.room, real)
        for row in (~fine | ~sure).nonzero()[:, 0].tolist():
            if not bool(fine[row]) or self._pieces(row, real[row], later[row], self.bonds[row]).plan is None:
                self._join(row, real[row], later[row])

    def _pieces(self, row: int, real: Tensor, later: Tensor, bonds: Tensor) -> Pieces:
        """A molecule with bonds that are decided, and others that are not."""
        orders = self.limits.orders[bonds].tolist()
        rows, columns = self.rows.tolist(), self.columns.tolist()
        there = [(rows[p], columns[p], order) for p, order in enumerate(orders) if order]
        undecided = [(rows[p], columns[p]) for p in later.nonzero()[:, 0].tolist()]
        limits = self.limits.valences[self.atoms[row]].tolist()
        rings = None if self.rules.rings is None else self.rules.rings.__contains__
        return Pieces(there, undecided, {atom: limits[atom] for atom in real.nonzero()[:, 0].tolist()}, rings)

    def _join(self, row: int, real: Tensor, later: Tensor) -> None:
        """Draw a molecule of the batch again: with the atoms and bonds that were drawn as they are if more bonds can
        join them, else all that is drawn in this step.
        """
        none = self.limits.orders[self.bonds[row]] == 0
        kept = self._pieces(row, real, later | (self.pending[row] & none), self.bonds[row])
        if kept.plan is not None:
            self._draw_pairs(row, kept, self.pending[row] & none)
            return
        limits = self.limits.valences.tolist()
        free = self.drawn_atoms[row].nonzero()[:, 0].tolist()
        first = self.step.after["atoms"][row].tolist()
        most = float(self.limits.valences[self.limits.drawable_atoms].max())
        pieces = self._pieces(row, real, later | self.pending[row], torch.where(self.pending[row], 0, self.bonds[row]))
        pieces.expect(dict.fromkeys(free, most))
        for atom in free:
            choices = self.atom_choices[row, atom].nonzero()[:, 0].tolist()
            again = self._again("atoms", row, atom, self.atom_numbers)
            self.atoms[row, atom] = pieces.draw_atom(Pending((atom,), first[atom], choices, again), limits)
        self._draw_pairs(row, pieces, self.pending[row])

    def _draw_pairs(self, row: int, pieces: Pieces, chosen: Tensor) -> None:
        """Draw some of the pairs one after the other, those that are surely not bonded first."""
        rows, columns, turns = self.rows.tolist(), self.columns.tolist(), self.turn[row].tolist()
        kinds, orders = range(len(self.rules.orders)), self.limits.orders.tolist()
        for p in sorted(chosen.nonzero()[:, 0].tolist(), key=turns.__getitem__):
            again = self._again("bonds", row, p, self.bond_numbers)
            one = Pending((rows[p], columns[p]), int(self.drawn[row, p]), kinds, again)
            self.bonds[row, p] = pieces.draw_pair(one, orders)

    def _again(self, name: str, row: int, place: int, numbers: Tensor) -> Callable[[Sequence[int]], int]:
        """A draw of one position from some of its categories."""

        def again(categories: Sequence[int]) -> int:
            probs = self.step.kernels[name].probs[row, place]
            allowed = torch.zeros_like(probs, dtype=torch.bool)
            allowed[list(categories)] = True
            return int(redraw(probs, allowed, numbers[row, place]))

        return again
