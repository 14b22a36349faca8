"""Tests of the transformer over sequences: what it may see, and that parts and wholes agree."""

import pytest
import torch

from ornstein.core.nn import NeighbourConvolution, TokenTransformer


def network(seed: int = 0, **options):
    """A small network whose weights are not zero."""
    torch.manual_seed(seed)
    made = TokenTransformer(30, **{"width": 64, "depth": 2, **options})
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def tokens(batch: int = 3, length: int = 17) -> torch.Tensor:
    return torch.randint(30, (batch, length), generator=torch.Generator().manual_seed(1))


def test_zero_at_initialisation():
    made = TokenTransformer(30, 7, width=32, depth=1)
    assert torch.equal(made(tokens(), torch.zeros(3)), torch.zeros(3, 17, 7))


def test_a_causal_network_sees_nothing_after():
    made, x = network(causal=True, timed=False), tokens()
    changed = x.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 30
    difference = (made(x) - made(changed)).abs().amax((0, 2))
    assert difference[:10].max() == 0
    assert difference[10:].min() > 0


def test_a_network_without_order_sees_both_ways():
    made, x = network(timed=False), tokens()
    changed = x.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 30
    assert ((made(x) - made(changed)).abs().amax((0, 2)) > 0).all()


def test_parts_that_are_remembered_answer_as_the_whole():
    made, x = network(causal=True, attributes={"topic": 3}), tokens()
    c, topic = torch.tensor([0.1, -0.4, 1.0]), torch.tensor([2, -1, 0])
    memory, parts = None, []
    for part in x.split([5, 1, 1, 7, 3], 1):
        out, memory = made.remember(part, memory, c, topic=topic)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), made(x, c, topic=topic), atol=2e-6, rtol=0)


def test_padding_is_not_seen():
    made, x = network(), tokens()
    c, sizes = torch.zeros(3), torch.tensor([17, 9, 4])
    mask = torch.arange(17) < sizes[:, None]
    out = made(x * mask, c, mask=mask)
    other = made(torch.where(mask, x, 7), c, mask=mask)
    assert torch.equal(out[mask], other[mask])
    for row, size in enumerate(sizes.tolist()):
        alone = made(x[row : row + 1, :size], c[:1])
        torch.testing.assert_close(out[row : row + 1, :size], alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_documents_of_a_packed_row_do_not_see_one_another(causal):
    made, x = network(causal=causal, timed=False), tokens()
    segments = torch.tensor([[0] * 6 + [1] * 11] * 3)
    out = made(x, segments=segments)
    torch.testing.assert_close(out[:, :6], made(x[:, :6]), atol=2e-6, rtol=0)
    torch.testing.assert_close(out[:, 6:], made(x[:, 6:]), atol=2e-6, rtol=0)


def test_a_sample_does_not_depend_on_its_batch():
    made, x = network(), tokens(64)
    with torch.no_grad():
        whole = made(x, torch.zeros(64))
        for row in (0, 13, 63):
            assert torch.equal(made(x[row : row + 1], torch.zeros(1)), whole[row : row + 1])


def test_attributes_noise_level_and_marks_count():
    made, x, c = network(attributes={"topic": 3}, marked=True), tokens(), torch.zeros(3)
    out = made(x, c)
    assert torch.equal(out, made(x, c, topic=torch.full((3,), -1)))
    assert not torch.allclose(out, made(x, c, topic=torch.tensor([0, 1, 2])))
    assert not torch.allclose(out, made(x, c + 1))
    assert not torch.allclose(out, made(x, c, given=x > 10))


def test_vectors_with_a_former_estimate():
    torch.manual_seed(0)
    made = network(vectors=True, estimate=True, outputs=5)
    x = torch.randn(2, 4, 30)
    assert made(x, torch.zeros(2)).shape == (2, 4, 5)
    assert torch.equal(made(x, torch.zeros(2)), made(x, torch.zeros(2), estimate=torch.zeros_like(x)))
    assert not torch.allclose(made(x, torch.zeros(2)), made(x, torch.zeros(2), estimate=x))


def test_convolution_equals_its_sum():
    torch.manual_seed(0)
    for causal in (False, True):
        convolution = NeighbourConvolution(6, 3, causal)
        torch.nn.init.normal_(convolution.weight)
        x = torch.randn(2, 5, 6)
        wide = torch.nn.functional.pad(x, (0, 0, 2, 0) if causal else (0, 0, 1, 1))
        expected = sum(convolution.weight[k] * wide[:, k : k + 5] for k in range(3))
        torch.testing.assert_close(convolution(x), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(convolution(x, segments=torch.zeros(2, 5, dtype=torch.int64)), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: n(torch.zeros(2, 3)), "x of shape .* int64"),
        (lambda n: n(tokens()), "c is missing"),
        (lambda n: n(tokens(), torch.zeros(2)), "c must have shape"),
        (lambda n: n(tokens(), torch.zeros(3), tone=torch.zeros(3).long()), "unknown condition 'tone'"),
        (lambda n: n(tokens(), torch.zeros(3), topic=torch.zeros(2).long()), "topic of shape"),
        (lambda n: n.remember(tokens(), None, torch.zeros(3)), "reads both ways"),
        (lambda n: TokenTransformer(30, estimate=True), "vectors=True"),
        (lambda n: TokenTransformer(30, width=48, head_width=32), "head_width"),
        (lambda n: TokenTransformer(0), "inputs"),
    ],
)
def test_bad_input_is_refused(call, message):
    made = network(attributes={"topic": 3})
    with pytest.raises(ValueError, match=message):
        call(made)


def test_a_lazy_network_answers_alike_at_masks():
    made, x = network(timed=False), tokens()
    lazy = TokenTransformer(30, width=64, depth=2, timed=False, lazy=True).eval()
    lazy.load_state_dict(made.state_dict())
    x = torch.where(torch.arange(17) % 3 == 0, 29, x)
    masked, sizes = x == 29, torch.tensor([17, 9, 4])
    mask = torch.arange(17) < sizes[:, None]
    torch.testing.assert_close(lazy(x, mask=mask)[masked], made(x, mask=mask)[masked], atol=2e-6, rtol=0)
    assert (lazy(x)[~masked] == 0).all()
    assert lazy(torch.zeros_like(x)).abs().max() == 0
    soft = torch.nn.functional.one_hot(x, 30).float()
    torch.testing.assert_close(lazy(soft), made(soft), atol=2e-6, rtol=0)


def test_a_lazy_network_refuses_vectors():
    with pytest.raises(ValueError, match="lazy=True is for networks of masked tokens"):
        TokenTransformer(30, vectors=True, lazy=True)


def test_properties_are_heeded_where_they_are_told():
    made, x, c = network(properties=2), tokens(), torch.zeros(3)
    values, known = torch.randn(3, 2), torch.tensor([[True, True], [True, False], [False, False]])
    told = made(x, c, properties=values, properties_mask=known)
    hidden = made(x, c, properties=torch.where(known, values, 9.0), properties_mask=known)
    assert torch.equal(told, hidden)
    assert torch.equal(made(x, c)[2], told[2])
    assert ((made(x, c) - told)[:2].abs().amax((1, 2)) > 0).all()
    assert torch.equal(made(x, c, properties=values)[0], told[0])
    with pytest.raises(ValueError, match=r"properties of shape \(3, 1\): expected \(3, 2\)"):
        made(x, c, properties=values[:, :1])
    with pytest.raises(ValueError, match="unknown condition 'properties'"):
        network()(x, c, properties=values)
    with pytest.raises(ValueError, match="an attribute is called 'properties'"):
        TokenTransformer(30, attributes={"properties": 3})


def test_a_sized_network_knows_the_end_and_not_the_padding():
    made, x = network(causal=True, timed=False, sized=True), tokens()
    sizes = torch.tensor([17, 9, 4])
    whole = made(x, sizes=sizes)
    assert torch.equal(made(x)[0], whole[0])
    assert ((made(x) - whole)[1:].abs().amax((1, 2)) > 0).all()
    torch.testing.assert_close(made(x[1:2, :9])[0], whole[1, :9], atol=2e-6, rtol=0)
    memory, parts = None, []
    for part in x.split([5, 1, 11], 1):
        out, memory = made.remember(part, memory, sizes=sizes)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=2e-6, rtol=0)
    with pytest.raises(ValueError, match="sizes is missing"):
        made.remember(x)
    with pytest.raises(ValueError, match="sizes of shape"):
        made(x, sizes=sizes[:2])
