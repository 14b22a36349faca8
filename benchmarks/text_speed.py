"""Tokens a second and memory of text diffusion, of the autoregressive baseline and of a plain transformer encoder.

All have the same width, depth, heads and hidden features, and the same batches of 16 texts of 128 characters:

* ``plain``: ``torch.nn.TransformerEncoder`` (pre-norm, ReLU, learned positions) with cross-entropy of every token;
* ``autoregressive``: `AutoregressiveText` with a causal `TokenTransformer`, cross-entropy of every token;
* ``masked`` and ``embedding``: `TextDiffusion` of these kinds, noise drawn and their losses included.

A training step is forward, loss, backward, AdamW (fused for all) and clearing gradients. Sampling draws 16 texts of 128
characters: diffusion in ``--steps`` steps, the baseline one character after the other with its memory of keys and
values. They take turns in one process. Peak memory is the growth of the resident set of a fresh process.

Figures: ``NAME_training_tokens_per_second`` and ``NAME_sampling_tokens_per_second``, ``NAME_parameters``,
``NAME_training_peak_mib`` and ``NAME_sampling_peak_mib``; ``training_ratio`` is the time of masked diffusion's step
over the plain encoder's, the median of the turns (``_low`` and ``_high`` are the quartiles), ``embedding_ratio`` that
of embedding diffusion, ``sampling_ratio`` the time of masked diffusion over the baseline's. It passes if
``training_ratio`` is at most 1.1.
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from common import in_fresh_process, interleave, parser, peak_growth, ratio, record, set_threads
from torch import nn

WIDTH, DEPTH, HEADS, BATCH, LENGTH, SIZE = 192, 4, 6, 16, 128, 65
SHAPE = {"width": WIDTH, "depth": DEPTH, "head_width": WIDTH // HEADS}
DIFFUSIONS = ("masked", "embedding")
CONTESTANTS = ("plain", "autoregressive", *DIFFUSIONS)
SEED = 0


class Plain(nn.Module):
    """An encoder as torch's users write it, and its cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(SIZE, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        block = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(block, DEPTH, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.encoder(self.tokens(x) + self.places))
        return nn.functional.cross_entropy(logits.flatten(0, 1), x.flatten())


class Contest:
    """One contestant: its loss, its optimiser and its way to draw texts."""

    def __init__(self, name: str, steps: int) -> None:
        torch.manual_seed(SEED)
        self.x = torch.randint(SIZE, (BATCH, LENGTH))
        self.model, self.loss = self.build(name)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.name, self.steps = name, steps

    def build(self, name: str) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
        """The model, whose parts are imported here so that memory is measured without the others'."""
        if name == "plain":
            plain = Plain()
            return plain, lambda: plain(self.x)
        from ornstein.core.nn import TokenTransformer
        from ornstein.domains.text import AutoregressiveText, CharacterTokenizer, TextDiffusion

        tokenizer = CharacterTokenizer("".join(chr(48 + i) for i in range(SIZE)))
        if name == "autoregressive":
            network = TokenTransformer(tokenizer.size, causal=True, timed=False, **SHAPE)
            model = AutoregressiveText(tokenizer, length=LENGTH, network=network)
        elif name == "masked":
            network = TokenTransformer(tokenizer.size + 1, timed=False, lazy=True, **SHAPE)
            model = TextDiffusion(tokenizer, length=LENGTH, network=network)
        else:
            network = TokenTransformer(64, tokenizer.size, vectors=True, estimate=True, marked=True, **SHAPE)
            model = TextDiffusion(tokenizer, length=LENGTH, kind="embedding", dimensions=64, network=network)
        return model, lambda: model.objective(model.denoiser, self.x).mean()

    def training(self) -> None:
        self.loss().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def sampling(self) -> None:
        sampler = self.model.sampler
        if self.name in DIFFUSIONS:
            sampler = replace(sampler, steps=self.steps)
        self.model.sample(BATCH, sampler=sampler, seed=SEED, length=LENGTH, batch_size=BATCH)


def measure_times(steps: int, rounds: int) -> dict[str, float]:
    """Figures of speed."""
    contests = {name: Contest(name, steps) for name in CONTESTANTS}
    figures: dict[str, float] = {
        f"{name}_parameters": sum(p.numel() for p in contest.model.parameters()) for name, contest in contests.items()
    }
    for work, names, turns in (("training", CONTESTANTS, 5 * rounds), ("sampling", CONTESTANTS[1:], rounds)):
        seconds = interleave({name: getattr(contests[name], work) for name in names}, turns, warmup=1)
        for name, times in seconds.items():
            figures[f"{name}_{work}_tokens_per_second"] = BATCH * LENGTH / statistics.median(times)
        pairs = {
            "training": {"training_ratio": ("masked", "plain"), "embedding_ratio": ("embedding", "plain")},
            "sampling": {"sampling_ratio": ("masked", "autoregressive")},
        }
        for key, (ours, theirs) in pairs[work].items():
            quotient = ratio(seconds[ours], seconds[theirs])
            figures |= {key: quotient.median, f"{key}_low": quotient.low, f"{key}_high": quotient.high}
            print(f"{key} {quotient.median:.3f}", flush=True)
    return figures


def peak_of(name: str, work: str, steps: int, threads: int) -> int:
    """Peak memory in bytes of two rounds of a contestant, everything after its imports included."""
    torch.set_num_threads(threads)
    small = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)  # torch's code is resident from its first use on
    small(torch.randn(2, 4, 8)).square().mean().backward()
    torch.optim.AdamW(small.parameters(), fused=True).step()

    def run() -> None:
        contest = Contest(name, steps)
        for _ in range(2):
            getattr(contest, work)()

    return peak_growth(run)


def main() -> int:
    """Time, weigh, print and record."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=64, help="of sampling by diffusion (default: %(default)s)")
    given = options.parse_args()
    set_threads(given.threads)
    figures: dict[str, float] = {"sampling_steps": given.steps}
    figures |= measure_times(4 if given.quick else given.steps, 2 if given.quick else 7)
    for work, names in (("training", CONTESTANTS), ("sampling", CONTESTANTS[1:])):
        for name in names[:2] if given.quick else names:
            peak = in_fresh_process(peak_of, name, work, given.steps if not given.quick else 4, given.threads)
            figures[f"{name}_{work}_peak_mib"] = peak / 2**20
    passed = {"training_ratio": figures["training_ratio"] <= 1.1}
    return record("text_speed", figures, passed, seeds=[SEED], quick=given.quick, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
