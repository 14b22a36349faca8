"""What the conformance suites run on: instances of every concrete class of a contract."""

import inspect
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

import ornstein.core as core
from ornstein.core.config import class_path, from_config
from ornstein.core.samplers import ControlledSampler

__all__ = ["EXAMPLES", "instances"]

T = TypeVar("T")

EXAMPLES: dict[type, tuple[Any, ...]] = {
    core.CosineSchedule: (core.CosineSchedule(), core.CosineSchedule(s=0.0)),
    core.SigmoidSchedule: (core.SigmoidSchedule(), core.SigmoidSchedule(0.0, 3.0, 0.3), core.SigmoidSchedule(tau=0.1)),
    core.TableSchedule: (
        core.TableSchedule.linear(),
        core.TableSchedule.scaled_linear(),
        core.TableSchedule((0.1, 0.2, 0.5, 1.0)),
    ),
    core.ShiftedSchedule: (
        core.ShiftedSchedule(core.VPSchedule(), 3.0),
        core.ShiftedSchedule(core.SubVPSchedule(), 3.0),
        core.ShiftedSchedule(core.VESchedule(), 3.0),
        core.ShiftedSchedule(core.FlowSchedule(), 3.0),
        core.ShiftedSchedule(core.SigmoidSchedule(), 0.5),
    ),
    core.ZeroTerminalSNR: (
        core.ZeroTerminalSNR(core.VPSchedule()),
        core.ZeroTerminalSNR(core.TableSchedule.linear()),
        core.ZeroTerminalSNR(core.SigmoidSchedule()),
    ),
    core.PowerTime: (core.PowerTime(), core.PowerTime(2.0, core.VPSchedule(), None)),
    core.GridBelow: (core.GridBelow(0.5), core.GridBelow(0.9, core.UniformTime())),
    core.Times: (core.Times((1.0, 0.7, 0.2, 0.0)),),
    core.UniformWeighting: tuple(core.UniformWeighting(of, 0.5) for of in get_args(core.Prediction)),
    core.DDIM: (core.DDIM(), core.DDIM(eta=0.5), core.DDIM(variance="optimal")),
    core.DDPM: (core.DDPM(), core.DDPM(variance="large"), core.DDPM(variance="optimal")),
    core.DPMSolver: tuple(core.DPMSolver(order=order, eta=eta) for order in (1, 2, 3) for eta in (0.0, 1.0)),
    core.RungeKutta: (core.RungeKutta(), core.RungeKutta(method="dpm2", form="noise")),
    core.PredictorCorrector: tuple(
        core.PredictorCorrector(predictor=name) for name in ("reverse_diffusion", "euler", "none")
    ),
    core.ImportanceTimes: (core.ImportanceTimes(bins=7, history=2),),
    core.UniPC: tuple(core.UniPC(order=order, predicts=of) for order in (1, 2, 3) for of in ("mean", "eps")),
    core.DEIS: tuple(core.DEIS(order=order) for order in (1, 2, 3, 4)),
    core.PNDM: (core.PNDM(), core.PNDM(order=2)),
    core.SASolver: (core.SASolver(), core.SASolver(tau=0.0)),
    # Samplers that are given a measurement or a classifier have tests of their own, with one.
    core.ProductSampler: (
        core.ProductSampler(samplers={"a": core.DDPM(), "b": core.DDIM()}),
        core.ProductSampler(samplers={"a": core.DDIM(), "b": core.DPMSolver()}),
    ),
    core.FreeFirst: (core.FreeFirst(samplers={"a": core.DDPM(), "b": core.DDIM()}),),
    core.GeodesicODE: (core.GeodesicODE(), core.GeodesicODE(method="euler")),
    core.GeodesicRandomWalk: (core.GeodesicRandomWalk(), core.GeodesicRandomWalk(corrections=2)),
    core.TauLeaping: (core.TauLeaping(), core.TauLeaping(corrections=2)),
    core.Remasking: (core.Remasking(), core.Remasking(confidence=True, eta=0.5), core.Remasking(held=3)),
    core.Unmasking: (core.Unmasking(), core.Unmasking(positions=core.Blockwise(2, core.MarginFirst()))),
    **dict.fromkeys((core.DPS, core.DDRM, core.DDNMPlus, core.RePaint, core.Replacement, core.TDS), ()),
    **dict.fromkeys((core.MeasuredReplacement, core.ScoreMRI), ()),
    ControlledSampler: (),
    core.SequentialSampler: (),  # takes denoisers of its own alone, and as many evaluations as states have positions
}
"""Instances to test of classes that cannot be made without arguments, or of which one is not enough."""


def _concrete(base: type[Any]) -> Iterator[type[Any]]:
    for cls in base.__subclasses__():
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_"):
            yield cls
        yield from _concrete(cls)


def instances(base: type[T]) -> list[T]:
    """The instances of every imported, concrete subclass of ``base`` of ornstein and the registered domains."""
    found: list[T] = []
    for cls in sorted(set(_concrete(base)), key=class_path):
        try:
            # Classes that nobody can name in a configuration are somebody's test doubles.
            from_config({"class_path": class_path(cls), "init_args": {"no such argument": 0}})
        except ValueError as error:
            if "refused" in str(error) or "there is no module" in str(error):
                continue
        found += EXAMPLES[cls] if cls in EXAMPLES else [cls()]
    return found
