"""Diffusers' models and schedulers under our samplers: the same schedule, and the same trajectories."""

import json
from functools import partial

import pytest
import torch

from ornstein.core import (
    DDIM,
    SDE,
    CosineSchedule,
    DPMSolver,
    Euler,
    FlowSchedule,
    Heun,
    PowerTime,
    TableSchedule,
    Times,
    VESchedule,
    VPSchedule,
)
from ornstein.domains.images.interop import DiffusersDenoiser, load_pipeline, read_scheduler, times_of_steps

diffusers = pytest.importorskip("diffusers")

BETAS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def network(**options):
    torch.manual_seed(0)
    settings = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
    }
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "layers_per_block": 1}
    return diffusers.UNet2DModel(**settings, **blocks, **options).eval()


@pytest.fixture(scope="module")
def unet():
    return network()


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize(
    "betas",
    [
        {"beta_schedule": "linear"},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "sigmoid"},
        {"trained_betas": [0.1, 0.2, 0.3, 0.4], "num_train_timesteps": 4},
    ],
)
def test_tables_agree(betas, zero_snr):
    scheduler = diffusers.DDPMScheduler(**BETAS | betas, rescale_betas_zero_snr=zero_snr)
    read = read_scheduler(scheduler)
    times = torch.tensor(times_of_steps(range(read.steps), read.steps).values[:-1], dtype=torch.float64)
    theirs = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(read.schedule.alpha(times) ** 2, theirs, rtol=2e-4, atol=1e-6)
    assert (read.schedule.alpha(1.0).item() == 0) == zero_snr


@pytest.mark.parametrize(
    ("theirs", "ours"), [("epsilon", "eps"), ("sample", "x0"), ("v_prediction", "v"), ("flow_prediction", "flow")]
)
def test_predictions_are_named(theirs, ours):
    assert read_scheduler({**BETAS, "prediction_type": theirs}).prediction == ours


def test_flow_schedulers_are_read():
    read = read_scheduler(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0))
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    torch.testing.assert_close(read.schedule.sigma(t), 3 * t / (1 + 2 * t))
    assert read.prediction == "flow"
    dynamic = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with pytest.raises(ValueError, match="depends on the resolution: give shift="):
        read_scheduler(dynamic)
    assert read_scheduler(dynamic, shift=2.0).schedule.sigma(t)[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"num_train_timesteps": 10}, ValueError, "no 'beta_schedule', whose default differs"),
        ({**BETAS, "beta_schedule": "cosine"}, ValueError, "beta_schedule='cosine': expected linear"),
        ({**BETAS, "prediction_type": "noise"}, ValueError, "prediction_type='noise' has no counterpart"),
        ("nowhere.json", FileNotFoundError, "no such file"),
        (3, TypeError, "a scheduler of type int"),
    ],
)
def test_bad_schedulers_are_named(config, error, message):
    with pytest.raises(error, match=message):
        read_scheduler(config)
    with pytest.raises(ValueError, match="shift is for flow"):
        read_scheduler(BETAS, shift=2.0)


def run_theirs(scheduler, model, x, steps):
    scheduler.set_timesteps(steps)
    x = x * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(model(scheduler.scale_model_input(x, t), t).sample, t, x).prev_sample
    return x, scheduler.timesteps


SAMPLERS = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False, "timestep_spacing": "trailing"}, DDIM),
    "euler": (diffusers.EulerDiscreteScheduler, {"timestep_spacing": "trailing"}, Euler),
    "heun": (diffusers.HeunDiscreteScheduler, {"timestep_spacing": "trailing"}, partial(Heun, bounded=False)),
    "dpm2m": (
        diffusers.DPMSolverMultistepScheduler,
        {"timestep_spacing": "trailing", "final_sigmas_type": "zero", "lower_order_final": False},
        DPMSolver,
    ),
}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_our_samplers_walk_diffusers_trajectories(unet, name, prediction):
    scheduler_class, options, sampler = SAMPLERS[name]
    scheduler = scheduler_class(**BETAS, prediction_type=prediction, **options)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected, timesteps = run_theirs(scheduler, unet, x, 10)
    denoiser = DiffusersDenoiser(unet, read_scheduler(scheduler))
    grid = times_of_steps(dict.fromkeys(timesteps.tolist()), 1000)
    start = x
    if name in ("euler", "heun"):  # theirs move x / alpha, and start from noise of their own scale
        start = x * float(scheduler.init_noise_sigma) * float(denoiser.process.level(grid.values[0]).alpha)
    got = sampler(10, grid=grid).sample(denoiser, x.shape, x=start)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_the_schedule_to_sample_with_is_free(unet):
    """The same noise levels under another schedule give the same pictures."""
    read = read_scheduler(BETAS)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    results = []
    for schedule in (read.schedule, CosineSchedule(), VESchedule(0.001, 200), FlowSchedule()):
        denoiser = DiffusersDenoiser(unet, read, SDE(schedule))
        sampler = DPMSolver(10, grid=PowerTime(2.0, VPSchedule(), None))
        level = denoiser.process.level(sampler.grid(10, denoiser.process)[0])
        results.append(sampler.sample(denoiser, x.shape, x=x * float(level.sigma)))
        if schedule is not read.schedule:
            torch.testing.assert_close(results[-1], results[0], rtol=1e-3, atol=2e-3)


def test_whole_steps_come_back_from_log_snr(unet):
    read = read_scheduler(BETAS)
    denoiser = DiffusersDenoiser(unet, read)
    times = torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert torch.equal(denoiser.timestep(read.schedule.log_snr(times)), torch.arange(1000.0, dtype=torch.float64))
    assert denoiser.timestep(float("inf")) == 0
    assert denoiser.timestep(-1e9) == 999
    flow = DiffusersDenoiser(unet, read_scheduler(diffusers.FlowMatchEulerDiscreteScheduler()))
    assert flow.timestep(0.0) == pytest.approx(500)


def test_flow_models_agree(unet):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(8)
    x = start = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t).sample, t, x).prev_sample
    denoiser = DiffusersDenoiser(unet, read_scheduler(scheduler))
    levels = 2 * ((1 - scheduler.sigmas.double()) / scheduler.sigmas.double()).log()
    grid = Times(tuple(denoiser.process.schedule.time(levels).tolist()))
    got = Euler(8, grid=grid).sample(denoiser, start.shape, x=start)
    torch.testing.assert_close(got, x, rtol=1e-4, atol=1e-4)


def test_classes_and_learned_variances():
    model = network(num_class_embeds=3)
    denoiser = DiffusersDenoiser(model, read_scheduler(BETAS))
    x, t, label = torch.randn(2, 1, 8, 8), 0.5, torch.tensor([0, 2])
    with torch.no_grad():
        expected = model(x, 499, class_labels=label).sample
        torch.testing.assert_close(denoiser(x, t, label=label).eps, expected, rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match="needs labels from 0 to 2"):
            denoiser(x, t)
        nulled = DiffusersDenoiser(model, read_scheduler(BETAS), null_label=1)
        nothing, one = nulled(x, t).eps, nulled(x, t, label=torch.tensor([1, 1])).eps
    torch.testing.assert_close(nothing, one)
    wide = diffusers.UNet2DModel(**{**dict(model.config), "out_channels": 2})
    with torch.no_grad():
        answer = DiffusersDenoiser(wide.eval(), read_scheduler(BETAS))(x, t, label=label).mean
    assert answer.shape == x.shape


def test_networks_without_classes_refuse_labels(unet):
    denoiser = DiffusersDenoiser(unet, read_scheduler(BETAS))
    assert denoiser.shape == (1, 8, 8)
    with pytest.raises(ValueError, match="no classes"):
        denoiser(torch.randn(1, 1, 8, 8), 0.5, label=torch.tensor([0]))
    with pytest.raises(TypeError, match="expected a UNet2DModel"):
        DiffusersDenoiser(torch.nn.Linear(1, 1), read_scheduler(BETAS))


def test_a_saved_pipeline(unet, tmp_path):
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**BETAS)).save_pretrained(tmp_path)
    denoiser = load_pipeline(tmp_path)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(denoiser(x, 0.3).eps, unet(x, 299).sample, rtol=1e-5, atol=1e-5)
    assert isinstance(denoiser.process.schedule, TableSchedule)


def test_pickles_and_other_networks_are_refused(unet, tmp_path):
    pipeline = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**BETAS))
    pipeline.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.bin: pickled weights .* safe_serialization=True"):
        load_pipeline(tmp_path)
    (tmp_path / "unet/diffusion_pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        load_pipeline(tmp_path)
    config = tmp_path / "unet/config.json"
    config.write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(TypeError, match="expected a UNet2DModel"):
        load_pipeline(tmp_path)
    config.write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        load_pipeline(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_pipeline(tmp_path / "nowhere")
