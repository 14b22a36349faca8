"""What models of molecules do beyond sampling; each task is a few lines around the core's methods."""

from collections.abc import Mapping, Sequence
from typing import Any

from ornstein.domains.molecules.adapter import MoleculeModel
from ornstein.domains.molecules.drawn import Generated

__all__ = ["MoleculeTasks"]


class MoleculeTasks(MoleculeModel):
    """The tasks of `MoleculeDiffusion`."""

    def generate(
        self,
        num: int,
        size: int | Sequence[int] | None = None,
        properties: Mapping[str, Any] | None = None,
        *,
        guidance: float | None = None,
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
            seed: as in ``sample``.
            options: as for ``sample``: ``sampler``, ``batch_size``, ``first``, ``progress``.

        Raises:
            ValueError: guidance without properties, or what `prepare_condition` refuses.
        """
        if guidance is not None and not properties:
            raise ValueError("guidance without properties: there is nothing to hold to; give properties={'logP': 2.0}")
        return self.sample(num, seed=seed, guidance=guidance, size=size, **dict(properties or {}), **options)
