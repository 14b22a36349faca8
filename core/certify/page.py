"""The page of a certification: one table each for samplers, likelihoods and posterior methods, and their figures."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["write_page"]

Row = dict[str, Any]

INTRODUCTION = """\
# Certification

Every sampler, likelihood and posterior method on problems whose solution is known; made by `ornstein certify`, commit
{commit}, {seconds:.0f} seconds on {cores} cores, one thread. The denoiser is exact throughout, so the errors are the
methods' own. {verdict}

## Samplers

The claimed order of convergence, and the one measured at the finest doubling of the steps: on a Gaussian and on a
mixture against the exact probability-flow ODE, or, for stochastic samplers, the exact covariance under a cosine and
under EDM's schedule. For methods without an order the numbers are error over tolerance: that asked of an error control,
or that of the covariance in a long run of Restart, Langevin dynamics or the adaptive SDE solver. Where a Gaussian is
better solved than claimed the method is superconvergent on linear problems.
"""
QUALITY = """
Sliced Wasserstein distance to two mixtures by number of evaluations, on the default grid: eight narrow modes on a
ring, and four of uneven width. `-` where the budget allows no run. The lowest of each column is the one to trust with
so few evaluations.
"""
LIKELIHOODS = """
## Likelihoods

Estimated minus true negative log-density in nats: the mean over the data, its Monte-Carlo error and the worst sample.
A bound's error is at least zero and falls with its steps.
"""
POSTERIORS = """
## Posterior methods

A correlated Gaussian in 64 dimensions behind each operator at three noise levels. Root mean square errors of the
posterior mean (of the prior's deviation) and deviation (of the exact one), and the mean error of the probability of
central intervals; the worst over operators, at each noise level. Methods that are exact in a limit can be trusted
with all three; of the others the table says what they get wrong.
"""


def write_page(folder: Path, tables: dict[str, list[Row]], result: Row) -> None:
    """Write ``certification.md`` and its figures into the folder."""
    failed = [key for key, held in result["passed"].items() if not held]
    verdict = "All that was required holds." if not failed else f"Not met: {', '.join(failed)}."
    text = INTRODUCTION.format(
        commit=result["commit"],
        seconds=result["figures"]["seconds"],
        cores=result["machine"]["cores"],
        verdict=verdict,
    )
    text += (
        _orders(tables["orders"])
        + "\n![Orders of convergence](images/certify_order.png)\n"
        + QUALITY
        + _quality(tables["quality"])
    )
    text += "\n![Distance by evaluations](images/certify_quality.png)\n"
    text += LIKELIHOODS + _likelihoods(tables["likelihoods"])
    text += "\n![Errors of exact densities](images/certify_density.png)\n"
    text += "\n![Bounds by steps](images/certify_likelihood.png)\n"
    text += POSTERIORS + _posteriors(tables["posteriors"])
    text += "\n![Errors of posterior methods](images/certify_posterior.png)\n"
    (folder / "certification.md").write_text(text, encoding="utf-8")
    pictures = folder / "images"
    pictures.mkdir(exist_ok=True)
    _draw(pictures, tables)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *[list(row) for row in rows]]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _orders(rows: list[Row]) -> str:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["sampler"], []).append(row)
    lines = []
    for name, pair in found.items():
        claimed = str(pair[0].get("expected", "none"))
        values = [_number(row.get("measured", row.get("error_over_tolerance"))) for row in pair]
        kind = "moments" if pair[0]["problem"].startswith("moments") else "trajectories"
        lines.append([f"`{name}`", claimed, kind, *values])
    return _table(("sampler", "order claimed", "of", "Gaussian / cosine", "mixture / EDM"), lines)


def _quality(rows: list[Row]) -> str:
    mixtures = list(dict.fromkeys(row["mixture"] for row in rows))
    budgets = list(dict.fromkeys(row["budget"] for row in rows if row["budget"] is not None))
    names = list(dict.fromkeys(row["sampler"] for row in rows if row["budget"] is not None))
    cells = {(row["sampler"], row["mixture"], row["budget"]): row for row in rows}
    best = {
        (m, b): min(row["distance"] for row in rows if (row["mixture"], row["budget"]) == (m, b))
        for m in mixtures
        for b in budgets
    }

    def cell(name: str, mixture: str, budget: int) -> str:
        row = cells.get((name, mixture, budget))
        if row is None:
            return "-"
        text = f"{row['distance']:.4f}"
        return f"**{text}**" if row["distance"] <= 1.1 * best[mixture, budget] else text

    lines = [[f"`{name}`", *[cell(name, m, b) for m in mixtures for b in budgets]] for name in names]
    text = _table(("sampler", *[f"{m}, {b}" for m in mixtures for b in budgets]), lines)
    adaptive = [row for row in rows if row["budget"] is None]
    lines = [[f"`{r['sampler']}`", r["mixture"], str(r["nfe"]), f"{r['distance']:.4f}"] for r in adaptive]
    return text + _table(("with error control", "mixture", "evaluations", "distance"), lines)


def _likelihoods(rows: list[Row]) -> str:
    lines = [
        [
            row["problem"],
            f"`{row['method']}`",
            _number(row["error"]),
            _number(row["standard_error"]),
            "-" if row["bound"] else _number(row["worst"]),
            str(row["nfe"]),
        ]
        for row in rows
    ]
    return _table(("problem", "method", "error", "standard error", "worst", "evaluations"), lines)


def _posteriors(rows: list[Row]) -> str:
    levels = sorted({row["noise_std"] for row in rows})
    names = list(dict.fromkeys(row["method"] for row in rows))
    lines = []
    for name in names:
        own = [row for row in rows if row["method"] == name]
        columns = []
        for key in ("mean_error", "std_error", "calibration_error"):
            worst = [_worst(own, key, level) for level in levels]
            columns.append(" / ".join(_number(value) for value in worst))
        evaluations = max(row["nfe"] for row in own)
        lines.append([f"`{name}`", *columns, str(evaluations), "yes" if own[0]["exact"] else "no", own[0]["bias"]])
    noise = " / ".join(f"{level:g}" for level in levels)
    header = (
        "method",
        f"mean error at noise {noise}",
        "deviation",
        "calibration",
        "evaluations",
        "exact in a limit",
        "bias",
    )
    return _table(header, lines)


def _worst(rows: list[Row], key: str, level: float) -> float | None:
    return max((row[key] for row in rows if row["noise_std"] == level), default=None)


def _draw(folder: Path, tables: dict[str, list[Row]]) -> None:
    from matplotlib.figure import Figure

    def save(name: str, columns: int, paint: Callable[[Any], None], height: float = 4.5) -> None:
        figure = Figure(figsize=(5.5 * columns, height), layout="constrained")
        paint(figure.subplots(1, columns, squeeze=False)[0])
        figure.savefig(folder / f"certify_{name}.png", dpi=110)

    save("order", 1, lambda axes: _draw_orders(axes[0], tables["orders"]), 7.5)
    save("quality", 2, lambda axes: _draw_quality(axes, tables["quality"]), 5.5)
    save("density", 1, lambda axes: _draw_density(axes[0], tables["likelihoods"]), 3.8)
    save("likelihood", 3, lambda axes: _draw_likelihood(axes, tables["likelihoods"]), 3.8)
    save("posterior", 3, lambda axes: _draw_posterior(axes, tables["posteriors"]))


def _draw_orders(axis: Any, rows: list[Row]) -> None:
    """Claimed orders as bars with their tolerance, measured ones as points."""
    rows = [row for row in rows if "order_error" in row]
    names = list(dict.fromkeys(row["sampler"] for row in rows))
    for row in rows:
        span = 2 * row["tolerance"]
        axis.barh(names.index(row["sampler"]), span, left=row["expected"] - span / 2, color="0.85")
    problems = {"gaussian": "C0", "mixture": "C1", "moments_cosine": "C2", "moments_edm": "C3"}
    for problem, color in problems.items():
        own = [row for row in rows if row["problem"] == problem]
        places = [names.index(row["sampler"]) for row in own]
        axis.plot([row["measured"] for row in own], places, "o", ms=4, color=color, label=problem.replace("_", " of "))
    axis.set(xlabel="order of convergence", yticks=range(len(names)), yticklabels=names, xticks=range(1, 6))
    axis.tick_params(axis="y", labelsize=8)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.legend(fontsize=8)


def _draw_density(axis: Any, rows: list[Row]) -> None:
    """The worst sample's error of every method that claims the density of each."""
    rows = [row for row in rows if not row["bound"]]
    names = list(dict.fromkeys(row["method"] for row in rows))
    for i, problem in enumerate(dict.fromkeys(row["problem"] for row in rows)):
        own = [row for row in rows if row["problem"] == problem]
        places = [names.index(row["method"]) + 0.2 * (i - 1) for row in own]
        axis.plot([max(row["worst"], 1e-9) for row in own], places, "o", color=f"C{i}", label=problem)
    axis.axvline(1e-4, color="0.6", ls=":")
    axis.set(xscale="log", xlabel="worst error of a sample, nats", yticks=range(len(names)), yticklabels=names)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.legend(fontsize=8)


def _draw_quality(axes: Any, rows: list[Row]) -> None:
    styles = ["-", "--", ":", "-."]
    for axis, mixture in zip(axes, dict.fromkeys(row["mixture"] for row in rows)):
        names = list(dict.fromkeys(row["sampler"] for row in rows if row["budget"] is not None))
        for i, name in enumerate(names):
            own = [r for r in rows if (r["sampler"], r["mixture"]) == (name, mixture) and r["budget"] is not None]
            points = [(r["nfe"], r["distance"]) for r in own]
            axis.plot(*zip(*points), styles[i // 10], marker="os^v"[i % 4], ms=3, color=f"C{i % 10}", label=name)
        axis.set(xscale="log", yscale="log", title=mixture, xlabel="evaluations", ylabel="sliced Wasserstein distance")
        axis.set_xticks([5, 10, 20, 50], ["5", "10", "20", "50"])
        axis.set_xticks([], minor=True)
    axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_likelihood(axes: Any, rows: list[Row]) -> None:
    for axis, problem in zip(axes, dict.fromkeys(row["problem"] for row in rows)):
        for kind in ("small", "large", "optimal"):
            own = [r for r in rows if r["problem"] == problem and r["bound"] and r["method"].endswith(f"_{kind}")]
            points = [(int(r["method"].split("_")[1]), max(r["error"], 1e-3)) for r in own]
            axis.plot(*zip(*points), marker="o", label=f"variance {kind}")
        axis.set(xscale="log", yscale="log", title=problem, xlabel="steps", ylabel="gap of the bound, nats")
        axis.set_xticks([10, 25, 50], ["10", "25", "50"])
        axis.minorticks_off()
    axes[0].legend(fontsize=8)


def _draw_posterior(axes: Any, rows: list[Row]) -> None:
    names = list(dict.fromkeys(row["method"] for row in rows))
    for axis, key in zip(axes, ("mean_error", "std_error", "calibration_error")):
        for i, level in enumerate(sorted({row["noise_std"] for row in rows})):
            own = [row for row in rows if row["noise_std"] == level]
            places = [names.index(row["method"]) + 0.2 * (i - 1) for row in own]
            axis.plot([max(row[key], 1e-4) for row in own], places, ".", color=f"C{i}", label=f"noise {level:g}")
        axis.set(xscale="log", title=key.replace("_", " "), yticks=range(len(names)), yticklabels=names)
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
    axes[0].legend(fontsize=8)
