"""The parts of the networks against closed forms and independent implementations."""

import itertools
import math

import pytest
import torch
from torch import nn

from ornstein.core.nn import (
    ConditionEmbedding,
    CrossAttention,
    DiT,
    Downsample,
    LabelEmbedding,
    ResidualBlock,
    SelfAttention,
    Upsample,
    axial_rotation,
    axial_sinusoids,
    join_patches,
    rotate,
    rotation,
    sinusoids,
    split_patches,
    to_channels_last,
    zero_init,
)


def test_sinusoids_are_what_they_say():
    x = torch.tensor([0.3, -2.0], dtype=torch.float64)
    frequencies = [0.5 * (64 / 0.5) ** (k / 3) for k in range(4)]
    expected = [[math.cos(w * v) for w in frequencies] + [math.sin(w * v) for w in frequencies] for v in x.tolist()]
    torch.testing.assert_close(sinusoids(x, 8), torch.tensor(expected, dtype=torch.float64))


def test_sinusoids_tell_close_noise_levels_apart():
    c = torch.arange(-2.5, 2.5, 0.01)
    features = sinusoids(c, 64)
    distances = torch.cdist(features, features) + 10 * torch.eye(len(c))
    assert distances.min() > 0.1


@pytest.mark.parametrize("features", [0, 1, 5])
def test_sinusoids_reject_odd_lengths(features):
    with pytest.raises(ValueError, match="features must be an even number"):
        sinusoids(torch.zeros(1), features)


def test_labels_have_a_row_each_and_one_for_none():
    embed = LabelEmbedding(3, 4)
    rows = embed(torch.tensor([0, 1, 2, -1]))
    assert torch.equal(rows, embed.table.weight)


def test_condition_is_the_sum_of_its_parts():
    condition = ConditionEmbedding(8, classes=3)
    c, label = torch.tensor([0.5, -1.0]), torch.tensor([2, -1])
    torch.testing.assert_close(condition(c, label), condition.noise(c) + condition.label(label))


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4)])
def test_rotary_products_depend_on_the_difference_of_places_alone(shape):
    torch.manual_seed(0)
    query, key = torch.randn(2, 12)
    cos, sin = axial_rotation(shape, 12)
    tokens = math.prod(shape)
    turned = rotate(torch.stack([query, key]).expand(tokens, 2, 12)[None], cos, sin)[0]
    torch.testing.assert_close(turned.norm(dim=-1), torch.stack([query.norm(), key.norm()]).expand(tokens, 2))
    products = turned[:, 0] @ turned[:, 1].T
    seen: dict[tuple[int, ...], float] = {}
    places = list(itertools.product(*map(range, shape)))
    for (i, a), (j, b) in itertools.product(enumerate(places), repeat=2):
        difference = tuple(p - q for p, q in zip(a, b))
        value = products[i, j].item()
        assert seen.setdefault(difference, value) == pytest.approx(value, abs=1e-4)
    assert max(seen.values()) - min(seen.values()) > 0.1


def test_rotation_by_positions_is_that_of_the_grid_and_goes_by_sample():
    grid = axial_rotation((7,), 12)
    torch.testing.assert_close(rotation(torch.arange(7.0), 12), grid)
    position = torch.rand(2, 7)
    x = torch.randn(2, 7, 3, 12)
    turned = rotate(x, *rotation(position, 12))
    for i in range(2):
        torch.testing.assert_close(turned[i : i + 1], rotate(x[i : i + 1], *rotation(position[i], 12)))
    with pytest.raises(ValueError, match="even and at least 2, got 7"):
        rotation(position, 7)


def test_rotation_rejects_narrow_heads():
    with pytest.raises(ValueError, match="at least 6 for 3 axes, got 4"):
        axial_rotation((2, 2, 2), 4)


@pytest.mark.parametrize("shape", [(9,), (4, 6), (2, 3, 4)])
def test_axial_sinusoids_name_every_place_and_are_centred(shape):
    description = axial_sinusoids(shape, 26)
    assert description.shape == (math.prod(shape), 26)
    assert torch.pdist(description).min() > 0.1
    pairs = 26 // (2 * len(shape)) * len(shape)
    mirrored = description.flip(0)
    torch.testing.assert_close(description[:, :pairs], mirrored[:, :pairs])
    torch.testing.assert_close(description[:, pairs : 2 * pairs], -mirrored[:, pairs : 2 * pairs])


@pytest.mark.parametrize("shape", [(6,), (7,), (4, 6), (5, 7), (1, 1), (3, 4, 5)])
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_are_cut_and_joined(shape, patch):
    x = torch.arange(2 * 3 * math.prod(shape), dtype=torch.float32).reshape(2, 3, *shape) + 1
    patches, grid = split_patches(x, patch)
    assert grid == tuple(math.ceil(size / patch) for size in shape)
    assert patches.shape == (2, math.prod(grid), 3 * patch ** len(shape))
    assert torch.equal(join_patches(patches, grid, patch, shape), x)
    place = tuple(count - 1 for count in grid)
    corner = x[(0, slice(None), *(slice(p * patch, (p + 1) * patch) for p in place))]
    assert patches[0, -1].sum() == corner.sum()


def test_self_attention_against_torch():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(12, 4), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        ours.out.weight.copy_(theirs.out_proj.weight)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


def test_cross_attention_sees_the_null_token_and_the_context():
    torch.manual_seed(0)
    ours = CrossAttention(8, 5, 8)
    nn.init.eye_(ours.out.weight)
    x, context = torch.randn(2, 3, 8), torch.randn(2, 4, 5)
    mask = torch.tensor([[True, True, False, False], [False, False, False, False]])
    seen = torch.cat([ours.null, context[:1, :2]], dim=1)
    key, value = ours.key_value(seen).chunk(2, dim=-1)
    weights = (ours.query(x[:1]) @ key.transpose(1, 2) / math.sqrt(8)).softmax(dim=-1)
    out = ours(x, context, mask)
    torch.testing.assert_close(out[:1], weights @ value)
    torch.testing.assert_close(out[1], ours.key_value(ours.null)[0, :, 8:].expand(3, -1))


def test_qk_norm_makes_attention_blind_to_the_scale_of_queries():
    torch.manual_seed(0)
    attention = SelfAttention(8, 8, qk_norm=True)
    nn.init.normal_(attention.out.weight)
    nn.init.zeros_(attention.qkv.bias)
    x = torch.randn(1, 6, 8)
    before = attention(x)
    with torch.no_grad():
        attention.qkv.weight[:16] *= 50
    torch.testing.assert_close(attention(x), before, rtol=1e-4, atol=1e-4)


def test_residual_block_is_its_formula():
    torch.manual_seed(0)
    block = ResidualBlock(2, 8, 12, 6, groups=4)
    nn.init.normal_(block.out.weight, std=0.1)
    x, embedding = torch.randn(2, 8, 5, 5), torch.randn(2, 6)
    silu = nn.functional.silu
    h = block.conv(silu(nn.functional.group_norm(x, 4, block.norm.weight, block.norm.bias)))
    scale, shift = block.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
    h = silu((1 + scale) * nn.functional.group_norm(h, 4) + shift)
    expected = nn.functional.conv2d(x, block.skip.weight[:, :, None, None], block.skip.bias) + block.out(h)
    torch.testing.assert_close(block(x, embedding), expected)


def test_residual_block_starts_as_the_identity():
    x = torch.randn(2, 8, 5)
    assert torch.equal(ResidualBlock(1, 8, 8, 6)(x, torch.randn(2, 6)), x)


@pytest.mark.parametrize("shape", [(8,), (7,), (1,), (5, 6), (3, 4, 1)])
def test_upsampling_undoes_the_sizes_of_downsampling(shape):
    dims = len(shape)
    coarse = Downsample(dims, 3, 4)(torch.randn(2, 3, *shape))
    assert coarse.shape[2:] == tuple(math.ceil(size / 2) for size in shape)
    up = Upsample(4, 3)
    fine = up(coarse, torch.Size(shape))
    assert fine.shape == (2, 3, *shape)
    mixed = up.mix(coarse)
    for place in itertools.product(*map(range, shape)):
        assert torch.equal(fine[(..., *place)], mixed[(..., *(index // 2 for index in place))])


def test_a_dit_without_its_place_does_not_know_where_it_stands():
    """Rotary positions are relative: on a constant grid, without the sinusoids, all tokens stay equal."""
    torch.manual_seed(0)
    network = DiT(1, width=24, depth=2, head_width=12, patch=1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    x, c = torch.ones(1, 1, 4, 4), torch.zeros(1)
    assert network(x, c).std() > 1e-3
    zero_init(network.place)
    assert network(x, c).std() < 1e-5


def test_channels_last():
    assert to_channels_last(torch.zeros(2, 3, 4, 4)).stride()[1] == 1
    assert to_channels_last(torch.zeros(2, 3, 4, 4, 4)).stride()[1] == 1
    assert to_channels_last(torch.zeros(2, 3, 4)).is_contiguous()
