"""Bits per character of masked diffusion and of an autoregressive model, in the same budget of processor time.

Tiny Shakespeare by characters (65 of them), the first 90 % to train on and the last 5 % to judge by, texts of 128
characters, about a million parameters, one thread. Both models are `TokenTransformer` of the same size, trained by
``fit`` with the same optimiser, batches, learning rate and precision (bfloat16 in products of matrices) for
``--seconds`` of processor time each: what a step costs is measured first, on 30 steps, and the number of steps follows.

Masked diffusion trains on the cross-entropy of masked tokens, each alike, at shares of masks from 0.1 to 0.8, where
there is most to learn, and is judged by the bound itself (2406.07524, eq. 10). Its bound is estimated twice, in
continuous time and in 128 steps, on the same texts. The autoregressive figure is exact.

Figures: ``masked_bpc`` with ``masked_bpc_error``, ``masked_discrete_bpc`` with its error, ``autoregressive_bpc``,
``limit_bpc`` = 1.10 of that plus 0.25, steps, parameters and processor time of each, and ``estimators_gap`` in standard
errors. It passes if the bound is at most the limit and the two estimates agree within four standard errors.
"""

import sys
import tempfile
import time
from pathlib import Path

from common import TRAINING, parser, record, set_threads, steps_within

from ornstein.core import StratifiedTimes, TokenBound, TokenCrossEntropy
from ornstein.core.nn import TokenTransformer
from ornstein.core.training import EMA
from ornstein.domains.text import AutoregressiveText, ShakespeareData, TextDiffusion

LENGTH, BATCH = 128, 16
SIZE = {"width": 192, "depth": 2, "head_width": 32, "timed": False}
OPTIONS = TRAINING | {"lr": 0.006, "warmup": 50, "accelerator": "cpu", "precision": "bf16-mixed"}


def train(model, data: ShakespeareData, steps: int, folder: Path, seed: int) -> float:
    """Processor seconds of the training of ``steps`` steps."""
    start = time.process_time()
    model.fit(data, run=folder, max_steps=steps, seed=seed, ema=EMA(0.99), **OPTIONS)
    return time.process_time() - start


def budgeted(make, data: ShakespeareData, seconds: float, folder: Path, seed: int):
    """A model trained for about ``seconds`` of processor time, the steps and the seconds."""
    steps = steps_within(seconds, lambda n: train(make(), data, n, folder / f"calibration-{n}", seed))
    model = make()
    return model, steps, train(model, data, steps, folder / "run", seed)


def main() -> int:
    """Train both, weigh the held-out text, print and record."""
    options = parser(__doc__)
    options.add_argument("--data", default="../shared/data/tinyshakespeare/input.txt", help="the text (%(default)s)")
    options.add_argument("--seconds", type=float, default=300.0, help="processor time of each (default: %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="of training (default: %(default)s)")
    options.add_argument("--run", help="folder for the models (default: a temporary one)")
    given = options.parse_args()
    set_threads(given.threads)
    seconds = 8.0 if given.quick else given.seconds
    data = ShakespeareData(given.data, length=LENGTH, batch_size=BATCH)
    size = data.tokenizer.size

    def masked() -> TextDiffusion:
        objective = TokenCrossEntropy(times=StratifiedTimes(0.1, 0.8))
        return TextDiffusion.for_data(data, network=TokenTransformer(size + 1, lazy=True, **SIZE), objective=objective)

    def causal() -> AutoregressiveText:
        return AutoregressiveText.for_data(data, network=TokenTransformer(size, causal=True, **SIZE))

    text = data.split.heldout.texts[0]
    rows = [text[i : i + LENGTH] for i in range(0, len(text) - LENGTH + 1, LENGTH)][: 40 if given.quick else None]
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.run or scratch)
        for name, make in (("masked", masked), ("autoregressive", causal)):
            model, steps, spent = budgeted(make, data, seconds, folder / name, given.seed)
            parameters = sum(p.numel() for p in model.network.parameters())
            figures |= {f"{name}_steps": steps, f"{name}_cpu_seconds": spent, f"{name}_parameters": parameters}
            if isinstance(model, AutoregressiveText):
                figures["autoregressive_bpc"] = model.perplexity(rows).bits_per_character
            else:
                for label, bound in (("masked", TokenBound(draws=24)), ("masked_discrete", TokenBound(128, draws=1))):
                    few = rows if label == "masked" else rows[:: 1 if given.quick else 8]
                    figures |= _bound(model, few, label, bound, 2 if label == "masked_discrete" else 1)
                same = _bound(model, rows[:: 1 if given.quick else 8], "same", TokenBound(draws=64), 1)
            print(figures, file=sys.stderr)
    error = (same["same_bpc_error"] ** 2 + figures["masked_discrete_bpc_error"] ** 2) ** 0.5
    figures["estimators_gap"] = abs(same["same_bpc"] - figures["masked_discrete_bpc"]) / error
    figures["limit_bpc"] = 1.10 * figures["autoregressive_bpc"] + 0.25
    passed = {
        "masked_bpc": figures["masked_bpc"] <= figures["limit_bpc"],
        "estimators_agree": figures["estimators_gap"] <= 4,
    }
    return record("text_likelihood", figures, passed, seeds=[given.seed], quick=given.quick, threads=given.threads)


def _bound(model: TextDiffusion, rows: list[str], label: str, bound: TokenBound, draws: int) -> dict[str, float]:
    """The bound in bits per character and its error; of one draw a text, from the spread over repetitions."""
    found = [model.perplexity(rows, bound=bound, seed=seed) for seed in range(max(1, draws))]
    mean = sum(each.bits_per_character for each in found) / len(found)
    if bound.draws > 1:
        return {f"{label}_bpc": mean, f"{label}_bpc_error": found[0].bits_per_character_error}
    # Two estimates of each text: the variance of their mean is a quarter of their squared difference.
    first, second = found
    spread = 0.25 * float((first.nats - second.nats).square().sum())
    return {f"{label}_bpc": mean, f"{label}_bpc_error": spread**0.5 / 0.6931471805599453 / first.characters}


if __name__ == "__main__":
    sys.exit(main())
