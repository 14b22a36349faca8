"""Libraries that only some domains need: imported at first use, and named with the way to install them when missing."""

import importlib
from typing import Any

__all__ = ["need"]


def need(module: str, *, to: str, extra: str = "", install: str = "") -> Any:
    """Import ``module``, or say what it is needed for and how to install it.

    Args:
        module: the import path.
        to: what it is needed for, as in "read pictures".
        extra: the extra of ornstein that brings it; or else
        install: the command that does.

    Raises:
        ImportError: the module is missing, or present and unloadable (a broken binary raises OSError on import).
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        command = install or f"pip install 'ornstein[{extra}]'"
        raise ImportError(f"{module.split('.')[0]} is needed to {to}: {command} ({error})") from error
