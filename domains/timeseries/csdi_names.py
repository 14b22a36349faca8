"""The names of weights in CSDI's published code, and ours.

| published | here |
| --- | --- |
| ``embed_layer`` | ``variable`` |
| ``diffmodel.diffusion_embedding.projection1``, ``2`` | ``step.inner``, ``step.outer`` |
| ``diffmodel.input_projection`` | ``input`` |
| ``diffmodel.output_projection1``, ``2`` | ``head``, ``output`` |
| ``diffmodel.residual_layers.N.diffusion_projection`` | ``blocks.N.step`` |
| there ``cond_projection``, ``mid_projection``, ``output_projection`` | ``side``, ``gate``, ``out`` |
| there ``time_layer.layers.0``, ``feature_layer.layers.0`` | ``time``, ``feature`` |
| in these ``self_attn.in_proj_``, ``self_attn.out_proj`` | ``qkv.``, ``joined`` |
| ``linear1``, ``linear2``, ``norm1``, ``norm2`` | ``inner``, ``outer``, ``norm1``, ``norm2`` |

Their 1x1 convolutions (outputs, inputs, 1) are matrices here.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["own_name", "published_name", "read_published"]

NAMES = {
    "embed_layer": "variable",
    "diffmodel.diffusion_embedding.projection1": "step.inner",
    "diffmodel.diffusion_embedding.projection2": "step.outer",
    "diffmodel.input_projection": "input",
    "diffmodel.output_projection1": "head",
    "diffmodel.output_projection2": "output",
}
BLOCK_NAMES = {
    "diffusion_projection": "step",
    "cond_projection": "side",
    "mid_projection": "gate",
    "output_projection": "out",
    **{
        f"{axis}_layer.layers.0.{theirs}": f"{axis}.{ours}"
        for axis in ("time", "feature")
        for theirs, ours in {
            "self_attn.in_proj": "qkv",
            "self_attn.out_proj": "joined",
            "linear1": "inner",
            "linear2": "outer",
            "norm1": "norm1",
            "norm2": "norm2",
        }.items()
    },
}
BLOCK = "diffmodel.residual_layers"
NEEDED = ("variable", "input", "step.inner", "blocks.0.side", "blocks.0.time.inner")
"""The layers that sizes are read off."""


def read_published(path: str | Path) -> dict[str, Tensor]:
    """The weights in a ``model.pth`` of CSDI's code under our names, float32; nothing in the file is run.

    Subnormal numbers, to which some weights of the published network have decayed, are zero here: they slow a
    processor many times over.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds other things, a name that CSDI's network has not, or lacks one that tells its sizes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the model.pth of CSDI's repository")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch has no class of its own for what it refuses
        raise ValueError(f"{path}: no file of torch, or one with more than tensors ({type(error).__name__})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds no tensors by name")
    weights = {own_name(key): value.squeeze(-1) if value.dim() == 3 else value for key, value in state.items()}
    for name in (f"{layer}.weight" for layer in NEEDED):
        if name not in weights:
            raise ValueError(f"{path}: holds no {published_name(name)}; fetch the file again")
        if weights[name].dim() != 2:
            raise ValueError(f"{path}: {published_name(name)} of shape {tuple(weights[name].shape)}: expected a matrix")
    tiny = torch.finfo(torch.float32).tiny
    return {key: torch.where(value.abs() < tiny, 0.0, value.float()) for key, value in weights.items()}


def own_name(key: str) -> str:
    """Our name of a published weight.

    >>> own_name("diffmodel.residual_layers.2.time_layer.layers.0.self_attn.in_proj_weight")
    'blocks.2.time.qkv.weight'

    Raises:
        ValueError: CSDI's network has none of this name.
    """
    if found := re.fullmatch(r"(.+)[._](weight|bias)", key):
        layer, part = found.groups()
        if layer in NAMES:
            return f"{NAMES[layer]}.{part}"
        block = re.fullmatch(rf"{re.escape(BLOCK)}\.(\d+)\.(.+)", layer)
        if block and block[2] in BLOCK_NAMES:
            return f"blocks.{block[1]}.{BLOCK_NAMES[block[2]]}.{part}"
    raise ValueError(f"weight {key!r}: CSDI's network has none of this name")


def published_name(key: str) -> str:
    """The inverse of `own_name`.

    >>> published_name("blocks.2.time.qkv.weight")
    'diffmodel.residual_layers.2.time_layer.layers.0.self_attn.in_proj_weight'
    """
    layer, _, part = key.rpartition(".")
    if not layer.startswith("blocks."):
        return f"{next(theirs for theirs, ours in NAMES.items() if ours == layer)}.{part}"
    _, number, inside = layer.split(".", 2)
    theirs = next(theirs for theirs, ours in BLOCK_NAMES.items() if ours == inside)
    joint = "_" if theirs.endswith("in_proj") else "."
    return f"{BLOCK}.{number}.{theirs}{joint}{part}"
