"""Whether pieces of a molecule can still become one, and draws that see to it.

A state is joinable if it is one piece, or if every piece takes a bond more, all of them together take the ``2 (pieces -
1)`` ends of bonds that join them, and a walk over bonds and undecided pairs, whose atoms take a bond more, leads from
any atom to any other. For dense sets of undecided pairs that is enough; when few are left, it may not be, and a plan of
the bonds that would do it (`Pieces`) is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Outlook", "Pending", "Pieces", "outlook"]

SURE = 5.0


class Outlook(NamedTuple):
    """What can be said of molecules quickly, ``(B,)`` each.

    Attributes:
        joinable: False where no bonds can make one piece of it any more.
        sure: True where it is one piece, or where so many pairs are left that some surely can: as many as make a random
            graph of the pieces one with probability ``1 - e^-5``.
    """

    joinable: Bool[Tensor, "batch"]
    sure: Bool[Tensor, "batch"]


def outlook(
    orders: Float[Tensor, "batch n n"],
    undecided: Bool[Tensor, "batch n n"],
    room: Float[Tensor, "batch n"],
    real: Bool[Tensor, "batch n"],
) -> Outlook:
    """Whether molecules can become one piece; see the module's text.

    Args:
        orders: bond orders that are decided, symmetric.
        undecided: pairs that are not, symmetric.
        room: bond orders that each atom takes beside those.
        real: which atoms there are.
    """
    open_ended = real & (room > 1 - 1e-6)
    usable = undecided & open_ended[:, :, None] & open_ended[:, None, :]
    together = _closure((orders > 0).float())
    pieces = (real / together.sum(2)).sum(1).round()
    room = torch.where(real, (room + 1e-6).floor().clamp(min=0), 0.0)
    each = (together @ room[..., None]).squeeze(2)
    enough = ((each >= 1) | ~real).all(1) & (room.sum(1) >= 2 * (pieces - 1))
    reached = _closure(((orders > 0) | usable).float())
    first = real.int().argmax(1)
    whole = reached[torch.arange(len(real), device=real.device), first].sum(1) >= real.sum(1)
    between = (usable & (together == 0)).sum((1, 2)) / 2
    plenty = between >= pieces / 2 * (pieces.clamp(min=1).log() + SURE)
    return Outlook((pieces <= 1) | (enough & whole), (pieces <= 1) | plenty)


def _closure(adjacency: Tensor) -> Tensor:
    """Ones where a walk leads from one atom to another, itself included."""
    n = adjacency.shape[1]
    reached = (adjacency + torch.eye(n, device=adjacency.device) > 0).float()
    for _ in range(max(1, (n - 1).bit_length())):
        reached = (reached @ reached > 0).float()
    return reached


@dataclass
class Pending:
    """A category that is drawn, of an atom or of a pair.

    Attributes:
        places: the atom, or the two.
        drawn: the category.
        choices: those that the rules allow apart from what is asked here.
        redraw: a draw from some of the categories.
    """

    places: tuple[int, ...]
    drawn: int
    choices: Sequence[int]
    redraw: Callable[[Sequence[int]], int]


class Pieces:
    """One molecule whose atoms and pairs are drawn one after the other so that it stays joinable.

    At any time there is a plan, a set of undecided pairs whose bonds would make one piece. What is drawn must leave
    one: the old, or another that is found. So there is always a category that can be drawn, where there was a plan at
    first: none for a pair that is not of the plan, a single bond for one that is.

    Sets of atoms are integers, one bit an atom.

    Args:
        bonds: ``(i, j, order)`` of those that are decided.
        undecided: pairs ``(i, j)``, those to be drawn among them.
        limits: the most bond orders of each atom that there is, by its number; of those to be drawn the most of any.
        rings: whether a bond may close a ring of so many atoms; None if all may.
    """

    def __init__(
        self,
        bonds: Sequence[tuple[int, int, float]],
        undecided: Sequence[tuple[int, int]],
        limits: dict[int, float],
        rings: Callable[[int], bool] | None = None,
    ) -> None:
        self.limits, self.rings = dict(limits), rings
        self.used = dict.fromkeys(limits, 0.0)
        self.bonded, self.open = dict.fromkeys(limits, 0), dict.fromkeys(limits, 0)
        for i, j in undecided:
            self._flip(self.open, i, j)
        for i, j, order in bonds:
            self._bond(i, j, order)
        self.plan = self.planned()

    def expect(self, limits: dict[int, float]) -> None:
        """Take some atoms to take so many bond orders."""
        self.limits |= limits
        self.plan = self.planned()

    def draw_atom(self, one: Pending, limits: Sequence[float]) -> int:
        """The category of an atom, where ``limits`` are the most bond orders of all of them."""
        (place,) = one.places

        def possible(category: int) -> bool:
            self.limits[place] = limits[category]
            return self._plan_for(None)

        found = self._chosen(one, possible)
        if found is None:  # there was no plan: stay within the valences
            found = one.drawn if one.drawn in one.choices else one.redraw(one.choices) if one.choices else one.drawn
        self.limits[place] = limits[found]
        self._settle(None)
        return found

    def draw_pair(self, one: Pending, orders: Sequence[float]) -> int:
        """The category of a pair, of these bond orders."""
        i, j = one.places
        self._flip(self.open, i, j)

        def possible(category: int) -> bool:
            order = orders[category]
            if not order:
                return self._plan_for((i, j))
            if not self._fits(i, j, order):
                return False
            self._bond(i, j, order)
            fits = self._plan_for((i, j))
            self._bond(i, j, -order)
            return fits

        found = self._chosen(one, possible)
        if found is None:
            found = one.drawn if not orders[one.drawn] or self._fits(i, j, orders[one.drawn]) else 0
        if orders[found]:
            self._bond(i, j, orders[found])
        self._settle((i, j))
        return found

    def planned(self) -> list[tuple[int, int]] | None:
        """Pairs whose single bonds would make one piece, found greedily; None if none are found.

        The piece that takes most bonds grows by those that take most, so that those that take one come last.
        """
        pieces = self._parts(sum(1 << atom for atom in self.limits))
        room = {atom: max(int(self.room(atom) + 1e-6), 0) for atom in self.limits}
        takes = {piece: sum(room[atom] for atom in _bits(piece)) for piece in pieces}
        if len(pieces) > 1 and (min(takes.values()) < 1 or sum(takes.values()) < 2 * (len(pieces) - 1)):
            return None
        pieces.sort(key=lambda piece: -takes[piece])
        core, left, plan = pieces[0], pieces[1:], []
        while left:
            for piece in left:
                able = sum(1 << atom for atom in _bits(piece) if room[atom])
                ends = [(room[a], a) for a in _bits(core) if room[a] and self.open[a] & able]
                if ends:
                    _, a = max(ends)
                    b = max(_bits(self.open[a] & able), key=room.__getitem__)
                    break
            else:
                return None
            plan.append((a, b))
            room[a] -= 1
            room[b] -= 1
            core |= piece
            left.remove(piece)
        return plan

    def room(self, atom: int) -> float:
        """Bond orders that an atom takes beside those it has."""
        return self.limits[atom] - self.used[atom]

    def _plan_for(self, decided: tuple[int, int] | None) -> bool:
        """Whether there is a plan as things are, with one pair decided."""
        return self._holds(decided) or self.planned() is not None

    def _settle(self, decided: tuple[int, int] | None) -> None:
        """Keep the plan, or make another."""
        if not self._holds(decided):
            self.plan = self.planned()
        elif self.plan and decided is not None:
            self.plan = [pair for pair in self.plan if set(pair) != set(decided)]

    def _holds(self, decided: tuple[int, int] | None) -> bool:
        """Whether the plan still makes one piece, with one pair decided: bonded if it is of the plan."""
        if self.plan is None:
            return False
        ends = dict.fromkeys(self.limits, 0)
        for pair in self.plan:
            if decided is not None and set(pair) == set(decided):
                if not self.bonded[pair[0]] >> pair[1] & 1:
                    return False
                continue
            for atom in pair:
                ends[atom] += 1
        return all(self.room(atom) >= count - 1e-6 for atom, count in ends.items() if count)

    def _chosen(self, one: Pending, possible: Callable[[int], bool]) -> int | None:
        """The category that was drawn if it is possible, else one of those that are; None if none is."""
        if one.drawn in one.choices and possible(one.drawn):
            return one.drawn
        left = [category for category in one.choices if category != one.drawn and possible(category)]
        return one.redraw(left) if left else None

    def _fits(self, i: int, j: int, order: float) -> bool:
        """Whether both atoms take a bond, and the ring that it closes is one that may be."""
        if order > min(self.room(i), self.room(j)) + 1e-6:
            return False
        if self.rings is None:
            return True
        reached, length = 1 << i, 0
        while not reached >> j & 1:
            further = reached
            for atom in _bits(reached):
                further |= self.bonded[atom]
            if further == reached:
                return True
            reached, length = further, length + 1
        return self.rings(length + 1)

    def _parts(self, whole: int) -> list[int]:
        pieces = []
        while whole:
            piece = _reached(whole & -whole, self.bonded)
            pieces.append(piece)
            whole &= ~piece
        return pieces

    def _bond(self, i: int, j: int, order: float) -> None:
        """Add a bond, or with a negative order take it away."""
        self._flip(self.bonded, i, j)
        self.used[i] += order
        self.used[j] += order

    @staticmethod
    def _flip(sets: dict[int, int], i: int, j: int) -> None:
        sets[i] ^= 1 << j
        sets[j] ^= 1 << i


def _bits(number: int) -> list[int]:
    found = []
    while number:
        low = number & -number
        found.append(low.bit_length() - 1)
        number ^= low
    return found


def _reached(start: int, steps: dict[int, int]) -> int:
    """The atoms that walks lead to."""
    reached, fresh = start, start
    while fresh:
        low = fresh & -fresh
        fresh ^= low
        more = steps[low.bit_length() - 1] & ~reached
        reached |= more
        fresh |= more
    return reached
