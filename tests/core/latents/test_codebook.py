"""The codebook: assignments, gradients, moving averages, dead codes."""

import numpy as np
import pytest
import torch

from ornstein.core.latents import Codebook, VQAutoencoder


def test_nearest_is_brute_force():
    codebook, z = Codebook(17, 5).double(), torch.randn(3, 4, 2, 5, dtype=torch.float64)
    expected = [
        min(range(17), key=lambda j: float((vector - codebook.table[j]).square().sum())) for vector in z.reshape(-1, 5)
    ]
    assert codebook.nearest(z).flatten().tolist() == expected
    assert torch.equal(codebook.nearest(codebook.table), torch.arange(17))


def test_gradients_pass_the_quantisation_by():
    codebook, z = Codebook(8, 3), torch.randn(6, 3, requires_grad=True)
    codes = codebook.nearest(z)
    quantised = codebook.quantise(z, codes)
    torch.testing.assert_close(quantised, codebook.table[codes])
    weight = torch.randn(6, 3)
    (quantised * weight).sum().backward()
    assert torch.equal(z.grad, weight)


def test_decoder_teaches_the_encoder_and_commitment_draws_it_to_the_codes():
    """Without commitment the encoder learns from the decoder alone; with it, the penalty's gradient is its own."""
    autoencoder, x = VQAutoencoder(1, 8, 3, widths=(8, 8), commitment=0.5), torch.randn(4, 1, 4, 4)
    autoencoder(x)  # places the codes
    autoencoder.eval()
    weight = autoencoder.encoder.leave.weight
    data, penalty = autoencoder(x)
    assert torch.autograd.grad(data.sum(), weight, retain_graph=True)[0].abs().sum() > 0
    assert torch.autograd.grad(penalty.sum(), weight)[0].abs().sum() > 0
    z = autoencoder.encoder(x).movedim(1, -1)
    distance = (z[..., None, :] - autoencoder.codebook.table).square().sum(-1).amin(-1)
    torch.testing.assert_close(penalty, 0.5 * distance.mean((1, 2)))


def test_codes_are_moving_averages():
    """Ten steps against the formulas of appendix A.1 in numpy."""
    generator = np.random.default_rng(0)
    codebook = Codebook(4, 2, decay=0.9, revive=0.0)
    codebook.place(torch.from_numpy(generator.normal(size=(8, 2))).float())
    e, count, total = (value.double().numpy().copy() for value in (codebook.table, codebook.counts, codebook.sums))
    assert count.tolist() == [2.0] * 4
    for _ in range(10):
        z = generator.normal(size=(8, 2)) + 0.3
        chosen = np.argmin(((z[:, None] - e) ** 2).sum(-1), axis=1)
        for j in range(4):
            count[j] = 0.9 * count[j] + 0.1 * (chosen == j).sum()
            total[j] = 0.9 * total[j] + 0.1 * z[chosen == j].sum(0)
            e[j] = total[j] / count[j]
        vectors = torch.from_numpy(z).float()
        codes = codebook.nearest(vectors)
        assert codes.tolist() == chosen.tolist()
        codebook.follow(vectors, codes)
    np.testing.assert_allclose(codebook.table.numpy(), e, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codebook.counts.numpy(), count, rtol=1e-5)


def test_first_batch_places_all_codes_on_different_vectors():
    codebook, z = Codebook(16, 3), torch.randn(64, 3)
    codebook.place(z, torch.Generator().manual_seed(0))
    hits = (codebook.table[:, None] == z).all(-1)
    assert (hits.sum(1) == 1).all()
    assert (hits.sum(0) <= 1).all()
    again = Codebook(16, 3)
    again.place(z, torch.Generator().manual_seed(0))
    assert torch.equal(again.table, codebook.table)


def test_fewer_vectors_than_codes():
    codebook = Codebook(16, 3)
    codebook.place(torch.randn(5, 3))
    assert len(codebook.table.unique(dim=0)) == 5


def test_dead_codes_are_revived_and_living_ones_left_alone():
    codebook, z = Codebook(4, 2, decay=0.5, revive=0.1), torch.randn(40, 2)
    codebook.place(z)
    far = torch.tensor([100.0, 100.0])
    codebook.table[3], codebook.sums[3] = far, far * codebook.counts[3]
    for _ in range(3):  # 10, 5, 2.5, 1.25: above a tenth of the even share, 1
        codebook.follow(z, codebook.nearest(z))
        codebook.place(z)
    assert torch.equal(codebook.table[3], far)
    codebook.follow(z, codebook.nearest(z))
    before = codebook.table.clone()
    codebook.place(z)
    assert (z == codebook.table[3]).all(1).any()
    assert codebook.counts[3] == 10
    assert torch.equal(codebook.table[:3], before[:3])


def test_without_revival_a_dead_code_rests():
    codebook, z = Codebook(4, 2, decay=0.5, revive=0.0), torch.randn(40, 2)
    codebook.place(z)
    far = torch.tensor([100.0, 100.0])
    codebook.table[3], codebook.sums[3] = far, far * codebook.counts[3]
    for _ in range(20):
        codebook.follow(z, codebook.nearest(z))
        codebook.place(z)
    torch.testing.assert_close(codebook.table[3], far)


def test_perplexity_counts_the_codes_in_use():
    codebook = Codebook(8, 2, decay=0.0, revive=0.0)
    assert codebook.perplexity == 0
    codebook.follow(torch.randn(8, 2), torch.tensor([0, 1, 2, 3] * 2))
    assert codebook.perplexity == pytest.approx(4)
    codebook.follow(torch.randn(8, 2), torch.tensor([0] * 8))
    assert codebook.perplexity == pytest.approx(1)


def test_evaluation_leaves_the_codebook_alone():
    autoencoder, x = VQAutoencoder(1, 8, 3, widths=(8, 8)), torch.randn(4, 1, 4, 4)
    autoencoder(x)
    autoencoder.eval()
    before = {name: value.clone() for name, value in autoencoder.codebook.named_buffers()}
    autoencoder(x + 1)
    autoencoder.encode(x + 1)
    assert all(torch.equal(before[name], value) for name, value in autoencoder.codebook.named_buffers())
