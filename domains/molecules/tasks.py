"""What models of molecules do beyond sampling; each task is a few lines around the core's methods."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ornstein.core import (
    CategoricalClassifierGuidance,
    ClassifierFreeGuidance,
    SizeDistribution,
    StateConstraint,
    TiltedDraws,
    perturb_and_reverse,
)
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.core.training.seeds import derive_seed
from ornstein.domains.molecules.adapter import MoleculeModel, fresh
from ornstein.domains.molecules.drawn import Generated
from ornstein.domains.molecules.function_targets import FunctionTarget, worth_of
from ornstein.domains.molecules.geometry import whole_molecule, with_conformers
from ornstein.domains.molecules.graph_representation import GraphRepresentation
from ornstein.domains.molecules.optimising import Objective, Optimised, objective_of
from ornstein.domains.molecules.regressors import Target, steering
from ornstein.domains.molecules.representations import Drawn
from ornstein.domains.molecules.scaffolds import KnownPart, held_places, known_part
from ornstein.domains.molecules.space_representation import SpaceRepresentation

__all__ = ["MoleculeTasks"]

CANDIDATES = 8  # draws of a step among which function targets choose
AGAIN = 16  # times that a molecule is drawn anew in which RDKit does not see what was given


class MoleculeTasks(MoleculeModel):
    """The tasks of `MoleculeDiffusion`. All take ``sampler``, ``batch_size``, ``first``, ``progress`` and
    ``constraint``, as ``sample`` does.
    """

    def generate(
        self,
        num: int,
        size: int | Sequence[int] | None = None,
        properties: Mapping[str, Any] | None = None,
        *,
        guidance: float | None = None,
        targets: Sequence[Target | FunctionTarget] = (),
        elements: Sequence[str] | None = None,
        rings: Sequence[int] | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Generated:
        """Molecules, of a size and with properties that are asked for.

        Args:
            num: how many.
            size: atoms (or tokens) of each, or of one for all; as many as those of the data by default.
            properties: values by name in their units, one for all or one each; NaN for any. The model must have been
                trained with them.
            guidance: how strongly to heed them; 1, the default, as the model learned it, 2 or so to hold closer to them
                (`ClassifierFreeGuidance`).
            targets: values of properties that the model need not know: by regressors (`fit_regressor`), which steer it
                by `CategoricalClassifierGuidance`, or by the functions themselves (`FunctionTarget`), of graphs alone,
                one of ``candidates=8`` draws a step.
            elements: the only ones that are drawn, by symbol.
            rings: sizes of the rings that may be closed.
            seed: as in ``sample``.

        Raises:
            ValueError: guidance without properties, or what `prepare_condition` refuses.
        """
        if guidance is not None and not properties:
            raise ValueError("guidance without properties: there is nothing to hold to; give properties={'logP': 2.0}")
        if elements is not None or rings is not None:
            if options.get("constraint") is not None:
                raise ValueError("elements and rings are a constraint: give them, or constraint=, and not both")
            options["constraint"] = self.form.constraint(elements, rings)
        if not targets:
            return self.sample(num, seed=seed, guidance=guidance, size=size, **dict(properties or {}), **options)
        return self._drawn(num, size, properties, guidance, targets, None, self.sizes, seed, **options)

    def decorate(
        self,
        scaffold: Any,
        num: int,
        size: int | Sequence[int] | None = None,
        properties: Mapping[str, Any] | None = None,
        *,
        guidance: float | None = None,
        targets: Sequence[Target | FunctionTarget] = (),
        seed: int | None = None,
        **options: Any,
    ) -> Generated:
        """Molecules that hold a scaffold: its atoms, their charges and all bonds between them stay as they are.

        Its atoms come first. New ones are bonded to those that dummy atoms of the scaffold point at, or to any that has
        room; stereo is left out. A molecule whose new rings hide the scaffold from RDKit's perception of aromaticity,
        so that a search for it would not find it, is drawn anew; one that hides it each of 16 times counts as invalid.

        Args:
            scaffold: an RDKit molecule or SMILES, such as ``"c1ccc([*:1])nc1"``.
            num: how many.
            size: atoms of each, those of the scaffold among them; by default drawn from those of the data that are
                larger than it.
            properties, guidance, targets, seed: as for `generate`.

        Raises:
            ValueError: what `known_part` refuses, a size that leaves no new atom, or a model that is not of graphs.
        """
        part = known_part(scaffold, self._graphs().facts)
        return self._grown(part, num, size, properties, guidance, targets, seed, **options)

    def link(
        self,
        fragments: Any | Sequence[Any],
        num: int,
        size: int | Sequence[int] | None = None,
        properties: Mapping[str, Any] | None = None,
        *,
        guidance: float | None = None,
        targets: Sequence[Target | FunctionTarget] = (),
        seed: int | None = None,
        **options: Any,
    ) -> Generated:
        """Molecules that hold several fragments, joined by new atoms alone.

        Args:
            fragments: RDKit molecules or SMILES, or one SMILES of several (``"[*]c1ccccc1.[*]C(N)=O"``).
            num, size, properties, guidance, targets, seed: as for `decorate`.

        Raises:
            ValueError: as `decorate`, or less than two fragments.
        """
        part = known_part(fragments, self._graphs().facts)
        require(part.pieces >= 2, "fragments", fragments, "at least two; decorate takes one")
        return self._grown(part, num, size, properties, guidance, targets, seed, **options)

    def optimise(
        self,
        molecule: Any,
        objective: Objective,
        *,
        rounds: int = 10,
        num: int = 32,
        keep: int = 4,
        strength: float = 0.4,
        hold: Any = None,
        sampler: Any = None,
        constraint: bool | StateConstraint | None = None,
        seed: int | None = None,
    ) -> Optimised:
        """Molecules near a given one that score higher, of as many atoms: perturb, reverse, judge, and again.

        Each round masks (noises) a share of the atoms and pairs of the best molecules so far, draws them anew
        (`perturb_and_reverse`), and keeps the best of all that were found.

        Args:
            molecule: RDKit molecule or SMILES to start from.
            objective: a descriptor to be high, a function of a molecule, or values to be met, ``{"logP": 2.0}``.
            rounds: how often.
            num: molecules that are drawn in a round.
            keep: how many of the best are perturbed in the next round.
            strength: time up to which they are noised, in (0, 1]: under masks the share of masks.
            hold: a substructure that stays, as a molecule or SMILES.
            sampler, constraint, seed: as in ``sample``.

        Raises:
            ValueError: a molecule that the model cannot hold, ``hold`` that is no part of it, or numbers out of range.
        """
        form, score, seed = self._graphs(), objective_of(objective), fresh(seed)
        for name, value in (("rounds", rounds), ("num", num), ("keep", keep)):
            require(isinstance(value, int) and value >= 1, name, value, "a whole number of at least 1")
        batch = form.collate([molecule])
        state = {name: batch[name] for name in ("atoms", "bonds")}
        first = form.decode(state, batch["mask"]["atoms"].sum(1))[0].mol
        chem = need("rdkit.Chem", to="read and write SMILES", extra="molecules")
        held = chem.MolFromSmiles(hold) if isinstance(hold, str) else hold
        given = None if hold is None else held_places(first, held, state["atoms"].shape[1])
        write = chem.MolToSmiles
        found = {write(first): (score(first), first, {name: value[0] for name, value in state.items()})}
        start = next(iter(found.values()))[0]
        best, judged, walk = [start], 1, self.constrained(sampler, constraint)
        for turn in range(rounds):
            leaders = sorted(found.values(), key=lambda one: -one[0])[:keep]
            rows = [leaders[i % len(leaders)][2] for i in range(num)]
            again = self._again(rows, strength, walk, derive_seed(seed, "optimise", turn), given)
            sizes = torch.full((num,), again["atoms"].shape[1])
            for row, one in enumerate(form.decode(again, sizes)):
                if one.mol is None or (held is not None and not one.mol.HasSubstructMatch(held)):
                    continue
                if (text := write(one.mol)) not in found and "." not in text:
                    found[text] = (score(one.mol), one.mol, {name: value[row] for name, value in again.items()})
                    judged += 1
            best.append(max(one[0] for one in found.values()))
        ranked = sorted(found.values(), key=lambda one: -one[0])
        return Optimised([one[1] for one in ranked], [one[0] for one in ranked], start, best, judged)

    def conformers(
        self,
        mol: Any,
        num: int,
        *,
        relax: int = 0,
        seed: int | None = None,
        sampler: Any = None,
        batch_size: int | None = None,
        first: int = 0,
        progress: bool = False,
    ) -> Any:
        """Conformers of a molecule, by a model of molecules in space: its atoms and bonds are given, and the positions
        are drawn. Mirror images are alike to it: what stereo a molecule has is not heeded. `ConformerDiffusion` draws
        torsions alone, in local structures of a force field.

        Args:
            mol: RDKit molecule or SMILES; conformers that it has are not looked at.
            num: how many.
            relax: steps of MMFF94 in the end; 0 leaves positions as they were drawn.
            sampler, batch_size, first, progress, seed: as in ``sample``.

        Returns:
            The molecule, hydrogens among its atoms, with ``num`` centred conformers in ångström.

        Raises:
            ValueError: what is no molecule, numbers out of range, atoms that the data do not know, more atoms than
                those of the largest molecule of the data, or a model that is not of positions, atoms and bonds.
        """
        if not isinstance(self.form, SpaceRepresentation):
            raise ValueError(f"representation={self.representation!r}: conformers ask for one in space, 'space'")
        for name, value, least in (("num", num, 1), ("relax", relax, 0)):
            require(isinstance(value, int) and value >= least, name, value, f"a whole number of at least {least}")
        whole = whole_molecule(mol)
        sizes, walk = torch.full((num,), whole.GetNumAtoms()), sampler or self.sampler
        known = self.form.known(whole)
        drawn = self.draw(sizes, self.denoiser, {}, walk, fresh(seed), batch_size, first, progress, known)
        return with_conformers(whole, [one.raw.GetConformer().GetPositions() for one in drawn], relax)

    @torch.no_grad()
    def _again(
        self, rows: Sequence[Mapping[str, Tensor]], strength: float, sampler: Any, seed: int, given: Any
    ) -> dict[str, Tensor]:
        """States perturbed and reversed, on the CPU."""
        state = {name: torch.stack([row[name] for row in rows]).to(self.device) for name in rows[0]}
        places = None
        if given is not None:
            places = {name: value.to(self.device).expand(len(rows), -1) for name, value in given.items()}
        with self.evaluating():
            again = perturb_and_reverse(self.denoiser, state, strength, sampler, seed=seed, given=places)
        return {name: value.cpu() for name, value in again.items()}

    def _graphs(self) -> GraphRepresentation:
        if not isinstance(self.form, GraphRepresentation):
            raise ValueError(f"representation={self.representation!r}: this task asks for a model of graphs")
        return self.form

    def _grown(
        self,
        part: KnownPart,
        num: int,
        size: Any,
        properties: Any,
        guidance: float | None,
        targets: Sequence[Target | FunctionTarget],
        seed: int | None,
        **options: Any,
    ) -> Generated:
        """Molecules that hold a part."""
        if guidance is not None and not properties:
            raise ValueError("guidance without properties: there is nothing to hold to; give properties={'logP': 2.0}")
        counts = tuple(0.0 if n <= len(part) else count for n, count in enumerate(self.sizes.counts))
        if size is None and not sum(counts):
            raise ValueError(
                f"what is given has {len(part)} atoms and the largest molecule of the data {self.sizes.largest}: "
                "expected fewer"
            )
        sizes = SizeDistribution(counts) if sum(counts) else self.sizes
        return self._drawn(num, size, properties, guidance, targets, part, sizes, seed, **options)

    def _drawn(
        self,
        num: int,
        size: Any,
        properties: Mapping[str, Any] | None,
        guidance: float | None,
        targets: Sequence[Target | FunctionTarget],
        part: KnownPart | None,
        distribution: SizeDistribution,
        seed: int | None,
        *,
        sampler: Any = None,
        constraint: bool | StateConstraint | None = None,
        batch_size: int | None = None,
        first: int = 0,
        progress: bool = False,
        candidates: int | None = None,
    ) -> Generated:
        """Molecules by a denoiser that is guided by properties and targets, and may hold a part."""
        if num < 1:
            raise ValueError(f"num must be at least 1, got {num}")
        seed, asked = fresh(seed), self.prepare_condition(num, size=size, **dict(properties or {}))
        sizes = asked.pop("size", None)
        sizes = distribution.sample(num, seed=seed, first=first) if sizes is None else sizes
        if part is not None and int(sizes.min()) <= len(part):
            raise ValueError(f"size={size!r}: expected more atoms than the {len(part)} that are given")
        denoiser = self.denoiser if guidance is None else ClassifierFreeGuidance(self.denoiser, guidance)
        steered = [target for target in targets if isinstance(target, Target)]
        sought = [target for target in targets if isinstance(target, FunctionTarget)]
        if len(steered) + len(sought) < len(targets):
            raise TypeError(f"targets={targets!r}: expected each to be a Target or a FunctionTarget")
        if candidates is not None and not sought:
            raise ValueError(f"candidates={candidates}: they are chosen among by a FunctionTarget; give one in targets")
        if steered:
            denoiser = CategoricalClassifierGuidance(denoiser, steering(steered), evaluation="first_order")
        walk = self.constrained(sampler, constraint)
        if sought:
            tilted = TiltedDraws(
                worth_of(sought, self._graphs()), CANDIDATES if candidates is None else candidates, walk.constraint
            )
            walk = dataclasses.replace(walk, constraint=tilted)
        drawn = self.draw(sizes, denoiser, asked, walk, seed, batch_size, first, progress, part)
        if part is not None:

            def again(row: int, turn: int) -> Drawn:
                told = {name: value[row : row + 1] for name, value in asked.items()}
                other = derive_seed(seed, "again", turn)
                return self.draw(sizes[row : row + 1], denoiser, told, walk, other, None, first + row, False, part)[0]

            for turn in range(AGAIN):
                drawn = [one if part.seen_in(one.mol) else again(row, turn) for row, one in enumerate(drawn)]
            hidden = "its rings hide what was given"
            drawn = [one if part.seen_in(one.mol) else Drawn(one.raw, None, hidden) for one in drawn]
        told = {name: value.numpy() for name, value in asked.items()}
        return Generated(tuple(drawn), seed, first, told or None)
