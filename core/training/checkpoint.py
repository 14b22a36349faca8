"""The full training state in one safetensors file, without pickle.

The tensors of the nested state are stored as tensors, and its structure as JSON in the file's metadata. JSON knows
neither integer keys nor tuples nor infinities, so every node that is not plain is written as ``{"!": kind, ...}``:

    {"!": "tensor", "key": "12"}             a tensor, stored under that key
    {"!": "tensor", ..., "order": [0, 2, 3, 1]}   stored with its dimensions in that order (channels-last weights)
    {"!": "tuple", "items": [...]}
    {"!": "dict", "items": [[key, value], ...]}   a dict with a key that is no string, or is "!"
    {"!": "float", "value": "inf"}

A file is written beside its final name, flushed to disk and renamed, so that a process killed at any moment leaves
either the old checkpoint or the new one.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

__all__ = ["SafetensorsCheckpointIO", "load_state", "read_header", "save_state"]

FORMAT = "ornstein-training-state-1"


def save_state(state: dict[str, Any], path: str | Path) -> None:
    """Write a nested state of dicts, lists, tuples, tensors and plain values, atomically.

    Raises:
        TypeError: a value of another kind; the message names where it is.
    """
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = _Writer()
    tree = writer.encode(state, "state")
    metadata = {"format": FORMAT, "state": json.dumps(tree)}
    if "global_step" in state:
        metadata["global_step"] = str(state["global_step"])
    partial = path.with_name(f".{path.name}.partial")
    save_file(writer.tensors, partial, metadata)
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync_folder(path.parent)


def load_state(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what ``save_state`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged or not a training checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    metadata = read_header(path)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return _decode(json.loads(metadata["state"]), tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(_damaged(path, error)) from None


def read_header(path: str | Path) -> dict[str, str]:
    """Metadata of a training checkpoint, ``global_step`` among it, without the tensors; raises as ``load_state``."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no training checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(_damaged(path, error)) from None
    if metadata.get("format") != FORMAT or "state" not in metadata:
        raise ValueError(f"{path} is no training checkpoint of ornstein; resume from RUN/checkpoints/last.ckpt")
    return metadata


def _damaged(path: str | Path, error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"training checkpoint {path} is truncated or damaged ({reason}); delete it, or start anew with overwrite"


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # POSIX: the rename itself must reach the disk too
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Writer:
    """Splits a nested state into JSON and tensors; tensors that share memory are stored once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._known: dict[tuple[Any, ...], str] = {}

    def encode(self, value: Any, where: str) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        if value is None or isinstance(value, (bool, str)) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"!": "float", "value": str(value)}
        if type(value) is tuple:
            return {"!": "tuple", "items": [self.encode(item, f"{where}[{i}]") for i, item in enumerate(value)]}
        if type(value) is list:
            return [self.encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, dict):
            items = [(self._key(key, where), self.encode(item, f"{where}[{key!r}]")) for key, item in value.items()]
            if all(isinstance(key, str) and key != "!" for key, _ in items):
                return dict(items)
            return {"!": "dict", "items": [list(item) for item in items]}
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(
            f"{where} is a {kind}, which a checkpoint cannot hold; keep plain values and tensors in the state"
        )

    def _key(self, key: Any, where: str) -> str | int | bool | None:
        if key is None or isinstance(key, (str, bool)) or type(key) is int:
            return key
        raise TypeError(f"{where} has the key {key!r}; a checkpoint holds string and integer keys only")

    def _tensor(self, value: Tensor, where: str) -> dict[str, Any]:
        value = value.detach()
        if value.layout != torch.strided or value.is_complex():
            raise TypeError(f"{where} is a {value.layout} tensor of {value.dtype}, which a checkpoint cannot hold")
        strides = value.stride()
        order = sorted(range(value.ndim), key=lambda d: (-strides[d], d))
        dense = value.permute(order).is_contiguous()
        node: dict[str, Any] = {"!": "tensor"}
        if dense and not value.is_contiguous():
            node["order"] = order
        identity = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() == 0 or identity not in self._known:
            key = str(len(self.tensors))
            self._known[identity] = key
            stored = value.permute(order) if "order" in node else value
            # Memory of its own: safetensors refuses views of one storage.
            self.tensors[key] = stored.to("cpu", copy=True).contiguous()
        node["key"] = self._known[identity]
        return node


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    match node.get("!"):
        case None:
            return {key: _decode(item, tensors) for key, item in node.items()}
        case "tensor":
            tensor = tensors[node["key"]]
            if order := node.get("order"):
                tensor = tensor.permute([order.index(d) for d in range(tensor.ndim)])
            return tensor
        case "tuple":
            return tuple(_decode(item, tensors) for item in node["items"])
        case "dict":
            return {key: _decode(item, tensors) for key, item in node["items"]}
        case "float":
            return float(node["value"])
        case kind:
            raise ValueError(f"unknown node {kind!r}")


class SafetensorsCheckpointIO(CheckpointIO):
    """Lightning's checkpoints through ``save_state`` and ``load_state``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the state; remote ``storage_options`` are refused."""
        if storage_options is not None:
            raise TypeError("storage_options are not supported: a checkpoint is one local file")
        save_state(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the state to the CPU, whence Lightning moves it."""
        return load_state(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file, if there is one."""
        Path(path).unlink(missing_ok=True)
