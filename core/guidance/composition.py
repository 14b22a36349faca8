r"""Composition: denoisers of products, quotients and mixtures of the distributions that other denoisers know.

Liu et al. 2022 (arXiv 2206.01714).  Scores add up as log-densities do, so the product of experts ``prod p_i^{w_i}`` has
the score ``sum_i w_i score_i`` at ``t = 0``; at ``t > 0`` the noised product is another distribution than the product
of the noised, so samples are approximate.  A mixture's score is exact at every ``t`` where the densities are known.

On a `Chain` the reverse kernels of each position take the place of scores: a product multiplies them (see the module
`categorical`), a mixture's belief is the mixture of beliefs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..chains import CategoricalPosterior, Chain
from ..chains.posteriors import belief
from ..denoisers import Denoiser, GaussianPosterior
from ..levels import Level
from ..schedules import Time, require
from ._parts import as_tensors, check_same_process, on_batch
from .categorical import flat_posterior, guided_posterior, without_the_rare

__all__ = ["FixedCondition", "MixtureOfDenoisers", "ProductOfDenoisers"]


class FixedCondition(Denoiser[Any]):
    """A denoiser with some of its conditions fixed, so that one network can take part in a composition several times.

    Args:
        denoiser: the conditional denoiser.
        condition: conditions by name, each a number or a row for all samples, or one row a sample; they take the place
            of those in the call.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, FixedCondition, NetworkDenoiser
        >>> network = lambda x, c, label: x + label[:, None]
        >>> three = FixedCondition(NetworkDenoiser(network, SDE(CosineSchedule()), "x0"), {"label": 3})
        >>> three(torch.zeros(2, 1), 0.5).mean.tolist()
        [[3.0], [3.0]]
    """

    def __init__(self, denoiser: Denoiser[Any], condition: Mapping[str, Any]) -> None:
        super().__init__(denoiser.process)
        self.denoiser = denoiser
        self.condition = as_tensors(condition) or {}

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Any:
        return self.denoiser(x_t, t, **{**condition, **on_batch(self.condition, x_t)})


class ProductOfDenoisers(Denoiser[Any]):
    r"""The product of experts ``prod_i p_i(x)^{w_i}``, or, with a base, ``p_b prod_i (p_i / p_b)^{w_i}``.

    ``score = sum_i w_i score_i`` and, with a base (usually the unconditional denoiser), ``score_b + sum_i w_i (score_i
    - score_b)``: Liu et al. 2022 (arXiv 2206.01714), eq. 11 (conjunction); a negative weight is a negation (eq. 13).
    In means, ``sum_i w_i mean_i + (1 - sum_i w_i) m`` with ``m = x_t / alpha`` and, with a base, its mean.  An
    evaluation costs one call of each.

    Without a base every factor counts the noise anew, so at high noise the score is ``sum_i w_i`` times too steep and
    samples of an ODE or SDE come out too narrow; give a base, or sample by Langevin steps, for which the score at low
    noise decides (Du et al. 2023, 2302.11552).  On a chain the base is then the denoiser of data that are anything
    alike.

    Args:
        denoisers: the factors, of one schedule.
        weights: exponents, one a factor; 1 each by default.
        base: the denoiser of what the factors have in common.

    Raises:
        ValueError: where ``alpha = 0`` without a base, unless the weights sum to 1; no factors; weights of another
            number; or denoisers of several schedules.
    """

    def __init__(
        self,
        denoisers: Sequence[Denoiser[Any]],
        weights: Sequence[float] | None = None,
        base: Denoiser[Any] | None = None,
    ) -> None:
        weights = tuple(weights) if weights is not None else (1.0,) * len(denoisers)
        require(len(denoisers) > 0, "denoisers", list(denoisers), "at least one")
        require(len(weights) == len(denoisers), "weights", weights, f"one for each of {len(denoisers)} denoisers")
        check_same_process([*denoisers, *([] if base is None else [base])])
        super().__init__(denoisers[0].process)
        self.factors = nn.ModuleList(denoisers)
        self.denoisers = tuple(denoisers)
        self.weights = weights
        self.base = base

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Any:
        level = self.process.level(t)
        rest = 1 - sum(self.weights)
        if isinstance(self.process, Chain):
            return self._on_chain(x_t, level, rest, condition)
        means = [denoiser(x_t, t, **condition).mean for denoiser in self.denoisers]
        mean = sum((weight * each for weight, each in zip(self.weights, means)), torch.zeros_like(x_t))
        if self.base is not None:
            mean = mean + rest * self.base(x_t, t, **condition).mean
        elif rest != 0:
            alpha = level.like(x_t).alpha
            if not isinstance(alpha, Tensor) and alpha == 0:
                raise ValueError(
                    "a product without a base at alpha = 0 (zero SNR): give a base, or start the grid below t = 1 "
                    "(UniformLogSNR does)"
                )
            mean = mean + rest * (x_t / alpha)
        return GaussianPosterior(x_t, self.process, level, mean)

    def _on_chain(self, x_t: Tensor, level: Level, rest: float, condition: dict[str, Any]) -> CategoricalPosterior:
        answers = [denoiser(x_t, level.t, **condition) for denoiser in self.denoisers]
        if self.base is not None:
            answers.append(self.base(x_t, level.t, **condition))
        else:
            answers.append(flat_posterior(x_t, self.process, level, answers[0].logits.dtype))
        powers = [*self.weights, rest]
        learned = len(powers) if self.base is not None else len(self.weights)  # the flat one is known exactly
        answers = [*without_the_rare(answers[:learned], powers[:learned], len(x_t)), *answers[learned:]]
        return guided_posterior(x_t, self.process, level, answers, powers)


class MixtureOfDenoisers(Denoiser[Any]):
    r"""The mixture ``sum_k w_k p_k(x)``: the means of its parts, weighted by what each is responsible for.

    ``mean = sum_k r_k mean_k`` with ``r_k ~ w_k p_k(x_t)`` at the noise of ``t``, exact where the densities are (Liu et
    al. 2022, arXiv 2206.01714, eq. 9, the disjunction).  Densities come from the denoisers' ``log_prob(x, t)``, as
    closed-form denoisers have, or from a classifier that says which part a noisy state comes from.  An evaluation
    costs one call of each.

    Args:
        denoisers: the parts, of one schedule.
        weights: of the parts, positive; equal by default.
        classifier: called as ``classifier(x_t, t)``, answers with ``log p(k | x_t)`` ``(B, K)`` up to a constant a
            sample, for parts of equal weight; needed where denoisers have no ``log_prob``.

    Raises:
        ValueError: no parts, weights that do not fit, denoisers of several schedules, or densities that nobody knows.
    """

    def __init__(
        self,
        denoisers: Sequence[Denoiser[Any]],
        weights: Sequence[float] | None = None,
        classifier: Callable[..., Tensor] | None = None,
    ) -> None:
        weights = tuple(weights) if weights is not None else (1.0,) * len(denoisers)
        require(len(denoisers) > 0, "denoisers", list(denoisers), "at least one")
        require(len(weights) == len(denoisers), "weights", weights, f"one for each of {len(denoisers)} denoisers")
        require(all(weight > 0 for weight in weights), "weights", weights, "positive numbers")
        check_same_process(denoisers)
        unknown = [type(d).__name__ for d in denoisers if not hasattr(d, "log_prob")]
        if classifier is None and unknown:
            raise ValueError(f"classifier=None: {unknown[0]} has no log_prob; give a classifier of noisy states")
        super().__init__(denoisers[0].process)
        self.parts = nn.ModuleList(denoisers)
        self.denoisers = tuple(denoisers)
        self.weights = weights
        self.classifier = classifier

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Any:
        if self.classifier is not None:
            logits = self.classifier(x_t, t)
        else:
            logits = torch.stack([part.log_prob(x_t, t) for part in self.denoisers], 1)  # type: ignore[operator]
        if logits.shape != (len(x_t), len(self.denoisers)):
            raise ValueError(f"classifier returned shape {tuple(logits.shape)}: expected (B, {len(self.denoisers)})")
        log_weights = torch.tensor(self.weights, dtype=logits.dtype, device=logits.device).log()
        means = torch.stack([part(x_t, t, **condition).mean for part in self.denoisers], 1)
        responsibility = (logits + log_weights).softmax(1).to(means)
        mean = (responsibility.reshape(*responsibility.shape, *[1] * (means.ndim - 2)) * means).sum(1)
        if isinstance(self.process, Chain):  # the means of one-hot data are their probabilities
            return belief(x_t, self.process, self.process.level(t), mean.log())
        return GaussianPosterior(x_t, self.process, self.process.level(t), mean)
