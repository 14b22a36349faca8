r"""Models of the library diffusers in ours: a trained ``UNet2DModel`` as a denoiser, a scheduler's settings as a
schedule.

A scheduler of diffusers mixes three things that are apart here. Its betas are a `Schedule`, its ``prediction_type``
says what the network predicts, and its solver is replaced by any of our samplers:

    denoiser = load_pipeline("ddpm-cat-256")
    images = DPMSolver(20).sample(denoiser, (4, *denoiser.shape), seed=0)

The network was trained on step numbers ``0 ... T - 1``. It is asked at a noise level, so the number is read back from
log-SNR through the table of its training, ``i = T time(log_snr) - 1`` (fractions are allowed), whatever schedule
samples. Weights are read from safetensors alone: a pickled ``.bin`` file can run code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    Denoiser,
    FlowSchedule,
    LinearPosterior,
    Parameterisation,
    Prediction,
    Schedule,
    ShiftedSchedule,
    TableSchedule,
    Times,
)
from ornstein.core.optional import need

__all__ = ["DiffusersDenoiser", "ImportedSchedule", "load_pipeline", "read_scheduler", "times_of_steps"]

PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "flow"}
INSTALL = "pip install diffusers"


class ImportedSchedule(NamedTuple):
    """What a diffusers scheduler says about training: the noise schedule, the prediction, and the number of steps."""

    schedule: Schedule
    prediction: Prediction
    steps: int


def read_scheduler(source: Any, *, shift: float | None = None) -> ImportedSchedule:
    """Read a diffusers scheduler into a schedule and a prediction.

    Understood are ``trained_betas``, the beta schedules linear, scaled_linear, squaredcos_cap_v2 and sigmoid with
    ``rescale_betas_zero_snr`` (Lin et al. 2024, 2305.08891), and rectified flow with its ``shift``.

    Args:
        source: a scheduler, its configuration as a mapping, ``scheduler_config.json`` or the folder that holds it.
        shift: of a flow scheduler that shifts by resolution (``use_dynamic_shifting``), whose configuration leaves it
            open.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a setting that is missing, unknown, or has no counterpart.
    """
    config = _configuration(source)
    steps = _setting(config, "num_train_timesteps")
    if "FlowMatch" in str(config.get("_class_name", "")) or config.get("use_flow_sigmas"):
        return ImportedSchedule(_flow_schedule(config, shift), "flow", int(steps))
    if shift is not None:
        raise ValueError("shift is for flow schedulers, and this one has betas; leave it out")
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise ValueError(f"prediction_type={kind!r} has no counterpart: expected one of {', '.join(PREDICTIONS)}")
    betas = _betas(config, int(steps))
    if config.get("rescale_betas_zero_snr"):
        betas = _without_terminal_signal(betas)
    return ImportedSchedule(TableSchedule(tuple(betas.tolist())), PREDICTIONS[kind], int(steps))


def _configuration(source: Any) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    if isinstance(config := getattr(source, "config", None), Mapping):
        return config if "_class_name" in config else {**config, "_class_name": type(source).__name__}
    if not isinstance(source, str | Path):
        raise TypeError(f"a scheduler of type {type(source).__name__}: expected a scheduler, a mapping or a path")
    path = Path(source) / "scheduler_config.json" if Path(source).is_dir() else Path(source)
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a folder that save_pretrained of diffusers wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error}); fetch the file again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no mapping; fetch the file again")
    return content


def _setting(config: Mapping[str, Any], name: str) -> Any:
    # Defaults are not filled in: they differ from class to class, and the model was trained with one of them.
    if config.get(name) is None:
        raise ValueError(
            f"the scheduler's configuration has no {name!r}, whose default differs from class to class; add it"
        )
    return config[name]


def _betas(config: Mapping[str, Any], steps: int) -> Tensor:
    if config.get("trained_betas") is not None:
        return torch.as_tensor(config["trained_betas"], dtype=torch.float64)
    kind = _setting(config, "beta_schedule")
    if kind == "squaredcos_cap_v2":
        angle = (torch.linspace(0, 1, steps + 1, dtype=torch.float64) + 0.008) / 1.008 * torch.pi / 2
        signal = angle.cos() ** 2
        return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    if kind not in ("linear", "scaled_linear", "sigmoid"):
        raise ValueError(
            f"beta_schedule={kind!r}: expected linear, scaled_linear, squaredcos_cap_v2 or sigmoid, or trained_betas"
        )
    start, end = float(_setting(config, "beta_start")), float(_setting(config, "beta_end"))
    if kind == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid() * (end - start) + start


def _without_terminal_signal(betas: Tensor) -> Tensor:
    """The table moved so that the last ``alpha_bar`` is zero and the first stays (Lin et al. 2024, algorithm 1)."""
    root = (1 - betas).cumprod(0).sqrt()
    first, last = root[0], root[-1]
    signal = ((root - last) * first / (first - last)) ** 2
    previous = torch.cat([signal.new_ones(1), signal[:-1]])
    return 1 - signal / previous


def _flow_schedule(config: Mapping[str, Any], shift: float | None) -> Schedule:
    if config.get("use_dynamic_shifting") and shift is None:
        raise ValueError(
            "this flow scheduler's shift depends on the resolution: give shift=, the exponential of its mu"
        )
    factor = config.get("shift", config.get("flow_shift")) if shift is None else shift
    return FlowSchedule() if factor in (None, 1, 1.0) else ShiftedSchedule(FlowSchedule(), float(factor))


def times_of_steps(timesteps: Any, steps: int) -> Times:
    """The grid at which a discrete scheduler with these timesteps stands: ``(i + 1) / steps`` each, and 0 at the end.

    Args:
        timesteps: falling step numbers, as ``scheduler.timesteps``.
        steps: of the training table.

    Example:
        >>> times_of_steps([999, 499], 1000).values
        (1.0, 0.5, 0.0)
    """
    values = [(float(i) + 1) / steps for i in timesteps]
    return Times((*values, 0.0))


class DiffusersDenoiser(Denoiser):
    """A ``UNet2DModel`` of diffusers as a denoiser.

    Args:
        network: the model, or one that is called alike: ``network(x, timestep, class_labels=...)`` answers with
            ``.sample``.
        trained: how it was trained, from `read_scheduler`.
        process: the process to sample with; that of the training when not given.
        null_label: class number that stands for "no label" (-1 here), if the model was trained with one.

    Attributes:
        shape: ``(C, H, W)`` of the pictures, where the model's configuration says it.

    Raises:
        TypeError: a network that is not called so.
    """

    def __init__(
        self,
        network: nn.Module,
        trained: ImportedSchedule,
        process: SDE | None = None,
        null_label: int | None = None,
    ) -> None:
        super().__init__(SDE(trained.schedule) if process is None else process)
        config = getattr(network, "config", None)
        if not isinstance(network, nn.Module) or not isinstance(config, Mapping):
            raise TypeError(f"network of type {type(network).__name__}: expected a UNet2DModel of diffusers")
        self.network = network
        self.trained = trained
        self.null_label = null_label
        self.parameterisation = Parameterisation(trained.prediction)
        size = config.get("sample_size")
        height, width = (size, size) if isinstance(size, int) else (size or (None, None))
        self.channels = config["in_channels"]
        self.shape = None if height is None else (self.channels, height, width)
        self.classes = config.get("num_class_embeds") or 0

    def timestep(self, log_snr: Tensor | float) -> Tensor:
        """The number of the training step with this log-SNR, held to the table; float64, fractions allowed."""
        log_snr = torch.as_tensor(log_snr, dtype=torch.float64)
        schedule, steps = self.trained.schedule, self.trained.steps
        if isinstance(schedule, TableSchedule):
            # Rounding hides the last digits of the way through log-SNR: whole numbers come back whole.
            return schedule.index(schedule.time(log_snr)).clamp(0, steps - 1).mul(1e6).round().div(1e6)
        return FlowSchedule().time(log_snr) * steps

    def forward(self, x_t: Tensor, t: Any, **condition: Tensor) -> LinearPosterior:
        """The posterior for pictures ``(B, C, H, W)`` at time ``t``.

        Args:
            x_t: noisy pictures, on the scale of ``process``.
            t: a time, or one a picture.
            condition: ``label``, class numbers ``(B,)``, for models with classes.

        Raises:
            ValueError: a label for a model without classes, none for one with, or -1 without a ``null_label``.
        """
        if unknown := set(condition) - {"label"}:
            raise ValueError(f"unknown condition {min(unknown)!r}: the model is conditioned by 'label'")
        level = self.process.level(t)
        shaped = level.like(x_t)
        numbers = self.timestep(level.log_snr).to(x_t.device, torch.float32).expand(len(x_t))
        dtype = next(self.network.parameters()).dtype
        inputs = (x_t * self._scale(shaped.alpha, shaped.sigma)).to(dtype)
        output = self.network(inputs, numbers, **self._labels(condition.get("label"), len(x_t))).sample.to(x_t.dtype)
        # A network with a learned variance answers with twice the channels; the mean comes first.
        return LinearPosterior(x_t, self.process, level, output[:, : self.channels], self.parameterisation)

    def _scale(self, alpha: Tensor | float, sigma: Tensor | float) -> Tensor | float:
        """To the scale of the training: ``alpha^2 + sigma^2 = 1`` for tables, ``alpha + sigma = 1`` for flow."""
        if self.trained.prediction == "flow":
            return 1 / (alpha + sigma)
        return (alpha**2 + sigma**2) ** -0.5

    def _labels(self, label: Tensor | None, count: int) -> dict[str, Tensor]:
        if not self.classes:
            if label is not None:
                raise ValueError("label was given but the model has no classes; leave it out")
            return {}
        if label is None:
            label = torch.full((count,), -1, device=next(self.network.parameters()).device)
        if bool((label < 0).any()):
            if self.null_label is None:
                raise ValueError(
                    f"the model needs labels from 0 to {self.classes - 1}; give label=, or null_label= for none"
                )
            label = torch.where(label < 0, self.null_label, label)
        return {"class_labels": label}


def load_pipeline(folder: str | Path) -> DiffusersDenoiser:
    """A denoiser from a folder in which diffusers saved a ``DDPMPipeline`` (or any pipeline of a ``UNet2DModel``).

    Args:
        folder: with ``unet/`` and ``scheduler/`` in it.

    Raises:
        ImportError: diffusers is missing.
        FileNotFoundError: the folder or a part of it is missing.
        TypeError: the network is of another class.
        ValueError: pickled weights alone, or a configuration without a counterpart.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give one that DDPMPipeline.save_pretrained wrote")
    trained = read_scheduler(folder / "scheduler")
    name = _read_json(folder / "unet" / "config.json").get("_class_name")
    if name != "UNet2DModel":
        raise TypeError(f"{folder / 'unet'}: the network is a {name}: expected a UNet2DModel")
    if not list((folder / "unet").glob("*.safetensors")):
        pickled = sorted(path.name for path in (folder / "unet").glob("*.bin"))
        if not pickled:
            raise FileNotFoundError(f"{folder / 'unet'}: no weights (*.safetensors) in the folder; fetch it again")
        raise ValueError(
            f"{folder / 'unet' / pickled[0]}: pickled weights can run code and are not read; where you trust them, "
            "load the pipeline with diffusers and save it with safe_serialization=True"
        )
    diffusers = need("diffusers", to="load its networks", install=INSTALL)
    network = diffusers.UNet2DModel.from_pretrained(
        folder / "unet", use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
    )
    return DiffusersDenoiser(network.eval().requires_grad_(False), trained)
