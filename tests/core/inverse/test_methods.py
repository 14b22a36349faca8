"""Posterior methods: exactness on Gaussian data, data consistency, limits in which they agree, schedules, contracts."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    SDE,
    Denoiser,
    DPMSolver,
    EDMSchedule,
    FlowSchedule,
    GaussianDenoiser,
    IndependentNoise,
    MixtureDenoiser,
    Sampler,
    UniformLogSNR,
    VESchedule,
    VPSchedule,
)
from ornstein.core.inverse import (
    DDNM,
    DDRM,
    DDS,
    DPS,
    MMPS,
    TDS,
    AveragePool,
    Blur,
    DDNMPlus,
    DiffPIR,
    FunctionOperator,
    GaussianNoise,
    LinearOperator,
    Mask,
    MatrixOperator,
    Measurement,
    PiGDM,
    PoissonNoise,
    RandomProjection,
    Renoise,
    RePaint,
    Replacement,
    Subsampling,
)

G = torch.Generator().manual_seed(0)
ROOT = torch.randn(6, 6, generator=G, dtype=torch.float64) / 6**0.5
COVARIANCE = ROOT @ ROOT.T + 0.1 * torch.eye(6, dtype=torch.float64)
MEAN = torch.randn(6, generator=G, dtype=torch.float64)
MATRIX = torch.randn(2, 6, generator=G, dtype=torch.float64)
VP = SDE(VPSchedule())
Build = Callable[[Denoiser, Measurement], tuple[Sampler, Denoiser]]


def gaussian(process: SDE = VP) -> GaussianDenoiser:
    return GaussianDenoiser(process, MEAN, COVARIANCE)


def observed(std: float = 0.3, operator: LinearOperator | None = None) -> Measurement:
    generator = torch.Generator().manual_seed(4)
    x0 = MEAN + torch.randn(1, 6, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(COVARIANCE).T
    operator = MatrixOperator(MATRIX) if operator is None else operator
    return Measurement.simulate(x0, operator, GaussianNoise(std), generator)


def posterior(measurement: Measurement) -> tuple[Tensor, Tensor]:
    a, std = MatrixOperator.of(measurement.linear("test")).matrix, measurement.std("test")
    gain = COVARIANCE @ a.T @ torch.linalg.inv(a @ COVARIANCE @ a.T + std**2 * torch.eye(len(a), dtype=a.dtype))
    return MEAN + gain @ (measurement.y[0] - a @ MEAN), COVARIANCE - gain @ a @ COVARIANCE


def errors(sampler: Sampler, denoiser: Denoiser, measurement: Measurement, num: int = 4096) -> tuple[float, float]:
    """Errors of mean and covariance, relative to the exact ones."""
    x = sampler.sample(denoiser, (num, 6), noise=IndependentNoise(torch.Generator().manual_seed(0))).double()
    mean, covariance = posterior(measurement)
    return (
        float((x.mean(0) - mean).norm() / mean.norm()),
        float((torch.cov(x.T) - covariance).norm() / covariance.norm()),
    )


METHODS: dict[str, Build] = {
    "mmps": lambda d, m: (DPMSolver(8), MMPS(d, m)),
    "mmps_cg": lambda d, m: (DPMSolver(8), MMPS(d, m, solver="cg")),
    "pigdm": lambda d, m: (DPMSolver(8), PiGDM(d, m)),
    "ddnm": lambda d, m: (DDIM(8), DDNM(d, m)),
    "diffpir": lambda d, m: (Renoise(8), DiffPIR(d, m)),
    "dds": lambda d, m: (DDIM(8), DDS(d, m)),
    "dps": lambda d, m: (DPS(8, measurement=m), d),
    "ddrm": lambda d, m: (DDRM(8, measurement=m), d),
    "ddnm_plus": lambda d, m: (DDNMPlus(8, measurement=m, jump_length=2, resamplings=2), d),
    "replacement": lambda d, m: (Replacement(8, measurement=m), d),
    "repaint": lambda d, m: (RePaint(8, measurement=m, jump_length=2, resamplings=3), d),
    "tds": lambda d, m: (TDS(8, measurement=m), d),
    "tds_isotropic": lambda d, m: (TDS(8, measurement=m, twist="isotropic"), d),
    "tds_likelihood": lambda d, m: (TDS(8, measurement=m, twist="likelihood"), d),
}


@pytest.mark.parametrize("solver", ["cg", "gmres"])
def test_mmps_with_a_converged_solver_is_exact_for_gaussian_data(solver) -> None:
    measurement = observed()
    mean, covariance = errors(DPMSolver(64), MMPS(gaussian(), measurement, iterations=2, solver=solver), measurement)
    assert mean < 0.02
    assert covariance < 0.08
    # With one iteration for two measurements it is not.
    assert errors(DPMSolver(64), MMPS(gaussian(), measurement, iterations=1), measurement)[0] > 2 * mean


def test_the_mean_of_mmps_is_the_exact_conditional_mean() -> None:
    measurement, t = observed(), 0.4
    level = VP.level(t)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    # x_t and y together are a linear measurement of x_0.
    a = torch.cat([level.alpha * torch.eye(6, dtype=torch.float64), MATRIX])
    noise = torch.tensor([level.sigma**2] * 6 + [0.3**2] * 2, dtype=torch.float64)
    gain = COVARIANCE @ a.T @ torch.linalg.inv(a @ COVARIANCE @ a.T + noise.diag())
    both = torch.cat([x, measurement.y.expand(5, 2)], 1)
    expected = MEAN + (both - a @ MEAN) @ gain.T
    torch.testing.assert_close(MMPS(gaussian(), measurement)(x, t).mean, expected, rtol=1e-10, atol=1e-10)
    # PiGDM is exact for white data alone.
    white = GaussianDenoiser(VP, torch.zeros(6), 2.25 * torch.eye(6))
    same = [method(white, measurement)(x, t).mean for method in (MMPS, lambda d, m: PiGDM(d, m, data_std=1.5))]
    torch.testing.assert_close(*same, rtol=1e-10, atol=1e-10)
    assert (PiGDM(gaussian(), measurement)(x, t).mean - expected).abs().max() > 0.01


@pytest.mark.parametrize("twist", ["covariance", "isotropic", "likelihood"])
def test_tds_is_exact_in_the_limit_whatever_the_twist(twist) -> None:
    # The paper's twist, which takes the denoised state for the data, needs more particles the less noise there is.
    measurement = observed(std=4.0 if twist == "likelihood" else 2.0)
    # Only steps that are matched to the covariance are exact at few steps.
    sampler = TDS(15 if twist == "covariance" else 150, measurement=measurement, twist=twist)
    mean, covariance = errors(sampler, gaussian(), measurement, 8192)
    # Without any measurement the errors are at least 0.6 and 0.35.
    assert mean < (0.06 if twist == "likelihood" else 0.03)
    assert covariance < (0.12 if twist == "likelihood" else 0.09)


def test_tds_samples_a_mixture_given_a_nonlinear_measurement() -> None:
    """With so much noise that the twist is mild: over seeds the means move by 0.05, the squares by 0.04."""
    means = torch.tensor([[-1.5, 0.0], [1.5, 0.5]])
    prior = MixtureDenoiser(VP, torch.tensor([0.6, 0.4]), means, torch.tensor([0.4, 0.3]))
    operator = FunctionOperator(lambda x: x.square().sum(1, keepdim=True), (2,))
    measurement = Measurement(torch.tensor([[5.0]]), operator, GaussianNoise(2.0))
    generator = torch.Generator().manual_seed(0)
    sampler = TDS(60, measurement=measurement, twist="likelihood")
    x = sampler.sample(prior, (4096, 2), noise=IndependentNoise(generator)).double()
    # The truth by weighing draws of the prior, whose mean square is 2.62; given y it is 3.18.
    draws = prior.sample(400_000, generator=generator)
    weights = measurement.noise.log_likelihood(measurement.y.double(), operator(draws)).softmax(0)
    assert (x.mean(0) - (weights[:, None] * draws).sum(0)).abs().max() < 0.2
    assert abs(operator(x).mean() - (weights[:, None] * operator(draws)).sum()) < 0.2


# Ceilings of the approximate methods, errors of mean and covariance: each about 1.5 times what was measured.
CEILINGS: dict[str, tuple[Build, float, float]] = {
    "pigdm": (lambda d, m: (DPMSolver(40), PiGDM(d, m)), 0.05, 0.08),
    "dps": (lambda d, m: (DPS(100, measurement=m, zeta=0.1), d), 0.3, 0.5),
    "ddrm": (lambda d, m: (DDRM(40, measurement=m), d), 0.25, 0.4),
    "ddnm_plus": (lambda d, m: (DDNMPlus(40, measurement=m), d), 0.25, 0.25),
    "diffpir": (lambda d, m: (Renoise(40), DiffPIR(d, m)), 0.25, 0.25),
    "dds": (lambda d, m: (DDIM(40, eta=0.85), DDS(d, m)), 0.25, 0.25),
    "repaint": (lambda d, m: (RePaint(20, measurement=m, jump_length=4, resamplings=4), d), 0.25, 0.35),
}


@pytest.mark.parametrize("name", CEILINGS)
def test_approximate_methods_stay_below_their_ceilings(name: str) -> None:
    build, mean_ceiling, covariance_ceiling = CEILINGS[name]
    measurement = observed()
    mean, covariance = errors(*build(gaussian(), measurement), measurement, 2048)
    assert mean < mean_ceiling
    assert covariance < covariance_ceiling
    assert errors(DPMSolver(20), gaussian(), measurement, 2048)[0] > 0.35  # what no method at all gives


SPECTRAL = {
    "mask": Mask(torch.arange(48).reshape(3, 4, 4) % 3 == 0),
    "subsampling": Subsampling((3, 4, 4), 2),
    "pool": AveragePool((3, 4, 4), 4),
    "blur": Blur.gaussian((3, 4, 4), 0.5),
    "projection": RandomProjection((3, 4, 4), 20),
}


@pytest.mark.parametrize("name", SPECTRAL)
@pytest.mark.parametrize("method", ["ddnm", "ddnm_plus", "ddrm", "diffpir", "replacement", "repaint"])
def test_samples_fit_a_measurement_without_noise(name: str, method: str) -> None:
    operator = SPECTRAL[name]
    prior = GaussianDenoiser(VP, torch.zeros(48), torch.eye(48))
    x0 = prior.sample(2, generator=torch.Generator().manual_seed(3)).float().unflatten(1, (3, 4, 4))
    measurement = Measurement.simulate(x0, operator)
    sampler, denoiser = METHODS[method](prior, measurement)
    x = sampler.sample(denoiser, x0.shape, seed=0)
    assert (operator(x) - measurement.y).abs().max() < 1e-5
    assert (x - x0).abs().max() > 0.1 or name == "blur"  # and are samples


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("tds")])
def test_schedules_of_equal_log_snr_give_equal_samples(method: str) -> None:
    grid = UniformLogSNR(-6.0, 6.0, clean=False)
    start = torch.randn(5, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    results = []
    for schedule in (VPSchedule(), VESchedule(0.01, 80.0), FlowSchedule(), EDMSchedule()):
        process = SDE(schedule)
        sampler, denoiser = METHODS[method](gaussian(process), observed())
        sampler = replace(sampler, grid=grid)
        x = start * process.level(float(sampler.route(process)[0])).sigma
        noise = IndependentNoise(torch.Generator().manual_seed(5))
        out = sampler.sample(denoiser, x.shape, x=x, noise=noise)
        results.append(out / process.level(float(sampler.route(process)[-1])).alpha)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-10, atol=1e-10)


def test_limits_in_which_methods_agree() -> None:
    prior, exact, start = gaussian(), observed(std=0.0), torch.randn(4, 6, generator=G, dtype=torch.float64)

    def run(sampler: Sampler, denoiser: Denoiser) -> Tensor:
        return sampler.sample(denoiser, (4, 6), x=start, noise=IndependentNoise(torch.Generator().manual_seed(0)))

    # Without noise DDNM+ is DDIM on DDNM, and so is DiffPIR with all of the data; DDS converges to DDNM.
    ddnm = run(DDIM(10, eta=0.85), DDNM(prior, exact))
    torch.testing.assert_close(run(DDNMPlus(10, measurement=exact), prior), ddnm, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(run(DDIM(10, eta=0.85), DiffPIR(prior, exact)), ddnm, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(run(DDIM(10, eta=0.85), DDS(prior, exact)), ddnm, rtol=1e-6, atol=1e-6)
    # RePaint that descends once is replacement; DPS without a step is DDPM; Renoise without noise is DDIM.
    once = RePaint(10, measurement=exact, jump_length=3, resamplings=1)
    assert torch.equal(run(once, prior), run(Replacement(10, measurement=exact), prior))
    torch.testing.assert_close(run(DPS(10, measurement=exact, zeta=0.0), prior), run(DDPM(10), prior))
    torch.testing.assert_close(run(Renoise(10, zeta=0.0), prior), run(DDIM(10), prior))
    # An operator without a decomposition is solved by conjugate gradients, with the same answer.
    noisy = observed(std=0.3)
    blind = Measurement(noisy.y, MatrixOperator(MATRIX) @ MatrixOperator(torch.eye(6)), noisy.noise)
    for method in (DiffPIR, PiGDM):
        torch.testing.assert_close(
            method(prior, blind)(start, 0.5).mean, method(prior, noisy)(start, 0.5).mean, rtol=1e-6, atol=1e-7
        )


def test_ddrm_draws_each_coordinate_from_the_papers_distribution() -> None:
    # Two measured coordinates, one cleaner and one noisier than the state, and one that is not measured.
    measurement = Measurement(
        torch.tensor([[1.0, -2.0, 0.0]]), MatrixOperator(torch.diag(torch.tensor([1.0, 0.1, 0.0]))), GaussianNoise(0.05)
    )
    process, t, s = SDE(EDMSchedule()), 0.6, 0.5
    r = process.level(s).sigma
    assert r > 0.05
    measurement = Measurement(
        measurement.y, MatrixOperator(torch.diag(torch.tensor([1.0, 0.05 / (2 * r), 0.0]))), GaussianNoise(0.05)
    )
    prior = GaussianDenoiser(process, torch.zeros(3), torch.eye(3))
    x = torch.tensor([[0.3, -0.4, 0.5]], dtype=torch.float64)
    answer = prior(x, t)
    mean, eps = answer.mean[0], answer.eps[0]
    ys = [1.0, -2.0 * (2 * r) / 0.05]
    sampler = DDRM(1, measurement=measurement, eta=0.6, eta_b=0.9)
    z = torch.zeros(1, 3, dtype=torch.float64)
    centre = sampler.step(prior, x, t, s, noise=z)[0]
    spread = sampler.step(prior, x, t, s, noise=torch.ones_like(z))[0] - centre
    expected = [
        0.1 * mean[0] + 0.9 * ys[0],
        mean[1] + 0.8 * r * (ys[1] - mean[1]) / (2 * r),
        mean[2] + 0.8 * r * eps[2],
    ]
    torch.testing.assert_close(centre, torch.stack(expected), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        spread.abs(), torch.tensor([(r**2 - (0.9 * 0.05) ** 2) ** 0.5, 0.6 * r, 0.6 * r]).double(), rtol=1e-6, atol=1e-6
    )


def test_ddnm_plus_keeps_the_variance_of_each_step() -> None:
    # The noise of y that enters by the correction and the noise that is added make up the step's own variance.
    std, sampler = 0.5, DDNMPlus(20, measurement=observed(std=0.5))
    times = sampler.grid(20, VP)
    for t, s, row in list(zip(times, times[1:], sampler.plan(VP, times)))[:-1]:
        b, g = row[1], row[2]
        x = torch.zeros(1, 6, dtype=torch.float64)
        noise = std / sampler.measurement.spectral("test").singular_values
        still = sampler.step(gaussian(), x, float(t), float(s), noise=x)
        units = torch.eye(6, dtype=torch.float64)
        response = sampler.step(gaussian(), x.expand(6, 6), float(t), float(s), noise=units) - still
        added = sampler.measurement.spectral("test").vt(response)
        covariance = added.T @ added
        trust = (g / (b * noise)).clamp(max=1.0)
        torch.testing.assert_close(
            covariance.diagonal()[:2] + (b * trust * noise) ** 2, (g**2).expand(2), rtol=1e-9, atol=1e-12
        )
        torch.testing.assert_close(covariance.diagonal()[2:], (g**2).expand(4), rtol=1e-9, atol=1e-12)


def test_jumps_follow_the_papers_route() -> None:
    sampler = RePaint(6, measurement=observed(std=0.0), jump_length=2, resamplings=2)
    # t = 6 ... 0 as numbers of grid times 0 ... 6; turning points at t = 2 and 0.
    assert sampler._indices(6) == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 4, 5, 6]
    levels = VP.schedule.log_snr(sampler.route(VP))
    assert (levels.diff() < 0).sum() == 2
    # Rising noise keeps the marginals: from clean data to the level above.
    rows = sampler.plan(VP, torch.tensor([0.0, 0.4], dtype=torch.float64))
    torch.testing.assert_close(rows[0, :2].tolist(), [VP.level(0.4).alpha, VP.level(0.4).sigma])


class Counting(GaussianDenoiser):
    """Counts its calls."""

    calls = 0

    def forward(self, *args, **condition):
        self.calls += 1
        return super().forward(*args, **condition)


@pytest.mark.parametrize("name", METHODS)
def test_declared_evaluations_are_the_counted_calls(name: str) -> None:
    prior = Counting(VP, MEAN, COVARIANCE)
    sampler, denoiser = METHODS[name](prior, observed())
    sampler.sample(denoiser, (4, 6), seed=0)
    assert prior.calls == sampler.nfe() == sampler.nfe(process=VP)


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("tds")])
def test_a_sample_depends_on_its_seed_and_number_alone(name: str) -> None:
    sampler, denoiser = METHODS[name](gaussian(), observed())
    together = sampler.sample(denoiser, (3, 6), seed=7)
    alone = sampler.sample(denoiser, (1, 6), seed=7, first=2)
    torch.testing.assert_close(together[2:], alone, rtol=1e-5, atol=1e-6)


def test_each_sample_may_have_its_own_measurement() -> None:
    several = Measurement(
        torch.randn(3, 2, generator=G, dtype=torch.float64), MatrixOperator(MATRIX), GaussianNoise(0.2)
    )
    for name in ("mmps", "pigdm", "ddnm", "diffpir", "dps", "ddrm", "ddnm_plus"):
        sampler, denoiser = METHODS[name](gaussian(), several)
        together = sampler.sample(denoiser, (3, 6), seed=7)
        sampler, denoiser = METHODS[name](gaussian(), several[1:2])
        torch.testing.assert_close(
            together[1:2], sampler.sample(denoiser, (1, 6), seed=7, first=1), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", ["mmps", "pigdm", "diffpir", "dds", "dps", "tds"])
def test_poisson_noise_pulls_towards_the_counts(name: str) -> None:
    prior = GaussianDenoiser(VP, torch.full((4,), 5.0), torch.eye(4) + 1.0)
    y = torch.tensor([[9.0, 9.0, 2.0, 9.0]])
    mask = Mask(torch.tensor([True, True, False, True]))
    sampler, denoiser = METHODS[name](prior, Measurement(y, mask, PoissonNoise(2.0)))
    x = replace(sampler, steps=30).sample(denoiser, (64, 4), seed=0)
    prior_x = DPMSolver(30).sample(prior, (64, 4), seed=0)
    assert (x[:, [0, 1, 3]] - 9).abs().mean() < 0.6 * (prior_x[:, [0, 1, 3]] - 9).abs().mean()
    assert x[:, 2].mean() > prior_x[:, 2].mean() + 0.5  # correlated, and not the entry that was masked


@pytest.mark.parametrize("name", ["ddrm", "ddnm_plus"])
def test_poisson_noise_is_refused_where_one_std_is_needed(name: str) -> None:
    measurement = Measurement(torch.ones(1, 6), Mask(torch.ones(6, dtype=torch.bool)), PoissonNoise())
    with pytest.raises(TypeError, match="needs GaussianNoise"):
        METHODS[name](gaussian(), measurement)


@pytest.mark.parametrize("name", ["mmps", "pigdm", "ddnm", "diffpir", "dds", "ddrm", "ddnm_plus", "repaint", "tds"])
def test_nonlinear_operators_are_refused_where_linear_ones_are_needed(name: str) -> None:
    measurement = Measurement(torch.ones(1, 6), FunctionOperator(torch.sin, (6,)), GaussianNoise(0.1))
    with pytest.raises(TypeError, match=r"needs a (linear operator|singular value decomposition)"):
        METHODS[name](gaussian(), measurement)


def test_errors_name_what_is_wrong() -> None:
    measurement = observed()
    with pytest.raises(ValueError, match=r"iterations=0"):
        MMPS(gaussian(), measurement, iterations=0)
    with pytest.raises(ValueError, match=r"solver='lu'"):
        MMPS(gaussian(), measurement, solver="lu")
    with pytest.raises(ValueError, match=r"zeta=-1"):
        DPS(measurement=measurement, zeta=-1)
    with pytest.raises(TypeError, match="expected a Measurement"):
        DDRM(measurement=measurement.y)
    with pytest.raises(ValueError, match="without noise"):
        TDS(measurement=observed(std=0.0))
    with pytest.raises(ValueError, match="posterior of one"):
        TDS(measurement=Measurement(measurement.y.expand(2, 2), MatrixOperator(MATRIX), GaussianNoise(0.1)))
    with pytest.raises(ValueError, match="resamplings=0"):
        RePaint(measurement=observed(std=0.0), resamplings=0)
    with pytest.raises(ValueError, match="alpha = 0"):
        MMPS(gaussian(SDE(FlowSchedule())), measurement)(torch.zeros(1, 6), 1.0)
