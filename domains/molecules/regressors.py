r"""Regressors that steer models of molecules towards values of any property, and their training.

A regressor reads noised molecules and says what it believes of a property of the clean one, a normal distribution:

    log p(y | x_t) = -(y - m(x_t))^2 / (2 s(x_t)^2) - log s(x_t) - log(2 pi) / 2,

with ``y`` scaled by the training data.  Its gradient steers a model (`CategoricalClassifierGuidance`), as in Vignac et
al. 2022 (DiGress, arXiv 2209.14734, section 5), where ``s`` is constant.  It is trained for one model, whose noise it
sees, on any function of a molecule; the model itself is not changed, and was not told of the property.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.core import ClassifierObjective, Denoiser
from ornstein.core.adapter import Example
from ornstein.core.denoisers import noise_level
from ornstein.core.nn import Linear
from ornstein.core.schedules import require
from ornstein.core.training import DataModule, Run, train
from ornstein.domains.molecules.descriptors import DESCRIPTORS
from ornstein.domains.molecules.graph_representation import GraphRepresentation
from ornstein.domains.molecules.graphs import collate
from ornstein.domains.molecules.network import GraphTransformer
from ornstein.domains.molecules.scales import PropertyScale

__all__ = ["PropertyRegressor", "Target", "fit_regressor", "steering"]

NARROWEST = 0.05  # deviations below which no regressor claims to know, in those of the data
HALF_LOG_TWO_PI = 0.9189385332046727


class PropertyRegressor(nn.Module):
    """``log p(y | x_t)`` of noised graphs; see the module's text.

    Args:
        model: a `MoleculeDiffusion` of graphs, whose states it reads.
        scale: of the property.
        width, pair_width, depth: of its `GraphTransformer`.

    Raises:
        ValueError: a model that is not of graphs.
    """

    model: Any

    def __init__(self, model: Any, scale: PropertyScale, width: int = 96, pair_width: int = 32, depth: int = 3) -> None:
        super().__init__()
        if not isinstance(model.form, GraphRepresentation):
            raise ValueError(f"representation={model.representation!r}: regressors steer models of graphs")
        self.scale, self.width, self.pair_width, self.depth = scale, width, pair_width, depth
        # Not a part of this module: the model is not trained with it.
        object.__setattr__(self, "model", model)
        options = model.form.network_options(model.process) | {"properties": 0, "timed": True}
        self.network = GraphTransformer(**options, width=width, pair_width=pair_width, depth=depth)
        self.head = Linear(2 * width + pair_width, width)
        self.leave = Linear(width, 2)

    @property
    def denoiser(self) -> Denoiser[Any]:
        """The model's, whose states are read."""
        return self.model.denoiser

    def moments(self, x_t: Mapping[str, Tensor], t: Any, mask: Any = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled property, ``(B,)`` each.

        Args:
            x_t: states, categories or weights of them.
            t: their time.
            mask: True where real, by name.
        """
        c = {name: noise_level(chain.level(t), x_t[name]) for name, chain in self.denoiser.process.components.items()}
        h, e, real = self.network.inside(x_t, c, mask, None, None)
        share = real.to(h.dtype)[..., None]
        pairs = torch.ones_like(e[..., :1]) if mask is None else mask["bonds"].to(e.dtype)[..., None]
        mean = (h * share).sum(1) / share.sum(1).clamp(min=1)
        bonds = (e * pairs).sum(1) / share.sum(1).clamp(min=1)
        hidden = torch.relu(self.head(torch.cat([mean, (h * share).sum(1) / 16, bonds], 1)))
        centre, width = self.leave(hidden).float().unbind(1)
        return centre, NARROWEST + nn.functional.softplus(width)

    def forward(
        self, x_t: Mapping[str, Tensor], t: Any, *, wanted: Tensor, mask: Any = None, **condition: Any
    ) -> Float[Tensor, "batch"]:
        """``log p(wanted | x_t)`` in nats, ``(B,)``; ``wanted`` is scaled, ``(B,)``."""
        centre, deviation = self.moments(x_t, t, mask)
        return -0.5 * ((wanted - centre) / deviation).square() - deviation.log() - HALF_LOG_TWO_PI


@dataclass(frozen=True)
class Target:
    """A value of a property that is asked for, by a regressor.

    Args:
        regressor: trained for the model.
        value: in the property's unit.
        weight: strength, in multiples of the regressor's log-probability.
    """

    regressor: PropertyRegressor
    value: float
    weight: float = 1.0


def steering(targets: Sequence[Target]) -> Callable[..., Tensor]:
    """``sum of weight log p(value | x_t)`` of targets, for guidance."""

    def log_probability(x_t: Mapping[str, Tensor], t: Any, mask: Any = None, **condition: Any) -> Tensor:
        some = next(iter(x_t.values()))
        total = torch.zeros(len(some), device=some.device)
        for target in targets:
            scale = target.regressor.scale
            wanted = torch.full_like(total, (target.value - scale.mean) / scale.deviation)
            total = total + target.weight * target.regressor(x_t, t, wanted=wanted, mask=mask)
        return total

    return log_probability


def fit_regressor(
    model: Any,
    mols: Sequence[Any],
    property: str | Callable[[Any], float] | Sequence[float],
    *,
    run: str | Path = "runs/regressor",
    overwrite: bool = False,
    batch_size: int = 64,
    width: int = 96,
    pair_width: int = 32,
    depth: int = 3,
    **options: Any,
) -> tuple[PropertyRegressor, Run]:
    """Train a regressor of a model's noised molecules.

    Args:
        model: a trained `MoleculeDiffusion` of graphs; it is not changed.
        mols: RDKit molecules or SMILES to train on.
        property: a descriptor's name, a function of a molecule, or a value of each.
        run: the run folder.
        overwrite: start anew, whatever the folder holds.
        batch_size: molecules a step.
        width, pair_width, depth: of the regressor.
        options: as for ``fit``.

    Returns:
        The regressor, in evaluation mode, and the run.

    Raises:
        ValueError: molecules that the model cannot hold, values of another number or none, an unknown descriptor.
    """
    found, graphs = model.form.graphs_of(mols)
    if isinstance(property, str):
        require(property in DESCRIPTORS, "property", property, f"one of {', '.join(DESCRIPTORS)}, or a function")
    function = DESCRIPTORS[property] if isinstance(property, str) else property
    values = np.array([function(mol) for mol in found] if callable(function) else list(function), dtype=np.float64)
    if len(values) != len(graphs):
        raise ValueError(f"{len(values)} values for {len(graphs)} molecules: expected one each")
    require(bool(np.isfinite(values).all()), "property", property, "finite values")
    name = property if isinstance(property, str) else getattr(property, "__name__", "property")
    scale = PropertyScale.fit(name, values)
    regressor = PropertyRegressor(model, scale, width, pair_width, depth)
    training: Any = _Training(regressor)
    training.objective = ClassifierObjective()
    wanted = torch.from_numpy((values - scale.mean) / scale.deviation).float()
    done = train(
        training,
        _Labelled(graphs, wanted, batch_size),
        run=run,
        objective=training.objective,
        overwrite=overwrite,
        sample_every=0,
        **options,
    )
    return regressor.eval(), done


class _Labelled(DataModule):
    """Graphs with a value each, in memory."""

    def __init__(self, graphs: list[dict[str, Tensor]], wanted: Tensor, batch_size: int) -> None:
        super().__init__(batch_size)
        self.graphs, self.wanted = graphs, wanted

    def train_dataset(self) -> Any:
        return list(zip(self.graphs, self.wanted))

    def train_sizes(self) -> Sequence[int]:
        """Atoms of each, so that batches hold molecules of like size."""
        return [len(graph["atoms"]) for graph in self.graphs]

    def reference(self) -> Tensor:
        """The values."""
        return self.wanted

    def collate(self, samples: Any) -> dict[str, Any]:
        """A dense batch."""
        return {**collate([graph for graph, _ in samples]), "wanted": torch.stack([value for _, value in samples])}


class _Training(nn.Module):
    """A regressor as training wants a model."""

    condition_dropout: Mapping[str, float] = {}

    def __init__(self, denoiser: PropertyRegressor) -> None:
        super().__init__()
        self.denoiser = denoiser

    def encode(self, batch: dict[str, Any]) -> Example:
        """Graphs, with the value as a condition."""
        state = {name: batch[name] for name in ("atoms", "bonds")}
        return Example(state, {"wanted": batch["wanted"]}, batch["mask"])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the weights."""
        from safetensors.torch import save_file

        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(self.denoiser.state_dict(), Path(folder) / "model.safetensors")
