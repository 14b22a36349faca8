"""What masked diffusion costs outside the network at a large vocabulary, in units of a log-softmax.

One core, 32,000 categories, 8 sequences of 256: noising the data at uniform times, the continuous-time bound from given
logits (a weighted cross-entropy, forward), and one reverse step of 1/64 of the time from its middle, together, against
``torch.log_softmax`` of the same logits.  The contestants take turns.  ``with_backward`` has the loss's gradient as
well, against the gradient of the log-softmax.  No matrix of 32,000 x 32,000 is formed: it would take 4 GB, and the peak
of memory is reported in units of the logits.
"""

import sys

import common
import torch

from ornstein.core import AbsorbingChain, CategoricalBound, CategoricalDenoiser, PowerSchedule, StratifiedTimes

CATEGORIES, LENGTH, BATCH = 32_000, 256, 8
LIMIT = 2.0


def work(backward: bool = False) -> tuple[dict[str, object], float]:
    """The contestants, and the bytes of the logits."""
    generator = torch.Generator().manual_seed(0)
    chain = AbsorbingChain(CATEGORIES, PowerSchedule())
    logits = torch.randn(BATCH, LENGTH, chain.states, generator=generator)
    logits.requires_grad_(backward)
    denoiser = CategoricalDenoiser(lambda x, c: logits, chain, timed=False)  # type: ignore[arg-type]
    data = torch.randint(0, CATEGORIES, (BATCH, LENGTH), generator=generator)
    objective = CategoricalBound(times=StratifiedTimes())
    half = chain.marginal(data, 0.5).sample(generator=generator)
    u = torch.rand(half.shape, dtype=torch.float64, generator=generator)

    def ours() -> None:
        loss = objective(denoiser, data, generator=generator).mean()
        if backward:
            logits.grad = None
            loss.backward()
        with torch.no_grad():
            denoiser(half, 0.5).reverse(0.5 - 1 / 64).sample(u)

    def reference() -> None:
        out = logits.log_softmax(-1)
        if backward:
            logits.grad = None
            out.sum().backward()

    return {"ours": ours, "log_softmax": reference}, logits.numel() * logits.element_size()


def peak() -> float:
    """Growth of memory by our work, in units of the logits."""
    contestants, size = work()
    return common.peak_growth(contestants["ours"]) / size  # type: ignore[arg-type]


def main() -> int:
    given = common.parser(__doc__).parse_args()
    common.set_threads(given.threads)
    figures: dict[str, float] = {}
    for name, backward in (("absorbing", False), ("with_backward", True)):
        contestants, _ = work(backward)
        with torch.set_grad_enabled(backward):
            seconds = common.interleave(contestants, 5 if given.quick else 25)  # type: ignore[arg-type]
        ratio = common.ratio(seconds["ours"], seconds["log_softmax"])
        figures |= {f"{name}_ratio": ratio.median, f"{name}_ratio_low": ratio.low, f"{name}_ratio_high": ratio.high}
    figures["peak_over_logits"] = common.in_fresh_process(peak)
    passed = {"absorbing_ratio": figures["absorbing_ratio"] <= LIMIT}
    return common.record("discrete_cost", figures, passed, seeds=[0], quick=given.quick, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
