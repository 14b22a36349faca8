r"""Networks that answer about a guess in steps, each shown what the answer so far leaves over of a measurement.

With the guess ``m``, its spread ``d``, ``u``, ``cos`` and ``sin`` as in the module `ornstein.core.gaussian_guess`, and
a linear map ``B`` from measurements ``y`` back to pictures that roughly undoes their operator ``A``,

    x_k = m + d (cos u + sin F_k),        r_k = B (y - A x_k),
    (F_{k+1}, h_{k+1}) = (F_k, h_k) + network_k([u, m, F_k, r_k / d], h_k, c),        F_0 = 0, h_0 = 0,

and the last ``F`` is the answer.  The scheme is that of learned iterative reconstruction (Adler and Öktem 2017, Solving
ill-posed inverse problems using iterative deep neural networks, arXiv 1704.04058, algorithm 1), whose gradient of the
misfit is ``A^T (A x - y)``: a ``B`` such as filtered back-projection needs fewer steps.  There the answer is one
picture; here it is the posterior mean at each level of noise, so that the same network draws samples.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..gaussian_guess import GaussianGuess
from ..nn.refiner import Refiner
from ..parameterisations import Prediction
from ..schedules import require
from .measurement import Measurement

__all__ = ["UnrolledNetwork"]


class UnrolledNetwork(nn.Module):
    """A network in steps between which its answer is compared with a measurement; see the module's text.

    Args:
        network: of the steps; it is shown four times as many channels as it answers.
        back: ``B``, called with a measurement ``(B, *measured)`` of a linear operator; linear and differentiable in it.
        spread: ``d``, how far guesses are from the data, root mean square in units of the state; a rough number does.
        prediction: what the output means, which the denoiser must be told likewise.

    Raises:
        TypeError: by the call, an operator that is not linear.
        ValueError: a network that is shown another number of channels, a spread that is not positive; by the call, no
            guess or one of another shape than the state.

    Example:
        >>> from ornstein.core.inverse import GaussianNoise, Mask, Measurement, UnrolledNetwork
        >>> from ornstein.core.nn import Refiner
        >>> A = Mask(torch.rand(1, 8, 8) < 0.5)
        >>> seen = Measurement(torch.randn(2, 1, 8, 8), A, GaussianNoise(0.1))
        >>> network = UnrolledNetwork(Refiner(4, 1, steps=2, widths=(8,)), lambda seen: A.adjoint(seen.y), 0.1)
        >>> network(torch.randn(2, 1, 8, 8), torch.zeros(2), guess=A.adjoint(seen.y), seen=seen).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self, network: Refiner, back: Callable[[Measurement], Tensor], spread: float, prediction: Prediction = "v"
    ) -> None:
        super().__init__()
        require(0 < spread < float("inf"), "spread", spread, "a positive number")
        shown, channels = network.shown, network.channels
        require(shown == 4 * channels, "network.shown", shown, f"4 for each of its {channels} channels")
        self.network, self.back, self.spread, self.prediction = network, back, spread, prediction

    def forward(
        self,
        x: Float[Tensor, "batch channels rows columns"],
        c: Float[Tensor, "batch"],
        *,
        guess: Float[Tensor, "batch channels rows columns"] | None = None,
        seen: Measurement | None = None,
    ) -> Float[Tensor, "batch channels rows columns"]:
        """Evaluate the network.

        Args:
            x: the noisy state, scaled to unit variance.
            c: the noise level -log_snr / 8.
            guess: of the data.
            seen: the measurement of states ``x_0``, one for each sample or for all; without one, nothing is left over.
        """
        about = GaussianGuess.around(guess, x, self.spread, c)
        u = about.standardise(x)
        answer, memory = torch.zeros_like(u), None
        for step in range(self.network.steps):
            rest = self._left_over(about.data(u, answer), seen)
            shown = torch.cat([u, about.mean, answer, rest / self.spread], 1)
            change, memory = self.network(step, shown, c, memory)
            answer = answer + change.to(answer.dtype)
        return about.predict(u, answer, self.prediction)

    def _left_over(self, x: Tensor, seen: Measurement | None) -> Tensor:
        if seen is None:
            return torch.zeros_like(x)
        with torch.autocast(x.device.type, enabled=False):  # operators are exact in the precision of the state
            x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
            missed = seen.like(x) - seen.linear("UnrolledNetwork")(x)
            return self.back(Measurement(missed, seen.operator, seen.noise))
