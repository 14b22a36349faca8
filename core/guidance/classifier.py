"""Classifier guidance: a denoiser steered by the gradient of ``log p(y | x_t)``."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..denoisers import Denoiser, Posterior, noise_level
from ..schedules import Time
from ..sdes import SDE
from ._parts import gradient, shifted

__all__ = ["ClassifierGuidance", "LabelClassifier"]


class ClassifierGuidance(Denoiser):
    r"""Adds the gradient of a classifier's log-probability to the score: ``score + scale grad log p(y | x_t)``.

    Dhariwal and Nichol 2021 (arXiv 2105.05233), section 4; in means, ``mean + scale (sigma^2 / alpha) grad log p(y |
    x_t)``.  With the exact classifier and ``scale = 1`` it is the denoiser of ``p(x_0 | y)``.  The gradient goes
    through the classifier alone, so an evaluation costs one call of the denoiser and one forward and backward pass of
    the classifier.  Gradients are switched on for it, whatever the caller's setting.

    Args:
        denoiser: what is steered.
        classifier: called as ``classifier(x_t, t, **condition)``, answers with ``log p(y | x_t)``, ``(B,)`` in nats;
            anything that autograd can follow, such as a `LabelClassifier`.
        scale: strength of guidance; above 1 sharpens the classifier.
        reserved: names of conditions that the classifier alone is given, such as ``("label",)`` for a denoiser that
            knows no labels.

    Raises:
        ValueError: where ``alpha = 0``, or for another shape than ``(B,)`` from the classifier.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        classifier: Callable[..., Tensor],
        scale: float = 1.0,
        reserved: Sequence[str] = (),
    ) -> None:
        super().__init__(denoiser.process)
        self.denoiser = denoiser
        self.classifier = classifier
        self.scale = scale
        self.reserved = tuple(reserved)

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        def log_probability(x: Tensor) -> Tensor:
            value = self.classifier(x, t, **told)
            if value.shape != (len(x),):
                raise ValueError(f"classifier returned shape {tuple(value.shape)}: expected one number a sample")
            return value

        told = {name: value for name, value in condition.items() if name != "estimate"}  # which is the denoiser's own
        rest = {name: value for name, value in condition.items() if name not in self.reserved}
        posterior = self.denoiser(x_t, t, **rest)
        return shifted(posterior, self.scale * gradient(log_probability, x_t))


class LabelClassifier(nn.Module):
    """``log p(label | x_t)`` by a network that sees noisy states: ``log softmax(network(c_in x_t, c))[label]``.

    ``c_in`` and the noise level ``c`` are those of `NetworkDenoiser`.  Train it by ``-classifier(x_t, t, label)`` on
    noised data.

    Args:
        network: maps states ``(B, *event)`` and noise levels ``(B,)`` to logits ``(B, classes)``.
        process: the forward process.
        sigma_data: standard deviation of the data.
    """

    def __init__(self, network: nn.Module, process: SDE, sigma_data: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.sigma_data = sigma_data

    def forward(self, x_t: Tensor, t: Time, label: Tensor, **condition: Any) -> Tensor:
        """Log-probabilities ``(B,)``; zero where the label is -1 ("no label"), so that nothing is steered there."""
        level = self.process.level(t)
        shaped = level.like(x_t)
        scale = (shaped.sigma * shaped.sigma + shaped.alpha * shaped.alpha * self.sigma_data**2) ** -0.5
        logits = self.network(scale * x_t, noise_level(level, x_t))
        chosen = logits.log_softmax(-1).gather(-1, label.clamp(min=0)[:, None])[:, 0]
        return torch.where(label >= 0, chosen, 0.0)
