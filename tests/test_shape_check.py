"""The run-time check of shapes is in force, and lets the library's own errors pass."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from shape_check import check
from torch import Tensor


@jaxtyped(typechecker=check)
def gram(x: Float[Tensor, "rows columns"], scale: float = 1.0) -> Float[Tensor, "rows rows"]:
    if x.shape[-1] == 0:
        raise ValueError("x has no columns")
    return scale * (x @ x.mT if x.shape[-1] != 3 else x.mT @ x)


def test_right_shapes_pass() -> None:
    assert gram(torch.zeros(4, 2), 2).shape == (4, 4)


def test_wrong_argument_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        gram(torch.zeros(2, 4, 2))


def test_wrong_result_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        gram(torch.zeros(4, 3))


def test_error_of_the_function_comes_first() -> None:
    with pytest.raises(ValueError, match="no columns"):
        gram(torch.zeros(2, 2, 0))


def test_core_is_checked() -> None:
    """The hook wraps the modules of the core, whose functions therefore have an unwrapped original."""
    from ornstein.core.evaluation import frechet_distance

    assert hasattr(frechet_distance, "__wrapped__")
