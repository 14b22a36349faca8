"""The categories of atoms and bonds of a graph, by names that can be read.

An atom's name is

    [isotope] element [H hydrogens] [charge] [^ radical electrons] [@ label]

such as ``C``, ``N+``, ``O-``, ``13C``, ``SH1`` or ``C@R``. ``H`` and a number say how many hydrogens are on an atom
that has others than RDKit's valence model gives it; the label is that of Cahn, Ingold and Prelog, which does not depend
on the order of atoms. Bonds are called ``none`` (always the first), ``single``, ``double``, ``triple``, ``quadruple``
and ``aromatic``, and with stereo ``double E`` and ``double Z``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from ornstein.core.config import near
from ornstein.core.schedules import require

__all__ = ["BOND_ORDERS", "AtomKind", "GraphForm", "Vocabulary"]

BOND_ORDERS = {
    "none": 0.0, "single": 1.0, "double": 2.0, "triple": 3.0, "quadruple": 4.0, "aromatic": 1.5,
    "double E": 2.0, "double Z": 2.0,
}  # fmt: skip
"""Bond orders by name; an aromatic bond counts one and a half."""

BASE_BONDS = ("none", "single", "double", "triple")

_ATOM = re.compile(r"(\d*)([A-Z][a-z]?)(?:H(\d+))?(?:([+-])(\d*))?(?:\^(\d+))?(?:@([RSrs]))?")


class AtomKind(NamedTuple):
    """What an atom is apart from its bonds.

    Attributes:
        element: its symbol.
        charge: formal, in elementary charges.
        hydrogens: on it that are no atoms of the graph; None for as many as RDKit's valence model gives.
        radicals: unpaired electrons.
        isotope: mass number; 0 for the natural mixture.
        label: ``R``, ``S``, ``r`` or ``s``; empty for none.
    """

    element: str
    charge: int = 0
    hydrogens: int | None = None
    radicals: int = 0
    isotope: int = 0
    label: str = ""

    def __str__(self) -> str:
        sign = "" if not self.charge else ("+" if self.charge > 0 else "-")
        size = "" if abs(self.charge) < 2 else str(abs(self.charge))
        return (
            f"{self.isotope or ''}{self.element}"
            f"{'' if self.hydrogens is None else f'H{self.hydrogens}'}{sign}{size}"
            f"{f'^{self.radicals}' if self.radicals else ''}{f'@{self.label}' if self.label else ''}"
        )

    @classmethod
    def parse(cls, name: str) -> "AtomKind":
        """The kind with this name.

        Raises:
            ValueError: it is no such name.

        Example:
            >>> AtomKind.parse("13CH3-@R")
            AtomKind(element='C', charge=-1, hydrogens=3, radicals=0, isotope=13, label='R')
        """
        if not (found := _ATOM.fullmatch(name)):
            raise ValueError(f"atom {name!r}: expected a name such as 'C', 'N+', 'O-', '13C', 'SH1' or 'C@R'")
        isotope, element, hydrogens, sign, size, radicals, label = found.groups()
        charge = 0 if sign is None else int(f"{sign}{size or 1}")
        return cls(
            element, charge, None if hydrogens is None else int(hydrogens), int(radicals or 0), int(isotope or 0),
            label or "",
        )  # fmt: skip


@dataclass(frozen=True)
class GraphForm:
    """How molecules are written as graphs.

    Args:
        aromatic: keep aromatic bonds as a category; by default rings are written in single and double bonds (Kekule),
            and RDKit perceives what is aromatic on the way out.
        hydrogens: leave them ``"implicit"``, or make each an atom, ``"explicit"``.
        stereo: keep tetrahedral centres and double bonds' geometry, as labels of Cahn, Ingold and Prelog.
        ordered: number the atoms as RDKit's canonical SMILES does, and let networks be told the places. Which of the
            many numberings of a molecule is meant is then not left open to a model that generates, which no longer
            answers alike for every numbering. By default atoms stay as they come.

    Raises:
        ValueError: other hydrogens.
    """

    aromatic: bool = False
    hydrogens: Literal["implicit", "explicit"] = "implicit"
    stereo: bool = False
    ordered: bool = False

    def __post_init__(self) -> None:
        require(self.hydrogens in ("implicit", "explicit"), "hydrogens", self.hydrogens, "'implicit' or 'explicit'")


@dataclass(frozen=True)
class Vocabulary:
    """The categories of atoms and bonds, numbered in their order.

    Args:
        atoms: names of the categories of atoms.
        bonds: names of the categories of bonds, the first ``none``.
        form: how molecules are written as graphs of these.

    Raises:
        ValueError: a name that is none, or twice; bonds that do not begin with ``none``, or that the form has not.

    Example:
        >>> vocabulary = Vocabulary(("C", "N", "O-"))
        >>> vocabulary.atoms.index("O-"), vocabulary.kinds[2].charge, vocabulary.orders
        (2, -1, (0.0, 1.0, 2.0, 3.0))
    """

    atoms: tuple[str, ...]
    bonds: tuple[str, ...] = BASE_BONDS
    form: GraphForm = GraphForm()

    def __post_init__(self) -> None:
        object.__setattr__(self, "atoms", tuple(self.atoms))
        object.__setattr__(self, "bonds", tuple(self.bonds))
        for what, names in (("atoms", self.atoms), ("bonds", self.bonds)):
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{what} hold {twice[0]!r} twice: expected each category once")
        require(len(self.atoms) > 0, "atoms", self.atoms, "at least one category")
        require(self.bonds[:1] == ("none",), "bonds", self.bonds, "'none' first")
        labelled = [name for name in self.atoms if AtomKind.parse(name).label]
        for name in self.bonds:
            if name not in BOND_ORDERS:
                raise ValueError(f"bond {name!r}{near(name, BOND_ORDERS)}: expected some of {', '.join(BOND_ORDERS)}")
        if "aromatic" in self.bonds and not self.form.aromatic:
            raise ValueError("bonds hold 'aromatic', and the form is Kekule's; give GraphForm(aromatic=True)")
        labelled += [name for name in self.bonds if name.startswith("double ")]
        if labelled and not self.form.stereo:
            raise ValueError(f"{labelled[0]!r} is stereo, which the form drops; give GraphForm(stereo=True)")

    @cached_property
    def kinds(self) -> tuple[AtomKind, ...]:
        """The categories of atoms, read."""
        return tuple(AtomKind.parse(name) for name in self.atoms)

    @property
    def orders(self) -> tuple[float, ...]:
        """Bond order of each category of bonds."""
        return tuple(BOND_ORDERS[name] for name in self.bonds)

    @property
    def charges(self) -> tuple[int, ...]:
        """Formal charge of each category of atoms."""
        return tuple(kind.charge for kind in self.kinds)

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbol of the element of each category of atoms."""
        return tuple(kind.element for kind in self.kinds)

    def numbers(self, atoms: Sequence[str]) -> list[int]:
        """The numbers of categories of atoms.

        Raises:
            ValueError: one that is not in the vocabulary.
        """
        known = {name: number for number, name in enumerate(self.atoms)}
        if lost := [name for name in atoms if name not in known]:
            raise ValueError(f"no category of atoms {lost[0]!r}{near(lost[0], known)}; there are {', '.join(known)}")
        return [known[name] for name in atoms]
