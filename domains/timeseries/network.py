r"""The default network of series: a transformer over time steps that reads what is known once, and a small one that
denoises.

A time step with all its variables is one token, so that a window of L steps costs L tokens and not L K. The *reader*
sees what is known alone: the values, where they are, each variable's interpolation between its known neighbours with
the distance to the nearer one, calendar, covariates and static values. Its answer is a vector for each step and, for
each entry, a guess ``N(m, d^2)`` of the value (`GaussianGuess`): ``m`` is the interpolation and what the reader adds to
it. The *writer* sees these and the noisy state in units of the guess, and says what the guess leaves over. At
initialisation it says nothing: the denoiser is the exact one for independent ``N(interpolation, spread^2)``.

Sampling reads once and writes at every step and for every sample: ``encode`` is the reader, ``forward(context=)`` the
writer. Attention turns queries and keys by elapsed time (Su et al. 2021, arXiv 2104.09864), so that stamps may be
irregular and the origin of time does not matter.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core import Prediction
from ornstein.core.gaussian_guess import GaussianGuess
from ornstein.core.nn import Linear, NoiseEmbedding, TokenBlock, rotation, zero_init
from ornstein.core.nn.checks import check_fraction, check_integers, check_noise_level

__all__ = ["SeriesTransformer", "interpolated"]

ROTARY_BASE = 1000.0
LOWEST, HIGHEST = 1e-4, 30.0  # deviations that a guess may have, in units of the scaled data


class SeriesTransformer(nn.Module):
    """Reader and writer of windows ``(B, L, K)``; see the module's text.

    Windows of every length are taken, longer ones than in training too. Values are expected to be scaled (variance
    near 1), and the noise to be told as ``NetworkDenoiser(..., sigma_data=1)`` does.

    Args:
        variables: K.
        calendar, covariates: numbers a step of the calendar and of covariates, 0 for none.
        static: numbers a series of static values, 0 for none.
        prediction: what the output means, which the denoiser must be told likewise.
        width, depth: length of the reader's tokens, and number of its blocks.
        writer_width, writer_depth: the same of the writer.
        head_width: length of one head's queries and keys, even; divides both widths.
        mlp_ratio: hidden features of a block's two-layer network for each feature of a token.
        kernel: steps that a block's convolution over neighbours sees, itself included; 0 for none.
        dropout: probability with which a feature of a branch is dropped in training.
        spread: deviation of the guess at initialisation.

    Raises:
        ValueError: arguments that do not fit one another, or an input of ``forward`` or ``encode`` that does not fit
            the network.

    >>> network = SeriesTransformer(3, calendar=4, width=32, depth=1, writer_width=32)
    >>> x, given = torch.randn(2, 10, 3), torch.rand(2, 10, 3) < 0.8
    >>> network(x, torch.zeros(2), given=given, calendar=torch.zeros(2, 10, 4)).shape
    torch.Size([2, 10, 3])
    """

    def __init__(
        self,
        variables: int,
        calendar: int = 0,
        covariates: int = 0,
        static: int = 0,
        *,
        prediction: Prediction = "v",
        width: int = 64,
        depth: int = 3,
        writer_width: int = 64,
        writer_depth: int = 1,
        head_width: int = 32,
        mlp_ratio: float = 4.0,
        kernel: int = 5,
        dropout: float = 0.1,
        spread: float = 0.2,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "depth": depth, "writer_width": writer_width, "writer_depth": writer_depth}
        check_integers(1, variables=variables, head_width=head_width, **sizes)
        check_integers(0, calendar=calendar, covariates=covariates, static=static, kernel=kernel)
        check_fraction(dropout=dropout)
        if mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio must be positive, got {mlp_ratio!r}")
        if not LOWEST <= spread <= HIGHEST:
            raise ValueError(f"spread must lie in [{LOWEST}, {HIGHEST}], got {spread!r}")
        self.variables, self.calendar, self.covariates, self.static = variables, calendar, covariates, static
        self.prediction, self.width, self.depth = prediction, width, depth
        self.writer_width, self.writer_depth, self.head_width = writer_width, writer_depth, head_width
        self.mlp_ratio, self.kernel, self.dropout, self.spread = mlp_ratio, kernel, dropout, spread

        self.enter = Linear(4 * variables + 1 + calendar + covariates, width)
        self.series = Linear(static, width, bias=False) if static else None
        self.reader = _blocks(width, depth, head_width, mlp_ratio, kernel, dropout)
        self.guess = zero_init(Linear(width, 2 * variables))
        self.noisy = Linear(2 * variables, writer_width)
        self.told = Linear(width, writer_width)
        self.noise = NoiseEmbedding(writer_width)
        self.writer = _blocks(writer_width, writer_depth, head_width, mlp_ratio, kernel, dropout)
        self.leave = zero_init(Linear(writer_width, variables))
        for blocks in (self.reader, self.writer):
            rotation(torch.zeros(1), _head_width(blocks))  # raises here, rather than in forward, when a head is odd

    def forward(
        self,
        x: Float[Tensor, "batch steps variables"],
        c: Float[Tensor, "batch"],
        *,
        given: Bool[Tensor, "batch steps variables"] | None = None,
        mask: Bool[Tensor, "batch steps variables"] | None = None,
        time: Float[Tensor, "batch steps"] | None = None,
        calendar: Float[Tensor, "batch steps calendar"] | None = None,
        covariates: Float[Tensor, "batch steps covariates"] | None = None,
        static: Float[Tensor, "batch static"] | None = None,
        context: Float[Tensor, "batch steps context"] | None = None,
    ) -> Float[Tensor, "batch steps variables"]:
        """Evaluate the network.

        Args:
            x: the state: known values where ``given``, noisy ones elsewhere.
            c: the noise level -log_snr / 8.
            given: True at entries that are known; None for none of them.
            mask: True at entries that are real, known or to be denoised; None for all.
            time: elapsed time of each step, in steps, not falling; None for 0, 1, 2, ...
            calendar, covariates, static: what else is known, of the widths that the network was built for.
            context: what ``encode`` made of the same known values; spares the reader.
        """
        check_noise_level(c, len(x))
        if context is None:
            told = {"calendar": calendar, "covariates": covariates, "static": static}
            context = self.encode(x, given=given, mask=mask, time=time, **told)
        else:
            self._check(x, given=given, mask=mask, time=time, context=context)
        read, mean, log_std = context.to(x.dtype).split([self.width, self.variables, self.variables], -1)
        guess = GaussianGuess(mean, log_std.exp(), c.to(x.dtype))
        target = _target(x, given, mask)
        u = guess.standardise(x).masked_fill(~target, 0)
        h = self.noisy(torch.cat([u, target.to(x.dtype)], -1)) + self.told(read) + self.noise(c)[:, None]
        h = self._run(self.writer, h, mask, time)
        return guess.predict(u, self.leave(_norm(h)), self.prediction)

    def encode(
        self,
        x: Float[Tensor, "batch steps variables"],
        *,
        given: Bool[Tensor, "batch steps variables"] | None = None,
        mask: Bool[Tensor, "batch steps variables"] | None = None,
        time: Float[Tensor, "batch steps"] | None = None,
        calendar: Float[Tensor, "batch steps calendar"] | None = None,
        covariates: Float[Tensor, "batch steps covariates"] | None = None,
        static: Float[Tensor, "batch static"] | None = None,
    ) -> Float[Tensor, "batch steps context"]:
        """What the reader makes of what is known: the ``context`` of ``forward``, ``width + 2 K`` numbers a step.

        Args:
            x: values, read where ``given`` alone.
            given, mask, time, calendar, covariates, static: as in ``forward``.
        """
        self._check(x, given=given, mask=mask, time=time, calendar=calendar, covariates=covariates, static=static)
        known = torch.zeros_like(x, dtype=torch.bool) if given is None else given
        values = x.masked_fill(~known, 0)
        at = _positions(x, time)
        between, nearest = interpolated(values, known, at)
        passed = at.diff(dim=1, prepend=at[:, :1] - 1).clamp(min=0)
        parts = [values, known.to(x.dtype), between, 1 / (1 + nearest), (1 / (1 + passed))[..., None].to(x.dtype)]
        h = self.enter(torch.cat([*parts, *(some for some in (calendar, covariates) if some is not None)], -1))
        if self.series is not None:
            h = h + self.series(static)[:, None]
        h = _norm(self._run(self.reader, h, mask, time))
        more, log_std = self.guess(h).chunk(2, -1)
        log_std = (math.log(self.spread) + log_std).clamp(math.log(LOWEST), math.log(HIGHEST))
        return torch.cat([h, between + more, log_std], -1)

    def _run(self, blocks: nn.ModuleList, h: Tensor, mask: Tensor | None, time: Tensor | None) -> Tensor:
        """Steps without a real entry are padding: none sees them."""
        real = None if mask is None else mask.any(-1)
        if real is not None and real.device.type == "cpu" and not torch.compiler.is_compiling() and bool(real.all()):
            real = None
        turned = rotation(
            torch.arange(h.shape[1], device=h.device) if time is None else time, _head_width(blocks), base=ROTARY_BASE
        )
        sight = None
        if real is not None:
            itself = torch.eye(h.shape[1], dtype=torch.bool, device=h.device)
            sight = (real[:, None, :] | itself)[:, None]
        for block in blocks:
            h = block(h, turned, sight, real, None)
        return h

    def _check(self, x: Tensor, **told: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[2] != self.variables or 0 in x.shape:
            raise ValueError(f"x must have shape (batch, steps, {self.variables}), got {tuple(x.shape)}")
        batch, steps, _ = x.shape
        step = {"calendar": self.calendar, "covariates": self.covariates}
        shapes: dict[str, tuple[int, ...]] = {
            "given": tuple(x.shape),
            "mask": tuple(x.shape),
            "time": (batch, steps),
            "context": (batch, steps, self.width + 2 * self.variables),
            **{name: (batch, steps, width) for name, width in step.items()},
            "static": (batch, self.static),
        }
        for name, value in told.items():
            needed = name in ("calendar", "covariates", "static")
            if needed and (value is None) != (getattr(self, name) == 0):
                came = "none came" if value is None else f"one of shape {tuple(value.shape)} came"
                raise ValueError(f"the network was built with {name}={getattr(self, name)}, but {came}")
            if value is not None and tuple(value.shape) != shapes[name]:
                raise ValueError(f"{name} must have shape {shapes[name]}, got {tuple(value.shape)}")
            if value is not None and (value.dtype == torch.bool) != (name in ("given", "mask")):
                wanted = "boolean" if name in ("given", "mask") else "numbers"
                raise ValueError(f"{name} must be {wanted}, got {value.dtype}")


def interpolated(
    x: Float[Tensor, "batch steps variables"],
    known: Bool[Tensor, "batch steps variables"],
    time: Float[Tensor, "batch steps"],
) -> tuple[Float[Tensor, "batch steps variables"], Float[Tensor, "batch steps variables"]]:
    """Each variable on the straight line in time between its known neighbours, and the time to the nearer of them.

    Beyond the first and the last known value it is constant; without any it is 0, and the time infinite.

    >>> x, known = torch.tensor([[[1.0], [0.0], [0.0], [4.0]]]), torch.tensor([[[True], [False], [False], [True]]])
    >>> interpolated(x, known, torch.tensor([[0.0, 1.0, 2.0, 3.0]]))[0].flatten()
    tensor([1., 2., 3., 4.])
    """
    batch, steps, variables = x.shape
    place = torch.arange(steps, device=x.device)[None, :, None].expand(batch, steps, variables)
    before = place.where(known, -1).cummax(1).values
    after = place.where(known, steps).flip(1).cummin(1).values.flip(1)
    some_before, some_after = before >= 0, after < steps
    before, after = before.clamp(min=0), after.clamp(max=steps - 1)
    at = time.to(x.dtype)[..., None].expand(batch, steps, variables)
    infinite = x.new_tensor(math.inf)
    past = torch.where(some_before, at - at.gather(1, before), infinite)
    ahead = torch.where(some_after, at.gather(1, after) - at, infinite)
    left, right = x.gather(1, before), x.gather(1, after)
    both = some_before & some_after
    part = torch.where(both, past / (past + ahead).clamp(min=1e-12), (~some_before).to(x.dtype))
    value = torch.lerp(left, right, part)
    return torch.where(some_before | some_after, value, 0.0), torch.minimum(past, ahead)


def _blocks(width: int, depth: int, head_width: int, mlp_ratio: float, kernel: int, dropout: float) -> nn.ModuleList:
    hidden = round(mlp_ratio * width)
    return nn.ModuleList(TokenBlock(width, head_width, hidden, kernel, False, dropout) for _ in range(depth))


def _head_width(blocks: nn.ModuleList) -> int:
    block = blocks[0]
    assert isinstance(block, TokenBlock)
    return block.qkv.in_features // block.heads


def _norm(h: Tensor) -> Tensor:
    return nn.functional.layer_norm(h, h.shape[-1:])


def _positions(x: Tensor, time: Tensor | None) -> Tensor:
    if time is not None:
        return time.float()
    return torch.arange(x.shape[1], device=x.device, dtype=torch.float32).expand(x.shape[:2])


def _target(x: Tensor, given: Tensor | None, mask: Tensor | None) -> Tensor:
    """Where the state is noisy."""
    real = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
    return real if given is None else real & ~given
