"""Models in folders: weights in a safetensors file, read with errors that say what does not fit, beside their
configuration in JSON.
"""

import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ornstein.core.config import from_config, near, to_config

__all__ = ["CONFIG", "WEIGHTS", "load_model", "load_weights", "save_model", "save_weights"]

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save_model(module: nn.Module, folder: str | Path) -> None:
    """Write a configurable module to a folder, which is made: ``config.json`` and ``model.safetensors``.

    Raises:
        TypeError: a constructor argument that no configuration can hold.
    """
    folder = Path(folder)
    config = {"ornstein_version": version("ornstein"), **to_config(module)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_weights(module, folder / WEIGHTS)


def load_model(config_file: Path, weights_file: Path, expected: type, trusted: Sequence[str] = ()) -> Any:
    """The module that `save_model` wrote, with its weights.

    Args:
        config_file, weights_file: where they are.
        expected: the class of which the module must be an instance.
        trusted: top-level packages, beside ornstein and installed domains, whose classes the configuration may name.

    Raises:
        FileNotFoundError: a file is missing.
        TypeError: the model is of another class.
        ValueError: the configuration or the weights are damaged, or do not fit each other.
    """
    if not config_file.is_file():
        raise FileNotFoundError(f"no {config_file}; give a folder made by save_pretrained")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{config_file} is no JSON ({error}); save the model again") from None
    if not isinstance(config, dict):
        raise ValueError(f"{config_file} holds no configuration; save the model again")
    config.pop("ornstein_version", None)
    try:
        module = from_config(config, expected=expected, trusted=trusted)
    except TypeError as error:
        raise TypeError(f"{config_file}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{config_file}: {error}") from None
    load_weights(module, weights_file)
    return module


def save_weights(module: nn.Module, path: str | Path) -> None:
    """Write a module's parameters and buffers; tensors that it shares (tied weights) are written once.

    Equal weights give equal files. The file appears whole or not at all.
    """
    from safetensors.torch import save_file

    path = Path(path)
    tensors = {names[0]: module.state_dict()[names[0]].cpu().contiguous() for names in _shared(module)}
    partial = path.with_name(f".{path.name}.partial")
    # A copy of the memory for each tensor: safetensors refuses views of one storage.
    save_file({name: value.clone() for name, value in tensors.items()}, partial, {"format": "pt"})
    os.replace(partial, path)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a safetensors file into ``module``, strictly.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or foreign, or its tensors are not those of the module.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}); save or download it again") from None
    wanted = module.state_dict()
    for names in _shared(module):
        kept = next((name for name in names if name in stored), None)
        if kept is None:
            hint = near(names[0], set(stored) - set(wanted))
            raise ValueError(f"{path} lacks the tensor {names[0]!r}{hint}; it is of another model")
        stored |= {name: stored[kept] for name in names if name not in stored}
    for name, value in stored.items():
        if name not in wanted:
            raise ValueError(f"{path} has a tensor {name!r} that the model has not; it is of another model")
        if value.shape != wanted[name].shape:
            shapes = f"{tuple(value.shape)} in the file, {tuple(wanted[name].shape)} in the model"
            raise ValueError(f"{path}: tensor {name!r} is {shapes}; it is of another model")
    with torch.no_grad():
        for name, target in wanted.items():
            target.copy_(stored[name])


def _shared(module: nn.Module) -> list[list[str]]:
    """The names in the state of ``module``, those of one tensor together, in order."""
    groups: dict[object, list[str]] = {}
    for name, value in module.state_dict().items():
        memory = (value.device, value.data_ptr(), value.shape, value.stride()) if value.numel() else name
        groups.setdefault(memory, []).append(name)
    return list(groups.values())
