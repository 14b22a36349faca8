"""Libraries of the extra ``images``: imported when needed, and named with the way to install them when missing."""

import importlib
from typing import Any

__all__ = ["need"]


def need(module: str, *, to: str, install: str = "pip install 'ornstein[images]'") -> Any:
    """Import ``module``, or say what it is needed for and how to install it.

    Raises:
        ImportError: the module is missing, or present and unloadable (a broken binary raises OSError on import).
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise ImportError(f"{module.split('.')[0]} is needed to {to}: {install} ({error})") from error
