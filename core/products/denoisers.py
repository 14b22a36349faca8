"""Denoisers of several components: one network for all, or one denoiser each."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from ..denoisers import Denoiser
from ..denoisers import _dtype as dtype_of
from ..process import Process
from ..schedules import Time
from .process import ProductProcess, check_parts

__all__ = ["Head", "IndependentDenoisers", "ProductNetworkDenoiser", "ProductPosterior"]


class ProductPosterior(Mapping[str, Any]):
    """The components' posteriors by name.

    Args:
        parts: of each component, what its samplers and objectives ask for.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.parts = dict(parts)

    def __getitem__(self, name: str) -> Any:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def mean(self) -> dict[str, Tensor]:
        """The posterior mean of each component."""
        return {name: part.mean for name, part in self.parts.items()}


class Head(Protocol):
    """What one component sees to: what the network is shown of its state, and what the network's answer means.

    `NetworkDenoiser` and `CategoricalDenoiser` are heads, for which no network of their own is needed.
    """

    process: Process

    def inputs(self, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """The state as the network is to see it, and its noise level ``(B,)``."""

    def posterior(self, output: Tensor, x_t: Tensor, t: Time) -> Any:
        """The posterior that the network's output for this component means."""


class ProductNetworkDenoiser(Denoiser[ProductProcess]):
    """A denoiser made of one network that sees all components at once.

    The network is called as ``network(x, c, **condition)`` with dicts by component, the inputs ``x`` ``(B, *event)``
    and the noise levels ``c`` ``(B,)`` that each head makes, and answers with a dict of outputs.  A mask is passed on
    as it was given.

    Args:
        network: as above.
        heads: denoisers without a network by component, in order, such as ``NetworkDenoiser(None, process)``; they say
            which processes the product is of.

    Raises:
        ValueError: for a head with a network of its own; by the call, for a network that answers with other names.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, NetworkDenoiser
        >>> head = NetworkDenoiser(None, SDE(CosineSchedule()), prediction="eps")
        >>> denoiser = ProductNetworkDenoiser(lambda x, c: {"a": 0 * x["a"], "b": 0 * x["b"]}, {"a": head, "b": head})
        >>> denoiser({"a": torch.ones(1, 3), "b": torch.ones(1, 2)}, 0.5)["b"].eps
        tensor([[0., 0.]])
    """

    def __init__(self, network: nn.Module, heads: Mapping[str, Any]) -> None:
        check_parts(heads, Denoiser, "heads")
        super().__init__(ProductProcess({name: head.process for name, head in heads.items()}))
        for name, head in heads.items():
            if not hasattr(head, "inputs") or not hasattr(head, "posterior") or head.network is not None:
                raise ValueError(
                    f"heads[{name!r}] of type {type(head).__name__}: expected a denoiser that reads a network's output "
                    "and has none itself, such as NetworkDenoiser(None, process)"
                )
        self.network = network
        self.heads: dict[str, Head] = dict(heads)

    def forward(self, x_t: Mapping[str, Tensor], t: Time, **condition: Any) -> ProductPosterior:
        self.process.check_names(x_t, "x_t")
        x, c = {}, {}
        for name, head in self.heads.items():
            seen, c[name] = head.inputs(x_t[name], t)
            x[name] = seen.to(dtype_of(self.network, seen)) if seen.is_floating_point() else seen
        output = self.network(x, c, **condition)
        if not isinstance(output, Mapping) or output.keys() != self.heads.keys():
            came = list(output) if isinstance(output, Mapping) else type(output).__name__
            raise ValueError(f"network's answer of {came}: expected a dict of {list(self.heads)}")
        masks = self.process.expand_mask(condition.get("mask"))
        parts = {}
        for name, head in self.heads.items():
            answer = head.process.project(output[name], masks[name])
            parts[name] = head.posterior(answer, x_t[name], t)
        return ProductPosterior(parts)


class IndependentDenoisers(Denoiser[ProductProcess]):
    """One denoiser for each component, which knows nothing of the others.

    A condition that is a dict (a mask may be one) is given to the components that it names, any other to all.

    Args:
        denoisers: by component, in order; they say which processes the product is of.
    """

    def __init__(self, denoisers: Mapping[str, Denoiser[Any]]) -> None:
        check_parts(denoisers, Denoiser, "denoisers")
        super().__init__(ProductProcess({name: denoiser.process for name, denoiser in denoisers.items()}))
        self.denoisers = dict(denoisers)
        self.parts = nn.ModuleList(denoisers.values())

    def forward(self, x_t: Mapping[str, Tensor], t: Time, **condition: Any) -> ProductPosterior:
        self.process.check_names(x_t, "x_t")
        parts = {}
        for name, denoiser in self.denoisers.items():
            own = {
                key: value[name] if isinstance(value, Mapping) else value
                for key, value in condition.items()
                if not isinstance(value, Mapping) or value.get(name) is not None
            }
            parts[name] = denoiser(x_t[name], t, **own)
        return ProductPosterior(parts)
