r"""A transformer over sequences of tokens, of categories or of vectors, that reads both ways or from the left alone.

A block is

.. math:: x \leftarrow x + \mathrm{conv}(\mathrm{LN}(x)), \quad
          x \leftarrow x + \mathrm{attention}(\mathrm{LN}(x)), \quad x \leftarrow x + \mathrm{mlp}(\mathrm{LN}(x)),

with rotary positions (Su et al. 2021, arXiv 2104.09864) on normalised queries and keys (Dehghani et al. 2023, arXiv
2302.05442, section 2.1), squared rectifiers in the two-layer network and a depthwise convolution over a few neighbours
(both So et al. 2021, arXiv 2109.08668; there it is on queries, keys and values).  The noise level, the attributes and
the properties of a sample are vectors that are added to every token.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .activations import squared_relu
from .attention import head_count, scaled_attention
from .checks import check_fraction, check_integers, check_noise_level
from .embeddings import LabelEmbedding, NoiseEmbedding
from .linear import Linear, zero_init
from .positions import axial_rotation, rotate, rotation

__all__ = ["NeighbourConvolution", "Reading", "TokenBlock", "TokenTransformer"]

ROTARY_BASE = 1000.0
_NUMBERS = ("properties", "properties_mask")


class Reading(NamedTuple):
    """What a reader says of tokens: vectors ``(B, n, width)`` that are added to them, where they stand for the rotary
    positions ``(B, n)``, and its state behind them.
    """

    vectors: Tensor
    places: Tensor
    state: Any


class TokenTransformer(nn.Module):
    """Transformer from sequences ``(B, N)`` of categories, or ``(B, N, D)`` of vectors, to ``(B, N, outputs)``.

    Sequences of every length are taken.  A position sees the real positions of its own segment, and under ``causal``
    those not after it.  The output is zero at initialisation.

    Args:
        inputs: number of categories, or length of the vectors.
        outputs: numbers a token of the result; None for as many as ``inputs``.
        vectors: whether the tokens are vectors.
        estimate: for vectors, whether the network is shown a former estimate of the data beside them
            (self-conditioning: Chen et al. 2022, arXiv 2208.04202).
        attributes: number of values of each attribute of a sample, by name.
        properties: how many numbers the network may be told of a sample.
        sized: whether each token is told how many there are from it to the end of its sequence, which a causal network
            cannot see.
        reader: for a causal network, what reads tokens from the left where they follow a grammar, such as how deep they
            are nested: called as ``reader(x, state)`` with the next tokens ``(B, n)`` and the state behind those before
            (None at the start), it answers with a `Reading`.
        timed: whether the noise level counts; a network of masked tokens need not know it (2406.07524, section 3.5).
        marked: whether the network is told which tokens are known (`PartlyGiven`); masks tell by themselves.
        causal: whether a position sees none after it.
        lazy: whether the last block and the answer are computed at the last category alone, the mask, and the answer is
            zero at all other tokens, which an `AbsorbingChain` keeps as they are; not for weights of categories.
        width: length of a token inside.
        depth: number of blocks.
        head_width: length of one head's queries and keys, even; divides ``width``.
        mlp_ratio: hidden features of a block's two-layer network for each feature of a token.
        kernel: neighbours that the convolution sees, itself included; 0 for no convolution.
        dropout: probability with which a feature of a branch is dropped in training.

    Raises:
        ValueError: when the arguments do not fit one another, or an input of ``forward`` does not fit the network.

    >>> network = TokenTransformer(30, attributes={"topic": 4}, width=32, depth=1, head_width=16)
    >>> network(torch.tensor([[3, 29, 7]]), torch.zeros(1), topic=torch.tensor([2])).shape
    torch.Size([1, 3, 30])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int | None = None,
        *,
        vectors: bool = False,
        estimate: bool = False,
        attributes: Mapping[str, int] | None = None,
        properties: int = 0,
        sized: bool = False,
        reader: nn.Module | None = None,
        timed: bool = True,
        marked: bool = False,
        causal: bool = False,
        lazy: bool = False,
        width: int = 128,
        depth: int = 4,
        head_width: int = 32,
        mlp_ratio: float = 4.0,
        kernel: int = 5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integers(1, inputs=inputs, width=width, depth=depth, head_width=head_width)
        check_integers(0, kernel=kernel, properties=properties)
        check_fraction(dropout=dropout)
        if mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio must be positive, got {mlp_ratio!r}")
        if estimate and not vectors:
            raise ValueError("estimate=True is for networks of vectors: give vectors=True, or leave it out")
        if lazy and (vectors or causal):
            raise ValueError("lazy=True is for networks of masked tokens: leave out vectors and causal")
        if reader is not None and not causal:
            raise ValueError("a reader goes from the left: give causal=True, or leave it out")
        if taken := set(attributes or {}) & set(_NUMBERS):
            raise ValueError(f"an attribute is called {taken.pop()!r}, which means something else here; rename it")
        self.inputs, self.outputs, self.vectors, self.estimate = inputs, outputs, vectors, estimate
        self.attributes, self.properties, self.sized = dict(attributes or {}), properties, sized
        self.timed, self.marked, self.causal, self.lazy = timed, marked, causal, lazy
        self.width, self.depth, self.head_width, self.mlp_ratio = width, depth, head_width, mlp_ratio
        self.kernel, self.dropout = kernel, dropout
        self._rotated = width // head_count(width, head_width)
        axial_rotation((1,), self._rotated)  # raises here, rather than in forward, when a head is too narrow

        self.enter = Linear(inputs * (1 + estimate), width) if vectors else nn.Embedding(inputs, width)
        if not vectors:
            nn.init.normal_(self.enter.weight, std=0.5)
        self.noise = NoiseEmbedding(width) if timed else None
        self.mark = nn.Parameter(torch.zeros(width)) if marked else None
        self.labels = nn.ModuleDict()
        for name, count in self.attributes.items():
            embed = LabelEmbedding(count, width)
            nn.init.normal_(embed.table.weight, std=0.5)  # as large as tokens, or they are learned late
            self.labels[name] = embed
        self.numbers = Linear(2 * properties, width) if properties else None
        self.rest = Linear(2 * (width // 2), width, bias=False) if sized else None
        self.reader = reader
        self.blocks = nn.ModuleList(
            TokenBlock(width, head_width, round(mlp_ratio * width), kernel, causal, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.leave = zero_init(Linear(width, outputs or inputs))

    def forward(
        self,
        x: Int[Tensor, "batch tokens"] | Float[Tensor, "batch tokens inputs"],
        c: Float[Tensor, "batch"] | None = None,
        *,
        mask: Bool[Tensor, "batch tokens"] | None = None,
        segments: Int[Tensor, "batch tokens"] | None = None,
        given: Bool[Tensor, "batch tokens"] | None = None,
        estimate: Float[Tensor, "batch tokens inputs"] | None = None,
        sizes: Int[Tensor, "batch"] | None = None,
        **attributes: Tensor,
    ) -> Float[Tensor, "batch tokens outputs"]:
        """Evaluate the network.

        Args:
            x: the noisy state; of categories also one-hot, or any weights of them, ``(B, N, inputs)``, which has a
                gradient.
            c: the noise level -log_snr / 8, (B,); needed if the network is ``timed``.
            mask: True where the sequence is real; None for everywhere.
            segments: number of the document that a token belongs to, in packed sequences; None for one.
            given: True at tokens that are known and not noised, which a ``marked`` network is told.
            estimate: what was thought of the data before, for a network that takes it; zero when not given.
            sizes: tokens of each sequence, for a network that is ``sized``; as many as ``x`` has when not given.
            attributes: values ``(B,)`` of the attributes, -1 or nothing for "not told"; ``properties`` ``(B, P)``,
                scaled to about 1, and ``properties_mask``, True where they are told, all of them when not given.
        """
        self._check(x, c, attributes)
        h = self._entered(x, estimate)
        told = self._told(x, c, attributes)
        if told is not None:
            h = h + told[:, None]
        h, rotation, _ = self._read(self._counted(h, sizes, 0), x, 0, None)
        if self.mark is not None and given is not None:
            h = h + given[..., None].to(h.dtype) * self.mark
        sight = _sight(mask, segments, self.causal)
        for block in self.blocks[:-1]:
            h = block(h, rotation, sight, mask, segments)
        wanted = x == self.inputs - 1 if self.lazy and not x.is_floating_point() else None
        h = self.blocks[-1](h, rotation, sight, mask, segments, wanted)
        out = self.leave(self.norm(h))
        return out if wanted is None else out.new_zeros(*x.shape, out.shape[-1]).masked_scatter(wanted[..., None], out)

    def remember(
        self,
        x: Tensor,
        memory: "Memory | None" = None,
        c: Tensor | None = None,
        *,
        sizes: Tensor | None = None,
        **attributes: Tensor,
    ) -> tuple[Tensor, "Memory"]:
        """The answer ``(B, n, outputs)`` to the tokens ``x`` ``(B, n)`` that follow those that ``memory`` holds.

        For causal networks: called with one part of a sequence after the other, it answers as ``forward`` does to all
        of it, at the cost of the part.

        Args:
            x: the next tokens.
            memory: what the call before returned; None at the start.
            c, attributes: as in ``forward``, the same in each call.
            sizes: as in ``forward``, and needed if the network is ``sized``.

        Returns:
            The answer, and the memory for the next call.
        """
        if not self.causal:
            raise ValueError("remember of a network that reads both ways: expected one with causal=True")
        if self.sized and sizes is None:
            raise ValueError("sizes is missing: a sized network needs the tokens of each sequence, (B,)")
        self._check(x, c, attributes)
        start, n = 0 if memory is None else memory.blocks[0].key.shape[2], x.shape[1]
        h = self._entered(x, None)
        told = self._told(x, c, attributes)
        h = h if told is None else h + told[:, None]
        h = self._counted(h, sizes, start)
        h, rotation, state = self._read(h, x, start, None if memory is None else memory.state)
        sight = torch.ones(n, start + n, dtype=torch.bool, device=x.device).tril(start)
        seen = []
        for i, block in enumerate(self.blocks):
            h, now = block.resume(  # type: ignore[operator]  # torch knows of no methods of its modules
                h, rotation, sight, None if memory is None else memory.blocks[i]
            )
            seen.append(now)
        return self.leave(self.norm(h)), Memory(seen, state)

    def _entered(self, x: Tensor, estimate: Tensor | None) -> Tensor:
        if x.is_floating_point() and not self.vectors:
            return x @ self.enter.weight
        if self.estimate:
            x = torch.cat([x, torch.zeros_like(x) if estimate is None else estimate.to(x.dtype)], -1)
        return self.enter(x)

    def _told(self, x: Tensor, c: Tensor | None, attributes: Mapping[str, Tensor]) -> Tensor | None:
        """The sum of the embeddings of noise level and attributes, ``(B, width)``."""
        parts = [self.noise(c)] if self.noise is not None else []
        for name, embed in self.labels.items():
            value = attributes.get(name)
            parts.append(embed(torch.full((len(x),), -1, device=x.device) if value is None else value))
        if self.numbers is not None:
            values, known = (attributes.get(name) for name in _NUMBERS)
            values = self.numbers.weight.new_zeros(len(x), self.properties) if values is None else values
            told = torch.ones_like(values) if known is None else known.to(values.dtype)
            told = told if attributes.get(_NUMBERS[0]) is not None else torch.zeros_like(told)
            parts.append(self.numbers(torch.cat([values * told, told], 1)))
        return torch.stack(parts).sum(0) if parts else None

    def _read(self, h: Tensor, x: Tensor, start: int, state: Any) -> tuple[Tensor, tuple[Tensor, Tensor], Any]:
        """Tokens with what the reader says of them, their rotary positions, and the reader's state."""
        if self.reader is None:
            angles = axial_rotation((start + x.shape[1],), self._rotated, base=ROTARY_BASE, device=x.device)
            return h, (angles[0][start:], angles[1][start:]), None
        vectors, places, state = self.reader(x, state)
        return h + vectors, rotation(places, self._rotated, base=ROTARY_BASE), state

    def _counted(self, h: Tensor, sizes: Tensor | None, start: int) -> Tensor:
        """Tokens told how many there are from them to the end, where the network is ``sized``."""
        if self.rest is None:
            return h
        place = torch.arange(start, start + h.shape[1], device=h.device)
        sizes = torch.full((len(h),), h.shape[1], device=h.device) if sizes is None else sizes
        if sizes.shape != (len(h),) or sizes.is_floating_point():
            raise ValueError(f"sizes of shape {tuple(sizes.shape)}, {sizes.dtype}: expected ({len(h)},), int64")
        angles = rotation((sizes[:, None] - place).clamp(min=0), 2 * (self.width // 2), base=ROTARY_BASE)
        return h + self.rest(torch.cat(angles, -1).to(self.rest.weight.dtype))

    def _check(self, x: Tensor, c: Tensor | None, attributes: Mapping[str, Tensor]) -> None:
        vectors = x.is_floating_point()
        if x.ndim != 2 + vectors or (self.vectors and not vectors) or 0 in x.shape:
            axes = "(batch, tokens, inputs), floating-point" if self.vectors else "(batch, tokens), int64"
            raise ValueError(f"x of shape {tuple(x.shape)}, {x.dtype}: expected {axes}")
        if vectors and x.shape[2] != self.inputs:
            raise ValueError(f"x has vectors of length {x.shape[2]}: expected inputs={self.inputs}")
        if self.timed:
            if c is None:
                raise ValueError("c is missing: a timed network needs the noise level -log_snr / 8, (B,)")
            check_noise_level(c, len(x))
        for name, value in attributes.items():
            if name in _NUMBERS and self.properties:
                if value.shape != (len(x), self.properties):
                    shape = (len(x), self.properties)
                    raise ValueError(f"{name} of shape {tuple(value.shape)}: expected {shape}")
                continue
            if name not in self.attributes:
                known = ", ".join(self.attributes) or "none"
                raise ValueError(f"unknown condition {name!r}; the network's attributes: {known}")
            if value.shape != (len(x),) or value.is_floating_point():
                raise ValueError(f"{name} of shape {tuple(value.shape)}, {value.dtype}: expected ({len(x)},), int64")


class Memory(NamedTuple):
    """What a network keeps of the tokens it has seen: that of each block, and the state of its reader."""

    blocks: "list[Seen]"
    state: Any


class Seen(NamedTuple):
    """What a block keeps of the tokens it has seen: the last inputs of its convolution, keys and values."""

    inputs: Tensor
    key: Tensor
    value: Tensor


class TokenBlock(nn.Module):
    """Convolution, attention and a two-layer network, each zero at initialisation; see the module's text.

    With ``wanted`` ``(B, N)`` it answers for the tokens that are True there alone, ``(M, width)`` in their order.
    """

    def __init__(self, width: int, head_width: int, hidden: int, kernel: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.causal = head_count(width, head_width), causal
        self.neighbours = NeighbourConvolution(width, kernel, causal) if kernel else None
        self.qkv = Linear(width, 3 * width, bias=False)
        self.out = zero_init(Linear(width, width, bias=False))
        self.inner = Linear(width, hidden, bias=False)
        self.outer = zero_init(Linear(hidden, width, bias=False))
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        rotation: tuple[Tensor, Tensor],
        sight: Tensor | None,
        mask: Tensor | None,
        segments: Tensor | None,
        wanted: Tensor | None = None,
    ) -> Float[Tensor, "batch tokens width"] | Float[Tensor, "some width"]:
        if self.neighbours is not None:
            x = x + self.drop(self.neighbours(_norm(x), mask, segments))
        query, key, value = self._looks(_norm(x), rotation)
        seen = scaled_attention(query, key, value, sight, causal=self.causal and sight is None)
        seen = seen.transpose(1, 2).flatten(2)
        return self._finish(x, seen) if wanted is None else self._finish(x[wanted], seen[wanted])

    def resume(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], sight: Tensor, before: Seen | None
    ) -> tuple[Tensor, Seen]:
        """The block at tokens that follow those in ``before``, and what to keep of all."""
        inputs = _norm(x)
        if self.neighbours is not None:
            tail = self.neighbours.kernel - 1
            old = inputs.new_zeros(len(x), tail, x.shape[2]) if before is None else before.inputs
            wide = torch.cat([old, inputs], 1)
            x = x + self.neighbours.inside(wide)
            inputs = wide[:, wide.shape[1] - tail :]
        query, key, value = self._looks(_norm(x), rotation)
        if before is not None:
            key, value = torch.cat([before.key, key], 2), torch.cat([before.value, value], 2)
        seen = scaled_attention(query, key, value, sight)
        return self._finish(x, seen.transpose(1, 2).flatten(2)), Seen(inputs, key, value)

    def _looks(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``(B, heads, N, d)``."""
        looks, value = self.qkv(x).unflatten(-1, (3 * self.heads, -1)).split([2 * self.heads, self.heads], 2)
        query, key = rotate(_norm(looks), *rotation).chunk(2, 2)
        return query.transpose(1, 2), key.transpose(1, 2), value.to(query.dtype).transpose(1, 2)

    def _finish(self, x: Tensor, seen: Tensor) -> Tensor:
        x = x + self.drop(self.out(seen))
        return x + self.drop(self.outer(squared_relu(self.inner(_norm(x)))))


class NeighbourConvolution(nn.Module):
    """A weighted sum of each token and its neighbours, feature by feature: half of them on either side, or all before.

    Zero at initialisation.  Padding and tokens of another segment count as zero.

    Args:
        width: length of a token.
        kernel: tokens that are summed.
        causal: whether the token itself is the last of them.
    """

    def __init__(self, width: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.width, self.kernel, self.causal = width, kernel, causal
        self.before = kernel - 1 if causal else kernel // 2
        self.after = kernel - 1 - self.before
        self.weight = nn.Parameter(torch.zeros(kernel, width))

    def forward(
        self, x: Float[Tensor, "batch tokens width"], mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        if mask is not None:
            x = x * mask[..., None].to(x.dtype)
        if segments is None:
            return self.inside(x, self.before, self.after)
        wide = nn.functional.pad(x, (0, 0, self.before, self.after))
        names = nn.functional.pad(segments, (self.before, self.after), value=-1)
        length = x.shape[1]
        taps = [wide[:, k : k + length] * (names[:, k : k + length] == segments)[..., None] for k in range(self.kernel)]
        return torch.einsum("kbnw,kw->bnw", torch.stack(taps), self.weight.to(x.dtype))

    def inside(
        self, x: Float[Tensor, "batch more width"], before: int = 0, after: int = 0
    ) -> Float[Tensor, "batch tokens width"]:
        """The sums at the places that have all their neighbours, with zeros ``before`` and ``after`` the tokens."""
        weight, both = self.weight.to(x.dtype).t()[:, None], max(before, after)
        # Zeros on both sides are the convolution's own, which saves a copy; the sums too many are left out.
        sums = nn.functional.conv1d(x.transpose(1, 2), weight, padding=both, groups=self.width).transpose(1, 2)
        return sums[:, both - before : sums.shape[1] - (both - after)]


def _norm(x: Tensor) -> Tensor:
    """Layer norm without weights, which the maps that follow contain."""
    return nn.functional.layer_norm(x, x.shape[-1:])


def _sight(mask: Tensor | None, segments: Tensor | None, causal: bool) -> Tensor | None:
    """What each position sees, ``(B, 1, N or 1, N)``, or None where it is all that ``causal`` leaves.

    A position of the padding sees itself, so that softmax never meets an empty row.
    """
    if mask is None and segments is None:
        return None
    some = mask if mask is not None else segments
    assert some is not None
    length = some.shape[1]
    sight = torch.ones(1, length, length, dtype=torch.bool, device=some.device)
    if causal:
        sight = sight.tril()
    if segments is not None:
        sight = sight & (segments[:, :, None] == segments[:, None, :])
    if mask is not None:
        sight = sight & mask[:, None, :] | torch.eye(length, dtype=torch.bool, device=some.device)
    return sight[:, None]
