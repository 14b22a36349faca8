r"""Denoisers of embedded categories: a network's, and the exact one of a distribution that can be enumerated.

States ``(B, N, D)`` are noised embeddings of ``N`` categories on an `SDE`.  What a network says of them is

    "x0"      the mean itself, ``(B, N, D)``, from which the categories follow by rounding (Diffusion-LM, Li et al.
              2022, arXiv 2205.14217, section 4.2);
    "logits"  of ``p(w | x_t)``, ``(B, N, V)``, with the mean ``sum_w p(w | x_t) e_w`` (CDCD, Dieleman et al. 2022,
              2211.15089, section 3.1, "score interpolation").
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..denoisers import Denoiser, Posterior, noise_level, unit_scale
from ..denoisers import _dtype as dtype_of
from ..schedules import Time, require
from ..sdes import SDE, Level, check_whole
from .table import EmbeddingTable

__all__ = ["EmbeddedDenoiser", "EmbeddedPosterior", "EmbeddedPrediction", "EnumeratedEmbeddedDenoiser"]

EmbeddedPrediction = Literal["x0", "logits"]


class EmbeddedPosterior(Posterior):
    """Belief about the embeddings behind a state, and about their categories.

    Args:
        x_t, process, level: as for `GaussianPosterior`.
        table: the embeddings.
        mean: ``E[x_0 | x_t]`` ``(B, N, D)``; by default that of the logits.
        logits: of ``p(w | x_t)`` ``(B, N, V)``, up to a constant; by default what the mean rounds to.
        given: ``(B, N)``, where the state shows the data: there the mean is ``x_t`` itself.

    Raises:
        ValueError: without a mean and logits.
    """

    def __init__(
        self,
        x_t: Tensor,
        process: SDE,
        level: Level,
        table: EmbeddingTable,
        *,
        mean: Tensor | None = None,
        logits: Tensor | None = None,
        given: Tensor | None = None,
    ) -> None:
        super().__init__(x_t, process, level)
        if mean is None and logits is None:
            raise ValueError("mean and logits are None: expected one of them")
        self.table = table
        self._mean, self._logits = mean, logits
        self._shown = None if given is None else given[..., None]
        self._known: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        if self._known is None:
            if self._mean is not None:
                mean = self._mean
            else:
                assert self._logits is not None
                mean = self.table.expected(self._logits).to(self.x_t.dtype)
            self._known = mean if self._shown is None else torch.where(self._shown, self.x_t, mean)
        return self._known

    @property
    def logits(self) -> Tensor:
        """``log p(w | x_t)`` up to a constant, ``(B, N, V)``; for a mean alone `EmbeddingTable.logits` of it."""
        if self._logits is None:
            return self.table.logits(self.mean)
        if self._shown is None:
            return self._logits
        return torch.where(self._shown, self.table.logits(self.x_t), self._logits)

    @property
    def tokens(self) -> Tensor:
        """The likeliest categories, ``(B, N)``, int64; where there is a mean alone or the data are shown, the nearest
        embeddings.
        """
        if self._logits is None:
            return self.table.round(self.mean)
        likeliest = self._logits.argmax(-1)
        return (
            likeliest
            if self._shown is None
            else torch.where(self._shown[..., 0], self.table.round(self.x_t), likeliest)
        )

    @property
    def variance(self) -> Tensor:
        """Of each coordinate, by the logits; raises ``AttributeError`` for a mean alone."""
        if self._logits is None:
            return super().variance
        variance = self.table.spread(self._logits).to(self.x_t.dtype)
        return variance if self._shown is None else variance.masked_fill(self._shown, 0.0)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """``log p(w | x_t)`` of categories ``(B, N)`` in nats, ``(B, N)``."""
        flat = self.logits.flatten(0, -2)
        return -nn.functional.cross_entropy(flat, tokens.flatten(), reduction="none").view(tokens.shape)


class EmbeddedDenoiser(Denoiser[SDE]):
    """A denoiser of embedded categories made of a network and the embeddings; see the module's text.

    The network is called as ``network(c_in x_t, c, **condition)``, with ``c_in`` and the noise level ``c`` of
    `NetworkDenoiser`, and with self-conditioning ``estimate=``, what was last thought of ``x_0`` ``(B, N, D)``, zeros
    where that is nothing (Chen et al. 2022, arXiv 2208.04202, section 3.2).  It may run in low precision; logits are
    float32 or wider.

    With the condition ``given`` ``(B, N)``, True where ``x_t`` holds clean embeddings, these are the mean there
    (partial noising: DiffuSeq, Gong et al. 2022, 2210.08933), and ``c_in`` is that of clean data.  The network is told
    ``given`` and ``mask`` as it is told every condition.

    Args:
        network: as above; None where the network of several parts answers (`ProductNetworkDenoiser`).
        table: the embeddings, which are trained with the network.
        process: the forward process to train and sample with, in all of space.
        prediction: what the network predicts, "x0" or "logits".
        self_conditioning: whether the network takes an estimate.
        sigma_data: standard deviation of the embeddings; 1 for a normalised table, and at the start for any.

    Raises:
        ValueError: by the call, for a state or a network's answer of another shape.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule
        >>> table = EmbeddingTable(5, 3)
        >>> denoiser = EmbeddedDenoiser(lambda x, c: torch.zeros(*x.shape[:2], 5), table, SDE(CosineSchedule()))
        >>> denoiser(torch.randn(2, 4, 3), 0.5).tokens.shape
        torch.Size([2, 4])
    """

    network: Any

    def __init__(
        self,
        network: nn.Module | None,
        table: EmbeddingTable,
        process: SDE,
        prediction: EmbeddedPrediction = "logits",
        self_conditioning: bool = False,
        sigma_data: float = 1.0,
    ) -> None:
        super().__init__(process)
        if not isinstance(process, SDE):
            raise TypeError(f"process={process!r}: expected an SDE, such as SDE(SqrtSchedule())")
        check_whole(process, type(self).__name__)
        if not isinstance(table, EmbeddingTable):
            raise TypeError(f"table={table!r}: expected an EmbeddingTable")
        require(prediction in get_args(EmbeddedPrediction), "prediction", prediction, "'x0' or 'logits'")
        require(0 < sigma_data < float("inf"), "sigma_data", sigma_data, "a positive number")
        self.network = network
        self.table = table
        self.prediction = prediction
        self.self_conditioning = self_conditioning
        self.sigma_data = sigma_data

    def forward(
        self, x_t: Tensor, t: Time, estimate: Tensor | None = None, given: Tensor | None = None, **condition: Any
    ) -> EmbeddedPosterior:
        if x_t.ndim != 3 or x_t.shape[-1] != self.table.dimensions:
            raise ValueError(f"x_t of shape {tuple(x_t.shape)}: expected (B, N, {self.table.dimensions})")
        inputs, c = self.inputs(x_t, t, given)
        dtype = dtype_of(self.network, x_t)
        if self.self_conditioning:
            condition["estimate"] = (torch.zeros_like(x_t) if estimate is None else estimate).to(dtype)
        if given is not None:
            condition["given"] = given
        return self.posterior(self.network(inputs.to(dtype), c, **condition), x_t, t, given)

    def inputs(self, x_t: Tensor, t: Time, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the network sees: ``c_in x_t`` and the noise level ``c``."""
        level = self.process.level(t)
        inputs = unit_scale(x_t, level, self.sigma_data)
        if given is not None:
            inputs = torch.where(given[..., None], x_t / self.sigma_data, inputs)
        return inputs, noise_level(level, x_t)

    def posterior(self, output: Tensor, x_t: Tensor, t: Time, given: Tensor | None = None) -> EmbeddedPosterior:
        """The posterior that a network's output means."""
        last = self.table.size if self.prediction == "logits" else self.table.dimensions
        if output.shape != (*x_t.shape[:2], last):
            raise ValueError(
                f"network's answer of shape {tuple(output.shape)} to a state {tuple(x_t.shape)}: expected "
                f"{(*x_t.shape[:2], last)} for prediction={self.prediction!r}"
            )
        level = self.process.level(t)
        if self.prediction == "x0":
            return EmbeddedPosterior(x_t, self.process, level, self.table, mean=output.to(x_t.dtype), given=given)
        logits = output.to(torch.promote_types(output.dtype, torch.float32))
        return EmbeddedPosterior(x_t, self.process, level, self.table, logits=logits, given=given)


class EnumeratedEmbeddedDenoiser(Denoiser[SDE]):
    """Exact for a distribution of sequences of categories that is given as a table, ``p(w) prod_i N(x_i; alpha
    e_{w_i}, sigma^2)`` summed over all sequences.

    Args:
        process: the forward process, in all of space.
        table: the embeddings of ``V`` categories.
        probabilities: ``(V,) * N``, of all sequences, not negative; scaled to sum to 1.
    """

    probabilities: Tensor

    def __init__(self, process: SDE, table: EmbeddingTable, probabilities: Tensor) -> None:
        super().__init__(process)
        check_whole(process, type(self).__name__)
        probabilities = torch.as_tensor(probabilities, dtype=torch.float64)
        if probabilities.ndim < 1 or set(probabilities.shape) != {table.size}:
            raise ValueError(f"probabilities of shape {tuple(probabilities.shape)}: expected ({table.size},) * N")
        if not bool((probabilities >= 0).all()) or not float(probabilities.sum()) > 0:
            raise ValueError("probabilities hold negative numbers or nothing else than zeros")
        self.table = table
        self.register_buffer("probabilities", probabilities / probabilities.sum())

    def _joint(self, x: Tensor, level: Level, given: Tensor | None) -> Tensor:
        """``log p(w, x_t)`` ``(B, V, ..., V)`` but for ``-N D log(2 pi) / 2``, float64; without noise, and where data
        are given, the nearest embedding is certain.
        """
        axes = self.probabilities.ndim
        if x.ndim != 3 or x.shape[1:] != (axes, self.table.dimensions):
            raise ValueError(f"x_t of shape {tuple(x.shape)}: expected (B, {axes}, {self.table.dimensions})")
        x, vectors, shaped = x.double(), self.table.vectors.double(), level.like(x.double())
        alpha, sigma = (torch.as_tensor(v, dtype=torch.float64) for v in (shaped.alpha, shaped.sigma))
        alpha = alpha[..., None]
        square = (x[:, :, None] - alpha * vectors).square().sum(-1)
        likely = -0.5 * square / sigma**2 - self.table.dimensions * sigma.log()
        nearest = torch.where(square == square.amin(-1, keepdim=True), 0.0, -torch.inf)
        likely = torch.where(sigma > 0, likely, nearest)
        if given is not None:
            distance = (x[:, :, None] - vectors).square().sum(-1)
            shown = torch.where(distance == distance.amin(-1, keepdim=True), 0.0, -torch.inf)
            likely = torch.where(given[..., None], shown, likely)
        joint = self.probabilities.log().expand(len(x), *self.probabilities.shape)
        for i in range(axes):
            joint = joint + likely[:, i].reshape(len(x), *[1] * i, -1, *[1] * (axes - 1 - i))
        return joint

    def forward(self, x_t: Tensor, t: Time, given: Tensor | None = None, **condition: Any) -> EmbeddedPosterior:
        """The exact posterior of each position; what is ``given`` is evidence without noise, other conditions are
        ignored.
        """
        level = self.process.level(t)
        joint, axes = self._joint(x_t, level, given), self.probabilities.ndim
        if axes == 1:
            logits = joint[:, None]
        else:
            others = [[a + 1 for a in range(axes) if a != i] for i in range(axes)]
            logits = torch.stack([joint.logsumexp(rest) for rest in others], 1)
        return EmbeddedPosterior(x_t, self.process, level, self.table, logits=logits, given=given)

    def log_prob(self, x: Tensor, t: Time) -> Tensor:
        """Log-density of ``x_t`` in nats, ``(B,)``, float64, where there is noise."""
        joint = self._joint(x, self.process.level(t), None)
        return joint.flatten(1).logsumexp(1) - 0.9189385332046727 * x[0].numel()

    def sample(self, num: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the data: categories ``(num, N)``, int64."""
        index = torch.multinomial(self.probabilities.flatten(), num, replacement=True, generator=generator)
        return torch.stack(torch.unravel_index(index, self.probabilities.shape), 1)
