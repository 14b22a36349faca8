"""Spaces of latents and codes: scale, foreign autoencoders, checkpoints, sampling through them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ornstein.core import SDE, CosineSchedule, DPMSolver, GaussianDenoiser, NetworkDenoiser
from ornstein.core.chains import AbsorbingChain, CategoricalDenoiser
from ornstein.core.latents import (
    CodeNetwork,
    CodeSpace,
    KLAutoencoder,
    LatentSpace,
    VQAutoencoder,
    read_data,
    read_latent,
)
from ornstein.core.masking_schedules import PowerSchedule
from ornstein.core.nn import UNet
from ornstein.core.process import Gaussian
from ornstein.core.samplers.categorical import CategoricalAncestral


def kl() -> KLAutoencoder:
    return KLAutoencoder(1, 3, widths=(8, 16))


def vq() -> VQAutoencoder:
    return VQAutoencoder(1, 12, 3, widths=(8, 16))


class Linear(nn.Module):
    """Latents of known mean and variance: three channels of 2 x + 1, 3 x + 1 and 4 x + 1."""

    def encode(self, x):
        return torch.cat([2 * x, 3 * x, 4 * x], dim=1) + 1

    def decode(self, z):
        return (z[:, :1] - 1) / 2


def test_scale_gives_unit_variance():
    x = torch.randn(300, 1, 8, 8)
    space = LatentSpace.measure(kl(), x, batch_size=300, generator=torch.Generator().manual_seed(0))
    z = space.encode(x, generator=torch.Generator().manual_seed(0))  # the draws that were measured
    assert z.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert space.shift.item() == 0
    space = LatentSpace.measure(kl(), x, per_channel=True, batch_size=300, generator=torch.Generator().manual_seed(0))
    z = space.encode(x, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    fresh = space.encode(x, generator=torch.Generator().manual_seed(1))
    assert fresh.std().item() == pytest.approx(1, abs=0.05)


def test_scale_of_known_latents():
    x = torch.randn(50, 1, 4, 4)
    space = LatentSpace.measure(Linear(), x, per_channel=True, batch_size=7)
    std, mean = x.std(correction=0), x.mean()
    torch.testing.assert_close(space.std, std * torch.tensor([2.0, 3.0, 4.0]))
    torch.testing.assert_close(space.shift, mean * torch.tensor([2.0, 3.0, 4.0]) + 1)
    torch.testing.assert_close(space.decode(space.encode(x)), x)
    whole = LatentSpace.measure(Linear(), x, batch_size=7)
    assert whole.std.item() == pytest.approx(Linear().encode(x).std(correction=0).item(), rel=1e-5)
    torch.testing.assert_close(whole.decode(whole.encode(x)), x)


def test_encode_draws_or_gives_the_mean():
    space, x = LatentSpace(kl(), std=2.0, shift=0.5), torch.randn(3, 1, 8, 8)
    belief = space.autoencoder.encode(x)
    torch.testing.assert_close(space.encode(x, sample=False), (belief.mean - 0.5) / 2)
    draws = [space.encode(x, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_autoencoder_is_frozen_and_decoding_is_differentiable():
    space = LatentSpace(kl())
    space.train()
    assert not any(module.training for module in space.autoencoder.modules())
    assert not any(parameter.requires_grad for parameter in space.parameters())
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    space.decode(z).sum().backward()
    assert z.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:Accessing config attribute:FutureWarning")
def test_diffusers_autoencoder(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.AutoencoderKL(
        in_channels=1, out_channels=1, latent_channels=2, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    x = torch.randn(40, 1, 8, 8)
    space = LatentSpace.measure(theirs, x, generator=torch.Generator().manual_seed(0))
    z = space.encode(x, sample=False)
    torch.testing.assert_close(z * space.std, theirs.encode(x).latent_dist.mode())
    torch.testing.assert_close(space.decode(z), theirs.decode(z * space.std).sample)
    draw = space.encode(x, generator=torch.Generator().manual_seed(1)) * space.std
    torch.testing.assert_close(draw, theirs.encode(x).latent_dist.sample(torch.Generator().manual_seed(1)))
    space.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'diffusers\..*' is refused"):
        LatentSpace.from_pretrained(tmp_path)
    loaded = LatentSpace.from_pretrained(tmp_path, trusted=("diffusers",))
    assert torch.equal(loaded.decode(z), space.decode(z))


def test_answers_of_encoders_and_decoders():
    x = torch.randn(2, 3)
    for encoded in (x, SimpleNamespace(latents=x), SimpleNamespace(latent=x)):
        assert read_latent(encoded) is x
    normal = torch.distributions.Normal(x, torch.ones_like(x))
    for encoded in (Gaussian(x, torch.ones(2, 3)), normal, SimpleNamespace(latent_dist=normal)):
        belief = read_latent(encoded)
        assert torch.equal(belief.mean, x)
        assert torch.equal(belief.std, torch.ones(2, 3))
    assert read_data(x) is read_data(SimpleNamespace(sample=x)) is x
    with pytest.raises(TypeError, match="encode returned tuple: expected a tensor"):
        read_latent((x, x))
    with pytest.raises(TypeError, match="decode returned Normal: expected a tensor"):
        read_data(normal)


@pytest.mark.parametrize("per_channel", [False, True])
def test_latent_space_is_saved_and_loaded(tmp_path, per_channel):
    x = torch.randn(20, 1, 8, 8)
    space = LatentSpace.measure(kl(), x, per_channel=per_channel)
    space.save_pretrained(tmp_path / "space")
    loaded = LatentSpace.from_pretrained(tmp_path / "space")
    assert sorted(path.name for path in (tmp_path / "space").iterdir()) == ["config.json", "model.safetensors"]
    z = space.encode(x, sample=False)
    assert torch.equal(loaded.encode(x, sample=False), z)
    assert torch.equal(loaded.decode(z), space.decode(z))


def test_codes_and_codebook_are_saved_and_loaded(tmp_path):
    autoencoder, x = vq(), torch.randn(20, 1, 8, 8)
    for _ in range(3):
        autoencoder(x)
    CodeSpace(autoencoder, (4, 4)).save_pretrained(tmp_path)
    loaded = CodeSpace.from_pretrained(tmp_path)
    assert loaded.grid == (4, 4)
    assert loaded.autoencoder.perplexity == autoencoder.perplexity
    assert torch.equal(loaded.encode(x), autoencoder.encode(x).flatten(1))


def test_another_class_or_a_missing_file_is_refused(tmp_path):
    kl().save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="KLAutoencoder is no LatentSpace"):
        LatentSpace.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no .*config\.json; give a folder made by save_pretrained"):
        LatentSpace.from_pretrained(tmp_path / "nowhere")


def test_code_space_lays_codes_in_a_row():
    autoencoder, x = vq().eval(), torch.randn(3, 1, 8, 12)
    space = CodeSpace(autoencoder, (4, 6))
    codes = space.encode(x)
    assert space.length == 24
    assert codes.shape == (3, 24)
    assert torch.equal(codes, autoencoder.encode(x).flatten(1))
    assert torch.equal(space.decode(codes), autoencoder.decode(autoencoder.encode(x)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LatentSpace(nn.Linear(2, 2)), TypeError, "autoencoder is Linear: expected a module with encode"),
        (lambda: LatentSpace(kl(), std=0.0), ValueError, "std=0.0: expected positive numbers"),
        (lambda: LatentSpace(kl(), std=[1.0, -1.0, 1.0]), ValueError, "expected positive numbers"),
        (lambda: LatentSpace(kl(), shift=float("nan")), ValueError, "shift=nan: expected finite numbers"),
        (lambda: LatentSpace(kl(), std=torch.ones(2, 2)), ValueError, "a number, or one for each channel"),
        (
            lambda: LatentSpace(kl(), std=[1.0, 2.0]).decode(torch.zeros(1, 3, 4, 4)),
            ValueError,
            r"latents of shape \(1, 3, 4, 4\): expected 2 channels",
        ),
        (lambda: LatentSpace.measure(Linear(), torch.zeros(4, 1, 2, 2), per_channel=True), ValueError, "deviation"),
        (lambda: CodeSpace(vq(), ()), ValueError, "grid=.*: expected the shape of the codes"),
        (lambda: CodeSpace(vq(), (4, 0)), ValueError, r"grid\[1\] must be an integer of at least 1"),
        (lambda: CodeSpace(vq(), (4, 4)).encode(torch.zeros(2, 1, 8, 12)), ValueError, r"expected codes \(B, 4, 4\)"),
        (lambda: CodeSpace(kl(), (4, 4)).encode(torch.zeros(2, 1, 8, 8)), ValueError, "encode returned Gaussian"),
        (
            lambda: CodeSpace(vq(), (4, 4)).decode(torch.zeros(2, 15, dtype=torch.int64)),
            ValueError,
            r"codes of shape \(2, 15\): expected \(B, 16\)",
        ),
        (
            lambda: CodeSpace(vq(), (4, 4)).decode(torch.full((2, 16), 12)),
            ValueError,
            "codes hold 12: expected 0 to 11",
        ),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_any_sampler_draws_latents_that_decode():
    """The exact Gaussian denoiser of the latents of Gaussian data gives data of their mean and variance."""
    space = LatentSpace(Linear(), std=[2.0, 3.0, 4.0], shift=1.0)
    # x ~ N(0.5, 0.8^2), so each latent channel is x itself and all three are equal.
    mean, covariance = torch.full((3,), 0.5), 0.64 * torch.ones(3, 3) + 1e-6 * torch.eye(3)
    exact = GaussianDenoiser(SDE(CosineSchedule()), mean, covariance)
    z = DPMSolver(30).sample(exact, (4000, 3), seed=0)
    x = space.decode(z.reshape(-1, 3, 1, 1))
    assert x.mean().item() == pytest.approx(0.5, abs=0.04)
    assert x.std().item() == pytest.approx(0.8, abs=0.03)


def test_conditions_reach_the_network_of_latents():
    space = LatentSpace(kl())
    network = UNet(3, classes=4, widths=(8,), depths=(1,), attention=(False,))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    denoiser = NetworkDenoiser(network.eval(), SDE(CosineSchedule()))

    def draw(label):
        condition = {"label": torch.tensor([label, label])}
        return space.decode(DPMSolver(3).sample(denoiser, (2, 3, 4, 4), seed=0, condition=condition))

    assert draw(1).shape == (2, 1, 8, 8)
    assert torch.equal(draw(1), draw(1))
    assert not torch.allclose(draw(1), draw(2))


def test_code_network_is_the_grids_network_on_embeddings():
    inner = UNet(5, out_channels=13, classes=3, widths=(8,), depths=(1,), attention=(True,), head_width=8)
    for parameter in inner.parameters():
        nn.init.normal_(parameter, std=0.2)
    network, codes = CodeNetwork(inner, 13, (2, 3)).eval(), torch.randint(13, (4, 6))
    c, label = torch.rand(4), torch.tensor([0, 1, 2, -1])
    answer = network(codes, c, label=label)
    assert answer.shape == (4, 6, 13)
    grid = torch.zeros(4, 5, 2, 3)
    for b in range(4):
        for n in range(6):
            grid[b, :, n // 3, n % 3] = network.embedding.weight[codes[b, n]]
    expected = inner(grid, c, label=label)
    for n in range(6):
        torch.testing.assert_close(answer[:, n], expected[:, :, n // 3, n % 3])
    chain = AbsorbingChain(12, PowerSchedule())
    posterior = CategoricalDenoiser(network, chain)(torch.full((4, 6), chain.mask), 1.0, label=label)
    assert posterior.probs.shape == (4, 6, 13)
    assert (posterior.probs[..., chain.mask] == 0).all()


def test_unmasking_draws_codes_that_decode():
    """Under a network that believes the label's own code at every position, whatever it sees."""

    class Certain(nn.Module):
        channels, out_channels = 5, 13

        def forward(self, x, c, label):
            return 50.0 * nn.functional.one_hot(label, 13)[:, :, None, None].expand(-1, -1, 4, 4)

    space, chain = CodeSpace(vq().eval(), (4, 4)), AbsorbingChain(12, PowerSchedule())
    denoiser = CategoricalDenoiser(CodeNetwork(Certain(), chain.states, space.grid), chain)
    label = torch.tensor([3, 11])
    codes = CategoricalAncestral(5).sample(denoiser, (2, space.length), seed=0, condition={"label": label})
    assert torch.equal(codes, label[:, None].expand(2, 16))
    expected = space.autoencoder.decode(label[:, None, None].expand(2, 4, 4))
    assert torch.equal(space.decode(codes), expected)


def test_code_network_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"network\.out_channels=None: expected 13, a logit for each state"):
        CodeNetwork(UNet(5, widths=(8,), depths=(1,), attention=(False,)), 13, (2, 3))
    with pytest.raises(ValueError, match=r"network\.channels=None: expected the length of an embedding"):
        CodeNetwork(nn.Linear(5, 13), 13, (2, 3))
    network = CodeNetwork(UNet(5, out_channels=13, widths=(8,), depths=(1,), attention=(False,)), 13, (2, 3))
    with pytest.raises(ValueError, match=r"x of shape \(1, 5\): expected \(B, N\) with the codes of grid=\(2, 3\)"):
        network(torch.zeros(1, 5, dtype=torch.int64), torch.zeros(1))
