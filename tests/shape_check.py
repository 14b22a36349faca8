"""The type checker that the import hook of ``conftest.py`` puts around every function of ``ornstein.core``.

It looks at shapes and nothing else: annotations without one are mypy's business. jaxtyping checks a call twice: the
arguments before it, and the arguments together with the result after it. Checking before would hide the errors that
the library itself raises for bad input, which the tests are about. So the first check is left out: a call with a wrong
shape must be refused by the function itself, or it fails in the second check.
"""

from collections.abc import Callable
from inspect import isclass
from typing import Any, TypeVar, get_args

from beartype import beartype
from jaxtyping import AbstractArray

F = TypeVar("F", bound=Callable[..., Any])


def _has_shape(annotation: object) -> bool:
    """Whether a jaxtyping type stands in ``annotation``, at any depth (``dict[str, Float[Tensor, "n"]] | None``)."""
    if isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(_has_shape(argument) for argument in get_args(annotation))


def check(function: F) -> F:
    """Check the shapes of arguments and result of ``function``, in one go after the call.

    jaxtyping passes two functions made from one signature; the one that returns ``Any`` is for the check before it.
    """
    annotations = function.__annotations__
    if annotations.get("return") is Any:
        return function
    shapes = {name: annotation for name, annotation in annotations.items() if _has_shape(annotation)}
    if not shapes:
        return function
    function.__annotations__ = shapes
    return beartype(function)
