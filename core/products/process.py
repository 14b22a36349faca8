r"""Several forward processes at once, such as atoms x bonds x positions.

States are dicts of tensors by component.  Given the data the components are noised independently, each by its own
process and schedule, on one clock:

    q(x_t | x_0) = prod_i q_i(x_t^i | x_0^i),        q(x_s | x_t, x_0) = prod_i q_i(x_s^i | x_t^i, x_0^i)

(Vignac et al. 2023, 2302.09048, section 3; Jo et al. 2022, 2202.02514).  It is the denoiser that knows of all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..noise import NoiseStream
from ..process import Process
from ..schedules import Time

__all__ = ["ProductDistribution", "ProductProcess"]


@dataclass(frozen=True)
class ProductDistribution:
    """Independent distributions by name.

    Args:
        parts: of each component.
    """

    parts: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.parts[name]

    def sample(self, noise: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """A draw of each component, made from ``noise`` by name where it is given."""
        if noise is None:
            return {name: part.sample() for name, part in self.parts.items()}
        return {name: part.sample(noise[name]) for name, part in self.parts.items()}

    def log_prob(self, x: Mapping[str, Tensor]) -> Tensor:
        """The sum of the components' log-densities in nats, and of their positions' where each has one, ``(B,)``."""
        each = (part.log_prob(x[name]) for name, part in self.parts.items())
        return torch.stack([value.reshape(len(value), -1).sum(1) for value in each]).sum(0)


class ProductProcess(Process):
    """Several processes at once; see the module's text.

    Whatever looks at the schedule of the whole (a grid that spaces noise levels, times that are drawn by them) looks at
    the first component's.  The noise of component ``i`` is that of ``stream.child(i)``, so the first one's is what it
    would be alone.

    Args:
        components: the processes by name, in order.

    Raises:
        ValueError: for no components.
        TypeError: for one that is no process, or a product itself.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, FlowSchedule
        >>> process = ProductProcess({"positions": SDE(CosineSchedule()), "charges": SDE(FlowSchedule())})
        >>> data = {"positions": torch.ones(1, 5, 3), "charges": torch.ones(1, 5)}
        >>> process.marginal(data, 0.25)["charges"].mean[0, 0]
        tensor(0.7500)
    """

    def __init__(self, components: Mapping[str, Process]) -> None:
        super().__init__()
        check_parts(components, Process, "components")
        if any(isinstance(process, ProductProcess) for process in components.values()):
            raise TypeError("components: expected processes of one tensor; name all parts of a product in one")
        self.components = dict(components)

    def __repr__(self) -> str:
        return f"ProductProcess({self.components!r})"

    @property
    def schedule(self) -> Any:
        """The first component's, whose noise levels are the clock's."""
        return next(iter(self.components.values())).schedule

    def prior(self, shape: Mapping[str, tuple[int, ...]], t: Any = 1.0) -> ProductDistribution:  # type: ignore[override]
        self.check_names(shape, "shape")
        return ProductDistribution({name: p.prior(shape[name], t) for name, p in self.components.items()})

    def marginal(self, x0: Mapping[str, Tensor], t: Time) -> ProductDistribution:  # type: ignore[override]
        self.check_names(x0, "x0")
        return ProductDistribution({name: p.marginal(x0[name], t) for name, p in self.components.items()})

    def posterior(  # type: ignore[override]
        self, x0: Mapping[str, Tensor], xt: Mapping[str, Tensor], s: Time, t: Time
    ) -> ProductDistribution:
        self.check_names(x0, "x0")
        self.check_names(xt, "xt")
        return ProductDistribution({name: p.posterior(x0[name], xt[name], s, t) for name, p in self.components.items()})

    def level(self, t: Time) -> Any:
        """The first component's, as `schedule`."""
        return next(iter(self.components.values())).level(t)

    def prepare(self, times: Tensor) -> list[Any]:
        first, *_ = [process.prepare(times) for process in self.components.values()]
        return first

    def initial(self, like: Mapping[str, Tensor], t: float, stream: NoiseStream) -> dict[str, Tensor]:
        """A draw of each component's prior; the stream is one that `constrain` made."""
        parts = self.streams(stream)
        return {name: p.initial(like[name], t, parts[name]) for name, p in self.components.items()}

    def check_state(self, x: Mapping[str, Tensor]) -> None:
        """Raise ``ValueError`` for other names or sizes of batches, or for states that a component cannot hold."""
        self.check_names(x, "x")
        for name, process in self.components.items():
            process.check_state(x[name])

    def blank(self, shape: Mapping[str, tuple[int, ...]], device: torch.device) -> dict[str, Tensor]:
        """Empty states by name.

        Raises:
            ValueError: for other names, or batches of different sizes.
        """
        self.check_names(shape, "shape")
        if len({tuple(one)[:1] for one in shape.values()}) != 1:
            raise ValueError(f"shape={dict(shape)}: expected as many samples of each component")
        return {name: process.blank(shape[name], device) for name, process in self.components.items()}

    def constrain(self, stream: NoiseStream, mask: Mapping[str, Any] | None = None) -> NoiseStream:
        """A stream of each component's, with its draws brought to where that component lives."""
        masks = mask or {}
        return ProductStream(
            {
                name: process.constrain(stream.child(i), masks.get(name))
                for i, (name, process) in enumerate(self.components.items())
            }
        )

    @staticmethod
    def streams(stream: NoiseStream) -> dict[str, NoiseStream]:
        """The components' streams of one that `constrain` made."""
        if not isinstance(stream, ProductStream):
            raise TypeError(f"stream={stream!r}: expected what ProductProcess.constrain makes of one")
        return stream.parts

    def expand_mask(self, mask: Any) -> dict[str, Any]:
        """The mask of each component's states: of one for all components, or of one by name, which may leave out
        components of which all is real.
        """
        if isinstance(mask, Mapping):
            if unknown := mask.keys() - self.components.keys():
                raise ValueError(f"mask of {sorted(unknown)}: expected some of {list(self.components)}")
            masks = dict(mask)
        else:
            masks = dict.fromkeys(self.components, mask)
        return {
            name: None if masks.get(name) is None else process.expand_mask(masks[name])
            for name, process in self.components.items()
        }

    def check_names(self, parts: Any, name: str) -> None:
        """Raise ``ValueError`` for what is no dict by the components' names."""
        if not isinstance(parts, Mapping):
            raise ValueError(f"{name} of type {type(parts).__name__}: expected a dict of {list(self.components)}")
        if parts.keys() != self.components.keys():
            raise ValueError(f"{name} of {list(parts)}: expected a dict of {list(self.components)}")


class ProductStream(NoiseStream):
    """The streams of the components of a product."""

    def __init__(self, parts: dict[str, NoiseStream]) -> None:
        self.parts = parts

    def draw(self, like: Any) -> Any:
        return {name: part.draw(like[name]) for name, part in self.parts.items()}

    def step(self, like: Any, t: Tensor | float, s: Tensor | float) -> Any:
        return {name: part.step(like[name], t, s) for name, part in self.parts.items()}

    def uniform(self, like: Any) -> Any:
        return {name: part.uniform(like[name]) for name, part in self.parts.items()}


def check_parts(parts: Any, kind: type, name: str) -> None:
    """Refuse what is no dict of objects of a kind, or an empty one."""
    if not isinstance(parts, Mapping) or not parts:
        raise ValueError(f"{name}={parts!r}: expected a dict of at least one {kind.__name__}")
    for key, part in parts.items():
        if not isinstance(part, kind):
            raise TypeError(f"{name}[{key!r}]={part!r}: expected a {kind.__name__}")


def check_same(names: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Refuse parts by other names than a process's components."""
    if set(names) != set(expected):
        raise ValueError(f"{what} of {list(names)}: expected one for each of {list(expected)}")
