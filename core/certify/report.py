"""The whole certification: run every table, judge it, write the record, a page and its figures."""

import json
import math
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ..provenance import commit, machine
from .likelihoods import likelihood_table
from .page import write_page
from .posterior import METHODS, posterior_table
from .samplers import order_table, quality_table

__all__ = ["certify"]

Row = dict[str, Any]

EXACT = 0.02  # error that a method which is exact in a limit may have
QUICK_CLAIMS = ("ddim", "heun", "unipc_2", "dpm_solver_2m_sde", "rk45")


def certify(output: str | Path, *, quick: bool = False, say: Callable[[str], None] = lambda text: None) -> Row:
    """Certify every sampler, likelihood and posterior method on problems whose solution is known.

    Writes ``certify.json``, ``certification.md`` and the figures ``certify_*.png``.  One thread; some minutes.

    Args:
        output: the folder to write to.
        quick: a few methods and samples, in less than a minute; the figures then mean little.
        say: is told of each row that is done.

    Raises:
        ImportError: without matplotlib, which draws the figures.

    Returns:
        The content of ``certify.json``: ``name``, ``commit``, ``machine``, ``seeds``, ``figures`` (every number of the
        tables by a flat name) and ``passed`` (what was required of them).
    """
    if find_spec("matplotlib") is None:
        raise ImportError("the certification draws figures with matplotlib: pip install 'ornstein[images]'")
    started, threads = time.perf_counter(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        measured_on, tables = machine(), _tables(quick, say)
    finally:
        torch.set_num_threads(threads)
    figures, passed = _figures(tables), _judged(tables, quick)
    figures["seconds"] = time.perf_counter() - started
    result = {
        "name": "certify",
        "commit": commit(),
        "machine": measured_on,
        "seeds": [0],
        "figures": {key: value if isinstance(value, int) else float(f"{value:.6g}") for key, value in figures.items()},
        "passed": passed,
    } | ({"quick": True} if quick else {})
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "certify.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_page(folder, tables, result)
    return result


def _tables(quick: bool, say: Callable[[str], None]) -> dict[str, list[Row]]:
    def told(row: Row) -> None:
        say("  ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))

    likelihoods = likelihood_table(samples=32 if quick else 256)
    for row in likelihoods:
        told(row)
    return {
        "orders": order_table(QUICK_CLAIMS if quick else None, report=told),
        "quality": quality_table(
            samples=1000 if quick else 10_000, budgets=(5,) if quick else (5, 10, 20, 50), report=told
        ),
        "likelihoods": likelihoods,
        "posteriors": posterior_table(quick=quick, report=told),
    }


def _figures(tables: dict[str, list[Row]]) -> dict[str, float]:
    """Every number, by a flat name."""
    orders = [row for row in tables["orders"] if "order_error" in row]
    exact = [row for row in tables["posteriors"] if row["exact"]]
    figures: dict[str, float] = {
        "worst_order_error": max(row["order_error"] for row in orders),
        "worst_error_over_tolerance": max(
            (row["error_over_tolerance"] for row in tables["orders"] if "error_over_tolerance" in row), default=0.0
        ),
        "worst_exact_mean_error": max(row["mean_error"] for row in exact),
        "worst_exact_std_error": max(row["std_error"] for row in exact),
    }
    for row in tables["orders"]:
        measured = "measured" if "measured" in row else "error_over_tolerance"
        kind = "order" if measured == "measured" else measured
        figures[f"{kind}_{row['sampler']}_{row['problem']}"] = row[measured]
    for row in tables["quality"]:
        budget = row["budget"] if row["budget"] is not None else "adaptive"
        figures[f"quality_{row['mixture']}_{budget}_{row['sampler']}"] = row["distance"]
        figures[f"nfe_{row['mixture']}_{budget}_{row['sampler']}"] = row["nfe"]
    for row in tables["likelihoods"]:
        name = f"{row['problem']}_{row['method']}"
        figures[f"log_density_error_{name}"] = row["error"]
        if not math.isnan(row["worst"]):
            figures[f"log_density_worst_{name}"] = row["worst"]
    for row in tables["posteriors"]:
        name = f"{row['method']}_{row['operator']}_{row['noise_std']:g}"
        for key in ("mean_error", "std_error", "calibration_error"):
            figures[f"posterior_{key}_{name}"] = row[key]
    return figures


def _judged(tables: dict[str, list[Row]], quick: bool) -> dict[str, bool]:
    """What is required: claimed orders and tolerances; densities; bounds that are bounds; exact posteriors."""
    passed = {f"order_{row['sampler']}_{row['problem']}": bool(row["passed"]) for row in tables["orders"]}
    passed["declared_evaluations"] = all(row["nfe"] == row["declared"] for row in tables["quality"])
    for row in tables["likelihoods"]:
        name = f"log_density_{row['problem']}_{row['method']}"
        if row["bound"]:
            passed[name] = row["error"] >= -4 * row["standard_error"]
        elif row["method"] == "ode_exact_1e-06":
            passed[name] = row["worst"] <= 1e-4
        elif row["standard_error"] > 0:
            passed[name] = abs(row["error"]) <= 4 * row["standard_error"] + 1e-3
    for method in METHODS:
        rows = [row for row in tables["posteriors"] if row["method"] == method and row["exact"]]
        if rows and not quick:
            passed[f"posterior_{method}"] = all(max(r["mean_error"], r["std_error"]) <= EXACT for r in rows)
    return passed
