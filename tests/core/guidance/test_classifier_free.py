"""Classifier-free guidance: limits, the formula, one doubled call, interval, rescaling, conditions that stay."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    DDIM,
    SDE,
    ClassifierFreeGuidance,
    CosineSchedule,
    Denoiser,
    FlowSchedule,
    GaussianDenoiser,
    GaussianPosterior,
    NetworkDenoiser,
    Posterior,
)


class Labelled(Denoiser):
    """Mean = x / 2 + t + what the conditions say; remembers its calls."""

    def __init__(self) -> None:
        super().__init__(SDE(CosineSchedule()))
        self.calls: list[tuple[Tensor, Any, dict[str, Tensor]]] = []

    def forward(self, x_t: Tensor, t: Any, **condition: Any) -> Posterior:
        self.calls.append((x_t, t, condition))
        mean = 0.5 * x_t + torch.as_tensor(t, dtype=x_t.dtype).reshape(-1, *[1] * (x_t.ndim - 1))
        for name in ("label", "context"):
            if condition.get(name) is not None:
                value = condition[name].to(x_t.dtype)
                mean = mean + (value + 1).reshape(len(x_t), -1).mean(1).reshape(-1, *[1] * (x_t.ndim - 1)) * (1 + x_t)
        return GaussianPosterior(x_t, self.process, self.process.level(t), mean)


X = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABEL = torch.tensor([0, 1, 2, -1])


def means(x: Tensor = X, t: Any = 0.5) -> tuple[Tensor, Tensor]:
    plain = Labelled()
    return plain(x, t, label=LABEL).mean, plain(x, t, label=torch.full_like(LABEL, -1)).mean


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.3, 1.0, 3.0, 20.0])
def test_the_mean_is_ho_and_salimans_eq_6(scale: float) -> None:
    with_, without = means()
    guided = ClassifierFreeGuidance(Labelled(), scale)(X, 0.5, label=LABEL)
    torch.testing.assert_close(guided.mean, without + scale * (with_ - without), rtol=1e-12, atol=1e-12)
    # Where there is no label there is nothing to guide towards.
    torch.testing.assert_close(guided.mean[3], without[3], rtol=1e-12, atol=0)
    if scale in (0.0, 1.0):
        assert torch.equal(guided.mean, with_ if scale else without)


def test_eps_and_score_are_guided_as_the_mean_is() -> None:
    plain = Labelled()
    pair = [plain(X, 0.5, label=label) for label in (LABEL, torch.full_like(LABEL, -1))]
    guided = ClassifierFreeGuidance(plain, 2.5)(X, 0.5, label=LABEL)
    for name in ("eps", "score", "velocity"):
        with_, without = (getattr(posterior, name) for posterior in pair)
        torch.testing.assert_close(getattr(guided, name), without + 2.5 * (with_ - without), rtol=1e-10, atol=1e-10)


def test_labels_are_one_call_of_twice_the_size_equal_to_two_calls() -> None:
    inner = Labelled()
    guided = ClassifierFreeGuidance(inner, 2.0)(X, 0.5, label=LABEL)
    (x, t, condition), *more = inner.calls
    assert not more
    assert torch.equal(x, torch.cat([X, X]))
    assert t == 0.5
    assert condition["label"].tolist() == [0, 1, 2, -1, -1, -1, -1, -1]
    with_, without = means()
    torch.testing.assert_close(guided.mean, 2 * with_ - without, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steering", ["context", "both", "flag"])
def test_what_is_no_label_is_left_out_in_a_second_call(steering: str) -> None:
    inner, mask = Labelled(), torch.ones(4, 3, dtype=torch.bool)
    conditions = {
        "context": {"context": torch.randn(4, 2, dtype=torch.float64)},
        "both": {"context": torch.randn(4, 2, dtype=torch.float64), "label": LABEL},
        "flag": {"label": LABEL, "flag": torch.tensor([True, False, True, False])},
    }[steering]
    guided = ClassifierFreeGuidance(inner, 2.0)(X, 0.5, mask=mask, **conditions)
    assert len(inner.calls) == 2
    kept = [set(condition) for _, _, condition in inner.calls]
    assert {"mask"} in kept
    assert {"mask", *conditions} in kept
    with_, without = Labelled()(X, 0.5, **conditions).mean, Labelled()(X, 0.5).mean
    torch.testing.assert_close(guided.mean, 2 * with_ - without, rtol=1e-12, atol=1e-12)


def test_a_negative_condition_of_ones_own() -> None:
    inner, negative = Labelled(), torch.tensor([5, 5, 5, 5])
    guided = ClassifierFreeGuidance(inner, 3.0, unconditional={"label": negative})(X, 0.5, label=LABEL)
    assert len(inner.calls) == 1
    with_, without = (Labelled()(X, 0.5, label=label).mean for label in (LABEL, negative))
    torch.testing.assert_close(guided.mean, 3 * with_ - 2 * without, rtol=1e-12, atol=1e-12)
    # Of another length (a prompt of fewer tokens): two calls.
    context, shorter = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    inner = Labelled()
    guided = ClassifierFreeGuidance(inner, 3.0, unconditional={"context": shorter})(X, 0.5, context=context)
    assert len(inner.calls) == 2
    with_, without = (Labelled()(X, 0.5, context=c).mean for c in (context, shorter))
    torch.testing.assert_close(guided.mean, 3 * with_ - 2 * without, rtol=1e-12, atol=1e-12)


def test_the_mask_stays_in_both_halves() -> None:
    inner = Labelled()
    mask = torch.tensor([[True, True, False]] * 4)
    ClassifierFreeGuidance(inner, 2.0)(X, 0.5, label=LABEL, mask=mask)
    assert torch.equal(inner.calls[0][2]["mask"], torch.cat([mask, mask]))


def test_scale_one_and_the_outside_of_the_interval_cost_one_conditional_call() -> None:
    for scale, interval, t in ((1.0, (0.0, 1.0), 0.5), (4.0, (0.2, 0.4), 0.5), (4.0, (0.2, 0.4), 0.1)):
        inner = Labelled()
        guided = ClassifierFreeGuidance(inner, scale, interval)(X, t, label=LABEL)
        assert [len(x) for x, _, _ in inner.calls] == [4]
        assert torch.equal(guided.mean, means(t=t)[0])


@pytest.mark.parametrize("t", [0.2, 0.3, 0.4])
def test_the_interval_includes_its_ends(t: float) -> None:
    inner = Labelled()
    for time in (t, torch.tensor(t, dtype=torch.float64)):
        guided = ClassifierFreeGuidance(inner, 4.0, (0.2, 0.4))(X, time, label=LABEL)
        with_, without = means(t=t)
        torch.testing.assert_close(guided.mean, 4 * with_ - 3 * without, rtol=1e-12, atol=1e-12)


def test_a_time_per_sample_acts_per_sample() -> None:
    t = torch.tensor([0.1, 0.2, 0.3, 0.9], dtype=torch.float64)
    label = torch.tensor([0, 1, 2, 3])
    for interval in ((0.2, 0.4), (0.0, 1.0)):
        inner = Labelled()
        guided = ClassifierFreeGuidance(inner, 4.0, interval)(X, t, label=label).mean
        assert torch.equal(inner.calls[0][1], torch.cat([t, t]))
        apart = ClassifierFreeGuidance(Labelled(), 4.0, interval)
        for i in range(4):
            one = apart(X[i : i + 1], t[i].item(), label=label[i : i + 1]).mean
            torch.testing.assert_close(guided[i : i + 1], one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescaling_is_lin_eqs_15_and_16(rescale: float) -> None:
    with_, without = means()
    plain = without + 5 * (with_ - without)
    std_c, std_g = (mean.flatten(1).std(1)[:, None, None] for mean in (with_, plain))
    expected = rescale * plain * std_c / std_g + (1 - rescale) * plain
    guided = ClassifierFreeGuidance(Labelled(), 5.0, rescale=rescale)(X, 0.5, label=LABEL).mean
    torch.testing.assert_close(guided, expected, rtol=1e-12, atol=1e-12)
    if rescale == 1:
        torch.testing.assert_close(guided.flatten(1).std(1), with_.flatten(1).std(1), rtol=1e-12, atol=0)


@pytest.mark.filterwarnings("error")
def test_rescaling_leaves_constant_means_alone() -> None:
    for x in (torch.zeros(4, 3, 5), torch.randn(4, 1)):
        guide, plain = (ClassifierFreeGuidance(Labelled(), 5.0, rescale=phi) for phi in (0.7, 0.0))
        assert torch.equal(guide(x, 0.5, label=LABEL).mean, plain(x, 0.5, label=LABEL).mean)
    x = torch.zeros(4, 3, 5, requires_grad=True)
    guide(x, 0.5, label=LABEL).mean.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_rescaling_does_not_count_padding() -> None:
    """A padded batch is guided as its samples are without padding."""
    short = X[:, :2]
    mask = torch.tensor([[True, True, False]] * 4)
    padded = torch.cat([short, torch.full((4, 1, 5), 50.0, dtype=torch.float64)], 1)
    guide = ClassifierFreeGuidance(Labelled(), 5.0, rescale=0.7)
    torch.testing.assert_close(
        guide(padded, 0.5, label=LABEL, mask=mask).mean[:, :2], guide(short, 0.5, label=LABEL).mean
    )


def test_gradients_reach_the_state() -> None:
    x = X.clone().requires_grad_()
    ClassifierFreeGuidance(Labelled(), 5.0, (0.1, 0.9), rescale=0.5)(
        x, torch.rand(4), label=LABEL
    ).mean.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_guided_denoiser_samples() -> None:
    """Data on one point, with a label another: scale 1 lands on the label's, 0 on the first, 2 as far beyond."""
    process = SDE(FlowSchedule())
    point, anything = (GaussianDenoiser(process, [m], [[v]]) for m, v in ((3.0, 0.0), (-1.0, 0.0)))

    class TwoClasses(Denoiser):
        def forward(self, x_t: Tensor, t: Any, label: Tensor | None = None, **condition: Any) -> Posterior:
            with_, without = point(x_t, t).mean, anything(x_t, t).mean
            chosen = torch.zeros(len(x_t), dtype=torch.bool) if label is None else label >= 0
            mean = torch.where(chosen[:, None], with_, without)
            return GaussianPosterior(x_t, process, process.level(t), mean)

    label = torch.zeros(3, dtype=torch.int64)
    for scale, expected in ((1.0, 3.0), (0.0, -1.0), (2.0, 7.0)):
        guide = ClassifierFreeGuidance(TwoClasses(process), scale)
        out = DDIM(steps=5).sample(guide, (3, 1), seed=0, condition={"label": label})
        torch.testing.assert_close(out, torch.full((3, 1), expected), rtol=1e-5, atol=1e-5)


def test_there_must_be_something_to_strengthen() -> None:
    guide = ClassifierFreeGuidance(Labelled(), 2.0)
    for condition in ({}, {"mask": torch.ones(4, 3, dtype=torch.bool)}, {"label": None}):
        with pytest.raises(ValueError, match="guidance without a condition"):
            guide(X, 0.5, **condition)
    with_label = guide(X, 0.5, label=LABEL, context=None).mean
    assert torch.equal(with_label, guide(X, 0.5, label=LABEL).mean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": (0.5, 0.5)}, r"interval=\(0\.5, 0\.5\)"),
        ({"interval": (-0.1, 0.5)}, "interval="),
        ({"interval": (0.1, 1.5)}, "interval="),
        ({"rescale": 1.5}, r"rescale=1\.5"),
        ({"rescale": -0.1}, "rescale="),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassifierFreeGuidance(Labelled(), 2.0, **options)


def test_the_network_under_guidance_sees_no_label_as_minus_one() -> None:
    seen = []

    def network(x: Tensor, c: Tensor, label: Tensor) -> Tensor:
        seen.append((len(x), len(c), label.tolist()))
        return x

    ClassifierFreeGuidance(NetworkDenoiser(network, SDE(FlowSchedule())), 3.0)(X, 0.5, label=LABEL)  # type: ignore[arg-type]
    assert seen == [(8, 8, [0, 1, 2, -1, -1, -1, -1, -1])]
