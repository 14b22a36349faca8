"""Gaussian processes in subspaces: densities, noise, samplers, and whole runs that turn, permute and pad."""

import json

import pytest
import torch
from subspaces import ChangedNoise, Subspace, centred, symmetric
from torch import Tensor, nn

from ornstein.core import (
    DDIM,
    DDPM,
    SDE,
    ConsistencyDenoiser,
    ConsistencyObjective,
    ContinuousBound,
    CosineSchedule,
    Denoiser,
    DenoisingObjective,
    DPMSolver,
    FlowSchedule,
    GaussianDenoiser,
    GridPairs,
    ImplicitScoreMatching,
    NetworkDenoiser,
    ODELikelihood,
    Sampler,
    SeededNoise,
    UniformLogSNR,
    UniformTime,
    VariationalBound,
    VariationalObjective,
    perturb_and_reverse,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.conformance import instances
from ornstein.core.nn import EGNN
from ornstein.core.symmetric import CentredSDE, SymmetricSDE

SPACES = {
    "centred": centred(CosineSchedule()),
    "zero diagonal": symmetric(CosineSchedule()),
    "kept diagonal": symmetric(CosineSchedule(), "kept"),
}
SAMPLERS = [sampler for sampler in instances(Sampler) if sampler.moves is SDE]


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> Subspace:
    return SPACES[request.param]


def points(space: Subspace, batch: int) -> Tensor:
    return space.embed(torch.randn(batch, space.dim, dtype=torch.float64))


def normal_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.distributions.Normal(mean, std).log_prob(x).sum(1)


@pytest.mark.parametrize("t", [0.3, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)])
def test_density_is_the_normal_one_in_coordinates(space: Subspace, t: float | Tensor) -> None:
    process, x, x0 = space.process, points(space, 3), points(space, 3)
    plain, u, u0 = SDE(process.schedule), space.coordinates(x), space.coordinates(x0)
    pairs = [
        (process.marginal(x0, t), plain.marginal(u0, t)),
        (process.posterior(x0, 2 * x0, 0.05, t), plain.posterior(u0, 2 * u0, 0.05, t)),
    ]
    for ours, exact in pairs:
        expected = normal_log_prob(u, exact.mean, exact.std.expand(3, 1))
        torch.testing.assert_close(ours.log_prob(x), expected, rtol=1e-10, atol=1e-10)
    prior = process.prior((3, *space.event))
    expected = normal_log_prob(u, torch.zeros_like(u), prior.std.double())
    torch.testing.assert_close(prior.log_prob(x), expected, rtol=1e-6, atol=1e-6)  # the prior's std is float32


def test_density_with_padding_is_that_of_the_real_part() -> None:
    small, mask = centred(CosineSchedule(), points=3), torch.tensor([[True, True, False, True, False]])
    x, x0 = points(small, 1), points(small, 1)
    place = torch.tensor([0, 1, 3])
    padded = [torch.zeros(1, 5, 2, dtype=torch.float64).index_copy(1, place, part) for part in (x, x0)]
    ours = small.process.marginal(padded[1], 0.4, mask).log_prob(padded[0])
    torch.testing.assert_close(ours, small.process.marginal(x0, 0.4).log_prob(x), rtol=1e-12, atol=1e-12)
    graph = symmetric(CosineSchedule(), points=3)
    a, a0 = points(graph, 1), points(graph, 1)
    padded = []
    for part in (a, a0):
        padded.append(torch.zeros(1, 5, 5, dtype=torch.float64))
        padded[-1][:, place[:, None], place] = part
    ours = graph.process.marginal(padded[1], 0.4, graph.process.expand_mask(mask)).log_prob(padded[0])
    torch.testing.assert_close(ours, graph.process.marginal(a0, 0.4).log_prob(a), rtol=1e-12, atol=1e-12)


def test_noise_is_standard_normal_in_coordinates(space: Subspace) -> None:
    """Exactly: the map from all of space to coordinates has orthonormal rows."""
    total = torch.Size(space.event).numel()
    units = torch.eye(total, dtype=torch.float64).reshape(total, *space.event)
    white = space.process.white(units)
    rows = space.coordinates(white).T
    torch.testing.assert_close(rows @ rows.T, torch.eye(space.dim, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(space.embed(rows.T), white, rtol=0, atol=1e-14)
    torch.testing.assert_close(space.process.dim(units), torch.full((total,), float(space.dim)).to(units.dtype))


def test_projection_is_the_nearest_point(space: Subspace) -> None:
    x = torch.randn(5, *space.event, dtype=torch.float64)
    flat = space.process.project(x)
    torch.testing.assert_close(space.process.project(flat), flat)
    torch.testing.assert_close(space.embed(space.coordinates(flat)), flat)
    for direction in points(space, 4):
        rest = ((x - flat) * direction).flatten(1).sum(1)
        torch.testing.assert_close(rest, torch.zeros_like(rest), rtol=0, atol=1e-13)


def test_channels_of_matrices_are_alike() -> None:
    process, x = SymmetricSDE(CosineSchedule(), "kept"), torch.randn(2, 4, 4, 3, dtype=torch.float64)
    for change in (process.project, process.white):
        torch.testing.assert_close(change(x), torch.stack([change(part) for part in x.unbind(-1)], -1))
    assert process.dim(x).tolist() == [30.0, 30.0]


class _Embedded(Denoiser):
    """The exact denoiser of coordinates, for states of the subspace."""

    def __init__(self, space: Subspace, inner: GaussianDenoiser) -> None:
        super().__init__(space.process)
        self.space, self.inner = space, inner

    def forward(self, x_t: Tensor, t: float | Tensor, **condition: Tensor) -> object:
        answer = self.inner(self.space.coordinates(x_t), t)
        mean = self.space.embed(answer.mean).to(x_t.dtype)
        return type(answer)(x_t, self.process, answer.level, mean, answer.variance[:, :1, None].to(x_t.dtype))


def isotropic(space: Subspace) -> tuple[Denoiser, GaussianDenoiser]:
    """Exact denoisers of ``N(m, I / 2)`` in the subspace and in coordinates."""
    mean = torch.linspace(-1, 1, space.dim, dtype=torch.float64)
    inner = GaussianDenoiser(SDE(space.process.schedule), mean, 0.5 * torch.eye(space.dim, dtype=torch.float64))
    return _Embedded(space, inner), inner


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: repr(s)[:60])
def test_every_sampler_does_in_the_subspace_what_it_does_in_coordinates(sampler: Sampler, space: Subspace) -> None:
    denoiser, inner = isotropic(space)
    x = points(space, 3)
    out = sampler.sample(denoiser, x.shape, x=x, seed=5)
    assert out.abs().max() > 0.1
    torch.testing.assert_close(space.embed(space.coordinates(out)), out, rtol=0, atol=1e-12)
    if sampler.adaptive:  # its error is a mean over entries, of which the subspace has more than coordinates
        return
    seen = ChangedNoise(SeededNoise(5), lambda z: space.coordinates(space.process.white(z)), space.event)
    expected = sampler.sample(inner, (3, space.dim), x=space.coordinates(x), noise=seen)
    torch.testing.assert_close(space.coordinates(out), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: repr(s)[:60])
def test_every_sampler_stays_in_the_subspace_in_single_precision(sampler: Sampler, space: Subspace) -> None:
    denoiser, _ = isotropic(space)
    out = sampler.sample(denoiser, (3, *space.event), seed=5)
    assert out.dtype == torch.float32
    torch.testing.assert_close(space.process.project(out), out, rtol=0, atol=2e-6)


def test_a_step_draws_its_noise_in_the_subspace(space: Subspace) -> None:
    denoiser, x = isotropic(space)[0], points(space, 3)
    for noise in (None, torch.randn_like(x)):
        out = DDPM().step(denoiser, x, 0.8, 0.6, noise=noise)
        torch.testing.assert_close(space.process.project(out), out, rtol=0, atol=1e-14)


class _Recorder(Denoiser):
    def __init__(self, process: SDE) -> None:
        super().__init__(process)

    def forward(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> object:
        self.seen, self.condition = x_t, condition
        return NetworkDenoiser(lambda x, c, **_: torch.zeros_like(x), self.process, prediction="eps")(x_t, t)


def test_objective_noises_within_the_subspace() -> None:
    process = CentredSDE(CosineSchedule())
    denoiser, mask = _Recorder(process), torch.arange(6) < torch.randint(2, 7, (4000, 1))
    x0 = process.project(torch.randn(4000, 6, 3), mask)
    loss = DenoisingObjective()(denoiser, x0, mask=mask)
    torch.testing.assert_close(process.project(denoiser.seen, mask), denoiser.seen, rtol=0, atol=1e-5)
    # The loss of predicting no noise is that of the noise, (n - 1) / n in each coordinate of n points.
    n = mask.sum(1)
    ratio = loss / ((n - 1) / n)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 4000**0.5


def test_objective_takes_masks_of_nodes_and_of_pairs() -> None:
    process = SymmetricSDE(CosineSchedule())
    denoiser, mask = _Recorder(process), torch.arange(5) < torch.tensor([[2], [5], [3]])
    pairs = mask[:, :, None] & mask[:, None]
    x0 = process.project(torch.randn(3, 5, 5), process.expand_mask(mask))
    losses = []
    for given in (mask, pairs):
        losses.append(DenoisingObjective()(denoiser, x0, mask=given, generator=torch.Generator().manual_seed(0)))
        assert torch.equal(denoiser.condition["mask"], given)
        assert (denoiser.seen[~pairs] == 0).all()
        assert torch.equal(denoiser.seen, denoiser.seen.mT)
    assert torch.equal(*losses)


def test_sampler_takes_masks_of_nodes() -> None:
    space, mask = symmetric(CosineSchedule()), torch.tensor([[True, True, True, False]])
    out = DDPM(4).sample(isotropic(space)[0], (1, 4, 4), seed=0, mask=mask)
    assert (out[:, 3] == 0).all()
    assert (out[:, :, 3] == 0).all()
    assert torch.equal(out, out.mT)


def test_any_network_is_brought_to_the_subspace(space: Subspace) -> None:
    total = torch.Size(space.event).numel()
    network = nn.Sequential(nn.Flatten(), nn.Linear(total, total), nn.Unflatten(1, space.event))
    denoiser = NetworkDenoiser(lambda x, c: network(x), space.process)
    out = DPMSolver(6).sample(denoiser, (2, *space.event), seed=0)
    torch.testing.assert_close(space.process.project(out), out, rtol=0, atol=2e-6)


# Whole runs with an equivariant network.


def egnn(dtype: torch.dtype) -> EGNN:
    torch.manual_seed(3)
    network = EGNN(3, width=16, depth=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network.to(dtype).eval()


def turn(reflected: bool) -> Tensor:
    q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    return q * (-1 if (torch.linalg.det(q) < 0) != reflected else 1)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("sampler", [DDPM(10), DDIM(10), DPMSolver(10)], ids=lambda s: type(s).__name__)
def test_a_run_turns_reflects_and_permutes_with_its_noise(sampler: Sampler, dtype: torch.dtype, atol: float) -> None:
    process, shape = CentredSDE(CosineSchedule()), (3, 6, 3)
    denoiser = NetworkDenoiser(egnn(dtype), process)
    x, perm = process.project(torch.randn(shape, dtype=dtype)), torch.randperm(6)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [False, True, True, True, False, True]])
    x = process.project(x, mask)
    out = sampler.sample(denoiser, shape, x=x, noise=SeededNoise(1), mask=mask)
    silent = NetworkDenoiser(EGNN(3).to(dtype), process)
    assert (out - sampler.sample(silent, shape, x=x, noise=SeededNoise(1), mask=mask)).abs().max() > 0.1
    for reflected in (False, True):
        q = turn(reflected).to(dtype)
        noise = ChangedNoise(SeededNoise(1), lambda z: z @ q, (6, 3))  # noqa: B023 (used at once)
        turned = sampler.sample(denoiser, shape, x=x @ q, noise=noise, mask=mask)
        torch.testing.assert_close(turned, out @ q, rtol=0, atol=atol)
    noise = ChangedNoise(SeededNoise(1), lambda z: z[:, perm], (6, 3))
    permuted = sampler.sample(denoiser, shape, x=x[:, perm], noise=noise, mask=mask[:, perm])
    torch.testing.assert_close(permuted, out[:, perm], rtol=0, atol=atol)


def test_a_run_does_not_depend_on_padding() -> None:
    denoiser = NetworkDenoiser(egnn(torch.float64), CentredSDE(CosineSchedule()))
    x = denoiser.process.project(torch.randn(2, 4, 3, dtype=torch.float64))
    out = DDPM(10).sample(denoiser, x.shape, x=x, seed=1)
    longer = nn.functional.pad(x, (0, 0, 0, 3))
    noise = ChangedNoise(SeededNoise(1), lambda z: torch.cat([z, torch.randn(2, 3, 3).to(z)], 1), (4, 3))
    mask = (torch.arange(7) < 4).expand(2, 7)
    padded = DDPM(10).sample(denoiser, longer.shape, x=longer, noise=noise, mask=mask)
    torch.testing.assert_close(padded[:, :4], out, rtol=0, atol=1e-12)
    assert (padded[:, 4:] == 0).all()


def test_a_run_of_matrices_permutes_with_its_noise() -> None:
    process, perm = SymmetricSDE(FlowSchedule(), "kept"), torch.randperm(5)
    denoiser = NetworkDenoiser(lambda x, c: torch.tanh(x @ x) - x.sum((1, 2), keepdim=True) / 25, process)
    sampler = DDPM(10, grid=UniformLogSNR())
    out = sampler.sample(denoiser, (2, 5, 5), noise=SeededNoise(1))
    noise = ChangedNoise(SeededNoise(1), lambda z: z[:, perm][:, :, perm], (5, 5))
    permuted = sampler.sample(denoiser, (2, 5, 5), noise=noise)
    torch.testing.assert_close(permuted, out[:, perm][:, :, perm], rtol=0, atol=1e-5)


# Likelihood.


def test_exact_likelihood_is_that_of_coordinates(space: Subspace) -> None:
    denoiser, inner = isotropic(space)
    x, likelihood = points(space, 3), ODELikelihood(1e-7, 1e-7, trace="exact")
    found = likelihood.evaluate(denoiser, x)
    expected = likelihood.evaluate(inner, space.coordinates(x))
    for name in ("log_prob", "prior_kl", "truncation"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.log_prob, inner.log_prob(space.coordinates(x)), rtol=0, atol=1e-3)
    trip = likelihood.round_trip(denoiser, x)
    assert trip.state.max() < 1e-4


def test_estimated_likelihood_is_unbiased_in_the_subspace(space: Subspace) -> None:
    denoiser, inner = isotropic(space)
    x = points(space, 3)
    found = ODELikelihood(1e-4, 1e-4, probes=150).evaluate(denoiser, x, seed=0)
    error = (found.log_prob - inner.log_prob(space.coordinates(x))).abs()
    assert (error < 4.5 * found.standard_error + 2e-3).all()
    assert found.standard_error.max() < 0.3


def test_likelihood_does_not_depend_on_padding() -> None:
    process = CentredSDE(CosineSchedule())
    denoiser = NetworkDenoiser(lambda x, c, mask=None: torch.tanh(x), process)
    x, mask = process.project(torch.randn(2, 3, 2, dtype=torch.float64)), torch.arange(5) < 3
    likelihood = ODELikelihood(1e-7, 1e-7, trace="exact")
    alone = likelihood.evaluate(denoiser, x)
    padded = likelihood.evaluate(denoiser, nn.functional.pad(x, (0, 0, 0, 2)), mask=mask.expand(2, 5))
    torch.testing.assert_close(padded.log_prob, alone.log_prob, rtol=0, atol=1e-4)


def test_what_counts_all_numbers_refuses_a_subspace(space: Subspace) -> None:
    denoiser, x = isotropic(space)[0], points(space, 2)
    for evaluate in (ContinuousBound().evaluate, VariationalBound(2).evaluate):
        with pytest.raises(TypeError, match="all of space"):
            evaluate(denoiser, x)
    total = x[0].numel()
    gaussian = GaussianDenoiser(space.process, torch.zeros(total), torch.eye(total))
    for refused in (
        lambda: VariationalObjective()(denoiser, x),
        lambda: ImplicitScoreMatching()(denoiser, x),
        lambda: gaussian.log_prob(x),
        lambda: gaussian.sample(2, 0.5),
    ):
        with pytest.raises(TypeError, match="all of space"):
            refused()


def test_edits_noise_in_the_subspace() -> None:
    for space in SPACES.values():
        denoiser = isotropic(space)[0]
        x0 = points(space, 2000)
        level, seen = denoiser.process.level(0.7), _Recorder(space.process)
        perturb_and_reverse(seen, x0, 0.7, DDIM(1, grid=UniformTime()), seed=0)
        noise = space.coordinates((seen.seen - level.alpha * x0) / level.sigma)
        torch.testing.assert_close(space.embed(noise), (seen.seen - level.alpha * x0) / level.sigma)
        assert abs(noise.var() - 1) < 6 * (2 / noise.numel()) ** 0.5


def test_distillation_noises_in_the_subspace() -> None:
    mask = torch.tensor([[True, True, True, False]])
    for space in SPACES.values():
        process = space.process
        seen, real = _Recorder(process), process.expand_mask(mask)
        x0 = process.project(points(space, 1), real)
        ConsistencyObjective(GridPairs())(ConsistencyDenoiser(seen), x0, mask=mask)
        torch.testing.assert_close(process.project(seen.seen, real), seen.seen, rtol=0, atol=1e-12)


# Bad input, configuration.


def test_states_and_data_off_the_subspace_are_refused(space: Subspace) -> None:
    denoiser, x = isotropic(space)[0], 1 + torch.randn(2, *space.event)
    with pytest.raises(ValueError, match=r"x lies off the subspace .*process\.project\(x, mask\)"):
        DDIM(2).sample(denoiser, x.shape, x=x)
    with pytest.raises(ValueError, match="x0 lies off the subspace"):
        DenoisingObjective()(denoiser, x)
    with pytest.raises(ValueError, match="x lies off the subspace"):
        space.process.prior(x.shape).log_prob(x)


def test_padding_of_data_may_hold_anything() -> None:
    process, mask = CentredSDE(CosineSchedule()), torch.tensor([[True, True, False]])
    process.check_data(torch.tensor([[[1.0], [-1.0], [7.0]]]), mask)
    with pytest.raises(ValueError, match=r"by 0\.5"):
        process.check_data(torch.tensor([[[1.0], [0.0], [-1.0]]]), mask)


def test_wrong_shapes_and_masks_are_refused() -> None:
    graph = SymmetricSDE(CosineSchedule())
    with pytest.raises(ValueError, match="square"):
        graph.project(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"\(B, N, D\)"):
        CentredSDE(CosineSchedule()).project(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="symmetric"):
        graph.expand_mask(torch.tensor([[[True, True], [False, True]]]))
    with pytest.raises(ValueError, match="bool"):
        graph.expand_mask(torch.ones(2, 3))
    with pytest.raises(ValueError, match="diagonal"):
        SymmetricSDE(CosineSchedule(), "none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask of shape"):
        DDIM(2).sample(isotropic(symmetric(CosineSchedule()))[0], (2, 4, 4), mask=torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("process", [CentredSDE(CosineSchedule()), SymmetricSDE(FlowSchedule(), "kept")])
def test_configuration(process: SDE) -> None:
    config = to_config(process)
    rebuilt = from_config(json.loads(json.dumps(config)), SDE)
    assert type(rebuilt) is type(process)
    assert to_config(rebuilt) == config
