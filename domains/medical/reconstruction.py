"""`MedicalReconstruction`: slices behind measurements, with their uncertainty and with certificates."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.core import DEIS, SDE, Objective, Prediction, Sampler, UniformLogSNR
from ornstein.core.inverse import (
    POSTERIOR_METHODS,
    SPECTRAL_METHODS,
    LinearOperator,
    Measurement,
    NoiseModel,
    Operator,
    posterior_sampler,
)
from ornstein.core.schedules import require
from ornstein.core.training.seeds import derive_seed
from ornstein.domains.medical.adapter import SliceModel
from ornstein.domains.medical.calibration import Calibration, Guarantee, conformal_factor
from ornstein.domains.medical.certificates import certificates
from ornstein.domains.medical.classical import Classical
from ornstein.domains.medical.data import MedicalReference
from ornstein.domains.medical.finishing import Finish
from ornstein.domains.medical.methods import decomposed, default_method
from ornstein.domains.medical.physics.counts import WATER
from ornstein.domains.medical.results import Reconstruction
from ornstein.domains.medical.scans import first_guess

__all__ = ["MedicalReconstruction"]

EVALUATIONS = 50
CONDITIONAL = "conditional"
NOISIEST = -6.0
"""Log-SNR from which the learned posterior is drawn: noise twenty times the window's half, and often trained at."""
JUDGED = 4  # held-out slices that `evaluate` reconstructs


class MedicalReconstruction(SliceModel):
    """Reconstruction of CT and MRI from raw measurements, by a diffusion prior of slices.

    The prior learns from slices alone (``fit``), and serves every scanner: ``reconstruct`` takes a measurement through
    any operator and draws slices that could have been measured so.

    With a ``guess`` the network is shown what a classical method makes of the measurement, and learns from scans that
    `ScanData` simulates: it serves scanners like those, and needs no steps through the operator. Its samples come from
    the learned posterior (``method="conditional"``, the default then), and its mean from the network's own answer to
    pure noise, which is the posterior mean without the samples' noise; other methods hold samples to the measurement as
    they do those of a prior. With a ``residual`` as well the network works in steps, each of which is shown what the
    answer so far leaves over of the measurement (`UnrolledNetwork`): it takes longer a picture and far fewer to learn.

    Args:
        shape: ``(channels, rows, columns)``; one channel is a real picture, two are a complex one.
        window: ``(low, high)`` in units of the data, which the model sees as -1 and 1; nothing is cut off.
        units: of the data; ``"HU"`` for Hounsfield units, which projectors then see as attenuation in 1/mm.
        water: attenuation of water in 1/mm at the scan's energy, for Hounsfield units.
        network: maps ``(B, C, H, W)`` and noise levels ``(B,)`` to ``(B, C, H, W)``; `default_network` when not given.
        process: the forward process; on a cosine schedule when not given.
        prediction: what the network predicts.
        objective: the training loss.
        sampler: of slices without a measurement.
        seed: of the initial weights of the default network.
        guess, spread, residual: as for `SliceModel`.
        least: the smallest value there can be, in units of the data, to which reconstructions are raised; -1000 for
            Hounsfield units, since nothing attenuates less than a vacuum.
        calibrations: of intervals, by name; `calibrate` adds to them.

    Example:
        >>> import torch
        >>> from ornstein.core.inverse import GaussianNoise, Measurement
        >>> from ornstein.domains.medical.physics import ParallelBeam, Projector, shepp_logan, spread_angles
        >>> model = MedicalReconstruction((1, 16, 16))
        >>> scanner = Projector(ParallelBeam((16, 16), spread_angles(8)))
        >>> seen = Measurement.simulate(shepp_logan().image(16), scanner, GaussianNoise(0.1))
        >>> found = model.reconstruct(seen, num=4, evaluations=3, seed=0)
        >>> found.mean.shape, found.samples.shape
        (torch.Size([1, 1, 16, 16]), torch.Size([1, 4, 1, 16, 16]))
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        window: tuple[float, float] = (0.0, 1.0),
        units: str = "",
        water: float = WATER,
        network: nn.Module | None = None,
        process: SDE | None = None,
        prediction: Prediction = "v",
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        seed: int = 0,
        guess: Classical | None = None,
        spread: float = 0.1,
        residual: Classical | None = None,
        least: float | None = None,
        calibrations: tuple[Calibration, ...] = (),
    ) -> None:
        super().__init__(
            shape, window, units, water, network, process, prediction, objective, sampler, seed, guess, spread,
            residual,
        )  # fmt: skip
        self.least = least if least is None else float(least)
        self.calibrations = tuple(calibrations)

    def reconstruct(
        self,
        measurement: Measurement,
        *,
        method: str | None = None,
        num: int | None = None,
        evaluations: int | None = None,
        seed: int | None = None,
        finish: Finish | None = None,
        calibration: str | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Reconstruction:
        """Posterior samples of every slice of a measurement, their mean and deviation, and certificates.

        With a ``seed``, sample ``k`` of slice ``i`` depends on ``(seed, i, k)`` and the measurement alone.

        Args:
            measurement: of slices in units of the data (of attenuation in 1/mm for projectors of Hounsfield units),
                ``(slices, *measured)``, through any operator, with its noise.
            method: a name from `ornstein.core.inverse.POSTERIOR_METHODS`, or ``"conditional"`` for a model that is
                shown a guess, which is its default; `default_method` of the others. Those that need an operator's
                decomposition, such as ``"ddrm"``, get one found; see `decomposed`.
            num: samples of each slice, at least 2; 16 when not given.
            evaluations: of the network a sample, at most; 50 when not given. See `posterior_sampler`.
            seed: without one, a fresh one is drawn.
            finish: what is made of the means; samples are moved by as much.
            calibration: name of one of ``calibrations``, whose method, number, evaluations and finish are then those of
                the reconstruction.
            batch_size: samples at a time; all ``num`` when not given.
            progress: show bars.

        Raises:
            TypeError: no measurement, or a method that cannot take its operator or noise.
            ValueError: an operator for other slices, an unknown method or calibration, or one that does not fit.
        """
        fitted = None if calibration is None else self._calibration(calibration, measurement)
        if fitted is not None:
            for name, asked, known in (
                ("method", method, fitted.method),
                ("num", num, fitted.num),
                ("evaluations", evaluations, fitted.evaluations),
                ("finish", finish, fitted.finish),
            ):
                if asked is not None and asked != known:
                    raise ValueError(f"{name}={asked!r}: {calibration!r} is calibrated for {known!r}; leave {name} out")
            method, num, evaluations, finish = fitted.method, fitted.num, fitted.evaluations, fitted.finish
        if not isinstance(finish, Finish | None):
            raise TypeError(f"finish={finish!r}: expected a Finish, such as Finish(TotalVariation(300.0), share=0.5)")
        measurement = self._placed(measurement)
        if method is None:
            method = default_method(measurement) if self.guess is None else CONDITIONAL
        num = 16 if num is None else num
        evaluations = EVALUATIONS if evaluations is None else evaluations
        methods = [*POSTERIOR_METHODS, *([] if self.guess is None else [CONDITIONAL])]
        require(method in methods, "method", method, f"one of {', '.join(methods)}")
        require(num >= 2, "num", num, "at least 2 samples, which have a deviation")
        size = num if batch_size is None else batch_size
        require(size >= 1, "batch_size", size, "at least 1")
        if method == "tds" and size < num:
            raise ValueError(f"batch_size={size}: the {num} samples of 'tds' are one population; leave batch_size out")
        seed = int(torch.randint(2**31, ()).item()) if seed is None else seed
        seeds = [derive_seed(seed, "slice", i) for i in range(len(measurement.y))]
        drawn = [
            self._draw(measurement[i : i + 1], method, num, evaluations, size, seeds[i], progress)
            for i in range(len(seeds))
        ]
        samples, means = (torch.stack(parts) for parts in zip(*drawn))
        if finish is not None:
            samples, means = self._finished(finish, measurement, samples, means)
        return self._certified(samples, means, measurement, method, evaluations, fitted, finish)

    @torch.no_grad()
    def _finished(
        self, finish: Finish, measurement: Measurement, samples: Tensor, means: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means as finished, and samples moved by as much."""
        operator = measurement.operator
        found = self.scale.from_operator(finish(measurement, self.scale.to_operator(means, operator)), operator)
        found = found if self.least is None else found.clamp(min=self.least)
        samples = samples + (found - means)[:, None]
        return samples if self.least is None else samples.clamp(min=self.least), found

    def _placed(self, measurement: Measurement) -> Measurement:
        """The measurement on the device of the model, float32, checked."""
        if not isinstance(measurement, Measurement):
            raise TypeError(f"measurement is {type(measurement).__name__}: expected a Measurement(y, operator, noise)")
        shape = measurement.operator.shape
        if shape != self.shape:
            hint = ""
            if self.shape[0] == 1 and shape == (2, *self.shape[1:]):
                hint = "; compose it with RealPicture, for slices without a phase"
            raise ValueError(f"operator for slices {shape}: the model's are {self.shape}{hint}")
        operator = measurement.operator.to(self.device)
        return Measurement(measurement.y.to(self.device, torch.float32), operator, measurement.noise)

    @torch.no_grad()
    def _told(self, seen: Measurement) -> dict[str, Any]:
        """What the network is shown of a measurement."""
        if self.guess is None:
            return {}
        told: dict[str, Any] = {"guess": first_guess(seen, self.guess, self.scale)}
        if self.residual is not None:
            told["seen"] = self.scale.measurement_of_states(seen)
        return told

    @torch.no_grad()
    def _draw(
        self, seen: Measurement, method: str, num: int, evaluations: int, size: int, seed: int, progress: bool
    ) -> tuple[Tensor, Tensor]:
        """``(num, C, H, W)`` samples of one slice, and the mean ``(C, H, W)`` of what they come from, in units of the
        data.
        """
        told = self._told(seen)
        sampler, denoiser = self._method(method, seen, evaluations)
        parts = []
        with self.evaluating():
            for first in range(0, num, size):
                shape = (min(size, num - first), *self.shape)
                condition = _expanded(told, shape)
                parts.append(
                    sampler.sample(denoiser, shape, seed=seed, first=first, condition=condition, progress=progress)
                )
            samples = self._raised(torch.cat(parts))
            mean = self._raised(self._answer(told, seed)) if method == CONDITIONAL else samples.mean(0)
        return samples, mean

    def _raised(self, states: Tensor) -> Tensor:
        """Pictures of states, none of whose values is below ``least``."""
        pictures = self.scale.to_units(states)
        return pictures if self.least is None else pictures.clamp(min=self.least)

    def _answer(self, told: dict[str, Any], seed: int) -> Tensor:
        """The posterior mean that the network answers to noise which holds nothing of the data."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "mean"))
        noise = torch.randn(2, *self.shape, generator=generator).to(self.device)  # whose remainder the mean halves
        t = float(self.process.schedule.time(NOISIEST))
        return self.denoiser(noise, t, **_expanded(told, noise.shape)).mean.mean(0)

    def _method(self, method: str, seen: Measurement, evaluations: int) -> tuple[Sampler, Any]:
        """The sampler, and the denoiser that it asks."""
        if method == CONDITIONAL:
            return DEIS(evaluations, grid=UniformLogSNR(NOISIEST, 12.0)), self.denoiser
        of_states = self.scale.measurement_of_states(seen)
        if method in SPECTRAL_METHODS and isinstance(of_states.operator, LinearOperator):
            of_states = decomposed(of_states)
        return posterior_sampler(method, self.denoiser, of_states, evaluations)

    def _certified(
        self,
        samples: Tensor,
        mean: Tensor,
        measurement: Measurement,
        method: str,
        evaluations: int,
        fitted: Calibration | None,
        finish: Finish | None,
    ) -> Reconstruction:
        operator = measurement.operator
        if not bool(samples.isfinite().all()):
            raise ValueError(f"method={method!r} diverged: samples hold NaN; take more evaluations, or another method")
        mean_seen, samples_seen = (self.scale.to_operator(x, operator) for x in (mean, samples))
        invented, consistency, sampled = certificates(mean_seen, samples_seen, measurement)
        return Reconstruction(
            samples.cpu(),
            mean.cpu(),
            samples.std(1).cpu(),
            None if invented is None else self.scale.difference_from_operator(invented, operator),
            consistency,
            sampled,
            method,
            evaluations,
            self.units,
            self.window,
            fitted,
            finish,
        )

    def calibrate(
        self,
        pictures: Tensor,
        operator: Operator,
        noise: NoiseModel | None = None,
        *,
        name: str,
        levels: Sequence[float] = (0.5, 0.9),
        guarantee: Guarantee = "pixels",
        mask: Tensor | None = None,
        floor: float | None = None,
        method: str | None = None,
        num: int = 16,
        evaluations: int = EVALUATIONS,
        seed: int = 0,
        finish: Finish | None = None,
        progress: bool = False,
    ) -> Calibration:
        """Fit intervals on slices of known truth, whose measurements are simulated here; the model keeps the result.

        Slices that the prior was trained on would flatter it.

        Args:
            pictures: ``(slices, C, H, W)`` in units of the data, not seen in training.
            operator: as in the measurements to come.
            noise: of these.
            name: by which ``reconstruct`` finds the calibration; one of that name is replaced.
            levels: of the intervals.
            guarantee: see `ornstein.domains.medical.calibration`.
            mask: pixels that count, of the shape of the pictures; all when not given.
            floor: what a deviation counts as at least, in units of the data; a thousandth of the window when not given.
            method, num, evaluations, finish, progress: as in `reconstruct`.
            seed: of noise and samples.

        Raises:
            ValueError: slices of another shape, or too few for a level.
        """
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != self.shape or not len(pictures):
            raise ValueError(f"pictures of shape {tuple(pictures.shape)}: expected (at least 1, *{self.shape})")
        floor = (self.window[1] - self.window[0]) / 1000 if floor is None else floor
        seen = self.simulate(pictures, operator, noise, seed=seed)
        options = {"method": method, "num": num, "evaluations": evaluations, "finish": finish, "progress": progress}
        found = self.reconstruct(seen, seed=derive_seed(seed, "calibration"), **options)  # type: ignore[arg-type]
        scores = (pictures.cpu() - found.mean).abs() / found.deviation.clamp(min=floor)
        factors = tuple(conformal_factor(scores, level, guarantee, mask) for level in levels)
        fitted = Calibration(
            name,
            tuple(map(float, levels)),
            factors,
            float(floor),
            found.method,
            evaluations,
            num,
            tuple(operator.measured),
            len(pictures),
            guarantee,
            finish,
        )
        self.calibrations = (*(one for one in self.calibrations if one.name != name), fitted)
        return fitted

    def simulate(
        self, pictures: Tensor, operator: Operator, noise: NoiseModel | None = None, *, seed: int = 0
    ) -> Measurement:
        """A simulated measurement of slices ``(N, C, H, W)`` in units of the data, with noise of the seed.

        Projectors see Hounsfield units as attenuation.
        """
        pictures = self.scale.to_operator(pictures.detach().cpu().float(), operator)
        generator = torch.Generator().manual_seed(derive_seed(seed, "simulation"))
        return Measurement.simulate(pictures, operator.cpu(), noise, generator)

    def evaluate(self, samples: Any, reference: MedicalReference) -> dict[str, float]:
        """Judge slices of the prior, and reconstructions of held-out slices beside classical methods.

        Args:
            samples: slices ``(N, C, H, W)``, as ``sample`` gives them, or a mapping of these as ``"samples"``.
            reference: the data module's ``reference()``. Measurements are simulated from `JUDGED` of its held-out
                slices (`ornstein.domains.medical.judging.standard_problem`); classical methods are tuned on two that
                the prior was trained on.

        Returns:
            Figures of `judge_prior`, and of `judge_problem` by method: ``model_psnr``, ``FBP_psnr`` and so on.
        """
        from ornstein.domains.medical.judging import judge_prior, judge_problem, standard_problem

        slices = samples["samples"] if isinstance(samples, Mapping) else samples
        figures = judge_prior(torch.as_tensor(slices), reference)
        truth, tuning = _spaced(reference.heldout, JUDGED), _spaced(reference.train, 2)
        problem = standard_problem(self.scale, self.shape)
        found = judge_problem(self, problem, truth, tuning, num=10, evaluations=25)
        return figures | {f"{name}_{key}": v for name, row in found.scores.items() for key, v in row.items()}

    def _calibration(self, name: str, measurement: Measurement) -> Calibration:
        found = next((one for one in self.calibrations if one.name == name), None)
        if found is None:
            names = ", ".join(repr(one.name) for one in self.calibrations) or "none; call calibrate"
            raise ValueError(f"calibration={name!r}: the model has {names}")
        if tuple(measurement.operator.measured) != tuple(found.measured):
            raise ValueError(
                f"calibration={name!r} is for measurements {tuple(found.measured)}: got "
                f"{tuple(measurement.operator.measured)}"
            )
        return found


def _expanded(told: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """What is told of one slice, for many samples of it; a measurement is one for all."""
    return {name: x.expand(shape) if isinstance(x, Tensor) else x for name, x in told.items()}


def _spaced(slices: Tensor, count: int) -> Tensor:
    """At most ``count`` slices, evenly spaced, from within the stack."""
    count = min(count, len(slices))
    return slices[[int((i + 0.5) * len(slices) / count) for i in range(count)]]
