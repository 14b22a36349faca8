"""The options of ``ornstein fit``: a configuration file, and any part of it overridden on the command line.

    ornstein fit --config FILE --trainer.max_steps=100 --adapter.network.width=32 --run runs/mine

jsonargparse reads both against the constructors' types; what it refuses is said in one line, with the nearest name.
"""

from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Trainer

from ornstein.core.config import constructor_parameters, resolve_class
from ornstein.core.training.data import DataModule
from ornstein.core.training.messages import explain
from ornstein.core.training.options import TrainingOptions
from ornstein.core.training.run import train
from ornstein.core.training.seeds import derive_seed, seed_global_state
from ornstein.core.training.trainer import DEFAULTS, MANAGED, is_first_process

__all__ = ["fit"]

# Objects that only Python code can give.
PYTHON_ONLY = {"callbacks", "logger", "plugins", "profiler"}


def fit(arguments: Sequence[str], adapter_class: type) -> int:
    """Train as the configuration says; the exit status.

    Raises:
        ValueError: an option that is unknown, missing or of the wrong type.
    """
    parser = _parser(adapter_class)
    options = _parse(parser, list(arguments))
    run = options.run or _default_run(options.config)
    # The same seed, the same initial weights.
    seed_global_state(derive_seed(options.training.seed, "initialisation"))
    objects = parser.instantiate(_told_by_data(parser, options))
    result = train(
        objects.adapter,
        objects.data,
        run=run,
        training=objects.training,
        overwrite=options.overwrite,
        **vars(objects.trainer),
    )
    if is_first_process():
        print(f"finished after {result.step} steps; the model is in {result.model}")
    return 0


def _parser(adapter_class: type | None) -> ArgumentParser:
    parser = ArgumentParser(prog="ornstein fit", description="Train a model.", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file with adapter, data, training and trainer")
    parser.add_argument(
        "--run", type=str, default=None, help="the run folder (default: runs/NAME of the configuration)"
    )
    parser.add_argument("--overwrite", action="store_true", help="start anew in a folder that holds a run")
    if adapter_class is not None:
        parser.add_subclass_arguments(adapter_class, "adapter", required=True)
    parser.add_subclass_arguments(DataModule, "data", required=True)
    parser.add_class_arguments(TrainingOptions, "training")
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, skip=set(MANAGED) | PYTHON_ONLY)
    parser.set_defaults({f"trainer.{name}": value for name, value in DEFAULTS.items()})
    return parser


def _told_by_data(parser: ArgumentParser, options: Namespace) -> Namespace:
    """The options with what the adapter wants to know of the data (`DomainAdapter.from_data`) and nobody has given."""
    adapter: Any = resolve_class(options.adapter.class_path)
    arguments = options.adapter.get("init_args") or Namespace()
    parameters = constructor_parameters(adapter)
    missing = [name for name in adapter.from_data if arguments.get(name) == parameters[name].default]
    if missing:
        without = _parser(None)
        data = without.instantiate(Namespace({k: v for k, v in vars(options).items() if k != "adapter"})).data
        options.data = data  # read once
        for name in missing:
            if hasattr(data, name):
                arguments[name] = getattr(data, name)
        options.adapter.init_args = arguments
    return options


def _parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    groups = {
        "adapter": [],
        "data": [],
        "training": list(constructor_parameters(TrainingOptions)),
        "trainer": sorted(set(constructor_parameters(Trainer)) - MANAGED - PYTHON_ONLY),
        "run": [],
        "overwrite": [],
    }
    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        raise ValueError(explain(str(error), groups)) from error


def _default_run(configs: list[Any] | None) -> Path | None:
    """``runs/NAME`` for ``NAME.yaml``, or the folder of a run's own ``config.yaml``."""
    if not configs:
        return None
    path = Path(str(configs[-1]))
    return path.parent if path.name == "config.yaml" else Path("runs") / path.stem
