r"""CSDI's network, and the weights that its authors published.

Tashiro et al. 2021 (arXiv 2107.03502), section 5 and figure 3. Every entry of a window, time step by variable, is a
token of C channels. Each residual block adds the diffusion step, attends along time and then along variables,
adds side information, passes a gate, and hands one half on and the other half to the output:

    y = feature(time(h + step)),       u, w = gate y + side s,       r, z = out(sigmoid(u) tanh(w)),
    h <- (h + r) / sqrt(2),            output = head(sum of all z / sqrt(blocks)).

The side information s of an entry is the sinusoids of its time (Vaswani et al. 2017, arXiv 1706.03762, section 3.5), a
learned vector of its variable, and whether it is given. Its projection is a sum over these, none of which depends on
the noise: `CSDINetwork.encode` makes that of the times once for all samples and steps of a window.

The published networks were trained on step numbers of a table of 50 quadratic betas, 1e-4 to 0.5. Ours is told the
noise level as every network of the core and reads the step back from it. With the table as the schedule of the process,

    denoiser = NetworkDenoiser(CSDINetwork.from_published("model.pth"), SDE(CSDI_TABLE), prediction="eps")
    DDPM(50, grid=UniformTime()).sample(denoiser, x.shape, given=given, x=x)

are the authors' ancestral steps, and a sampler with fewer of them takes `Times` of whole steps, ``(i + 1) / 50``.
"""

import math
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core import TableSchedule
from ornstein.core.nn import Linear
from ornstein.core.nn.activations import sigmoid, silu
from ornstein.core.nn.checks import check_fraction, check_integers, check_noise_level
from ornstein.core.nn.linear import affine
from ornstein.core.schedules import wide
from ornstein.domains.timeseries.axial import AxialLayer
from ornstein.domains.timeseries.csdi_names import published_name, read_published

__all__ = ["CSDI_TABLE", "CSDINetwork"]

CSDI_TABLE = TableSchedule.scaled_linear(50, 1e-4, 0.5)
"""The authors' 50 betas, whose square roots are evenly spaced."""

CACHED = 1 << 17  # numbers: half a megabyte, of a processor's 1 to 2 MB of second-level cache


class CSDINetwork(nn.Module):
    """CSDI's network: two axial transformers in each residual block; (B, L, K) to (B, L, K).

    The defaults are the published sizes. Steps of which nothing is real are padding, which no other step sees; single
    entries that ``mask`` leaves out are seen like any that is not given.

    Args:
        variables: K, the number of variables; each has a learned vector, so that the order matters.
        calendar, covariates, static: numbers of further side information a time step, or a series, 0 for none; the
            published networks have none.
        layers: residual blocks.
        channels: numbers a token; ``heads`` must divide it.
        heads: of the attention.
        time_features: sinusoids of the time; even.
        variable_features: length of a variable's learned vector.
        step_features: sinusoids of the diffusion step, and width of their embedding; even.
        feedforward: inner width of the transformers' second half.
        unconditional: build a network that is not told what is given: one channel, no mask in the side information.
        dropout: in training, within the transformers.
        table: the betas whose step numbers the network is told; a level between two steps gets the mixture of both.
    """

    def __init__(
        self,
        variables: int,
        calendar: int = 0,
        covariates: int = 0,
        static: int = 0,
        *,
        layers: int = 4,
        channels: int = 64,
        heads: int = 8,
        time_features: int = 128,
        variable_features: int = 16,
        step_features: int = 128,
        feedforward: int = 64,
        unconditional: bool = False,
        dropout: float = 0.1,
        table: TableSchedule = CSDI_TABLE,
    ) -> None:
        super().__init__()
        check_integers(1, variables=variables, layers=layers, channels=channels, heads=heads, feedforward=feedforward)
        check_integers(2, time_features=time_features, step_features=step_features)
        check_integers(0, calendar=calendar, covariates=covariates, static=static, variable_features=variable_features)
        check_fraction(dropout=dropout)
        if channels % heads:
            raise ValueError(f"heads must divide channels={channels}, got {heads}")
        for name, size in (("time_features", time_features), ("step_features", step_features)):
            if size % 2:
                raise ValueError(f"{name} must be even, got {size}")
        self.variables, self.layers, self.channels, self.heads = variables, layers, channels, heads
        self.time_features, self.variable_features, self.step_features = time_features, variable_features, step_features
        self.feedforward, self.unconditional, self.dropout = feedforward, unconditional, dropout
        self.calendar, self.covariates, self.static, self.table = calendar, covariates, static, table
        self.variable = nn.Embedding(variables, variable_features)
        self.step = StepEmbedding(table, step_features)
        self.input = _linear(1 if unconditional else 2, channels)
        side = time_features + variable_features + (not unconditional) + calendar + covariates + static
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, heads, feedforward, side, step_features, dropout) for _ in range(layers)
        )
        self.head = _linear(channels, channels)
        self.output = Linear(channels, 1)
        nn.init.zeros_(self.output.weight)

    @classmethod
    def from_published(cls, path: str | Path, *, unconditional: bool = False) -> "CSDINetwork":
        """The network with the weights of the authors' repository (or of one trained by its code), in evaluation mode.

        Sizes are read off the weights; heads are 8, as published, since no weight tells. The file is read as tensors
        alone, nothing in it is run.

        Args:
            path: ``model.pth``.
            unconditional: whether it was trained so; checked against the weights.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds other things, or weights that are missing, too many or of another shape.
        """
        weights = read_published(path)
        variables, variable_features = weights["variable.weight"].shape
        channels, inputs = weights["input.weight"].shape
        if (inputs == 1) != unconditional:
            raise ValueError(f"{path}: the weights are of unconditional={inputs == 1}, not {unconditional}; say so")
        network = cls(
            variables,
            layers=len({key.split(".")[1] for key in weights if key.startswith("blocks.")}),
            channels=channels,
            time_features=weights["blocks.0.side.weight"].shape[1] - variable_features - (inputs - 1),
            variable_features=variable_features,
            step_features=len(weights["step.inner.weight"]),
            feedforward=len(weights["blocks.0.time.inner.weight"]),
            unconditional=unconditional,
        )
        own = network.state_dict()
        for key in sorted(own.keys() | weights.keys()):
            if key not in weights:
                raise ValueError(f"{path}: holds no {published_name(key)}; fetch the file again")
            if key not in own:
                raise ValueError(f"{path}: holds {published_name(key)}, for which a network of its sizes has no place")
            if own[key].shape != weights[key].shape:
                came, expected = tuple(weights[key].shape), tuple(own[key].shape)
                raise ValueError(f"{path}: {published_name(key)} of shape {came}: expected {expected}")
        network.load_state_dict(weights)
        return network.eval()

    def encode(
        self,
        x: Float[Tensor, "batch time variables"],
        *,
        given: Bool[Tensor, "batch time variables"] | None = None,
        mask: Bool[Tensor, "batch time variables"] | None = None,
        time: Float[Tensor, "batch time"] | None = None,
        calendar: Float[Tensor, "batch time calendar"] | None = None,
        covariates: Float[Tensor, "batch time covariates"] | None = None,
        static: Float[Tensor, "batch static"] | None = None,
    ) -> Float[Tensor, "batch time gates"]:
        """The side information of time steps, projected for all blocks: the part that a matrix product has to make.

        Of ``x`` only the shape counts; for the rest see `forward`.
        """
        self._check(x, given, mask)
        batch, length, _ = x.shape
        if time is None:
            time = torch.arange(length, dtype=torch.float32, device=x.device).expand(batch, -1)
        elif time.shape != x.shape[:2]:
            raise ValueError(f"time must have shape {tuple(x.shape[:2])}, got {tuple(time.shape)}")
        parts = [
            sinusoids_of_time(time, self.time_features),
            _told("calendar", calendar, self.calendar, (batch, length)),
            _told("covariates", covariates, self.covariates, (batch, length)),
            _told("static", static, self.static, (batch,)),
        ]
        weight = self.variable.weight
        told = torch.cat([_over_time(part, length).to(weight) for part in parts if part is not None], -1)
        return affine(told, *self._side_of_time())

    @property
    def _residual_blocks(self) -> "list[ResidualBlock]":
        return cast("list[ResidualBlock]", list(self.blocks))

    def _side_of_time(self) -> tuple[Tensor, Tensor]:
        """The columns of all blocks' side weights for what `encode` is told, and their biases.

        Columns stand as published: sinusoids of time, variable, whether given; then what the published networks lack.
        """
        sides = [block.side for block in self._residual_blocks]
        weight, bias = torch.cat([side.weight for side in sides]), torch.cat([side.bias for side in sides])
        after = self.time_features + self.variable_features + (not self.unconditional)
        return torch.cat([weight[:, : self.time_features], weight[:, after:]], 1), bias

    def forward(
        self,
        x: Float[Tensor, "batch time variables"],
        c: Float[Tensor, "batch"],
        *,
        given: Bool[Tensor, "batch time variables"] | None = None,
        mask: Bool[Tensor, "batch time variables"] | None = None,
        time: Float[Tensor, "batch time"] | None = None,
        calendar: Float[Tensor, "batch time calendar"] | None = None,
        covariates: Float[Tensor, "batch time covariates"] | None = None,
        static: Float[Tensor, "batch static"] | None = None,
        context: Float[Tensor, "batch time gates"] | None = None,
    ) -> Float[Tensor, "batch time variables"]:
        """The noise (or what the network is trained to predict) in windows of L steps of K variables.

        Args:
            x: (B, L, K): data at ``given``, noisy elsewhere.
            c: (B,): noise levels, ``-log_snr / 8``.
            given: (B, L, K): what is known; None for nothing. An unconditional network is not told, and takes none.
            mask: (B, L, K): what is real; None for all. Only steps of which nothing is are treated differently.
            time: (B, L): elapsed time in steps of the data; 0, 1, 2, ... when None.
            calendar, covariates, static: (B, L, C), (B, L, F), (B, S), for networks built with their lengths.
            context: from `encode`, for one window or for each of ``x``; time and what follows it are not asked again.

        Raises:
            ValueError: a shape that does not fit.
        """
        self._check(x, given, mask)
        check_noise_level(c, len(x))
        if context is None:
            context = self.encode(x, given=given, time=time, calendar=calendar, covariates=covariates, static=static)
        elif context.shape[0] not in (1, len(x)) or context.shape[1:] != (x.shape[1], 2 * self.layers * self.channels):
            expected = (len(x), x.shape[1], 2 * self.layers * self.channels)
            raise ValueError(f"context must have shape {expected}, or 1 for {len(x)}, got {tuple(context.shape)}")
        context = context.expand(len(x), -1, -1)
        sight = _sight(mask)
        few = self._at_once(x)
        answers = [
            self._answer(x[some], c[some], context[some], _rows(given, some), _rows(sight, some))
            for some in (slice(start, start + few) for start in range(0, max(1, len(x)), few))
        ]
        return torch.cat(answers) if len(answers) != 1 else answers[0]

    def _at_once(self, x: Tensor) -> int:
        """How many windows to answer for at a time: on a processor no more than stay in its cache."""
        if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return max(1, len(x))
        return max(1, CACHED // (x.shape[1] * x.shape[2] * self.channels))

    def _answer(self, x: Tensor, c: Tensor, context: Tensor, given: Tensor | None, sight: Tensor | None) -> Tensor:
        # Time, batch, variable, channel: sequences along time and along variables are both views of it.
        known = None if given is None else given.transpose(0, 1).to(x.dtype)
        h = F.relu(self._tokens(x.transpose(0, 1).contiguous(), known))
        step = self.step(c)
        sight = None if sight is None else sight.repeat_interleave(self.variables, 0)[:, None]
        total = torch.zeros_like(h)
        for block, moments in zip(self._residual_blocks, context.transpose(0, 1).chunk(self.layers, -1)):
            weight = block.side.weight[:, self.time_features :]
            side = F.linear(self.variable.weight, weight[:, : self.variable_features])
            told = None if known is None else weight[:, self.variable_features]
            h, skip = block(h, step, moments[:, :, None], side, known, told, sight)
            total = total + skip
        out = self.output(F.relu(self.head(total / math.sqrt(self.layers))))
        return out[..., 0].transpose(0, 1)

    def _tokens(self, x: Tensor, known: Tensor | None) -> Tensor:
        """The first layer: a channel of what is given and one of the rest, of which an entry has one or the other."""
        if known is None:
            # The last channel is noise in both kinds of network.
            return x[..., None] * self.input.weight[:, -1] + self.input.bias
        return F.linear(torch.stack([x * known, x * (1 - known)], -1), self.input.weight, self.input.bias)

    def _check(self, x: Tensor, given: Tensor | None, mask: Tensor | None) -> None:
        if x.dim() != 3 or x.shape[2] != self.variables or not x.shape[1]:
            raise ValueError(f"x must have shape (batch, time, {self.variables}), got {tuple(x.shape)}")
        if self.unconditional and given is not None:
            raise ValueError(
                "given was passed to an unconditional network, which is not told it: leave it out and hold what is "
                "known by a sampler of ornstein.core.inverse, such as Replacement"
            )
        for name, value in (("given", given), ("mask", mask)):
            if value is not None and (value.shape != x.shape or value.dtype != torch.bool):
                came = f"{value.dtype} of shape {tuple(value.shape)}"
                raise ValueError(f"{name} must be boolean of shape {tuple(x.shape)}, got {came}")


class ResidualBlock(nn.Module):
    """One residual block: attention along time and variables, side information, gate; see the module's text."""

    def __init__(self, channels: int, heads: int, feedforward: int, side: int, steps: int, dropout: float) -> None:
        super().__init__()
        self.step = Linear(steps, channels)
        self.time = AxialLayer(channels, heads, feedforward, 0, dropout)
        self.feature = AxialLayer(channels, heads, feedforward, 2, dropout)
        self.side = _linear(side, 2 * channels)
        self.gate = _linear(channels, 2 * channels)
        self.out = _linear(channels, 2 * channels)

    def forward(
        self,
        h: Tensor,
        step: Tensor,
        moments: Tensor,
        variables: Tensor,
        known: Tensor | None,
        told: Tensor | None,
        sight: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The next tokens, and this block's share of the output.

        Args:
            h: (L, B, K, C).
            step: (B, steps).
            moments, variables: side information of time steps (L, B, 1, 2C) and of variables (K, 2C).
            known, told: where the state is given (L, B, K), and what that adds (2C,).
            sight: which steps see which (B K, 1, L, L).
        """
        y = self.feature(self.time(h + self.step(step)[:, None], sight))
        y = self.gate(y) + moments + variables
        if known is not None and told is not None:
            y = torch.addcmul(y, known[..., None], told)
        gate, value = y.chunk(2, -1)
        residual, skip = self.out(sigmoid(gate) * torch.tanh(value)).chunk(2, -1)
        return (h + residual) / math.sqrt(2.0), skip


class StepEmbedding(nn.Module):
    """The diffusion step as a vector: sines and cosines of step times ``10^0 ... 10^4``, then two layers with SiLU.

    The step is read from the noise level through ``table``. Sinusoids so fast mean nothing between whole steps; there
    the rows of the two steps around are mixed.
    """

    rows: Tensor

    def __init__(self, table: TableSchedule, features: int) -> None:
        super().__init__()
        self.table = table
        self.features = features
        self.inner = Linear(features, features)
        self.outer = Linear(features, features)
        half = features // 2
        frequencies = 10.0 ** (torch.arange(half) / max(half - 1, 1) * 4.0)
        angles = torch.arange(len(table.betas))[:, None] * frequencies
        self.register_buffer("rows", torch.cat([angles.sin(), angles.cos()], 1), persistent=False)

    def index(self, c: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """The step numbers, fractions allowed, held to the table; float64."""
        index = self.table.index(self.table.time(-8 * wide(c))).clamp(0, len(self.table.betas) - 1)
        # Levels come in float32, in which a whole step is a whole number to five places.
        return torch.where((index - index.round()).abs() < 1e-3, index.round(), index)

    def forward(self, c: Float[Tensor, "batch"]) -> Float[Tensor, "batch features"]:
        index = self.index(c)
        low = index.floor().long()
        high = (low + 1).clamp(max=len(self.rows) - 1)
        rows = torch.lerp(self.rows[low], self.rows[high], (index - low)[:, None].to(self.rows))
        return silu(self.outer(silu(self.inner(rows.to(self.inner.weight.dtype)))))


def _linear(inputs: int, outputs: int) -> Linear:
    """A linear layer whose weights start as the authors' convolutions do: normal of variance 2 / inputs."""
    layer = Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight)
    return layer


def sinusoids_of_time(time: Tensor, features: int) -> Tensor:
    """Sines and cosines in turns, of angular frequencies ``10000^(-2 i / features)``: (B, L) to (B, L, features)."""
    rates = 10000.0 ** (-torch.arange(0, features, 2, device=time.device, dtype=torch.float32) / features)
    angles = time.float()[..., None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def _told(name: str, value: Tensor | None, width: int, shape: tuple[int, ...]) -> Tensor | None:
    if (value is None) != (width == 0):
        said = "none came" if value is None else f"{name} of shape {tuple(value.shape)} came"
        raise ValueError(f"the network was built with {name}={width}, but {said}")
    if value is not None and value.shape != (*shape, width):
        raise ValueError(f"{name} must have shape {(*shape, width)}, got {tuple(value.shape)}")
    return value


def _rows(value: Tensor | None, some: slice) -> Tensor | None:
    return None if value is None else value[some]


def _over_time(part: Tensor, length: int) -> Tensor:
    return part if part.dim() == 3 else part[:, None].expand(-1, length, -1)


def _sight(mask: Tensor | None) -> Tensor | None:
    """Which steps see which (B, L, L): all those with something real, and themselves; None for all."""
    if mask is None:
        return None
    real = mask.any(-1)
    if mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(real.all()):
        return None
    return real[:, None, :] | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
