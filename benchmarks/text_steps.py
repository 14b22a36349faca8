"""Quality of samples against the number of steps, for each sampler of tokens and of embeddings.

Descriptions of restaurants (E2E) by words. A masked and an embedding model of the same width and depth are trained as
in ``text_control.py`` (the same folder of runs serves both); neither is told attributes here. For 8 to 256 steps each
sampler writes ``--texts`` texts with each of two seeds, and figures are means over seeds with their standard error:

* ``bits``: bits a word under a word 5-gram of the test file over those of real texts, halves by restaurant
  (`judge_texts`); less is more fluent, and 1 is as real texts;
* ``entropy``: unigram entropy over that of real texts, which low bits of texts that are all the same do not reach;
* ``mauve``: on n-gram features, which falls for either fault.

Figures: ``KIND_SAMPLER_STEPS_bits`` (with ``_error``), ``_entropy``, ``_mauve``, and ``real_mauve``. It passes if
DPM-Solver++ with 20 steps, as embeddings are sampled by default (``sde_dpm``), has no more bits than DDPM's ancestral
sampling with 200, and no less MAUVE, each up to twice the error of their difference; these two have eight
seeds. ``dpm`` is the ODE on the core's own grid.
"""

import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from common import parser, record, set_threads
from text_control import embedding, masked

from ornstein.core import (
    DDIM,
    DDPM,
    CategoricalAncestral,
    ConfidentFirst,
    DPMSolver,
    Heun,
    Remasking,
    Sampler,
    TauLeaping,
    UniPC,
    Unmasking,
)
from ornstein.domains.text import E2EData, TextDiffusion
from ornstein.domains.text.judges import judge_texts
from ornstein.domains.text.kinds import EMBEDDING_SAMPLER

STEPS = (8, 16, 32, 64, 128, 256)
TOKENS = {
    "unmasking": Unmasking,
    "confident": lambda steps: Unmasking(steps, positions=ConfidentFirst()),
    "ancestral": CategoricalAncestral,
    "tau_leaping": TauLeaping,
    "remasking": Remasking,
}
VECTORS = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "heun": lambda steps: Heun(steps // 2),
    "dpm": DPMSolver,
    "sde_dpm": lambda steps: replace(EMBEDDING_SAMPLER, steps=steps),
    "unipc": UniPC,
}


def judged(model: TextDiffusion, sampler: Sampler, data: E2EData, count: int, seeds: int) -> dict[str, float]:
    """Bits and MAUVE with their errors, and entropy, of ``count`` texts of each seed."""
    drawn = [model.sample(count, seed=seed, sampler=sampler, batch_size=64) for seed in range(seeds)]
    heldout = data.split.heldout
    groups = heldout.attributes["name"]
    found = [judge_texts(texts, heldout.texts, measures=("fluency", "mauve"), groups=groups) for texts in drawn]
    figures = {"real_mauve": found[0]["real_mauve"]}
    for name, key in (("bits", "bits_ratio"), ("mauve", "mauve")):
        values = [each[key] for each in found]
        figures |= {name: statistics.fmean(values), f"{name}_error": statistics.stdev(values) / seeds**0.5}
    ratios = [each["unigram_entropy"] / each["real_unigram_entropy"] for each in found]
    return figures | {"entropy": statistics.fmean(ratios)}


def main() -> int:
    """Train both, sample, judge, print and record."""
    options = parser(__doc__)
    options.add_argument("--data", default="../shared/data/e2e_nlg", help="folder of the E2E files (%(default)s)")
    options.add_argument("--steps", type=int, default=3000, help="of training of each model (default: %(default)s)")
    options.add_argument("--texts", type=int, default=32, help="of a seed (default: %(default)s)")
    options.add_argument("--run", help="folder of the models, such as text_control's (default: a temporary one)")
    given = options.parse_args()
    set_threads(given.threads)
    few = {"attributes": ("name", "area", "food")} if given.quick else {}
    data = E2EData(given.data, batch_size=32, **few)
    steps, count, numbers = (8, 20, (8,)) if given.quick else (given.steps, given.texts, STEPS)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.run or scratch)
        for kind, make, samplers in (("masked", masked, TOKENS), ("embedding", embedding, VECTORS)):
            model = make(data, steps, folder / kind)
            runs = [(name, number, 2) for name in samplers for number in numbers]
            if kind == "embedding":
                runs += [("sde_dpm", 20, 8), ("ddpm", 200 if not given.quick else 20, 8)]
            for name, number, seeds in runs:
                found = judged(model, samplers[name](number), data, count, seeds)
                figures["real_mauve"] = found.pop("real_mauve")
                figures |= {f"{kind}_{name}_{number}_{key}": value for key, value in found.items()}
                print(kind, name, number, *(f"{key} {value:.3f}" for key, value in found.items()), flush=True)
    few, many = "embedding_sde_dpm_20", "embedding_ddpm_20" if given.quick else "embedding_ddpm_200"
    slack = {
        name: 2 * (figures[f"{few}_{name}_error"] ** 2 + figures[f"{many}_{name}_error"] ** 2) ** 0.5
        for name in ("bits", "mauve")
    }
    passed = {
        "few_steps_bits": figures[f"{few}_bits"] <= figures[f"{many}_bits"] + slack["bits"],
        "few_steps_mauve": figures[f"{few}_mauve"] >= figures[f"{many}_mauve"] - slack["mauve"],
    }
    return record("text_steps", figures, passed, seeds=list(range(8)), quick=given.quick, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
