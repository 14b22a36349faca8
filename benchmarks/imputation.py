"""Imputation of ETTh1 beside PyPOTS' CSDI: errors, calibration and cost, under one protocol in one process.

The protocol is that of the peer script, whose ``make_protocol`` and ``score`` are imported as they are: seven hourly
variables in scaled units, entries removed once from training, validation and test, windows of 48 hours, every sixth to
train on, 60 windows to judge by, 300 processor seconds of fitting on one thread for each model, 100 samples a window.

Ours is `TimeSeriesDiffusion` on frames with time stamps, with its defaults but for the window starts of the protocol,
the targets of training (``--targets`` low and high rate of what is hidden) and the number of steps, which follows from
what a step costs, measured on 30 steps first. Each test window comes as a series of its own, so that nothing outside of
it is seen. What theirs costs and scores is measured by the peer script's own ``run``, as is every other method named by
``--peers``; ``csdi_small`` draws its samples 50 steps each.

Figures at 10 and 50 percent removed: ``mae``, ``crps``, ``coverage90``, ``width90``, steps and processor seconds of
fitting and of sampling, the same of each peer as ``METHOD_mae_10`` ..., and ``time_ratio``, our processor seconds of
all samples over theirs (the larger of both rates). It passes if at 10 % MAE is at most 0.104 and CRPS 0.080, at 50 %
0.186 and 0.140, the 90 % intervals hold 87 to 93 %, and the time is at most a tenth. (Between the quantiles at 5 and
95 % of 100 samples lie 88 % of values where a model is exact.)
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from common import parser, record, set_threads, steps_within

from ornstein.domains.timeseries.data import SeriesData
from ornstein.domains.timeseries.diffusion import TimeSeriesDiffusion
from ornstein.domains.timeseries.missingness import Random

LIMITS = {10: {"mae": 0.104, "crps": 0.080}, 50: {"mae": 0.186, "crps": 0.140}}
OPTIONS = {"checkpoint_every": 10**9, "log_every_n_steps": 200, "accelerator": "cpu"}


def load_peer(path: str) -> ModuleType:
    """The peer script as a module."""
    spec = importlib.util.spec_from_file_location("peer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def frames(peer: ModuleType, proto: dict[str, Any], csv: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training series as a wide frame, and the test windows as a panel of 60 series, with NaN where removed."""
    raw = pd.read_csv(csv, parse_dates=["date"], index_col="date")

    def frame(split: str) -> pd.DataFrame:
        first, last = peer.SPLITS[split]
        values = np.full((last - first, raw.shape[1]), np.nan)
        for start, window in zip(range(0, last - first, peer.STRIDE[split]), proto[split]["x"]):
            values[start : start + peer.WIN] = window
        return pd.DataFrame(values, raw.index[first:last], raw.columns)

    test = frame("test")
    windows = [test.iloc[start : start + peer.WIN] for start in range(0, len(test), peer.WIN)]
    return frame("train"), pd.concat(dict(enumerate(windows)), names=["window", "date"])


def fit(data: SeriesData, steps: int, folder: Path, seed: int) -> tuple[TimeSeriesDiffusion, float]:
    """A model trained for ``steps`` steps, and the processor seconds of that."""
    model = TimeSeriesDiffusion(window=data.length, seed=seed)
    start = time.process_time()
    model.fit(data, run=folder, max_steps=steps, **OPTIONS)
    return model, time.process_time() - start


def ours(peer: ModuleType, proto: dict[str, Any], given: argparse.Namespace, seconds: float) -> dict[str, float]:
    """Scores and costs of our model."""
    train, test = frames(peer, proto, given.csv)
    data = SeriesData(
        train,
        heldout=0,
        validation=0,
        length=peer.WIN,
        stride=peer.STRIDE["train"],
        starts="grid",
        targets=Random(*given.targets),
        batch_size=given.batch,
    )
    with tempfile.TemporaryDirectory() as scratch:
        steps = steps_within(seconds, lambda n: fit(data, n, Path(scratch) / f"steps-{n}", given.seed)[1])
        model, spent = fit(data, steps, Path(scratch) / "run", given.seed)
    start = time.process_time()
    samples = model.sample(test, given.samples, seed=given.seed)
    sampled = time.process_time() - start
    shape = (given.samples, len(proto["test"]["x"]), *proto["test"]["x"].shape[1:])
    found = peer.score(np.moveaxis(samples.to_numpy().reshape(shape), 0, 1), proto)
    size = sum(parameter.numel() for parameter in model.parameters())
    return named(found) | {"steps": steps, "fit_seconds": spent, "sample_seconds": sampled, "parameters": size}


def theirs(peer: ModuleType, method: str, proto: dict[str, Any], given: argparse.Namespace) -> dict[str, float]:
    """The same of a method of the peer script."""
    arguments = argparse.Namespace(
        samples=given.samples, seed=given.seed, threads=given.threads, batch=16, budget_cpu_s=given.seconds,
        eval_windows=None,
    )  # fmt: skip
    found = peer.run(method, proto, arguments)
    costs = {"fit_cpu_s": "fit_seconds", "predict_cpu_s": "sample_seconds", "params": "parameters"}
    return named(found) | {ours: found[name] for name, ours in costs.items() if found.get(name)}


def named(found: dict[str, Any]) -> dict[str, float]:
    """The scores that are figures here."""
    names = {"mae": "mae", "rmse": "rmse", "crps": "crps", "cov90": "coverage90", "width90": "width90"}
    return {ours: found[name] for name, ours in names.items() if found[name] is not None}


def main() -> int:
    """Fit and judge all at both rates, print and record."""
    options = parser(__doc__)
    options.add_argument("--csv", default="../shared/data/ett/ETTh1.csv", help="the data (default: %(default)s)")
    options.add_argument("--peer", default="../shared/peers/pypots_csdi_etth1.py", help="the script (%(default)s)")
    options.add_argument("--peers", nargs="*", default=["linear", "gaussian", "csdi_small"], help="its methods")
    options.add_argument("--rates", type=int, nargs="+", default=[10, 50], help="percent removed (%(default)s)")
    options.add_argument("--seconds", type=float, default=300.0, help="processor time of fitting (%(default)s)")
    options.add_argument("--samples", type=int, default=100, help="of a window (default: %(default)s)")
    options.add_argument("--targets", type=float, nargs=2, default=(0.05, 0.5), help="rates hidden (%(default)s)")
    options.add_argument("--batch", type=int, default=32, help="windows a step (default: %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="of masks, training and samples (default: %(default)s)")
    given = options.parse_args()
    set_threads(given.threads)
    seconds = 10.0 if given.quick else given.seconds
    methods = [name for name in given.peers if not (given.quick and name.startswith(("csdi", "saits")))]
    peer = load_peer(given.peer)
    figures: dict[str, float] = {}
    ratios = []
    for rate in given.rates:
        proto = peer.make_protocol(given.csv, rate / 100, seed=given.seed)
        found = {"": ours(peer, proto, given, seconds)} | {
            f"{name}_": theirs(peer, name, proto, given) for name in methods
        }
        figures |= {f"{name}{key}_{rate}": value for name, part in found.items() for key, value in part.items()}
        ratios += [
            found[""]["sample_seconds"] / part["sample_seconds"] for name, part in found.items() if "csdi" in name
        ]
        print({key: value for key, value in figures.items() if key.endswith(f"_{rate}")}, file=sys.stderr)
    passed = {}
    for rate in given.rates:
        for key, limit in LIMITS.get(rate, {}).items():
            passed[f"{key}_{rate}"] = figures[f"{key}_{rate}"] <= limit
        passed[f"coverage90_{rate}"] = 0.87 <= figures[f"coverage90_{rate}"] <= 0.93
    if ratios:
        figures["time_ratio"] = max(ratios)
        passed["time_ratio"] = max(ratios) <= 0.1
    return record("imputation", figures, passed, seeds=[given.seed], quick=given.quick, threads=given.threads,
                  packages=["pypots"] if any("csdi" in name for name in methods) else [])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
