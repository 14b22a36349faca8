"""Products of processes: distributions, denoisers with one network or several, losses, configuration, errors."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from product_problems import CorrelatedDenoiser, correlated
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    CosineSchedule,
    Denoiser,
    DenoisingObjective,
    EDMWeighting,
    FlowSchedule,
    GaussianDenoiser,
    ImportanceTimes,
    LogNormalTimes,
    NetworkDenoiser,
    SNRWeighting,
    StratifiedTimes,
    VESchedule,
)
from ornstein.core.chains import AbsorbingChain, CategoricalDenoiser
from ornstein.core.config import from_config, to_config
from ornstein.core.manifolds import RiemannianProcess, RiemannianScoreMatching, Torus
from ornstein.core.manifolds.denoisers import HeatMixtureDenoiser
from ornstein.core.nn import MLP
from ornstein.core.products import (
    IndependentDenoisers,
    ProductNetworkDenoiser,
    ProductObjective,
    ProductProcess,
)
from ornstein.core.symmetric import CentredSDE, SymmetricSDE


def molecule() -> ProductProcess:
    """Three kinds of process and as many schedules."""
    return ProductProcess(
        {
            "positions": CentredSDE(CosineSchedule()),
            "atoms": AbsorbingChain(5, CosineSchedule()),
            "bonds": SymmetricSDE(FlowSchedule()),
        }
    )


def molecules(batch: int, n: int) -> dict[str, Tensor]:
    process = molecule()
    return {
        "positions": process.components["positions"].project(torch.randn(batch, n, 3)),
        "atoms": torch.randint(0, 5, (batch, n)),
        "bonds": process.components["bonds"].project(torch.randn(batch, n, n)),
    }


@pytest.mark.parametrize("t", [0.6, torch.tensor([0.4, 0.6, 0.9], dtype=torch.float64)])
def test_distributions_are_those_of_the_components(t: float | Tensor) -> None:
    process, x0 = molecule(), molecules(3, 4)
    joint = process.marginal(x0, t)
    alone = {name: part.marginal(x0[name], t) for name, part in process.components.items()}
    for name in ("positions", "bonds"):
        assert torch.equal(joint[name].mean, alone[name].mean)
        assert torch.equal(joint[name].std, alone[name].std)
    assert torch.equal(joint["atoms"].probs, alone["atoms"].probs)
    noise = {"positions": torch.randn(3, 4, 3), "bonds": torch.randn(3, 4, 4), "atoms": torch.rand(3, 4).double()}
    x_t = joint.sample(noise)
    for name, part in alone.items():
        assert torch.equal(x_t[name], part.sample(noise[name]))
    gaussians = ProductProcess({name: process.components[name] for name in ("positions", "bonds")})
    both = {name: x0[name].double() for name in ("positions", "bonds")}
    noised = gaussians.marginal(both, t).sample()
    posterior = gaussians.posterior(both, noised, 0.3, t)
    expected = [p.posterior(both[n], noised[n], 0.3, t).log_prob(both[n]) for n, p in gaussians.components.items()]
    torch.testing.assert_close(posterior.log_prob(both), sum(expected))


def test_log_prob_of_categories_is_summed_over_positions() -> None:
    process = ProductProcess({"atoms": AbsorbingChain(5, CosineSchedule())})
    x0 = torch.randint(0, 5, (3, 4))
    alone = process.components["atoms"].marginal(x0, 0.5).log_prob(x0)
    assert torch.equal(process.marginal({"atoms": x0}, 0.5).log_prob({"atoms": x0}), alone.sum(1))


def test_prior_and_shapes() -> None:
    process = molecule()
    shape = {"positions": (2, 4, 3), "atoms": (2, 4), "bonds": (2, 4, 4)}
    blank = process.blank(shape, torch.device("cpu"))
    assert {name: (tuple(x.shape), x.dtype) for name, x in blank.items()} == {
        "positions": ((2, 4, 3), torch.float32),
        "atoms": ((2, 4), torch.int64),
        "bonds": ((2, 4, 4), torch.float32),
    }
    prior = process.prior(shape)
    assert prior["bonds"].std == 1
    assert (prior["atoms"].probs[..., -1] == 1).all()


def test_a_mask_of_points_is_made_one_of_each_component() -> None:
    process, mask = molecule(), torch.tensor([[True, True, False]])
    masks = process.expand_mask(mask)
    assert torch.equal(masks["positions"], mask)
    assert torch.equal(masks["bonds"], torch.tensor([[[False, True, False], [True, False, False], [False] * 3]]))
    assert process.expand_mask({"atoms": mask})["positions"] is None


# Denoisers.


class Network(nn.Module):
    """Answers for all components from all of them, and notes what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.calls = 0

    def forward(self, x: Mapping[str, Tensor], c: Mapping[str, Tensor], **condition: Any) -> dict[str, Tensor]:
        self.calls, self.seen, self.condition = self.calls + 1, (dict(x), dict(c)), condition
        cue = self.scale * (x["atoms"].float().mean(1) + x["bonds"].mean((1, 2)) + c["positions"])
        return {
            "positions": torch.tanh(x["positions"] + cue[:, None, None]),
            "atoms": torch.sin(cue[:, None, None] + torch.arange(6.0)).expand(*x["atoms"].shape, 6),
            "bonds": x["bonds"] * cue[:, None, None] + x["positions"][..., :1],
        }


def network_denoiser() -> ProductNetworkDenoiser:
    parts = molecule().components
    return ProductNetworkDenoiser(
        Network(),
        {
            "positions": NetworkDenoiser(None, parts["positions"], "eps"),
            "atoms": CategoricalDenoiser(None, parts["atoms"]),
            "bonds": NetworkDenoiser(None, parts["bonds"], "edm", sigma_data=0.5),
        },
    )


@pytest.mark.parametrize("t", [0.6, torch.tensor([0.4, 0.6, 0.9], dtype=torch.float64)])
def test_one_call_of_the_network_answers_for_all(t: float | Tensor) -> None:
    denoiser, x_t = network_denoiser(), molecules(3, 4)
    x_t["atoms"][:, 0] = 5  # the mask
    answer = denoiser(x_t, t, mask=torch.ones(3, 4, dtype=torch.bool))
    network = denoiser.network
    assert network.calls == 1
    assert network.condition["mask"].shape == (3, 4)
    x, c = network.seen
    output = network(x, c)
    for name, process in denoiser.process.components.items():
        # Each part is what a denoiser with a network of its own would answer.
        def own(seen: Tensor, level: Tensor, name: str = name, **condition: Tensor) -> Tensor:
            assert torch.equal(seen, x[name])
            assert torch.equal(level, c[name])
            return output[name]

        kinds = {
            "positions": lambda own=own, process=process: NetworkDenoiser(own, process, "eps"),
            "atoms": lambda own=own, process=process: CategoricalDenoiser(own, process),
            "bonds": lambda own=own, process=process: NetworkDenoiser(own, process, "edm", sigma_data=0.5),
        }
        torch.testing.assert_close(answer[name].mean, kinds[name]()(x_t[name], t).mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(answer.mean[name], answer[name].mean, rtol=0, atol=0)


def test_conditions_by_component_go_where_they_belong() -> None:
    seen: dict[str, Any] = {}

    class Note(Denoiser):
        def __init__(self, name: str) -> None:
            super().__init__(SDE(CosineSchedule()))
            self.name = name

        def forward(self, x_t: Tensor, t: Any, **condition: Any) -> Any:
            seen[self.name] = condition

    mask, label = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1)
    denoiser = IndependentDenoisers({"a": Note("a"), "b": Note("b")})
    denoiser({"a": torch.zeros(1, 2), "b": torch.zeros(1, 3)}, 0.5, mask={"a": mask, "b": None}, label=label)
    assert seen == {"a": {"mask": mask, "label": label}, "b": {"label": label}}


# Objectives.


def components() -> dict[str, tuple[Denoiser, Any, Tensor]]:
    """Denoiser, objective and data of each kind."""
    torch.manual_seed(1)
    cosine, torus = SDE(CosineSchedule()), RiemannianProcess(Torus(2), VESchedule(0.01, 5.0))
    return {
        "vector": (
            NetworkDenoiser(MLP(3, width=8, depth=1), cosine),
            DenoisingObjective(SNRWeighting()),
            torch.randn(6, 3),
        ),
        "angles": (
            HeatMixtureDenoiser(torus, [1.0], torch.zeros(1, 2), [0.3]),
            RiemannianScoreMatching(),
            torch.randn(6, 2),
        ),
        "flow": (
            GaussianDenoiser(SDE(FlowSchedule()), torch.zeros(2), torch.eye(2)),
            DenoisingObjective(EDMWeighting()),
            torch.randn(6, 2),
        ),
    }


@pytest.mark.parametrize("name", ["vector", "angles", "flow"])
def test_the_loss_of_one_component_is_its_own(name: str) -> None:
    denoiser, objective, x0 = components()[name]
    product = ProductObjective({name: objective}, times=StratifiedTimes())
    objective.times = StratifiedTimes()
    alone = objective(denoiser, x0, generator=torch.Generator().manual_seed(3))
    joint = product(IndependentDenoisers({name: denoiser}), {name: x0}, generator=torch.Generator().manual_seed(3))
    assert torch.equal(alone, joint)


class Counting(Denoiser[ProductProcess]):
    def __init__(self, inner: Denoiser[ProductProcess]) -> None:
        super().__init__(inner.process)
        self.inner, self.calls = inner, 0

    def forward(self, x_t: Any, t: Any, **condition: Any) -> Any:
        self.calls, self.t, self.x_t = self.calls + 1, t, x_t
        return self.inner(x_t, t, **condition)


def test_losses_by_component_weights_and_one_evaluation() -> None:
    parts = components()
    denoiser = Counting(IndependentDenoisers({name: part[0] for name, part in parts.items()}))
    x0 = {name: part[2] for name, part in parts.items()}
    objective = ProductObjective({name: part[1] for name, part in parts.items()}, {"vector": 3.0, "angles": 0.0})
    total = objective(denoiser, x0, generator=torch.Generator().manual_seed(3))
    assert denoiser.calls == 1
    losses = objective.losses(denoiser, x0, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(total, 3 * losses["vector"] + losses["flow"])
    # Each is the loss at the common times of what that component was noised to.
    level = parts["flow"][0].process.level(denoiser.t).like(x0["flow"])
    eps = (denoiser.x_t["flow"] - level.alpha * x0["flow"]) / level.sigma
    answer = parts["flow"][0](denoiser.x_t["flow"], denoiser.t)
    weight = EDMWeighting().log_weight(FlowSchedule(), denoiser.t, answer.level.log_snr).exp()
    expected = weight * (x0["flow"] - answer.mean).square().mean(1)
    torch.testing.assert_close(losses["flow"], expected.float(), rtol=1e-4, atol=1e-6)
    assert abs(float(eps.mean())) < 1.5


def test_loss_with_padding_of_points_pairs_and_categories() -> None:
    denoiser, x0 = network_denoiser(), molecules(4, 6)
    gaussian = {name: x0[name] for name in ("positions", "bonds")}
    process = molecule().components
    network = denoiser.network

    def two(x: Mapping[str, Tensor], c: Mapping[str, Tensor], **condition: Any) -> dict[str, Tensor]:
        out = network(dict(x) | {"atoms": torch.zeros(4, x["positions"].shape[1])}, c, **condition)
        return {name: out[name] for name in x}

    heads = {name: denoiser.heads[name] for name in gaussian}
    short = ProductNetworkDenoiser(two, heads)
    objective = ProductObjective({name: DenoisingObjective() for name in gaussian})
    mask = (torch.arange(6) < 4).expand(4, 6)
    clean = {name: process[name].project(x, process[name].expand_mask(mask)) for name, x in gaussian.items()}
    losses = objective.losses(short, clean, mask=mask, generator=torch.Generator().manual_seed(0))
    junk = {name: x.clone() for name, x in clean.items()}
    junk["positions"][:, 4:] = 7.0
    junk["bonds"][:, 4:] = 7.0
    junk["bonds"][:, :, 4:] = -7.0
    again = objective.losses(short, junk, mask=mask, generator=torch.Generator().manual_seed(0))
    for name in gaussian:
        torch.testing.assert_close(again[name], losses[name])
        assert losses[name].shape == (4,)


def test_times_learn_from_the_sum_and_space_the_first_schedule() -> None:
    parts = components()
    chosen = {name: parts[name] for name in ("vector", "flow")}
    denoiser = Counting(IndependentDenoisers({name: part[0] for name, part in chosen.items()}))
    x0 = {name: part[2] for name, part in chosen.items()}
    losses = {name: part[1] for name, part in chosen.items()}
    objective = ProductObjective(losses, times=ImportanceTimes(bins=2, history=1))
    total = objective(denoiser, x0)
    assert objective.times.counts.sum() == 6
    assert objective.times.losses.max() <= total.max()
    ProductObjective(losses, times=LogNormalTimes(std=1e-6))(denoiser, x0)
    torch.testing.assert_close(CosineSchedule().log_snr(denoiser.t), torch.full((6,), 2.4).double(), atol=1e-4, rtol=0)


def test_training_learns_that_components_are_correlated() -> None:
    exact, data = correlated(SDE(CosineSchedule()), SDE(FlowSchedule()), 2000)

    class Joint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = MLP(4, width=32, depth=2)

        def forward(self, x: Mapping[str, Tensor], c: Mapping[str, Tensor]) -> dict[str, Tensor]:
            out = self.inner(torch.cat([x["a"], x["b"]], 1), c["a"])
            return {"a": out[:, :2], "b": out[:, 2:]}

    heads = {name: NetworkDenoiser(None, process) for name, process in exact.process.components.items()}
    denoiser = ProductNetworkDenoiser(Joint(), heads)
    objective = ProductObjective({"a": DenoisingObjective(), "b": DenoisingObjective()})
    optimiser = torch.optim.Adam(denoiser.parameters(), 1e-2)
    for i in range(300):
        batch = {name: x[(200 * i) % 2000 :][:200].float() for name, x in data.items()}
        optimiser.zero_grad()
        objective(denoiser, batch).mean().backward()
        optimiser.step()
    alone = CorrelatedDenoiser(exact.process, exact.mean, torch.block_diag(*(exact.cov[:2, :2], exact.cov[2:, 2:])))
    batch = {name: x.float() for name, x in data.items()}
    scores = []
    for one in (denoiser, exact, alone):
        with torch.no_grad():
            scores.append(objective(one, batch, generator=torch.Generator().manual_seed(0)).mean().item())
    assert scores[1] < scores[0] < 0.5 * (scores[1] + scores[2])


# Configuration and errors.


def test_configuration() -> None:
    heads = {"a": NetworkDenoiser(None, SDE(CosineSchedule())), "b": NetworkDenoiser(None, SDE(FlowSchedule()), "flow")}
    objective = ProductObjective({"a": DenoisingObjective()}, {"a": 0.5}, StratifiedTimes())
    for subject in (molecule(), ProductNetworkDenoiser(MLP(2, width=8, depth=1), heads), objective):
        config = to_config(subject)
        rebuilt = from_config(json.loads(json.dumps(config)))
        assert type(rebuilt) is type(subject)
        assert to_config(rebuilt) == config


def test_parameters_of_components_are_found() -> None:
    parts = components()
    denoiser = IndependentDenoisers({name: part[0] for name, part in parts.items()})
    assert {id(p) for p in denoiser.parameters()} == {id(p) for part in parts.values() for p in part[0].parameters()}


def test_bad_products_are_refused() -> None:
    process = SDE(CosineSchedule())
    with pytest.raises(ValueError, match="at least one Process"):
        ProductProcess({})
    with pytest.raises(TypeError, match="'a'"):
        ProductProcess({"a": CosineSchedule()})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="one tensor"):
        ProductProcess({"a": ProductProcess({"b": process})})
    with pytest.raises(ValueError, match="none itself"):
        ProductNetworkDenoiser(nn.Identity(), {"a": NetworkDenoiser(nn.Identity(), process)})
    with pytest.raises(ValueError, match="none itself"):
        ProductNetworkDenoiser(nn.Identity(), {"a": GaussianDenoiser(process, [0.0], [[1.0]])})
    for weights in ({"b": 1.0}, {"a": -1.0}, {"a": float("nan")}):
        with pytest.raises(ValueError, match="weights"):
            ProductObjective({"a": DenoisingObjective()}, weights)
    with pytest.raises(TypeError, match="PosteriorObjective"):
        ProductObjective({"a": nn.Identity()})  # type: ignore[dict-item]


def test_bad_states_are_refused() -> None:
    process, x0 = molecule(), molecules(2, 4)
    with pytest.raises(ValueError, match="x0 of type Tensor"):
        process.marginal(x0["bonds"], 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x0 of \['positions'\]"):
        process.marginal({"positions": x0["positions"]}, 0.5)
    with pytest.raises(ValueError, match="category 9"):
        process.check_state(x0 | {"atoms": torch.full((2, 4), 9)})
    with pytest.raises(ValueError, match="as many samples"):
        process.blank({"positions": (2, 4, 3), "atoms": (3, 4), "bonds": (2, 4, 4)}, torch.device("cpu"))
    with pytest.raises(ValueError, match="mask of"):
        process.expand_mask({"rings": torch.ones(2, 4, dtype=torch.bool)})
    with pytest.raises(ValueError, match="network's answer"):
        ProductNetworkDenoiser(lambda x, c: x["a"], {"a": NetworkDenoiser(None, SDE(CosineSchedule()))})(
            {"a": torch.zeros(1, 2)}, 0.5
        )
    objective = ProductObjective({"a": DenoisingObjective()})
    with pytest.raises(ValueError, match="objectives of"):
        objective(network_denoiser(), x0)
    with pytest.raises(TypeError, match="ProductProcess"):
        objective(GaussianDenoiser(SDE(CosineSchedule()), [0.0], [[1.0]]), torch.zeros(2, 1))
