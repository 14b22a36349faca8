"""The default network of series: what may matter and what may not, its two parts, lengths, times and errors."""

import numpy as np
import pytest
import torch

from ornstein.core import SDE, CosineSchedule, DenoisingObjective, GaussianDenoiser, NetworkDenoiser
from ornstein.core.config import from_config, to_config
from ornstein.core.shared_encoding import SharedEncoding
from ornstein.domains.timeseries.network import SeriesTransformer, interpolated

SIZE = {"width": 32, "depth": 2, "writer_width": 48, "writer_depth": 2, "head_width": 16}


def network(variables=3, seed=0, **options):
    """One whose weights are all at work."""
    torch.manual_seed(seed)
    made = SeriesTransformer(variables, **SIZE | options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def windows(batch=2, steps=20, variables=3, seed=0, told=()):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    x, given = draw(batch, steps, variables), draw(batch, steps, variables) < 0.5
    widths = {"calendar": (steps, 4), "covariates": (steps, 2), "static": (5,)}
    return x, draw(batch), {"given": given, **{name: draw(batch, *widths[name]) for name in told}}


@torch.no_grad()
def test_a_new_network_denoises_about_the_interpolation():
    spread = 0.3
    torch.manual_seed(0)
    denoiser = NetworkDenoiser(SeriesTransformer(3, **SIZE, spread=spread), SDE(CosineSchedule()))
    x, _, told = windows(1)
    between, _ = interpolated(x * told["given"], told["given"], torch.arange(20.0)[None])
    exact = GaussianDenoiser(denoiser.process, between.flatten(), spread**2 * torch.eye(60))
    found, expected = denoiser(x, 0.4, **told).mean, exact(x.flatten(1), 0.4).mean
    target = ~told["given"]
    torch.testing.assert_close(found[target], expected.view_as(x)[target], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("told", [(), ("calendar", "covariates", "static")])
def test_what_is_encoded_once_is_what_the_plain_call_encodes(told):
    widths = {"calendar": 4, "covariates": 2, "static": 5}
    made = network(**{name: widths[name] for name in told})
    x, c, conditions = windows(told=told)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.9
    time = torch.linspace(0, 1, 20).expand(2, 20).square() * 30
    conditions |= {"mask": mask, "given": conditions["given"] & mask, "time": time}
    context = made.encode(x, **conditions)
    assert context.shape == (2, 20, 32 + 2 * 3)
    torch.testing.assert_close(made(x, c, context=context, **conditions), made(x, c, **conditions), rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_reader_sees_what_is_given_alone():
    made = network()
    x, _, told = windows()
    other = torch.where(told["given"], x, torch.randn(x.shape))
    torch.testing.assert_close(made.encode(other, **told), made.encode(x, **told), rtol=0, atol=0)


@torch.no_grad()
def test_masked_entries_do_not_matter():
    made = network()
    x, c, told = windows()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    told["given"] &= mask
    there = made(x * mask, c, mask=mask, **told)
    other = made(torch.where(mask, x, torch.randn(x.shape)), c, mask=mask, **told)
    torch.testing.assert_close(other[mask], there[mask], rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [0, 5])
def test_padding_does_not_matter(kernel):
    made = network(kernel=kernel, calendar=4)
    x, c, told = windows(told=("calendar",))
    short = {name: value[:, :13] for name, value in told.items()}
    mask = (torch.arange(20) < 13)[None, :, None].expand(x.shape)
    padded = made(x * mask, c, mask=mask, **told | {"given": told["given"] & mask})
    torch.testing.assert_close(padded[:, :13], made(x[:, :13], c, **short), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_origin_of_time_does_not_matter_but_its_steps_do():
    made = network()
    x, c, told = windows()
    time = torch.rand(2, 20, generator=torch.Generator().manual_seed(2)).mul(2).cumsum(1)
    there = made(x, c, time=time, **told)
    torch.testing.assert_close(made(x, c, time=time + 64, **told), there, rtol=1e-3, atol=1e-3)
    assert (made(x, c, time=time * 3, **told) - there).abs().max() > 0.05
    regular = torch.arange(20.0).expand(2, 20)
    torch.testing.assert_close(made(x, c, time=regular, **told), made(x, c, **told))


@torch.no_grad()
def test_any_length_and_number_of_variables():
    for steps, variables in ((1, 1), (300, 2), (7, 150)):
        x, c, told = windows(steps=steps, variables=variables)
        out = network(variables)(x, c, **told)
        assert out.shape == x.shape
        assert out.isfinite().all()


@torch.no_grad()
def test_nothing_given_is_as_no_word_of_it():
    made = network()
    x, c, _ = windows()
    torch.testing.assert_close(made(x, c), made(x, c, given=torch.zeros_like(x, dtype=torch.bool)))


@torch.no_grad()
def test_every_prediction_means_the_same_posterior():
    x, _, told = windows()
    means = []
    for prediction in ("v", "x0", "eps", "flow"):
        denoiser = NetworkDenoiser(network(prediction=prediction), SDE(CosineSchedule()), prediction=prediction)
        means.append(denoiser(x, 0.5, **told).mean[~told["given"]])
    for mean in means[1:]:
        torch.testing.assert_close(mean, means[0], rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_parameter():
    made = network(calendar=4, covariates=2, static=5)
    x, _, told = windows(told=("calendar", "covariates", "static"))
    denoiser = NetworkDenoiser(made, SDE(CosineSchedule()))
    SharedEncoding(DenoisingObjective(), 3)(denoiser, x, **told).mean().backward()
    assert [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_interpolation_is_that_of_numpy():
    rng = np.random.default_rng(0)
    time = np.sort(rng.random((4, 30)) * 50, axis=1)
    x, known = rng.normal(size=(4, 30, 3)), rng.random((4, 30, 3)) < 0.3
    known[0, :, 1] = False
    value, nearest = interpolated(torch.tensor(x), torch.tensor(known), torch.tensor(time))
    for b in range(4):
        for k in range(3):
            there = known[b, :, k]
            if not there.any():
                assert (value[b, :, k] == 0).all()
                assert nearest[b, :, k].isinf().all()
                continue
            np.testing.assert_allclose(value[b, :, k], np.interp(time[b], time[b][there], x[b, there, k]), atol=1e-12)
            distance = np.abs(time[b][:, None] - time[b][there]).min(1)
            np.testing.assert_allclose(nearest[b, :, k], distance, atol=1e-12)


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch():
    made = network()
    x, c, told = windows(batch=5)
    alone = made(x[:1], c[:1], given=told["given"][:1])
    torch.testing.assert_close(made(x, c, **told)[:1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 20, 4)}, r"x must have shape \(batch, steps, 3\), got \(2, 20, 4\)"),
        ({"c": torch.zeros(3)}, r"c must have shape \(2,\)"),
        ({"given": torch.zeros(2, 20, 3)}, "given must be boolean, got torch.float32"),
        ({"mask": torch.ones(2, 20, dtype=torch.bool)}, r"mask must have shape \(2, 20, 3\), got \(2, 20\)"),
        ({"time": torch.zeros(20)}, r"time must have shape \(2, 20\), got \(20,\)"),
        ({"calendar": None}, "built with calendar=4, but none came"),
        ({"covariates": torch.zeros(2, 20, 1)}, r"built with covariates=0, but one of shape \(2, 20, 1\) came"),
        ({"context": torch.zeros(2, 20, 5)}, r"context must have shape \(2, 20, 38\), got \(2, 20, 5\)"),
    ],
)
def test_errors_name_what_came(change, message):
    made = network(calendar=4)
    x, c, told = windows(told=("calendar",))
    call = {"x": x, "c": c, **told} | change
    with pytest.raises(ValueError, match=message):
        made(call.pop("x"), call.pop("c"), **call)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 40, "head_width": 16}, "head_width must divide"),
        ({"width": 15, "writer_width": 30, "head_width": 15}, "features must be even"),
        ({"mlp_ratio": 0}, "mlp_ratio must be positive"),
        ({"spread": 0.0}, "spread must lie in"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"calendar": -1}, "calendar must be an integer of at least 0"),
    ],
)
def test_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        SeriesTransformer(2, **options)


def test_configuration_round_trip():
    made = SeriesTransformer(3, calendar=4, width=32, head_width=16, writer_width=16, spread=0.5, dropout=0.1)
    assert to_config(from_config(to_config(made))) == to_config(made)
