"""Samplers of several components, stepped together."""

import dataclasses
import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from product_problems import CorrelatedDenoiser, correlated
from sampling_problems import Counting
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    DEIS,
    LMS,
    RK45,
    SDE,
    BrownianNoise,
    CosineSchedule,
    Denoiser,
    DPMSolver,
    DPMSolverSinglestep,
    Euler,
    EulerMaruyama,
    FlowSchedule,
    GaussianDenoiser,
    Heun,
    IndependentNoise,
    NoiseSource,
    Restart,
    RestartInterval,
    Sampler,
    SASolver,
    SeededNoise,
    Times,
    UniformLogSNR,
    UniPC,
    VESchedule,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.manifolds import RiemannianProcess, Torus
from ornstein.core.manifolds.denoisers import HeatMixtureDenoiser
from ornstein.core.noise import NoiseStream
from ornstein.core.products import IndependentDenoisers
from ornstein.core.samplers.geodesic import GeodesicODE, GeodesicRandomWalk
from ornstein.core.samplers.product import ProductSampler
from ornstein.core.testing import anisotropic_gaussian

SAMPLERS: list[Sampler] = [
    DDPM(),
    DDPM(variance="optimal"),
    DDIM(),
    DDIM(eta=0.5),
    Euler(),
    EulerMaruyama(),
    DPMSolver(),
    DPMSolver(eta=1.0),
    DPMSolver(order=3, form="released"),
    UniPC(start="low_order"),
    DEIS(start="low_order"),
    LMS(start="low_order"),
    SASolver(),
]


@pytest.mark.parametrize("steps", [1, 7, 15])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_one_component_is_sampled_as_by_its_own_sampler(sampler: Sampler, steps: int) -> None:
    denoiser = Counting(anisotropic_gaussian(SDE(CosineSchedule())))
    joint = Counting(IndependentDenoisers({"x": denoiser.denoiser}))  # type: ignore[arg-type]
    for options in ({}, {"grid": UniformLogSNR()}, {"denoise": True}):
        alone = dataclasses.replace(sampler, steps=steps, **options)
        product = ProductSampler(steps, samplers={"x": sampler}, **options)
        for noise in (SeededNoise(4), BrownianNoise(4, depth=8)):
            expected = alone.sample(denoiser, (3, 3), noise=noise)
            assert torch.equal(product.sample(joint, {"x": (3, 3)}, noise=noise)["x"], expected)
        joint.calls = 0
        product.sample(joint, {"x": (3, 3)}, seed=0)
        assert joint.calls == product.nfe(process=joint.process) == steps + bool(options.get("denoise"))
        assert product.stochastic == sampler.stochastic


class ChildNoise(NoiseSource):
    """The stream of a numbered part of a source."""

    def __init__(self, source: NoiseSource, number: int) -> None:
        self.source, self.number = source, number

    def begin(self, batch: int, first: int) -> NoiseStream:
        return self.source.begin(batch, first).child(self.number)


def test_independent_components_are_sampled_as_alone() -> None:
    """Each by its own method and schedule, one of them on a torus."""
    torus = RiemannianProcess(Torus(2), VESchedule(0.01, 5.0))
    denoisers: dict[str, Denoiser[Any]] = {
        "x": anisotropic_gaussian(SDE(CosineSchedule())),
        "angles": HeatMixtureDenoiser(torus, [1.0], torch.ones(1, 2), [0.3]),
        "y": anisotropic_gaussian(SDE(FlowSchedule())),
    }
    samplers: dict[str, Sampler] = {"x": UniPC(start="low_order"), "angles": GeodesicRandomWalk(), "y": DDPM()}
    shape = {"x": (4, 3), "angles": (4, 2), "y": (4, 3)}
    product = ProductSampler(9, samplers=samplers)
    out = product.sample(IndependentDenoisers(denoisers), shape, seed=2)
    clock = Times(tuple(product.grid(9, denoisers["x"].process).tolist()))
    for i, (name, denoiser) in enumerate(denoisers.items()):
        alone = dataclasses.replace(samplers[name], steps=9, grid=clock)
        assert torch.equal(out[name], alone.sample(denoiser, shape[name], noise=ChildNoise(SeededNoise(2), i))), name
    assert not torch.allclose(out["x"], out["y"], atol=0.1)


def test_a_sample_depends_on_seed_and_number_alone() -> None:
    exact, _ = correlated(SDE(CosineSchedule()), SDE(FlowSchedule()), 1)
    product = ProductSampler(6, samplers={"a": DDPM(), "b": DPMSolver()})
    together = product.sample(exact, {"a": (5, 2), "b": (5, 2)}, seed=3)
    apart = [product.sample(exact, {"a": (1, 2), "b": (1, 2)}, seed=3, first=i) for i in range(5)]
    for name in ("a", "b"):
        torch.testing.assert_close(together[name], torch.cat([one[name] for one in apart]), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(together["a"], together["b"], atol=0.1)


def test_components_of_one_schedule_are_sampled_as_the_joint_state() -> None:
    process = SDE(CosineSchedule())
    exact, _ = correlated(process, process, 1)
    joint = GaussianDenoiser(process, exact.mean, exact.cov)
    x = torch.randn(3, 4, dtype=torch.float64)
    for sampler in (DDIM(10), DPMSolver(10), UniPC(10, start="low_order")):
        product = ProductSampler(10, samplers={"a": sampler, "b": sampler})
        out = product.sample(exact, {"a": (3, 2), "b": (3, 2)}, x={"a": x[:, :2], "b": x[:, 2:]})
        expected = sampler.sample(joint, (3, 4), x=x)
        torch.testing.assert_close(torch.cat([out["a"], out["b"]], 1), expected, rtol=1e-9, atol=1e-9)


def moments(sampler: ProductSampler, exact: CorrelatedDenoiser) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the samples, exact to rounding: one run with each unit vector as its only noise."""
    levels = [p.level(float(sampler.grid(sampler.steps, exact.process)[0])) for p in exact.process.components.values()]
    alpha, sigma = (
        torch.tensor([getattr(level, of) for level in levels]).double().repeat_interleave(2)
        for of in ("alpha", "sigma")
    )
    counted = Units()
    sampler.sample(exact, {"a": (1, 2), "b": (1, 2)}, x=split(torch.zeros(1, 4).double()), noise=counted)
    x = (alpha * exact.mean).repeat(5 + 2 * counted.drawn, 1)
    start = alpha[:, None] * exact.cov * alpha + torch.diag(sigma**2)
    x[1:5] += torch.linalg.cholesky(start).T
    out = sampler.sample(exact, {"a": (len(x), 2), "b": (len(x), 2)}, x=split(x), noise=Units())
    joint = torch.cat([out["a"], out["b"]], 1)
    return joint[0], (joint[1:] - joint[0]).T @ (joint[1:] - joint[0])


def split(x: Tensor) -> dict[str, Tensor]:
    return {"a": x[:, :2], "b": x[:, 2:]}


class Units(NoiseSource, NoiseStream):
    """Draw ``j`` is zero but for two rows of its own, which hold the identity."""

    def begin(self, batch: int, first: int) -> NoiseStream:
        self.drawn = 0
        return self

    def draw(self, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        at = 5 + 2 * self.drawn
        z[at : at + 2] = torch.eye(2)[: len(z[at : at + 2])]
        self.drawn += 1
        return z

    def step(self, like: Tensor, t: Any, s: Any) -> Tensor:
        return self.draw(like)


@pytest.mark.parametrize(
    ("samplers", "order"),
    [
        ({"a": DDPM(), "b": DDPM()}, 1),
        ({"a": DDPM(), "b": EulerMaruyama()}, 1),
        ({"a": DPMSolver(eta=1.0), "b": DDPM(variance="large")}, 1),
    ],
    ids=repr,
)
def test_moments_of_correlated_components_converge(samplers: dict[str, Sampler], order: int) -> None:
    """With different schedules, against the covariance of the data, correlations between components included."""
    exact, _ = correlated(SDE(CosineSchedule()), SDE(VESchedule(0.002, 80.0)), 1)
    errors = []
    for steps in (64, 128, 256):
        mean, cov = moments(ProductSampler(steps, samplers=samplers), exact)
        errors.append(float((cov - exact.cov).abs().max()))
        torch.testing.assert_close(mean, exact.mean, rtol=0, atol=1e-9)
    assert errors[-1] < 0.05
    for coarse, fine in pairwise(errors):
        assert 2 ** (order - 0.2) < coarse / fine < 2 ** (order + 0.2)


def test_masks_blank_the_padding_of_each_component() -> None:
    denoisers = {name: anisotropic_gaussian(SDE(CosineSchedule())) for name in ("x", "y")}
    product = ProductSampler(3, samplers={"x": DDPM(), "y": DDIM()})
    mask = torch.tensor([[True, True, False], [True, False, False]])
    shape = {"x": (2, 3), "y": (2, 3)}
    both = product.sample(IndependentDenoisers(denoisers), shape, seed=0, mask=mask)
    one = product.sample(IndependentDenoisers(denoisers), shape, seed=0, mask={"x": mask})
    for out in (both["x"], both["y"], one["x"]):
        assert (out[~mask] == 0).all()
        assert (out[mask] != 0).all()
    assert (one["y"] != 0).all()


def test_callback_and_steps_by_hand() -> None:
    exact, _ = correlated(SDE(CosineSchedule()), SDE(FlowSchedule()), 1)
    product, seen = ProductSampler(5, samplers={"a": DDIM(), "b": DPMSolver()}), []
    x = {name: torch.randn(3, 2, dtype=torch.float64) for name in ("a", "b")}
    out = product.sample(exact, {"a": (3, 2), "b": (3, 2)}, x=x, callback=seen.append)
    assert [step.index for step in seen] == list(range(5))
    assert seen[-1].x["a"] is out["a"]
    previous: list[tuple[float, dict[str, Tensor]]] = []
    for step in seen:
        mean = exact(x, step.t).mean
        torch.testing.assert_close(mean, step.mean)
        x = product.step(exact, x, step.t, step.s, previous=previous)
        previous = [(step.t, mean)]
        torch.testing.assert_close(x, step.x)
    stochastic = ProductSampler(5, samplers={"a": DDPM(), "b": DDIM()})
    z = {name: torch.randn(3, 2, dtype=torch.float64) for name in ("a", "b")}
    torch.manual_seed(0)
    moved = [stochastic.step(exact, x, 0.8, 0.6, noise=noise) for noise in (z, z, None)]
    assert torch.equal(moved[0]["a"], moved[1]["a"])
    assert not torch.equal(moved[0]["a"], moved[2]["a"])
    assert torch.equal(moved[0]["b"], moved[2]["b"])


def test_methods_that_evaluate_more_than_once_are_refused() -> None:
    process = SDE(CosineSchedule())
    denoiser = IndependentDenoisers({"x": anisotropic_gaussian(process), "y": anisotropic_gaussian(process)})
    several: list[Sampler] = [
        Heun(),
        DPMSolverSinglestep(),
        DPMSolver(order=3),
        UniPC(order=3),
        RK45(),
        Restart(intervals=(RestartInterval(0.3, 0.6, 2, 2),)),
    ]
    for sampler in several:
        product = ProductSampler(20, samplers={"x": DDPM(), "y": sampler})
        with pytest.raises(ValueError, match=r"samplers\['y'\].*(evaluates the denoiser|steps=)"):
            product.sample(denoiser, {"x": (2, 3), "y": (2, 3)}, seed=0)
    product = ProductSampler(20, samplers={"x": DDPM(), "y": Heun()})
    with pytest.raises(ValueError, match="a state of its own"):
        product.step(denoiser, {"x": torch.randn(2, 3), "y": torch.randn(2, 3)}, 0.8, 0.6)


def test_bad_input() -> None:
    denoiser = IndependentDenoisers({"x": anisotropic_gaussian(SDE(CosineSchedule()))})
    product = ProductSampler(2, samplers={"x": DDPM()})
    with pytest.raises(ValueError, match="samplers="):
        ProductSampler(2, samplers={})
    with pytest.raises(TypeError, match=r"samplers\['x'\]"):
        ProductSampler(2, samplers={"x": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"samplers of \['y'\]"):
        ProductSampler(2, samplers={"y": DDPM()}).sample(denoiser, {"x": (2, 3)})
    with pytest.raises(TypeError, match="GeodesicODE moves states of RiemannianProcess"):
        ProductSampler(2, samplers={"x": GeodesicODE(method="euler")}).sample(denoiser, {"x": (2, 3)})
    with pytest.raises(TypeError, match="moves states of ProductProcess"):
        product.sample(denoiser.denoisers["x"], (2, 3))
    with pytest.raises(TypeError, match="moves states of SDE"):
        DDPM(2).sample(denoiser, {"x": (2, 3)})
    with pytest.raises(ValueError, match="shape of type tuple"):
        product.sample(denoiser, (2, 3))
    with pytest.raises(ValueError, match=r"x of \['y'\]"):
        product.sample(denoiser, {"x": (2, 3)}, x={"y": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="NaN"):
        product.sample(denoiser, {"x": (2, 3)}, x={"x": torch.full((2, 3), torch.nan)})
    with pytest.raises(ValueError, match="mask of shape"):
        product.sample(denoiser, {"x": (2, 3)}, mask=torch.ones(3, 3, dtype=torch.bool))


def test_configuration_and_independent_noise() -> None:
    product = ProductSampler(4, samplers={"x": DDIM(eta=0.3), "y": DPMSolver()}, grid=UniformLogSNR(), denoise=True)
    config = to_config(product)
    rebuilt = from_config(json.loads(json.dumps(config)), Sampler)
    assert to_config(rebuilt) == config
    denoiser = IndependentDenoisers({name: anisotropic_gaussian(SDE(CosineSchedule())) for name in ("x", "y")})
    shape = {"x": (2, 3), "y": (2, 3)}
    outs = [rebuilt.sample(denoiser, shape, noise=IndependentNoise(torch.Generator().manual_seed(0))) for _ in range(2)]
    assert torch.equal(outs[0]["x"], outs[1]["x"])
    assert not torch.equal(outs[0]["x"], outs[0]["y"])
