"""Objects to JSON and back: what a checkpoint's ``config.json`` and a run's ``config.yaml`` hold.

A configurable object stores every constructor argument as an attribute of the same name (the convention of
scikit-learn), so its configuration is read off the constructor's signature and nothing has to be written by hand:

    {"class_path": "ornstein.core.CosineSchedule", "init_args": {"log_snr_max": 20.0}}

A configuration may come from a stranger. ``from_config`` therefore builds classes of this package, of the packages that
registered an adapter (entry points ``ornstein.domains``) and of those that the caller trusts by name, and nothing else:
no functions, no other modules.
"""

import difflib
import importlib
import inspect
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

__all__ = ["constructor_parameters", "from_config", "near", "to_config"]

LARGEST_ARRAY = 65_536  # numbers; a configuration is for reading, larger arrays belong in the weights


def near(name: str, names: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name nearest to ``name``, or the empty string.

    >>> near("predicton", ["prediction", "process"])
    " (did you mean 'prediction'?)"
    """
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The named constructor arguments of ``cls``, in order.

    Raises:
        TypeError: the constructor takes ``*args`` or ``**kwargs``, which no configuration can name.
    """
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return {}
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{cls.__name__} is not configurable: its constructor takes {parameter}; name its arguments"
            )
    return {parameter.name: parameter for parameter in parameters}


def to_config(obj: Any) -> dict[str, Any]:
    """The configuration ``{"class_path": ..., "init_args": {...}}`` of an object, nested objects included.

    Tuples become lists, tensors and arrays (nested) lists of numbers, paths strings.

    Raises:
        TypeError: an argument is not kept under its own name, or is of a kind that JSON cannot hold.
    """
    cls = type(obj)
    arguments = {}
    for name in constructor_parameters(cls):
        if not hasattr(obj, name):
            raise TypeError(
                f"{cls.__name__} does not keep its constructor argument {name!r} as an attribute of that name"
            )
        arguments[name] = _plain(getattr(obj, name), f"{cls.__name__}.{name}")
    return {"class_path": class_path(cls), "init_args": arguments}


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise TypeError(f"{where} is not a number (NaN), which a configuration cannot hold")
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), where)
    if isinstance(value, (torch.Tensor, np.ndarray)):
        size = value.numel() if isinstance(value, torch.Tensor) else value.size
        if size > LARGEST_ARRAY or isinstance(value, torch.nn.Parameter):
            raise TypeError(
                f"{where} is an array of {size} numbers: keep it in the weights (a buffer), not in the config"
            )
        if isinstance(value, np.ndarray) and value.dtype.kind not in "biufU":
            raise TypeError(f"{where} is an array of {value.dtype}, which a configuration cannot hold")
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where} is a mapping with keys that are not strings")
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if inspect.isroutine(value) or inspect.isclass(value) or type(value).__module__ == "builtins":
        raise TypeError(f"{where} is {_short(value)}, which a configuration cannot hold: use plain values or objects")
    return to_config(value)


def class_path(cls: type) -> str:
    """The shortest import path under which ``cls`` is public: ``ornstein.core.nn.UNet``, not ``...nn.unet.UNet``."""
    parts = cls.__module__.split(".")
    shortest = 2 if parts[0] == "ornstein" else 1
    for stop in range(min(shortest, len(parts)), len(parts)):
        package = ".".join(parts[:stop])
        if getattr(importlib.import_module(package), cls.__name__, None) is cls:
            return f"{package}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def from_config(
    tree: Mapping[str, Any], expected: type | tuple[type, ...] | None = None, *, trusted: Sequence[str] = ()
) -> Any:
    """The object that ``to_config`` described.

    Args:
        tree: ``{"class_path": ..., "init_args": {...}}``; lists become tuples unless the argument is typed as a list.
        expected: the class, or classes, of which the object must be an instance.
        trusted: further top-level packages whose classes may be built, such as that of your own network.

    Raises:
        ValueError: a class path outside the allowed packages or unknown, an unknown or missing argument, or a value
            outside the allowed set; the message names the nearest known name.
        TypeError: the object is no ``expected``, or an argument is of the wrong type.
    """
    if not isinstance(tree, Mapping) or not isinstance(tree.get("class_path"), str):
        raise ValueError(f"expected a configuration {{'class_path': ..., 'init_args': ...}}, got {_short(tree)}")
    if extra := set(tree) - {"class_path", "init_args"}:
        raise ValueError(f"{tree['class_path']}: unexpected key {min(extra)!r} beside 'class_path' and 'init_args'")
    cls = resolve_class(tree["class_path"], trusted)
    if expected is not None and not issubclass(cls, expected):
        classes = expected if isinstance(expected, tuple) else (expected,)
        names = " or ".join(option.__name__ for option in classes if option is not type(None))
        raise TypeError(f"{tree['class_path']} is no {names}; give the class path of one")
    arguments = tree.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"{tree['class_path']}: 'init_args' must be a mapping, got {_short(arguments)}")
    parameters = constructor_parameters(cls)
    hints = _hints(cls)
    for name in arguments:
        if name not in parameters:
            raise ValueError(
                f"{cls.__name__} has no argument {name!r}{near(str(name), parameters)}; it has {', '.join(parameters)}"
            )
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ValueError(f"{cls.__name__} needs the argument {name!r}, which the configuration does not give")
    values = {
        name: _build(value, hints.get(name, Any), f"{cls.__name__}.{name}", trusted)
        for name, value in arguments.items()
    }
    return cls(**values)


def resolve_class(path: str, trusted: Sequence[str] = ()) -> type:
    """The class at an import path inside ornstein, a package with a registered domain, or a trusted one.

    Raises:
        ValueError: the path leads elsewhere, or to nothing, or to something that is no class.
    """
    module_name, _, name = path.rpartition(".")
    allowed = (*_allowed_packages(), *trusted)
    if not module_name or module_name.split(".")[0] not in allowed:
        raise ValueError(f"class path {path!r} is refused: it lies in none of the packages {', '.join(allowed)}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ValueError(
            f"class path {path!r}: there is no module {module_name!r}{_near_module(module_name)}"
        ) from None
    cls = getattr(module, name, None)
    public = getattr(module, "__all__", None) or [key for key, value in vars(module).items() if inspect.isclass(value)]
    if cls is None:
        raise ValueError(f"class path {path!r}: {module_name} has no {name!r}{near(name, public)}")
    # A module also holds what it imported: only classes that an allowed package defined may be built.
    if not inspect.isclass(cls) or cls.__module__.split(".")[0] not in allowed:
        raise ValueError(f"class path {path!r} is refused: it is no class of the packages {', '.join(allowed)}")
    return cls


def _near_module(name: str) -> str:
    parent, _, last = name.rpartition(".")
    try:
        module = importlib.import_module(parent) if parent.count(".") else None
    except ImportError:
        return ""
    return near(last, [key for key, value in vars(module).items() if inspect.ismodule(value)]) if module else ""


@cache
def _allowed_packages() -> tuple[str, ...]:
    registered = {entry.value.split(":")[0].split(".")[0] for entry in entry_points(group="ornstein.domains")}
    return ("ornstein", *sorted(registered - {"ornstein"}))


@cache
def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except (NameError, TypeError):  # annotations that exist for type checkers only
        return {}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(part for inner in typing.get_args(annotation) for part in _alternatives(inner))
    return (annotation,)


def _build(value: Any, annotation: Any, where: str, trusted: Sequence[str]) -> Any:
    """``value`` with nested configurations built and checked against the annotation of its argument."""
    options = _alternatives(annotation)
    if isinstance(value, Mapping) and "class_path" in value:
        judged = Any not in options and all(inspect.isclass(option) for option in options)
        try:
            return from_config(value, options if judged else None, trusted=trusted)
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if isinstance(value, Mapping):
        return {key: _build(item, Any, f"{where}[{key!r}]", trusted) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [_build(item, Any, f"{where}[{i}]", trusted) for i, item in enumerate(value)]
        return items if any(typing.get_origin(option) is list or option is list for option in options) else tuple(items)
    _check_scalar(value, options, where)
    return value


def _check_scalar(value: Any, options: tuple[Any, ...], where: str) -> None:
    allowed: list[Any] = []
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            allowed += typing.get_args(option)
        elif option in (bool, int, float, str):
            allowed.append(option)
        elif option is type(None) or option is None:
            allowed.append(None)
        else:  # a type that this function does not judge; the constructor does
            return
    for choice in allowed:
        if inspect.isclass(choice):
            if type(value) is choice or (choice is float and type(value) is int):
                return
        elif value == choice and type(value) is type(choice):
            return
    names = ", ".join(choice.__name__ if inspect.isclass(choice) else repr(choice) for choice in allowed)
    hint = near(value, [c for c in allowed if isinstance(c, str)]) if isinstance(value, str) else ""
    message = f"{where} must be one of {names}, got {_short(value)}{hint}"
    raise ValueError(message) if any(not inspect.isclass(c) and c is not None for c in allowed) else TypeError(message)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
