"""Are generated windows like real ones? Told apart, learned from, and compared in their moments.

Windows are ``(N, L, K)`` without missing values; scale the variables alike beforehand. Every figure depends on the
number of windows, so set it beside the same figure of held-out real windows, as many of them (`judge_generation` does).

| question | judge | best |
| --- | --- | --- |
| can a network tell them from real ones? | `discriminative_score` | 0 |
| does a network that learned from them predict real ones? | `predictive_score` | that of real windows |
| does a linear forecaster? | `linear_predictive_score` | that of real windows |
| do values, autocorrelations and correlations of variables agree? | `moment_differences` | that of real windows |
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.core.evaluation import wasserstein_1d
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array, as_array

__all__ = ["discriminative_score", "linear_predictive_score", "moment_differences", "predictive_score"]

TRAIN_SHARE = 0.8
BATCH = 128


def discriminative_score(
    synthetic: Array, real: Array, *, steps: int = 500, width: int | None = None, lr: float = 3e-3, seed: int = 0
) -> float:
    """``|accuracy - 1/2|`` of a classifier of held-out windows, in [0, 1/2] (TimeGAN, Yoon et al. 2019).

    A GRU and a linear layer on its last state learn from four fifths of both, and are tested on the last; the larger
    set is drawn from, so that half are real. TimeGAN takes 2000 steps of a GRU half as wide as there are variables;
    a wider one sees more. The deviation by chance is about ``0.4 / sqrt(windows tested)``.

    Args:
        synthetic: ``(N, L, K)``, at least ten.
        real: ``(M, L, K)``, at least ten.
        steps: of Adam, in batches of 128.
        width: of the GRU; ``max(16, 2 K)`` when not given.
        lr: learning rate.
        seed: of split, weights and batches.

    Raises:
        TypeError, ValueError: no windows of one shape, too few, or missing values.
    """
    made, true = _pair(synthetic, real, at_least=10)
    rng = np.random.default_rng(seed)
    count = min(len(made), len(true))
    cut = round(TRAIN_SHARE * count)
    rows = [windows[rng.permutation(len(windows))[:count]] for windows in (made, true)]
    train, test = (torch.cat([part[which] for part in rows]) for which in (slice(cut), slice(cut, None)))
    labels = torch.tensor([0.0, 1.0]).repeat_interleave(cut)
    network = _learn(
        lambda: _GRU(train.shape[2], width or max(16, 2 * train.shape[2]), 1),
        lambda net, i: nn.functional.binary_cross_entropy_with_logits(net(train[i])[:, -1, 0], labels[i]),
        len(train),
        (steps, lr, seed),
    )
    with torch.no_grad():
        called = network(test)[:, -1, 0] > 0
    wanted = torch.tensor([False, True]).repeat_interleave(count - cut)
    return abs(float((called == wanted).float().mean()) - 0.5)


def predictive_score(
    synthetic: Array, real: Array, *, steps: int = 500, width: int | None = None, lr: float = 3e-3, seed: int = 0
) -> float:
    """Mean absolute error, on real windows, of a GRU that learned the next step from synthetic ones (TimeGAN).

    "Train on synthetic, test on real". It predicts all ``K`` variables of step ``l + 1`` from the steps up to ``l``;
    TimeGAN's code predicts the last variable from the others, so its figures are not comparable. In units of the data.

    Args:
        synthetic: ``(N, L, K)`` of at least two steps.
        real: ``(M, L, K)``.
        steps: of Adam, in batches of 128.
        width: of the GRU; ``max(16, 2 K)`` when not given.
        lr: learning rate.
        seed: of weights and batches.

    Raises:
        TypeError, ValueError: no windows of one shape, a single step, or missing values.
    """
    made, true = _pair(synthetic, real)
    require(made.shape[1] > 1, "steps of the windows", made.shape[1], "at least 2, to predict one from another")
    network = _learn(
        lambda: _GRU(made.shape[2], width or max(16, 2 * made.shape[2]), made.shape[2]),
        lambda net, i: (net(made[i, :-1]) - made[i, 1:]).abs().mean(),
        len(made),
        (steps, lr, seed),
    )
    with torch.no_grad():
        return float((network(true[:, :-1]) - true[:, 1:]).abs().mean())


def linear_predictive_score(synthetic: Array, real: Array, *, horizon: int, ridge: float = 1.0) -> float:
    """Error, on real windows, of a ridge regression that learned from synthetic ones (TSDiff, 2307.11494).

    The last ``horizon`` steps from those before, all variables at once, in closed form: nothing of it is by chance. The
    figure is ``sum |error| / sum |truth|``, which is gluonts' CRPS of a point.

    Args:
        synthetic: ``(N, L, K)``.
        real: ``(M, L, K)``.
        horizon: steps to predict.
        ridge: penalty of scikit-learn's ``Ridge``.

    Raises:
        ImportError: scikit-learn is missing.
        TypeError, ValueError: no windows of one shape, missing values, or a horizon without steps before it.
    """
    made, true = _pair(synthetic, real)
    steps = made.shape[1]
    require(1 <= horizon < steps, "horizon", horizon, f"1 to {steps - 1}, with steps before it")
    tools = need("sklearn.linear_model", to="fit a linear forecaster", extra="timeseries")
    (x, y), (past, future) = (
        (w[:, : steps - horizon].double().flatten(1).numpy(), w[:, steps - horizon :].double().flatten(1).numpy())
        for w in (made, true)
    )
    predicted = tools.Ridge(alpha=ridge).fit(x, y).predict(past).reshape(future.shape)
    size = np.abs(future).sum()
    require(size > 0, "real", "zeros", "values to be relative to")
    return float(np.abs(predicted - future).sum() / size)


def moment_differences(synthetic: Array, real: Array, *, lags: int | None = None) -> dict[str, float]:
    """How far values, autocorrelations and correlations are apart; correlations as in Diffusion-TS (2403.01742).

    * ``marginal``: Wasserstein-1 distance of the values of each variable, over its real deviation, mean over variables.
    * ``autocorrelation``: mean absolute difference at lags 1 to ``lags``, over variables.
    * ``correlation``: mean absolute difference of the correlations between variables; left out of one variable.

    Correlations are about the mean of all windows, so that levels that differ between windows count.

    Args:
        synthetic: ``(N, L, K)``.
        real: ``(M, L, K)``.
        lags: half the steps when not given.

    Raises:
        TypeError, ValueError: no windows of one shape, missing values, a real variable that is constant, or lags that
            the windows do not have.
    """
    made, true = (w.double() for w in _pair(synthetic, real))
    lags = made.shape[1] // 2 if lags is None else lags
    require(0 <= lags < made.shape[1], "lags", lags, f"0 to {made.shape[1] - 1}, the longest of these windows")
    flat_made, flat_true = made.flatten(0, 1), true.flatten(0, 1)
    deviation = flat_true.std(0)
    require(bool((deviation > 0).all()), "real", "a constant variable", "some that vary")
    found = {"marginal": float((wasserstein_1d(flat_made, flat_true) / deviation).mean())}
    if lags:
        found["autocorrelation"] = float((_autocorrelation(made, lags) - _autocorrelation(true, lags)).abs().mean())
    if made.shape[2] > 1:
        first, second = torch.triu_indices(made.shape[2], made.shape[2], offset=1)
        apart = (_correlation(flat_made) - _correlation(flat_true)).abs()
        found["correlation"] = float(apart[first, second].mean())
    return found


def _autocorrelation(windows: Tensor, lags: int) -> Tensor:
    """``(lags, K)`` at lags 1, 2 ..."""
    centred = windows - windows.mean((0, 1))
    scale = centred.square().mean((0, 1)).clamp_min(1e-300)
    return torch.stack([(centred[:, lag:] * centred[:, :-lag]).mean((0, 1)) / scale for lag in range(1, lags + 1)])


def _correlation(rows: Tensor) -> Tensor:
    return torch.corrcoef(rows.T).nan_to_num()  # of a constant variable: 0


class _GRU(nn.Module):
    """A GRU and a linear layer on each of its states."""

    def __init__(self, variables: int, width: int, outputs: int) -> None:
        super().__init__()
        self.gru = nn.GRU(variables, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


def _learn(
    make: Callable[[], nn.Module],
    loss: Callable[[Any, Tensor], Tensor],
    count: int,
    settings: tuple[int, float, int],
) -> nn.Module:
    """A network from its seed, trained by Adam on random batches of ``count`` rows; the global state stays as it is."""
    steps, lr, seed = settings
    require(steps >= 1, "steps", steps, "at least 1")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = make()
        optimiser = torch.optim.Adam(network.parameters(), lr)
        for _ in range(steps):
            optimiser.zero_grad()
            loss(network, torch.randint(count, (BATCH,))).backward()
            optimiser.step()
    return network.eval()


def _pair(synthetic: Array, real: Array, at_least: int = 1) -> tuple[Tensor, Tensor]:
    found = []
    for windows, name in ((synthetic, "synthetic"), (real, "real")):
        array = as_array(windows, name)
        require(array.ndim == 3 and array.size > 0, f"shape of {name}", array.shape, "(N, L, K)")
        require(len(array) >= at_least, name, f"{len(array)} windows", f"at least {at_least}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds missing or infinite values: give whole windows")
        found.append(torch.from_numpy(array.astype(np.float32)))
    made, true = found
    require(made.shape[1:] == true.shape[1:], "shape of synthetic", tuple(made.shape), f"(N, {true.shape[1:]}) of real")
    return made, true
