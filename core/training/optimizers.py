"""The optimisers of training: AdamW, and Muon for the matrices inside with AdamW for the rest."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["MuonWithAdamW", "adamw", "hidden_matrices"]


def adamw(
    parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) that decays matrices and kernels only."""
    trained = list(parameters)
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas)


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The matrices of linear layers inside of repeated blocks (``nn.ModuleList``): not the first and the last layers,
    nor embeddings, whose rows stand for something each.
    """
    found: dict[int, nn.Parameter] = {}
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            for layer in part.modules():
                if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
                    found[id(layer.weight)] = layer.weight  # type: ignore[assignment]
    return list(found.values())


class MuonWithAdamW(torch.optim.Optimizer):
    r"""Muon for the matrices inside of a network, AdamW for everything else, at one learning rate.

    Muon's step is the momentum brought near to the orthogonal matrix of the same singular vectors, by five iterations
    of Newton and Schulz (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"), times ``0.2
    sqrt(max(rows, columns))``, so that it is as long as AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2).

    Args:
        model: whose parameters are trained.
        lr: learning rate of both.
        betas: AdamW's.
        weight_decay: of matrices and kernels, in both.

    Raises:
        ValueError: a model without matrices inside of blocks (`hidden_matrices`).
    """

    def __init__(self, model: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        hidden = hidden_matrices(model)
        if not hidden:
            raise ValueError(
                f"optimizer='muon': {type(model).__name__} has no linear layers inside of blocks; take 'adamw'"
            )
        inside = {id(parameter) for parameter in hidden}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
        super().__init__([*hidden, *rest], {})
        self.muon = torch.optim.Muon(hidden, lr, weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = adamw(rest, lr, betas, weight_decay)
        self._join()

    def _join(self) -> None:
        """Show the groups and the state of both as one's own, so that schedules of the learning rate reach them."""
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]
        self.state = defaultdict(dict, {**self.muon.state, **self.adamw.state})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; ``closure`` computes the loss and its gradients before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()
        self.adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both, by name."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the states that ``state_dict`` gave."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self._join()
