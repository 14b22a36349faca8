"""The type checker that the import hook of ``conftest.py`` puts around every function of ``ornstein.core``.

jaxtyping checks a call twice: the arguments before it, and the arguments together with the result after it. Checking
before would hide the errors that the library itself raises for bad input, which the tests are about. So the first check
is left out: a call with a wrong shape or type must be refused by the function itself, or it fails in the second check.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from beartype import BeartypeConf, beartype

F = TypeVar("F", bound=Callable[..., Any])

# An int may stand where a float is asked for (PEP 484).
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: F) -> F:
    """Check arguments and result of ``function``, in one go after the call.

    jaxtyping passes two functions made from one signature; the one that returns ``Any`` is for the check before it.
    """
    return function if function.__annotations__.get("return") is Any else _beartype(function)
