r"""Networks that answer about a Gaussian guess of the data, number by number.

Where ``x_0`` is thought to be ``N(m, d^2)``, a variance-preserving state ``x_t = a x_0 + s eps`` has the mean ``a m``
and the deviation ``w = sqrt(s^2 + a^2 d^2)``.  With ``u = (x_t - a m) / w``, ``cos = a d / w`` and ``sin = s / w``,

    x_0 = m + d (cos u + sin F),        eps = sin u - cos F

for some ``F``, which has unit variance if the guess is right.  It is what remains for a network to say: ``F = 0`` is
the exact posterior mean under the guess.  With ``m = 0`` and one ``d`` for all these are the skip connections of EDM
(Karras et al. 2022, arXiv 2206.00364, eq. 7) at ``sigma_data = d``; here both may come from a network that reads the
conditions, as the priors of PriorGrad (Lee et al. 2022, arXiv 2106.06406) and CARD (Han et al. 2022, arXiv 2206.07275)
do for the noise.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .parameterisations import Parameterisation, Prediction
from .schedules import require
from .sdes import Level

__all__ = ["GaussianGuess", "GuessedNetwork"]


class GaussianGuess:
    """A Gaussian guess of the data at the noise levels of a batch; see the module's text.

    Args:
        mean: ``m``, ``(B, *event)``.
        std: ``d``, the same shape, positive.
        c: the noise level ``-log_snr / 8`` of each sample, ``(B,)``, as networks are told.

    Example:
        >>> import torch
        >>> guess = GaussianGuess(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1))
        >>> u = guess.standardise(torch.ones(1, 2))
        >>> guess.data(u, torch.zeros(1, 2))
        tensor([[0.7071, 0.7071]])
    """

    def __init__(
        self, mean: Float[Tensor, "batch *event"], std: Float[Tensor, "batch *event"], c: Float[Tensor, "batch"]
    ) -> None:
        self.mean, self.std = mean, std
        log_snr = (-8 * c).reshape(-1, *[1] * (mean.ndim - 1))
        # By the exponential, which rounds alike wherever a number stands in a batch; torch's sigmoid does not.
        alpha, sigma = (1 / (1 + (-log_snr).exp())).sqrt(), (1 / (1 + log_snr.exp())).sqrt()
        self.level = Level(c, alpha, sigma, log_snr)
        self.width = (sigma.square() + (alpha * std).square()).sqrt()
        self.cos, self.sin = alpha * std / self.width, sigma / self.width

    @classmethod
    def around(cls, guess: Tensor | None, x: Tensor, spread: float, c: Tensor) -> "GaussianGuess":
        """That of a state ``x``, with one spread for all numbers.

        Raises:
            ValueError: no guess, or one of another shape than the state.
        """
        if guess is None or guess.shape != x.shape:
            came = "none" if guess is None else f"of shape {tuple(guess.shape)}"
            raise ValueError(f"guess {came}: expected one of the shape of the state, {tuple(x.shape)}")
        mean = guess.to(x.dtype)
        return cls(mean, torch.full_like(mean, spread), c)

    def standardise(self, x: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """``u`` of a state at the scale ``a^2 + s^2 = 1``, as networks see it: ``c_in x_t`` of ``sigma_data`` 1."""
        return (x - self.level.alpha * self.mean) / self.width

    def data(self, u: Tensor, answer: Tensor) -> Float[Tensor, "batch *event"]:
        """``x_0`` that ``F`` means."""
        return self.mean + self.std * (self.cos * u + self.sin * answer)

    def noise(self, u: Tensor, answer: Tensor) -> Float[Tensor, "batch *event"]:
        """``eps`` that ``F`` means."""
        return self.sin * u - self.cos * answer

    def predict(self, u: Tensor, answer: Tensor, prediction: Prediction = "v") -> Float[Tensor, "batch *event"]:
        """What a network that answers ``F`` predicts in the sense of `NetworkDenoiser`."""
        return Parameterisation(prediction).target(self.data(u, answer), self.noise(u, answer), self.level)


class GuessedNetwork(nn.Module):
    """A network that is shown a guess of the data as more channels, and answers about it.

    With the guess ``m`` of a sample and ``d = spread``, ``network([u, m], c)`` is ``F`` of the module's text: the
    network says what the guess leaves over, at high noise as at low. Pictures as conditions are those of SR3 (Saharia
    et al. 2021, arXiv 2104.07636, section 2).

    Args:
        network: maps ``(B, 2 C, *space)`` and noise levels ``(B,)`` to ``(B, C, *space)``.
        spread: how far guesses are from the data, root mean square in units of the state; a rough number does.
        prediction: what the output means, which the denoiser must be told likewise.

    Raises:
        ValueError: a spread that is not positive; by the call, no guess or one of another shape than the state.

    Example:
        >>> from ornstein.core.nn import UNet
        >>> network = GuessedNetwork(UNet(2, out_channels=1, widths=(8,), depths=(1,), attention=(False,)), 0.1)
        >>> x = torch.randn(2, 1, 8, 8)
        >>> network(x, torch.zeros(2), guess=torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, network: nn.Module, spread: float, prediction: Prediction = "v") -> None:
        super().__init__()
        require(0 < spread < float("inf"), "spread", spread, "a positive number")
        self.network, self.spread, self.prediction = network, spread, prediction

    def forward(
        self,
        x: Float[Tensor, "batch channels *space"],
        c: Float[Tensor, "batch"],
        *,
        guess: Float[Tensor, "batch channels *space"] | None = None,
        **condition: Tensor,
    ) -> Float[Tensor, "batch channels *space"]:
        """Evaluate the network.

        Args:
            x: the noisy state, scaled to unit variance.
            c: the noise level -log_snr / 8.
            guess: of the data.
            condition: what else the network is told.
        """
        about = GaussianGuess.around(guess, x, self.spread, c)
        u = about.standardise(x)
        answer = self.network(torch.cat([u, about.mean], 1), c, **condition)
        return about.predict(u, answer.to(x.dtype), self.prediction)
