"""Embedding tables: lengths, Bayes' rule, rounding in parts, expectations, bad input."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from ornstein.core import SDE, CosineSchedule, GaussianDenoiser
from ornstein.core.config import from_config, to_config
from ornstein.core.embedded import EmbeddingTable, table
from ornstein.core.embedded.table import table_of


def test_rows_have_a_mean_square_of_one_a_coordinate_whatever_is_learned() -> None:
    embeddings = EmbeddingTable(50, 16)
    with torch.no_grad():
        embeddings.weight.mul_(torch.rand(50, 1) * 10 + 0.1)
    square = embeddings.vectors.square().mean(1)
    torch.testing.assert_close(square, torch.ones(50))
    tokens = torch.randint(50, (3, 7))
    torch.testing.assert_close(embeddings.embed(tokens), embeddings.vectors[tokens])
    plain = EmbeddingTable(50, 16, normalise=False)
    assert torch.equal(plain.vectors, plain.weight)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("std", [0.3, 1.0])
def test_logits_are_bayes_rule_for_gaussians_about_the_embeddings(normalise: bool, std: float) -> None:
    embeddings = EmbeddingTable(6, 3, normalise, std).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    each = MultivariateNormal(embeddings.vectors, std**2 * torch.eye(3, dtype=torch.float64))
    expected = each.log_prob(x[..., None, :]).log_softmax(-1)
    torch.testing.assert_close(embeddings.logits(x), expected)
    torch.testing.assert_close(EmbeddingTable.logits(embeddings, x, std), expected)


def test_rows_of_one_length_round_by_inner_products() -> None:
    """Diffusion-LM's softmax, at a standard deviation of 1."""
    embeddings, x = EmbeddingTable(6, 3).double(), torch.randn(2, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(embeddings.logits(x), (x @ embeddings.vectors.T).log_softmax(-1))


def test_rounding_finds_the_nearest_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, x = EmbeddingTable(11, 5, normalise=False), 2 * torch.randn(3, 9, 5)
    expected = torch.cdist(x, embeddings.vectors[None]).argmin(-1)
    assert torch.equal(embeddings.round(x), expected)
    monkeypatch.setattr(table, "LARGEST", 25)
    assert torch.equal(embeddings.round(x), expected)
    tokens = torch.randint(11, (3, 9))
    assert torch.equal(embeddings.round(embeddings.embed(tokens)), tokens)


def test_expectation_and_variance_are_those_of_the_categories() -> None:
    embeddings, logits = EmbeddingTable(6, 3).double(), torch.randn(2, 6, dtype=torch.float64)
    p, e = logits.softmax(-1), embeddings.vectors
    mean = torch.einsum("bw,wd->bd", p, e)
    torch.testing.assert_close(embeddings.expected(logits), mean)
    variance = torch.einsum("bw,bwd->bd", p, (e - mean[:, None]) ** 2)
    torch.testing.assert_close(embeddings.spread(logits), variance)


def test_a_table_survives_configuration() -> None:
    config = to_config(EmbeddingTable(6, 3, False, 0.5))
    assert to_config(from_config(config)) == config


def test_bad_input_is_refused() -> None:
    embeddings = EmbeddingTable(6, 3)
    with pytest.raises(ValueError, match="tokens hold 6: expected 0 to 5"):
        embeddings.embed(torch.tensor([[6]]))
    with pytest.raises(ValueError, match="tokens of shape"):
        embeddings.embed(torch.tensor([[1]], dtype=torch.int32))
    with pytest.raises(ValueError, match="x of shape"):
        embeddings.round(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="size"):
        EmbeddingTable(0, 3)
    with pytest.raises(ValueError, match="std"):
        EmbeddingTable(4, 3, std=0.0)
    with pytest.raises(TypeError, match="EmbeddedDenoiser"):
        table_of(GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2)))
