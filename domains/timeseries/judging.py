"""A model judged beside simple methods: entries are hidden from all of them, and what they say is compared."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ornstein.core.training.seeds import derive_seed
from ornstein.domains.timeseries.data import SeriesReference
from ornstein.domains.timeseries.facts import Scaled
from ornstein.domains.timeseries.judges import (
    default_baselines,
    judge_generation,
    judge_imputation,
    predict_baselines,
)
from ornstein.domains.timeseries.missingness import Missingness
from ornstein.domains.timeseries.panel import Panel
from ornstein.domains.timeseries.windows import Batch, FixedWindows, Rows

if TYPE_CHECKING:
    from ornstein.domains.timeseries.tasks import SeriesTasks

__all__ = ["judge_reference", "predictions", "reference_of", "report_of", "series_of"]

ENOUGH = 40
"""Complete windows from which on generated ones are judged; a half holds the twenty that `judge_generation` needs."""


def reference_of(model: "SeriesTasks", panel: Panel, train: Panel, removed: Missingness, seed: int) -> SeriesReference:
    """Windows of a panel with entries removed, beside windows of the data that baselines learn from."""
    facts = model.known()
    rows, learned = (Rows.of([facts.scale(one) for one in some.series], model.window) for some in (panel, train))
    heldout = FixedWindows.cover(rows, model.window, removed, derive_seed(seed, "removed")).all()
    known = FixedWindows.cover(learned, model.window, None, 0).all()
    return SeriesReference(known, heldout, facts)


def predictions(
    model: "SeriesTasks", reference: SeriesReference, n: int, period: int | None, **options: Any
) -> dict[str, np.ndarray]:
    """Samples ``(n, B, L, K)`` of the model under ``"model"``, and what baselines say, by name; in scaled units."""
    heldout, train = reference.heldout, reference.train
    given = heldout["observed"] & ~heldout["target"]
    with model.evaluating(), torch.no_grad():
        found = model.completion(**options)(series_of(heldout, given), n)
    known = _with_gaps(heldout["values"], given)
    regular = bool((heldout["time"].diff(dim=1) - 1).abs().max() <= 0.01)
    time = None if regular else heldout["time"].double().numpy()
    learned = _with_gaps(train["values"], train["observed"])
    times = None if regular else train["time"].double().numpy()
    baselines = [one.fit(learned, time=times) for one in default_baselines(period=period, regular=regular)]
    beside = predict_baselines(baselines, known, heldout["target"].numpy(), n=n, time=time, seed=model.seed)
    return {"model": np.stack(found, 1), **beside}


def judge_reference(
    model: "SeriesTasks", windows: np.ndarray, reference: SeriesReference, n: int = 50
) -> dict[str, float]:
    """Figures of imputation, the model's without a prefix and each baseline's with its name, and of generated windows.

    Generated windows are judged if ``ENOUGH`` held-out windows lack nothing, by figures that start with ``generated_``.
    """
    truth, target = reference.heldout["values"].double().numpy(), reference.heldout["target"].numpy()
    figures: dict[str, float] = {}
    if target.any():
        for name, samples in predictions(model, reference, n, None).items():
            scores = judge_imputation(samples, truth, target, joint=False)
            chosen = scores if name == "model" else {key: scores[key] for key in ("mae", "crps") if key in scores}
            figures |= {(key if name == "model" else f"{name}_{key}"): value for key, value in chosen.items()}
    complete = reference.heldout["observed"].flatten(1).all(1)
    if int(complete.sum()) >= ENOUGH:
        facts = reference.facts
        made = (np.asarray(windows) - facts.means) / facts.deviations
        found = judge_generation(made, truth[complete.numpy()])
        figures |= {f"generated_{name}": value for name, value in found.items()}
    return figures


def report_of(
    model: "SeriesTasks",
    reference: SeriesReference,
    n: int,
    period: int | None,
    path: str | Path | None,
    **options: Any,
) -> dict[str, dict[str, float]]:
    """Scores by method, written as a page of HTML if there is a path."""
    found = predictions(model, reference, n, period, **options)
    truth, target = reference.heldout["values"].double().numpy(), reference.heldout["target"].numpy()
    if path is None:
        return {name: judge_imputation(samples, truth, target, joint=False) for name, samples in found.items()}
    from ornstein.domains.timeseries.report import imputation_report

    given = (reference.heldout["observed"] & ~reference.heldout["target"]).numpy()
    names = [str(name) for name in model.known().names]
    return imputation_report(
        path, found, truth, target, values=np.where(given, truth, np.nan), names=names, joint=False
    )


def series_of(batch: Batch, given: Any) -> list[Scaled]:
    """Windows of a batch as series of which only ``given`` is known."""
    count, length, _ = batch["values"].shape

    def part(name: str, i: int, shape: tuple[int, ...]) -> np.ndarray:
        return batch[name][i].numpy() if name in batch else np.empty(shape, dtype=np.float32)

    return [
        Scaled(
            (batch["values"][i] * given[i]).numpy(),
            given[i].numpy(),
            batch["time"][i].double().numpy(),
            part("calendar", i, (length, 0)),
            part("covariates", i, (length, 0)),
            part("static", i, (0,)),
        )
        for i in range(count)
    ]


def _with_gaps(values: Any, known: Any) -> np.ndarray:
    return np.where(known.numpy(), values.double().numpy(), np.nan)
