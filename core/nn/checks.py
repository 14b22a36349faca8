"""Checks of what reaches a network, each with a one-line message that says what came and what was expected."""

import torch
from torch import Tensor

__all__ = [
    "check_condition",
    "check_dims",
    "check_fraction",
    "check_grid_input",
    "check_integers",
    "check_noise_level",
]


def check_integers(lowest: int, **sizes: int) -> None:
    """Raise a ValueError unless every named size is an integer of at least ``lowest``."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < lowest:
            raise ValueError(f"{name} must be an integer of at least {lowest}, got {size!r}")


def check_dims(dims: int) -> None:
    """Raise a ValueError unless ``dims`` is 1, 2 or 3."""
    if dims not in (1, 2, 3):
        raise ValueError(f"dims must be 1, 2 or 3 (spatial dimensions), got {dims!r}")


def check_fraction(**fractions: float) -> None:
    """Raise a ValueError unless every named number lies in [0, 1)."""
    for name, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {fraction!r}")


def check_grid_input(x: Tensor, channels: int, dims: int) -> None:
    """Raise a ValueError unless ``x`` is (B, channels, *space) with ``dims`` non-empty spatial axes."""
    if x.dim() != dims + 2:
        raise ValueError(f"x must have {dims + 2} axes (batch, channels, {dims} spatial), got shape {tuple(x.shape)}")
    if x.shape[1] != channels:
        raise ValueError(f"x must have {channels} channels (axis 1), got {x.shape[1]} in shape {tuple(x.shape)}")
    if 0 in x.shape[2:]:
        raise ValueError(f"x must have at least one point along every spatial axis, got shape {tuple(x.shape)}")


def check_noise_level(c: Tensor, batch: int) -> None:
    """Raise a ValueError unless ``c`` is a floating-point tensor of shape (batch,)."""
    if c.shape != (batch,):
        raise ValueError(f"c must have shape ({batch},), one noise level a sample of x, got {tuple(c.shape)}")
    if not c.is_floating_point():
        raise ValueError(f"c must be floating-point (the noise level -log_snr / 8), got {c.dtype}")


def check_condition(
    batch: int,
    classes: int,
    context_width: int,
    label: Tensor | None,
    context: Tensor | None,
    context_mask: Tensor | None,
) -> None:
    """Raise a ValueError unless label, context and context_mask fit the network.

    Label values are compared on the CPU alone: on an accelerator that would wait for the device.
    """
    if label is not None:
        _check_label(label, batch, classes)
    if context is not None:
        _check_context(context, batch, context_width)
    if context_mask is not None:
        _check_context_mask(context_mask, context)


def _check_label(label: Tensor, batch: int, classes: int) -> None:
    if not classes:
        raise ValueError("label was given to a network without classes: leave it out, or build with classes=N")
    if label.shape != (batch,):
        raise ValueError(f"label must have shape ({batch},), one class a sample of x, got {tuple(label.shape)}")
    if label.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"label must be int64 class numbers, got {label.dtype}: convert it with label.long()")
    if torch.compiler.is_compiling() or label.device.type != "cpu" or not batch:
        return
    lowest, highest = int(label.min()), int(label.max())
    if lowest < -1 or highest >= classes:
        wrong = lowest if lowest < -1 else highest
        raise ValueError(f"label must lie in [-1, {classes - 1}] (-1 is no label), got {wrong}")


def _check_context(context: Tensor, batch: int, context_width: int) -> None:
    if not context_width:
        raise ValueError("context was given to a network without cross-attention: build with context_width=N")
    if context.dim() != 3 or context.shape[0] != batch or context.shape[2] != context_width:
        raise ValueError(
            f"context must have shape ({batch}, length, {context_width}), got {tuple(context.shape)}: "
            "the last axis is the context_width the network was built with"
        )


def _check_context_mask(context_mask: Tensor, context: Tensor | None) -> None:
    if context is None:
        raise ValueError("context_mask was given without context: give both or neither")
    if context_mask.shape != context.shape[:2]:
        raise ValueError(f"context_mask must have shape {tuple(context.shape[:2])}, got {tuple(context_mask.shape)}")
    if context_mask.dtype != torch.bool:
        raise ValueError(f"context_mask must be boolean (True where real), got {context_mask.dtype}")
