"""Configurations: faithful, safe, and helpful when they are wrong."""

import inspect
import json
import math

import numpy as np
import ornstein_toy as toy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ornstein_toy.parts import Careless, Holder, Loose, Recorder, Typed

import ornstein.core
from ornstein.core import SDE, CosineSchedule, Schedule, VPSchedule, nn, training
from ornstein.core.config import class_path, constructor_parameters, from_config, near, resolve_class, to_config
from ornstein.core.training import EMA

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_plain_values_come_back_through_json(value: object) -> None:
    if isinstance(value, dict) and "class_path" in value:
        return
    tree = json.loads(json.dumps(to_config(Holder(value))))
    assert from_config(tree).value == value


def test_nested_objects_come_back() -> None:
    adapter = toy.ToyDiffusion(toy.ToyNetwork(width=5), VPSchedule(0.2, 10.0), label_dropout=0.3)
    tree = json.loads(json.dumps(to_config(adapter)))
    again = from_config(tree, toy.DomainAdapter)
    assert to_config(again) == to_config(adapter)
    assert again.schedule == VPSchedule(0.2, 10.0)
    assert again.network.width == 5


def test_lists_become_tuples_unless_the_argument_is_a_list() -> None:
    built = from_config({"class_path": "ornstein_toy.parts.Typed", "init_args": {"pair": [1, 2], "items": [3]}})
    assert built.pair == (1, 2)
    assert built.items == [3]


def test_arrays_become_lists() -> None:
    held = to_config(Holder([np.float64(0.1), torch.tensor([[1.5, 2.0]]), np.arange(2)]))
    assert held["init_args"]["value"] == [0.1, [[1.5, 2.0]], [0, 1]]


@pytest.mark.parametrize(
    ("cls", "path"),
    [
        (CosineSchedule, "ornstein.core.CosineSchedule"),
        (nn.UNet, "ornstein.core.nn.UNet"),
        (EMA, "ornstein.core.training.EMA"),
        (toy.ToyNetwork, "ornstein_toy.ToyNetwork"),
        (Holder, "ornstein_toy.parts.Holder"),
    ],
)
def test_class_path_is_the_shortest(cls: type, path: str) -> None:
    assert class_path(cls) == path
    assert resolve_class(path) is cls


def _public_classes() -> list[type]:
    modules = (ornstein.core, nn, training)
    classes = {
        value for module in modules for name in module.__all__ if inspect.isclass(value := getattr(module, name))
    }
    bases = (Schedule, ornstein.core.Sampler, ornstein.core.Grid, ornstein.core.Weighting, ornstein.core.TrainingTimes)
    bases += (ornstein.core.Objective, SDE, EMA, training.PowerEMA, training.TrainingOptions)
    kinds = (c for c in classes if issubclass(c, bases) and not inspect.isabstract(c))
    # A measurement, a teacher and a classifier are data and models, which a configuration does not hold.
    return sorted((c for c in kinds if not _is_given_data(c)), key=lambda c: c.__name__)


def _is_given_data(cls: type) -> bool:
    parameters = constructor_parameters(cls)
    return any(
        n in parameters and parameters[n].default is inspect.Parameter.empty
        for n in ("measurement", "teacher", "classifier")
    )


EXAMPLES = {
    "ConsistencyObjective": lambda cls: cls(ornstein.core.GridPairs()),
    "CentredSDE": lambda cls: cls(CosineSchedule()),
    "GridBelow": lambda cls: cls(0.5),
    "PartlyGiven": lambda cls: cls(ornstein.core.DenoisingObjective()),
    "PartsGiven": lambda cls: cls(ornstein.core.DenoisingObjective(), ["a"]),
    "SharedEncoding": lambda cls: cls(ornstein.core.DenoisingObjective()),
    "ProductObjective": lambda cls: cls({"x": ornstein.core.DenoisingObjective()}),
    "FreeFirst": lambda cls: cls(samplers={"x": ornstein.core.DDIM()}),
    "ProductSampler": lambda cls: cls(samplers={"x": ornstein.core.DDIM()}),
    "SymmetricSDE": lambda cls: cls(CosineSchedule()),
    "ShiftedSchedule": lambda cls: cls(CosineSchedule(), 2.0),
    "TableSchedule": lambda cls: cls(tuple(np.linspace(1e-4, 0.02, 50))),
    "ZeroTerminalSNR": lambda cls: cls(VPSchedule()),
    "SDE": lambda cls: cls(CosineSchedule()),
    "Times": lambda cls: cls((1.0, 0.5, 0.0)),
}


@pytest.mark.parametrize("cls", _public_classes(), ids=lambda cls: cls.__name__)
def test_every_component_is_rebuilt_from_its_configuration(cls: type) -> None:
    built = EXAMPLES.get(cls.__name__, lambda c: c())(cls)
    for name in constructor_parameters(cls):
        assert hasattr(built, name), f"{cls.__name__} does not keep {name}"
    tree = json.loads(json.dumps(to_config(built)))
    again = from_config(tree)
    assert type(again) is cls
    assert to_config(again) == to_config(built)


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "eval",
        "torch.nn.Linear",
        "ornstein.core.cli.main",  # a function
        "ornstein.core.cli.Path",  # a class that the module imported
        "ornstein.core.config.importlib.import_module",
        "ornsteinx.Thing",
        "",
    ],
)
def test_what_lies_outside_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"refused|there is no module"):
        from_config({"class_path": path, "init_args": {}})


def test_trust_is_given_by_name() -> None:
    tree = {"class_path": "fractions.Fraction", "init_args": {}}
    with pytest.raises(ValueError, match="refused"):
        resolve_class(tree["class_path"])
    assert resolve_class(tree["class_path"], trusted=("fractions",)).__name__ == "Fraction"


def test_an_unexpected_class_is_not_even_built() -> None:
    Recorder.built = 0
    tree = {"class_path": "ornstein_toy.parts.Recorder"}
    with pytest.raises(TypeError, match=r"ornstein_toy.parts.Recorder is no Schedule"):
        from_config(tree, Schedule)
    with pytest.raises(TypeError, match=r"SDE.schedule: ornstein_toy.parts.Recorder is no Schedule"):
        from_config({"class_path": "ornstein.core.SDE", "init_args": {"schedule": tree}})
    assert Recorder.built == 0
    from_config(tree, Recorder)
    assert Recorder.built == 1


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"class_path": "ornstein.core.CosinSchedule"}, "did you mean 'CosineSchedule'"),
        ({"class_path": "ornstein.core.schedule.X"}, r"no module 'ornstein.core.schedule' \(did you mean 'schedules'"),
        (
            {"class_path": "ornstein.core.VPSchedule", "init_args": {"beta_mim": 1}},
            "no argument 'beta_mim' .did you mean",
        ),
        ({"class_path": "ornstein.core.SDE"}, "SDE needs the argument 'schedule'"),
        (
            {"class_path": "ornstein_toy.parts.Typed", "init_args": {"mode": "fats"}},
            "'fast', 'slow', got 'fats' .did you",
        ),
        (
            {"class_path": "ornstein_toy.parts.Typed", "init_args": {"number": "3"}},
            "Typed.number must be one of float, got",
        ),
        (
            {"class_path": "ornstein_toy.parts.Typed", "init_args": {"number": True}},
            "Typed.number must be one of float",
        ),
        ({"class_path": "ornstein_toy.parts.Typed", "arguments": {}}, "unexpected key 'arguments'"),
        ({"class_path": "ornstein_toy.parts.Typed", "init_args": [1]}, "'init_args' must be a mapping"),
        ({"init_args": {}}, "expected a configuration"),
        ("text", "expected a configuration"),
    ],
)
def test_errors_say_what_and_how(tree: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        from_config(tree)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "NaN"),
        (lambda x: x, "cannot hold"),
        (int, "cannot hold"),
        (object(), "cannot hold"),
        ({1: 2}, "keys that are not strings"),
        (torch.zeros(70_000), "70000 numbers"),
        (torch.nn.Parameter(torch.zeros(2)), "keep it in the weights"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "array of datetime64"),
    ],
)
def test_what_no_configuration_can_hold(value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        to_config(Holder(value))


def test_the_convention_is_asked_for() -> None:
    with pytest.raises(TypeError, match="Careless does not keep its constructor argument 'width'"):
        to_config(Careless(3))
    with pytest.raises(TypeError, match="Loose is not configurable"):
        to_config(Loose(a=1))
    assert Typed().mode == "fast"


def test_near() -> None:
    assert near("lrr", ["lr", "betas"]) == " (did you mean 'lr'?)"
    assert near("zzz", ["lr"]) == ""
