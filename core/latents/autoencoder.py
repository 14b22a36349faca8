r"""The contract of an autoencoder, and how foreign ones are read.

Latent diffusion asks of an autoencoder two things and nothing else:

    encode(x) -> the latent, a tensor, or a Gaussian belief about it        decode(z) -> x

so that any module with these two methods serves, whatever it wraps its answers in (diffusers' ``latent_dist``,
``latents`` or ``latent``, and ``sample``; torch's distributions).  `Autoencoder` is what the library's own add for
training: a reconstruction together with what keeps its latents in order.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..process import Gaussian
from ..weights import CONFIG, WEIGHTS, load_model, save_model

__all__ = ["Autoencoder", "Pretrained", "Reconstruction", "read_data", "read_latent"]

Self = TypeVar("Self", bound="Pretrained")


class Reconstruction(NamedTuple):
    """What an autoencoder makes of data: ``data`` ``(B, *event)``, and the ``penalty`` ``(B,)`` on its latents, to be
    added to a loss in nats per dimension of the data.
    """

    data: Tensor
    penalty: Float[Tensor, "batch"]


class Pretrained(nn.Module):
    """A module that is saved as ``config.json`` and ``model.safetensors``, as adapters are."""

    def __init__(self) -> None:  # torch's own takes any arguments, which no configuration can name
        super().__init__()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write configuration and weights to a folder, which is made."""
        save_model(self, folder)

    @classmethod
    def from_pretrained(cls: type[Self], folder: str | Path, *, trusted: tuple[str, ...] = ()) -> Self:
        """What `save_pretrained` wrote, on the CPU and in evaluation mode.

        Args:
            folder: where it is.
            trusted: top-level packages, beside ornstein and installed domains, whose classes the configuration may
                name.

        Raises:
            FileNotFoundError: a file is missing.
            TypeError: the folder holds another class.
            ValueError: the configuration or the weights are damaged, or do not fit each other.
        """
        return load_model(Path(folder) / CONFIG, Path(folder) / WEIGHTS, cls, trusted).eval()


class Autoencoder(Pretrained, ABC):
    """An autoencoder that can be trained."""

    @abstractmethod
    def encode(self, x: Tensor) -> Any:
        """The latent of data ``(B, *event)``: a tensor, or a belief that `read_latent` understands."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Data ``(B, *event)`` from latents."""

    @abstractmethod
    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Reconstruction:
        """Encode and decode.

        Args:
            x: data, ``(B, *event)``.
            generator: where random numbers are drawn from; torch's global one by default.
        """


def read_latent(encoded: Any) -> Gaussian | Tensor:
    """The tensor or the Gaussian in an encoder's answer.

    Args:
        encoded: a tensor; a `Gaussian`; an object with ``mean`` and ``std`` or ``stddev``; or one that holds such an
            object as ``latent_dist``, or a tensor as ``latents`` or ``latent``.

    Raises:
        TypeError: for anything else.
    """
    for name in ("latent_dist", "latents", "latent"):
        encoded = getattr(encoded, name, encoded)
    if isinstance(encoded, Tensor | Gaussian):
        return encoded
    mean, std = getattr(encoded, "mean", None), getattr(encoded, "std", getattr(encoded, "stddev", None))
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        return Gaussian(mean, std)
    raise TypeError(
        f"encode returned {type(encoded).__name__}: expected a tensor, a Gaussian, or an object with latent_dist, "
        "latents, latent, or mean and std"
    )


def read_data(decoded: Any) -> Tensor:
    """The tensor in a decoder's answer: itself, or its ``sample``.

    Raises:
        TypeError: for anything else.
    """
    data = decoded if isinstance(decoded, Tensor) else getattr(decoded, "sample", None)
    if not isinstance(data, Tensor):
        raise TypeError(f"decode returned {type(decoded).__name__}: expected a tensor, or an object with sample")
    return data
