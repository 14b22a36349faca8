"""Weights in safetensors files: reading them into a module with errors that say what does not fit."""

from pathlib import Path

import torch
from torch import nn

from ornstein.core.config import near

__all__ = ["load_weights"]


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a file that ``safetensors.torch.save_model`` wrote into ``module``, strictly.

    Tensors that the module shares (tied weights) are stored once; the file's metadata names the copies.

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
            copies = {name: kept for name, kept in (file.metadata() or {}).items() if kept in stored}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}); save or download it again") from None
    stored |= {name: stored[kept] for name, kept in copies.items()}
    wanted = module.state_dict()
    for name in wanted:
        if name not in stored:
            raise ValueError(
                f"{path} lacks the tensor {name!r}{near(name, set(stored) - set(wanted))}; it is of another model"
            )
    for name, value in stored.items():
        if name not in wanted:
            raise ValueError(f"{path} has a tensor {name!r} that the model has not; it is of another model")
        if value.shape != wanted[name].shape:
            shapes = f"{tuple(value.shape)} in the file, {tuple(wanted[name].shape)} in the model"
            raise ValueError(f"{path}: tensor {name!r} is {shapes}; it is of another model")
    with torch.no_grad():
        for name, target in wanted.items():
            target.copy_(stored[name])
