r"""A graph network that moves with its points: rotations, reflections and translations of the input do the same to the
output, permutations of the points permute it.

A layer sends messages along all pairs of real points and moves points along the lines between them,

    m_ij = phi_e(h_i, h_j, log(1 + d_ij^2), a_ij),   a_ij = (that of the start, edge features),
    h_i  <- h_i + phi_h(h_i, mean_j w_ij m_ij, c),   w_ij = sigmoid(phi_w(m_ij)),
    x_i  <- x_i + mean_j (x_i - x_j) / (d_ij + 1) phi_x(m_ij),

with ``j != i`` and the mean over the real ones (Satorras et al. 2021, 2102.09844, eqs. 3-6 and 8; as Hoogeboom et al.
2022, 2203.17003, appendix B, with means for sums, so that sizes need no constant, logarithms of the squared distances,
so that points far off do not drive one another further, ``phi_x`` of the message for one of its inputs, and the noise
level in every layer).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .activations import sigmoid, silu
from .checks import check_condition, check_integers, check_noise_level
from .embeddings import ConditionEmbedding
from .linear import Linear, zero_init

__all__ = ["EGNN", "EquivariantBlock"]


class EquivariantBlock(nn.Module):
    """One layer of the module's text.

    Args:
        width: length of a point's invariant features.
        edge: length of ``a_ij``.
        attention: whether messages are weighted by ``w_ij``, or all alike.
    """

    def __init__(self, width: int, edge: int, attention: bool = True) -> None:
        super().__init__()
        self.width = width
        self.edge = edge
        self.attention = attention
        self.source = Linear(width, width)
        self.target = Linear(width, width, bias=False)
        self.pair = Linear(1 + edge, width, bias=False)
        self.message = Linear(width, width)
        self.weight = Linear(width, 1) if attention else None
        self.modulation = Linear(width, width)
        self.inner = Linear(2 * width, width)
        self.outer = zero_init(Linear(width, width))
        self.way = Linear(width, width)
        self.length = zero_init(Linear(width, 1, bias=False))

    def forward(
        self,
        x: Float[Tensor, "batch n dims"],
        h: Float[Tensor, "batch n width"],
        edges: Float[Tensor, "batch n n edge"],
        pairs: Float[Tensor, "batch n n 1"],
        embedding: Float[Tensor, "batch width"],
    ) -> tuple[Tensor, Tensor]:
        """Moved points and new features; ``pairs`` weighs each pair in the means, zero for padding and ``i = j``."""
        difference = x[:, :, None] - x[:, None]
        square = difference.square().sum(-1, keepdim=True)
        # One linear map of the joined inputs, of which the parts of single points are computed once a point.
        between = self.pair(torch.cat([square.log1p(), edges], -1))
        message = silu(self.message(silu(self.source(h)[:, :, None] + self.target(h)[:, None] + between)))
        step = self.length(silu(self.way(message))) / ((square + 1e-8).sqrt() + 1)
        if self.weight is not None:
            message = message * sigmoid(self.weight(message))
        gathered = (message * pairs).sum(2)
        update = self.inner(torch.cat([h, gathered], -1)) + self.modulation(embedding)[:, None]
        return x + (difference * (step * pairs)).sum(2), h + self.outer(silu(update))


class EGNN(nn.Module):
    """Equivariant graph network, from points (B, N, dims) and a noise level to a displacement of each, (B, N, dims).

    The displacement has mean zero over the real points and does not change when all points are moved alike: noise, data
    and states of `CentredSDE` are of this kind.  Without features all points are alike.  The output is zero at
    initialisation, and zero in the padding.  On the CPU the result for a sample is the same bit for bit whatever the
    batch it comes in.

    Args:
        dims: coordinates of a point.
        features: length of the invariant features of a point, such as one-hot atoms; 0 for none.
        edge_features: length of the features of a pair, such as one-hot bonds; 0 for none.
        out_features: length of an invariant answer for each point beside the displacement; 0 for none.
        classes: number of class labels; 0 for none.
        width: hidden features.
        depth: number of layers.
        attention: whether messages are weighted.

    Raises:
        ValueError: when an input of ``forward`` does not fit the network.

    >>> network = EGNN(width=16, depth=1)
    >>> network(torch.randn(2, 5, 3), torch.zeros(2)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        dims: int = 3,
        *,
        features: int = 0,
        edge_features: int = 0,
        out_features: int = 0,
        classes: int = 0,
        width: int = 64,
        depth: int = 4,
        attention: bool = True,
    ) -> None:
        super().__init__()
        check_integers(1, dims=dims, width=width, depth=depth)
        check_integers(0, features=features, edge_features=edge_features, out_features=out_features, classes=classes)
        self.dims = dims
        self.features = features
        self.edge_features = edge_features
        self.out_features = out_features
        self.classes = classes
        self.width = width
        self.depth = depth
        self.attention = attention
        self.condition = ConditionEmbedding(width, classes)
        self.enter = Linear(features or 1, width)
        self.blocks = nn.ModuleList(EquivariantBlock(width, 1 + edge_features, attention) for _ in range(depth))
        self.leave = zero_init(Linear(width, out_features)) if out_features else None

    def forward(
        self,
        x: Float[Tensor, "batch n dims"],
        c: Float[Tensor, "batch"],
        *,
        features: Float[Tensor, "batch n features"] | None = None,
        edges: Float[Tensor, "batch n n edge_features"] | None = None,
        mask: Bool[Tensor, "batch n"] | None = None,
        label: Int[Tensor, "batch"] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Evaluate the network.

        Args:
            x: the noisy points, scaled to unit variance, (B, N, dims).
            c: the noise level -log_snr / 8, (B,).
            features: invariant features of the points, (B, N, features); None for a network without.
            edges: features of the pairs, (B, N, N, edge_features); None for a network without.
            mask: True where a point is real, (B, N); None for everywhere.
            label: class numbers, (B,), -1 for no label; None for no labels at all.

        Returns:
            The displacement (B, N, dims); with ``out_features`` a pair of it and the invariant answer (B, N,
            out_features), zero in the padding.
        """
        self._check(x, features, edges, mask)
        check_noise_level(c, x.shape[0])
        check_condition(x.shape[0], self.classes, 0, label, None, None)
        real = x.new_ones(x.shape[:2]) if mask is None else mask.to(x.dtype)
        x = x * real[..., None]
        pairs = (real[:, :, None] * real[:, None] * (1 - torch.eye(x.shape[1], dtype=x.dtype, device=x.device)))[
            ..., None
        ]
        pairs = pairs / pairs.sum(2, keepdim=True).clamp(min=1)
        embedding = silu(self.condition(c, label))
        h = self.enter(x.new_ones(*x.shape[:2], 1) if features is None else features)
        start = (x[:, :, None] - x[:, None]).square().sum(-1, keepdim=True).log1p()
        known = start if edges is None else torch.cat([start, edges], -1)
        moved = x
        for block in self.blocks:
            moved, h = block(moved, h, known, pairs, embedding)
        step = (moved - x) * real[..., None]
        step = (step - step.sum(1, keepdim=True) / real.sum(1)[:, None, None].clamp(min=1)) * real[..., None]
        return step if self.leave is None else (step, self.leave(h) * real[..., None])

    def _check(self, x: Tensor, features: Tensor | None, edges: Tensor | None, mask: Tensor | None) -> None:
        if x.dim() != 3 or x.shape[2] != self.dims:
            raise ValueError(f"x must have shape (batch, points, {self.dims}), got {tuple(x.shape)}")
        batch, n, _ = x.shape
        wanted = {
            "features": (features, (batch, n, self.features)),
            "edges": (edges, (batch, n, n, self.edge_features)),
        }
        for name, (given, shape) in wanted.items():
            if (given is None) != (shape[-1] == 0):
                came = "was not given" if given is None else "was given"
                raise ValueError(f"{name} {came} to a network built for {shape[-1]} of them")
            if given is not None and tuple(given.shape) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {tuple(given.shape)}")
        if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != (batch, n)):
            raise ValueError(f"mask must be boolean of shape {(batch, n)}, got {tuple(mask.shape)}, {mask.dtype}")
