r"""Chains that forget by one draw: a category stays the data's, or is drawn anew from a fixed distribution ``pi``.

    Q_{s,t} = k I + (1 - k) 1 pi^T,      k = a(t) / a(s),      R_t = beta(t) (1 pi^T - I),   beta = -a' / a.

Uniform ``pi`` is multinomial diffusion (Hoogeboom et al. 2021, 2102.05379, eqs. 11-13; UDLM, 2412.10193), a point mass
masks (D3PM absorbing, 2107.03006, appendix A.2.2; MDLM, 2406.07524; MD4, 2406.04329), the data's own frequencies keep
the marginal (DiGress, Vignac et al. 2022, 2209.14734, section 4.1 and theorem 4.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..schedules import Schedule, Time, require
from .base import Chain, shaped
from .categorical import uniform_like

__all__ = ["AbsorbingChain", "InterpolatingChain", "Kept", "MarginalChain", "UniformChain"]

Number = Tensor | float


class InterpolatingChain(Chain):
    """What the three share; see the module's text."""

    def push(self, v: Tensor, s: Time, t: Time) -> Tensor:
        kept, lost = (shaped(c, v) for c in self.between(s, t))
        return kept * v + lost * v.sum(-1, keepdim=True) * self.stationary.to(v)

    def unpush(self, v: Tensor, s: Time, t: Time) -> Tensor:
        kept, lost = (shaped(c, v) for c in self.between(s, t))
        if bool((torch.as_tensor(kept) == 0).any()):
            raise ValueError(f"t={t}: the data are forgotten there, a(t) = 0, so that nothing leads back; stay below")
        return (v - lost * v.sum(-1, keepdim=True) * self.stationary.to(v)) / kept

    def pull(self, x: Tensor, s: Time, t: Time, dtype: torch.dtype) -> Tensor:
        pi = self.stationary.to(x.device, dtype)
        rest = pi[x][..., None]
        kept, lost = (shaped(c, rest) for c in self.between(s, t))
        column = (lost * rest).expand(*x.shape, self.states)
        return column.scatter_add(-1, x[..., None], torch.ones_like(rest) * kept)

    def rates(self, x: Tensor, t: Time, dtype: torch.dtype) -> Tensor:
        into = self.stationary.to(x.device, dtype)[x][..., None]
        into = into * shaped(self.rate(t), into)
        return into.expand(*x.shape, self.states).scatter(-1, x[..., None], 0.0)

    def rates_from(self, x: Tensor, t: Time, dtype: torch.dtype) -> Tensor:
        out = self.stationary.to(x.device, dtype).expand(*x.shape, self.states)
        return (out * shaped(self.rate(t), out)).scatter(-1, x[..., None], 0.0)

    def marginal(self, x0: Tensor, t: Time) -> "Kept":  # type: ignore[override]  # this process moves one tensor
        """``q(x_t | x_0)``."""
        return Kept(self, x0, self.level(t).alpha)


@dataclass(frozen=True)
class Kept:
    """``x`` with probability ``k``, else a draw of the chain's stationary distribution; needs no memory of ``S``.

    Args:
        chain: whose distribution it is.
        x: ``(B, *N)``.
        k: a float or ``(B,)``.
    """

    chain: InterpolatingChain
    x: Tensor
    k: Number

    @property
    def probs(self) -> Tensor:
        """``(B, *N, S)``, float64."""
        point = torch.nn.functional.one_hot(self.x, self.chain.states).double()
        k = shaped(self.k, point)
        return k * point + (1 - k) * self.chain.stationary.to(point)

    def sample(self, u: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws ``(B, *N)``, int64; made from uniform float64 numbers ``u`` ``(B, *N)``, or by ``generator``."""
        u = uniform_like(self.x, generator) if u is None else u
        k = shaped(self.k, u)
        drawn = self.chain.noise(((u - k) / (1 - k)).clamp(0, 1 - 2**-53)) if not _is_one(k) else self.x
        return torch.where(u < k, self.x, drawn)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats of each position, ``(B, *N)``."""
        pi = self.chain.stationary.to(x.device)[x]
        k = shaped(self.k, pi)
        return ((1 - k) * pi + k * (x == self.x).to(pi)).log()


def _is_one(k: Number) -> bool:
    return not isinstance(k, Tensor) and k == 1.0


class UniformChain(InterpolatingChain):
    """Multinomial diffusion: ``pi`` is uniform over the categories.

    Args:
        categories: ``S``, at least 2.
        schedule: such as ``CosineSchedule()``, as in the paper, or ``PowerSchedule()``.
    """

    def __init__(self, categories: int, schedule: Schedule) -> None:
        super().__init__(schedule)
        require(categories >= 2, "categories", categories, "at least 2")
        self.categories = categories
        self.states = categories

    def __repr__(self) -> str:
        return f"UniformChain({self.categories}, {self.schedule!r})"

    @property
    def stationary(self) -> Tensor:
        return torch.full((1,), 1 / self.states, dtype=torch.float64).expand(self.states)

    def noise(self, u: Tensor) -> Tensor:
        return (u * self.states).long().clamp(max=self.states - 1)


class AbsorbingChain(InterpolatingChain):
    """Masking: a category that is not the data's any more is the mask, and stays it.

    Args:
        categories: of the data, at least 1 (with a mask among them at least 2).
        schedule: such as ``PowerSchedule()``, under which the share of masks is ``t``.
        mask_index: the mask's number, where a vocabulary has one that no data hold; by default one more category, the
            last, so that there are ``categories + 1`` states.
    """

    def __init__(self, categories: int, schedule: Schedule, mask_index: int | None = None) -> None:
        super().__init__(schedule)
        require(categories >= 1 + (mask_index is not None), "categories", categories, "at least one beside the mask")
        if mask_index is not None:
            require(0 <= mask_index < categories, "mask_index", mask_index, f"0 to {categories - 1}, or None")
        self.categories = categories
        self.mask_index = mask_index
        self.states = categories + (mask_index is None)
        self.mask = categories if mask_index is None else mask_index
        """The mask's number."""

    def __repr__(self) -> str:
        end = "" if self.mask_index is None else f", {self.mask_index}"
        return f"AbsorbingChain({self.categories}, {self.schedule!r}{end})"

    @property
    def stationary(self) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(self.mask), self.states).double()

    def noise(self, u: Tensor) -> Tensor:
        return torch.full(u.shape, self.mask, dtype=torch.int64, device=u.device)

    def check_data(self, x0: Tensor, mask: Tensor | None = None) -> None:
        """Refuse data that hold the mask, too."""
        super().check_data(x0, mask)
        if x0.device.type == "cpu" and not torch.compiler.is_compiling():
            masked = x0 == self.mask
            if bool(
                (masked if mask is None else masked & mask.reshape(*mask.shape, *[1] * (x0.ndim - mask.ndim))).any()
            ):
                raise ValueError(f"x0 holds the mask, category {self.mask}: expected data without it")


class MarginalChain(InterpolatingChain):
    """Forgets towards the frequencies of the data, so that every marginal keeps them.

    Args:
        probabilities: ``pi`` ``(S,)``, positive, that sum to 1 (to 1e-6; scaled to do so exactly).
        schedule: such as ``CosineSchedule()``, as in the paper.
    """

    def __init__(self, probabilities: Sequence[float] | Tensor, schedule: Schedule) -> None:
        super().__init__(schedule)
        pi = torch.as_tensor(probabilities, dtype=torch.float64)
        fits = pi.ndim == 1 and len(pi) >= 2 and bool((pi > 0).all()) and abs(float(pi.sum()) - 1) < 1e-6
        require(fits, "probabilities", probabilities, "at least two positive numbers that sum to 1")
        self.probabilities = probabilities
        self.states = len(pi)
        self._pi = pi / pi.sum()

    def __repr__(self) -> str:
        return f"MarginalChain({self._pi.tolist()}, {self.schedule!r})"

    @classmethod
    def of(cls, data: Tensor, categories: int, schedule: Schedule, mask: Tensor | None = None) -> "MarginalChain":
        """The chain of the frequencies in ``data``, int64; a category that it lacks counts as once seen.

        Args:
            data: any shape.
            categories: ``S``.
            schedule: as in the constructor.
            mask: True where data are real, shape of ``data``.

        Raises:
            ValueError: for data that are no categories, or a mask of another shape.
        """
        if data.dtype != torch.int64:
            raise ValueError(f"data of {data.dtype}: expected categories, int64; one-hot data become them by argmax")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != data.shape):
            raise ValueError(
                f"mask of shape {tuple(mask.shape)}, {mask.dtype}: expected {tuple(data.shape)}, torch.bool"
            )
        values = data.flatten() if mask is None else data[mask]
        outside = values[(values < 0) | (values >= categories)]
        if len(outside):
            raise ValueError(f"data holds the category {int(outside[0])}: expected 0 to {categories - 1}")
        counts = torch.bincount(values, minlength=categories).double()
        counts = counts.clamp(min=1)
        return cls((counts / counts.sum()).tolist(), schedule)

    @property
    def stationary(self) -> Tensor:
        return self._pi

    def noise(self, u: Tensor) -> Tensor:
        return torch.searchsorted(self._pi.cumsum(0).to(u.device)[:-1].contiguous(), u, right=True)
