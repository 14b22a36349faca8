"""The run folder: what it holds, and whether a new call may continue it."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from ornstein.core.config import constructor_parameters, to_config

__all__ = ["RunFolder"]

CONTENT = (
    "config.yaml",
    "versions.json",
    "status.json",
    "metrics.csv",
    "tensorboard",
    "samples",
    "checkpoints",
    "ema",
    "model",
)
PACKAGES = ("ornstein", "torch", "lightning", "numpy", "safetensors", "huggingface_hub", "jsonargparse")


class RunFolder:
    """A folder that holds one training run.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def last(self) -> Path:
        """The training state to continue from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def state(self) -> str | None:
        """``running``, ``interrupted`` or ``finished``; None for no run."""
        try:
            return json.loads((self.path / "status.json").read_text(encoding="utf-8"))["state"]
        except (OSError, ValueError, KeyError):
            return None

    def prepare(self, config: Mapping[str, Any], *, overwrite: bool) -> None:
        """Make the folder ready for a run of this configuration, new or continued.

        Raises:
            FileExistsError: it holds a finished run, or one of another configuration.
        """
        if overwrite:
            self._clear()
        elif (self.path / "config.yaml").exists():
            self._check_same(config)
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        (self.path / "config.yaml").write_text(text, encoding="utf-8")
        (self.path / "versions.json").write_text(json.dumps(_versions(), indent=2) + "\n", encoding="utf-8")

    def write_status(self, state: str, step: int) -> None:
        """Record how far the run is."""
        (self.path / "status.json").write_text(json.dumps({"state": state, "step": step}) + "\n", encoding="utf-8")

    def _check_same(self, config: Mapping[str, Any]) -> None:
        mend = "start anew with overwrite (--overwrite), or choose another run folder (--run)"
        try:
            held = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            raise FileExistsError(f"{self.path}/config.yaml is damaged; {mend}") from None
        difference = next(_differences(held, json.loads(json.dumps(config))), None)
        if difference:
            raise FileExistsError(f"{self.path} holds a run of another configuration ({difference}); {mend}")
        if self.state == "finished":
            raise FileExistsError(f"{self.path} holds a finished run; {mend}")

    def _clear(self) -> None:
        for name in CONTENT:
            item = self.path / name
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            else:
                item.unlink(missing_ok=True)


def describe(value: Any) -> Any:
    """A configuration of anything that Python code may give the Trainer: other objects become the names of classes."""
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    try:
        return to_config(value)
    except (TypeError, ValueError):
        return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", **_describe_arguments(value)}


def _describe_arguments(value: Any) -> dict[str, Any]:
    """The constructor arguments that an object keeps, for a class of ours that holds something else."""
    if not type(value).__module__.startswith("ornstein."):
        return {}
    names = constructor_parameters(type(value))
    return {"init_args": {name: describe(getattr(value, name)) for name in names if hasattr(value, name)}}


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif old != new:
        yield f"{where}: {_short(old)} there, {_short(new)} now"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _versions() -> dict[str, Any]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    machine = {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}
    return {"versions": found, "machine": machine, "command": sys.argv}
