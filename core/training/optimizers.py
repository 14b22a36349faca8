"""The optimisers of training: AdamW, and Muon for matrices and kernels inside with AdamW for the rest."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MuonWithAdamW", "adamw", "as_matrix", "hidden_matrices"]

HIDDEN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


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
    """The matrices of linear layers and the kernels of convolutions inside of repeated blocks (``nn.ModuleList``): not
    the first and the last layers, nor embeddings, whose rows stand for something each.
    """
    found: dict[int, nn.Parameter] = {}
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            for layer in part.modules():
                if isinstance(layer, HIDDEN) and layer.weight.requires_grad:
                    found[id(layer.weight)] = layer.weight  # type: ignore[assignment]
    return list(found.values())


def as_matrix(kernel: Tensor, like: Tensor) -> Tensor:
    """A kernel ``(out, in, *space)``, or its gradient, as the matrix that multiplies patches; a view where it can be.

    Args:
        kernel: what to flatten.
        like: the kernel itself, which says where channels lie in memory: columns follow that order, which makes no
            difference to singular vectors.
    """
    return (kernel if like.is_contiguous() else kernel.movedim(1, -1)).flatten(1)


class MuonWithAdamW(torch.optim.Optimizer):
    r"""Muon for the matrices and kernels inside of a network, AdamW for everything else, at one learning rate.

    Muon's step is the momentum brought near to the orthogonal matrix of the same singular vectors, by five iterations
    of Newton and Schulz (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"), times ``0.2
    sqrt(max(rows, columns))``, so that it is as long as AdamW's (Liu et al. 2025, arXiv 2502.16982, section 2.2).  A
    kernel ``(out, in, *space)`` is the matrix ``(out, in * space)`` that multiplies patches.

    Args:
        model: whose parameters are trained.
        lr: learning rate of both.
        betas: AdamW's.
        weight_decay: of matrices and kernels, in both.

    Raises:
        ValueError: a model without matrices or kernels inside of blocks (`hidden_matrices`).
    """

    def __init__(self, model: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        self.hidden = hidden_matrices(model)
        if not self.hidden:
            raise ValueError(
                f"optimizer='muon': {type(model).__name__} has no linear layers or convolutions in blocks; take 'adamw'"
            )
        inside = {id(parameter) for parameter in self.hidden}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
        super().__init__([*self.hidden, *rest], {})
        # Muon takes matrices: kernels are shown to it as such, in the memory of the kernels.
        self.matrices = [p if p.ndim == 2 else nn.Parameter(as_matrix(p.detach(), p)) for p in self.hidden]
        self.muon = torch.optim.Muon(self.matrices, lr, weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = adamw(rest, lr, betas, weight_decay)
        self._join()

    def _join(self) -> None:
        """Show the groups and the state of both as one's own, so that schedules of the learning rate reach them."""
        (group,) = self.muon.param_groups
        self.param_groups = [{**group, "params": self.hidden}, *self.adamw.param_groups]
        self.state = defaultdict(dict, {**self.muon.state, **self.adamw.state})

    def _tell_muon(self) -> None:
        """Settings that a schedule changed."""
        self.muon.param_groups[0].update({k: v for k, v in self.param_groups[0].items() if k != "params"})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; ``closure`` computes the loss and its gradients before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._tell_muon()
        for kernel, matrix in zip(self.hidden, self.matrices):
            if matrix is not kernel:
                matrix.data = as_matrix(kernel.detach(), kernel)  # the kernel may have moved
                matrix.grad = None if kernel.grad is None else as_matrix(kernel.grad, kernel)
        self.muon.step()
        self.adamw.step()
        for kernel, matrix in zip(self.hidden, self.matrices):
            if matrix is not kernel:
                matrix.grad = None  # or the gradients of kernels would outlive the kernels' own
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both, by name."""
        self._tell_muon()
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the states that ``state_dict`` gave."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self._join()
