"""What `TimeSeriesDiffusion` is made of: windows of series to states and back, and how it learns of its data."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    CosineSchedule,
    DenoisingObjective,
    DPMSolver,
    EDMWeighting,
    LogNormalTimes,
    NetworkDenoiser,
    Objective,
    Prediction,
    Sampler,
    SharedEncoding,
    UniformLogSNR,
)
from ornstein.core.adapter import DomainAdapter, Example
from ornstein.core.training.seeds import derive_seed, seeded
from ornstein.domains.timeseries.data import SeriesReference
from ornstein.domains.timeseries.facts import Scaled, SeriesFacts
from ornstein.domains.timeseries.network import SeriesTransformer
from ornstein.domains.timeseries.windows import Rows

__all__ = ["GRID", "SeriesModel", "default_objective"]

GRID = UniformLogSNR(-8.0, 10.0)
"""Times of few steps: evenly spaced, a solver spreads entries alike that are sharply and hardly known. What more noise
than log-SNR -8 would tell, the network's guess tells."""

WINDOWS = 8  # curves in a picture
WIDTHS = ("calendar", "covariates", "static")
TOLD = ("time", *WIDTHS)


def default_objective(network: nn.Module | None) -> Objective:
    """The loss of EDM at noise levels about those where values are decided; with four noise draws of a window for one
    encoding of what is known, if the network (`SeriesTransformer` where it is None) can encode apart.
    """
    loss = DenoisingObjective(EDMWeighting(0.2), LogNormalTimes(-1.5, 1.4))
    return SharedEncoding(loss, draws=4) if network is None or hasattr(network, "encode") else loss


class SeriesModel(DomainAdapter):
    """A model of windows of series, which is built when the facts of its data are known.

    Args:
        window: steps of a window.
        facts: what the training data tell (`SeriesFacts.fit`); `fit` learns them when they are not given.
        network: see `SeriesTransformer`, which is the default. It is a pattern: `fit` trains a copy.
        process: the forward process.
        prediction: what the network predicts.
        objective: the training loss.
        sampler: of the tasks.
        seed: of the initial weights.
    """

    from_data: ClassVar[tuple[str, ...]] = ("facts",)
    default_batch_size: ClassVar[int] = 512

    def __init__(
        self,
        window: int,
        facts: SeriesFacts | None,
        network: nn.Module | None,
        process: SDE | None,
        prediction: Prediction,
        objective: Objective | None,
        sampler: Sampler | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.window, self.prediction, self.seed = window, prediction, seed
        self._facts: SeriesFacts | None = None
        self.process = SDE(CosineSchedule()) if process is None else process
        self.objective = default_objective(network) if objective is None else objective
        self.sampler = DPMSolver(8, grid=GRID) if sampler is None else sampler
        self._pattern = [network]  # in a list: not a part of the model
        self.eval()
        if isinstance(facts, SeriesFacts):
            self.build(facts)

    def build(self, facts: SeriesFacts) -> None:
        """Make the network for data of these facts, with weights that the seed decides.

        Raises:
            TypeError: facts of another kind.
            ValueError: a window below 2 steps.
        """
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 2:
            raise ValueError(f"window={self.window!r}: expected a whole number of steps, at least 2")
        if not isinstance(facts, SeriesFacts):
            raise TypeError(f"facts={facts!r}: expected SeriesFacts, such as SeriesFacts.fit(panel)")
        network = copy.deepcopy(self._pattern[0])
        if network is None:
            with seeded(derive_seed(self.seed, "initialisation")):
                network = SeriesTransformer(
                    len(facts.variables), *map(facts.widths.__getitem__, WIDTHS), prediction=self.prediction
                )
        self._facts = facts
        self.denoiser = NetworkDenoiser(network, self.process, self.prediction).eval()

    @property
    def facts(self) -> SeriesFacts | None:
        """What the training data told; None before."""
        return self._facts

    @property
    def network(self) -> nn.Module | None:
        """The network inside the denoiser; before the facts are known, the one that was given."""
        return self._pattern[0] if self.facts is None else self.denoiser.network

    def known(self) -> SeriesFacts:
        """The facts.

        Raises:
            NotFittedError: there are none yet.
        """
        if self.facts is None:
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(f"this {type(self).__name__} knows no data yet; call fit, or give facts=")
        return self.facts

    # Batches and states.

    def encode(self, batch: Any) -> Example:
        """Windows of a data module as the denoiser takes them: what is observed and no target is given.

        Args:
            batch: a dict with ``values`` and ``observed`` ``(B, L, K)``, and perhaps ``target``, ``time``,
                ``calendar``, ``covariates`` and ``static``; see `WindowData`.

        Raises:
            TypeError: another kind of batch.
            ValueError: other shapes, or values that are not finite.
        """
        if not isinstance(batch, Mapping) or "values" not in batch or "observed" not in batch:
            came = type(batch).__name__
            raise TypeError(f"the batch is of type {came}: expected a dict with 'values' and 'observed'")
        values, observed = batch["values"], batch["observed"]
        count = len(self.known().variables)
        if values.ndim != 3 or values.shape[2] != count or observed.shape != values.shape:
            raise ValueError(
                f"values of shape {tuple(values.shape)} with observed {tuple(observed.shape)}: expected (B, L, {count})"
            )
        if not bool(torch.isfinite(values).all()):
            raise ValueError("values hold NaN or infinite numbers: expected 0 where nothing is observed")
        target = batch.get("target")
        given = torch.zeros_like(observed) if target is None else observed & ~target
        told = {name: batch[name] for name in TOLD if name in batch}
        return Example(values, {"given": given, **told}, observed)

    def decode(self, state: Any) -> np.ndarray:
        """Windows ``(N, L, K)`` in units of the data, float64."""
        return self.known().unscale(state.detach().cpu().numpy())

    def state_shape(self, num: int, condition: Mapping[str, Tensor]) -> tuple[int, ...]:
        """``(num, L, K)``."""
        length = condition["time"].shape[1] if "time" in condition else self.window
        return (num, length, len(self.known().variables))

    def example_batch(self, num: int) -> dict[str, Tensor]:
        """A batch of random windows, as a data module would give it, for the conformance suite."""
        generator = torch.Generator().manual_seed(0)
        rows = Rows.of(self.blank(num, self.window, seed=0), self.window)
        batch = rows.batch(torch.arange(num), torch.zeros(num, dtype=torch.int64))
        shape = batch["values"].shape
        observed = torch.rand(shape, generator=generator) < 0.9
        target = observed & (torch.rand(shape, generator=generator) < 0.3)
        return {
            **batch,
            "values": torch.randn(shape, generator=generator) * observed,
            "observed": observed,
            "target": target,
        }

    def blank(self, num: int, length: int, seed: int, first: int = 0) -> list[Scaled]:
        """Series of which nothing is known; where stamps have cycles, each starts on a day drawn from four years.

        Raises:
            ValueError: the model needs covariates or static values.
        """
        facts = self.known()
        if needed := [name for name in ("covariates", "static") if facts.widths[name]]:
            raise ValueError(
                f"the model was trained with columns that are {needed[0]}: give sample() a frame that has them, with "
                "no value observed"
            )
        shape, none = (length, len(facts.variables)), np.empty(0, dtype=np.float32)
        series = []
        for number in range(first, first + num):
            calendar = np.empty((length, 0), dtype=np.float32)
            if facts.clock.cycles:
                day = np.random.default_rng(derive_seed(seed, "calendar", number)).integers(1461)
                start = np.datetime64("2000-01-01", "ns") + day * np.timedelta64(86_400_000_000_000, "ns")
                later: Any = facts.clock.next(np.array([start]), length - 1) if length > 1 else []
                calendar = facts.clock.features(np.concatenate([[start], later]).astype("datetime64[ns]"))
            values, observed = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
            elapsed = np.arange(length, dtype=np.float64)
            series.append(Scaled(values, observed, elapsed, calendar, np.empty((length, 0), dtype=np.float32), none))
        return series

    # Files, pictures and judges.

    def render(self, samples: np.ndarray, path: str | Path) -> None:
        """The windows as curves (PNG), a panel a variable."""
        from ornstein.core.evaluation.drawing import COLOURS, INK, axes_grid, figure_bytes

        figure, rows = axes_grid(samples.shape[2], extra="timeseries", width=7.6, height=1.75)
        for k, (axes, name) in enumerate(zip(rows, self.known().names)):
            for i, window in enumerate(samples[:WINDOWS]):
                axes.plot(window[:, k], color=COLOURS[i % len(COLOURS)], linewidth=0.9)
            axes.set_ylabel(str(name), color=INK, fontsize=9)
        rows[-1].set_xlabel("step", color=INK)
        Path(path).write_bytes(figure_bytes(figure))

    def write(self, samples: np.ndarray, directory: str | Path, *, first: int = 0) -> list[Path]:
        """Each window as ``000000.csv`` and so on, a column a variable."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        paths = [Path(directory) / f"{first + i:06d}.csv" for i in range(len(samples))]
        names = ["/".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in self.known().names]
        for path, window in zip(paths, samples):
            lines = [",".join(names), *(",".join(map(repr, row)) for row in window.tolist())]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return paths

    def evaluate(self, samples: Any, reference: SeriesReference) -> dict[str, float]:
        """Judge generated windows, and the imputation of held-out windows beside simple methods.

        Args:
            samples: windows ``(N, L, K)``, as ``sample`` gives them.
            reference: the data module's ``reference()``.
        """
        from ornstein.domains.timeseries.judging import judge_reference

        windows = samples["samples"] if isinstance(samples, Mapping) else samples
        return judge_reference(self, np.asarray(windows), reference)  # type: ignore[arg-type]  # it has the tasks
