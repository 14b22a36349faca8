"""Generation of drug-like molecules as graphs: MOSES, after the processor time of two cores for an hour.

A `MoleculeDiffusion` on graphs, their atoms in the order of canonical SMILES, is trained on molecules of MOSES
(Polykovskiy et al. 2020, arXiv 1811.12823) for ``--minutes`` of ``--threads`` cores: what a step costs is measured
first, on some steps, and the number of steps follows; on a GPU (``--device cuda``) minutes are those of the clock. The
network is trained in bfloat16. ``--share`` of the time goes into a second model of the same kind, away from which the
first is guided by ``--scale`` (`Autoguidance`). Then ``--num`` molecules are drawn with the constraint on valences and
on rings, of three to seven atoms as in MOSES (`FreeFirst`: those that break it are drawn again from half of the noise,
what then is left within it step by step), and as many without any (or these, and what else is not asked for, are left
as recorded, with ``--only-constrained``), and judged by MOSES' own definitions: FCD and scaffolds against its test set,
novelty against all of its 1.58 million training molecules.

Figures: ``validity`` and ``validity_unconstrained`` (RDKit accepts the molecule and its SMILES), ``connected`` and
``connected_unconstrained`` (valid, and one piece), ``unique``, ``novel``, ``fcd``, ``scaffold``, ``filters`` and others
of MOSES, of those drawn with the constraint; ``fcd_unconstrained``; steps, parameters and seconds. For each further
number of ``--steps``, ``fcd_at_N`` and ``per_second_at_N`` (``--only-further``: these alone, the rest as recorded).
With ``--memory``, ``memory_512``, by how many bytes the peak of resident memory grows while a batch of 512 is drawn. It
passes at validity 0.995, 0.7 without constraint, unique 0.99, novel 0.95, FCD 5, scaffolds 0.05 and filters 0.9, if FCD
is at most 1.2 times that with any further number of steps and the memory of 512 below 4 GB; n = 2,000 real molecules
have FCD 0.63.
"""

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import TRAINING, in_fresh_process, parser, peak_growth, record, recorded, set_threads, steps_within

from ornstein.core import Autoguidance, FreeFirst
from ornstein.core.training import EMA
from ornstein.domains.molecules import GraphForm, MoleculeDiffusion, MOSESData
from ornstein.domains.molecules.graph_representation import GraphRepresentation
from ornstein.domains.molecules.ordered_network import OrderedTransformer

TRAINED = "trained.json"  # what both models took
RINGS = (3, 4, 5, 6, 7)  # MOSES has no larger ones, and its filters refuse them
BARS = {
    "validity": 0.995,
    "validity_unconstrained": 0.7,
    "unique": 0.99,
    "novel": 0.95,
    "scaffold": 0.05,
    "filters": 0.9,
}


def clock(device: str) -> float:
    """Seconds that count: of the processor, on a GPU of the clock."""
    return time.process_time() if device == "cpu" else time.perf_counter()


def make(data: MOSESData, given: Any) -> MoleculeDiffusion:
    """A model that knows nothing yet."""
    form = GraphRepresentation(data.facts)
    network = OrderedTransformer(
        **form.network_options(form.process()),
        places=data.facts.largest,
        width=given.width,
        pair_width=given.pair_width,
        depth=given.depth,
    )
    return MoleculeDiffusion.for_data(data, network=network, seed=given.seed)


def train(data: MOSESData, given: Any, steps: int, folder: Path) -> float:
    """Trains a model, saved in the folder, for so many steps; the seconds that they took."""
    model = make(data, given)
    start = clock(given.device)
    model.fit(
        data,
        run=folder,
        max_steps=steps,
        seed=given.seed,
        lr=given.lr,
        warmup=100,
        ema=EMA(min(0.999, 1 - 10 / max(steps, 20))),
        accelerator="gpu" if given.device == "cuda" else "cpu",
        precision="bf16-mixed",
        devices=1,
        **TRAINING,
    )
    return clock(given.device) - start


def budgeted(data: MOSESData, given: Any, seconds: float, folder: Path) -> tuple[int, float]:
    """The steps of a model trained for about so many seconds, and its seconds."""
    steps = steps_within(seconds, lambda n: train(data, given, n, folder / f"calibration-{n}"))
    return steps, train(data, given, steps, folder / "run")


def both_trained(data: MOSESData, given: Any, folder: Path) -> dict[str, float]:
    """What the model and the weaker one took, which are saved in the folder."""
    seconds = 10.0 if given.quick else 60 * given.minutes * (given.threads if given.device == "cpu" else 1)
    few, spent_weaker = budgeted(data, given, given.share * seconds, folder / "weaker")
    steps, spent = budgeted(data, given, (1 - given.share) * seconds, folder)
    figures = {
        "steps": steps,
        "weaker_steps": few,
        "molecules_seen": (steps + few) * given.batch,
        "training_seconds": spent + spent_weaker,
    }
    (folder / TRAINED).write_text(json.dumps(figures))
    return figures


def draw(model: MoleculeDiffusion, given: Any, steps: int, constrained: bool) -> tuple[Any, float]:
    """Molecules, and how many a second."""
    import dataclasses

    constraint = model.form.constraint(rings=RINGS) if constrained else None
    sampler = FreeFirst.of(dataclasses.replace(model.sampler, steps=steps, constraint=constraint))
    start = clock(given.device)
    drawn = model.generate(given.num, sampler=sampler, seed=given.seed, batch_size=given.batch_sample)
    return drawn, given.num / (clock(given.device) - start)


def judge(drawn: Any, known: Any, reference: Any, full: bool) -> dict[str, float]:
    """Figures of molecules, as MOSES names them."""
    from rdkit import Chem

    from ornstein.domains.molecules.judges import chemnet_moments, fcd_between, judge_molecules

    single = sum(mol is not None and len(Chem.GetMolFrags(mol)) == 1 for mol in drawn) / len(drawn)
    if not full:
        found = judge_molecules(drawn.raw, known, measures=["validity"], floors=False)
        valid = [mol for mol in drawn if mol is not None]
        far = fcd_between(chemnet_moments(valid), reference.chemnet) if len(valid) > 1 else math.inf
        return {"validity": found["validity/parse"], "connected": single, "fcd": far}
    measures = ["validity", "diversity", "filters", "moses", "fcd"]
    found = judge_molecules(drawn.raw, known, reference, measures, floors=False)
    names = {
        "validity": "validity/parse", "unique": "unique", "novel": "novel", "vun": "vun", "fcd": "fcd/Test",
        "scaffold": "scaf/Test", "filters": "filters", "snn": "snn/Test", "fragments": "frag/Test", "intdiv": "intdiv",
    }  # fmt: skip
    return {"connected": single} | {name: found[key] for name, key in names.items() if key in found}


def known_molecules(quick: bool) -> Any:
    """All training molecules of MOSES, hashed."""
    from ornstein.domains.molecules.judges import KnownMolecules
    from ornstein.domains.molecules.moses import moses_smiles

    return KnownMolecules.of(moses_smiles("train", 20_000 if quick else None), canonical=True)


def main() -> int:
    """Train, draw, judge, print and record."""
    options = parser(__doc__)
    # One thread gets more out of two hours than two out of one: a step takes 1.4 times the processor time on two.
    options.add_argument("--minutes", type=float, default=118.0, help="of training (default: %(default)s)")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: %(default)s)")
    options.add_argument("--count", type=int, default=500_000, help="molecules to train on (default: %(default)s)")
    options.add_argument("--num", type=int, default=2000, help="molecules to draw (default: %(default)s)")
    options.add_argument("--steps", type=int, nargs="+", default=[50], help="of the sampler (default: 50)")
    options.add_argument("--batch", type=int, default=64, help="molecules a training step (default: %(default)s)")
    options.add_argument("--batch-sample", type=int, default=256, help="molecules drawn at once (default: %(default)s)")
    options.add_argument("--lr", type=float, default=0.008, help="(default: %(default)s)")
    options.add_argument("--width", type=int, default=192, help="numbers of an atom (default: %(default)s)")
    options.add_argument("--pair-width", type=int, default=128, help="numbers of a pair (default: %(default)s)")
    options.add_argument("--depth", type=int, default=6, help="blocks (default: %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options.add_argument("--memory", action="store_true", help="also measure the memory of a batch of 512")
    options.add_argument("--only-constrained", action="store_true", help="leave what is drawn without as recorded")
    options.add_argument("--only-further", action="store_true", help="draw with the second and further --steps alone")
    options.add_argument("--run", help="folder for the model (default: a temporary one)")
    options.add_argument("--share", type=float, default=0.04, help="of the time for the weaker model (default: 0.04)")
    options.add_argument("--scale", type=float, default=2.0, help="of autoguidance, 1 for none (default: %(default)s)")
    options.add_argument("--checkpoint", help="folder of an earlier --run, whose models are taken instead of training")
    given = options.parse_args()
    set_threads(given.threads)
    if given.quick:
        given.count, given.num, given.steps = 1000, 64, [min(given.steps[0], 20)]
        given.width, given.pair_width, given.depth = 64, 32, 2
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.run or scratch)
        if given.checkpoint:
            folder = Path(given.checkpoint)
            figures |= json.loads((folder / TRAINED).read_text())
        else:
            data = MOSESData(
                count=given.count, heldout_count=100, form=GraphForm(ordered=True), validation=0, batch_size=given.batch
            )
            figures = both_trained(data, given, folder)
        model = guided(folder, given.scale).to(given.device)
        figures["parameters"] = sum(p.numel() for p in model.denoiser.denoiser.network.parameters())
        figures["autoguidance"] = given.scale
        figures |= measured(model, given)
        if given.memory and given.device == "cpu":
            figures["memory_512"] = in_fresh_process(memory, folder, given.scale, given.steps[0], given.seed)
        print(figures, file=sys.stderr)
    passed = {name: figures.get(name, 0.0) >= bar for name, bar in BARS.items()} | {"fcd": figures["fcd"] <= 5}
    passed |= {f"fcd_to_{n[7:]}": figures["fcd"] <= 1.2 * far for n, far in figures.items() if n.startswith("fcd_at_")}
    passed |= {"memory_512": figures["memory_512"] < 4e9} if "memory_512" in figures else {}
    return record(
        "moses", figures, passed, seeds=[given.seed], quick=given.quick, threads=given.threads,
        packages=("rdkit", "fcd-torch", "molsets"),
    )  # fmt: skip


def measured(model: MoleculeDiffusion, given: Any) -> dict[str, float]:
    """Figures of what a model draws."""
    from ornstein.domains.molecules.judges import moses_reference

    known, reference = known_molecules(given.quick), moses_reference("Test")
    first, *others = given.steps
    if given.only_further:
        further = with_further(model, given, others, known, reference)
        return recorded("moses")[0] | further
    drawn, rate = draw(model, given, first, True)
    figures = judge(drawn, known, reference, True) | {"sampling_steps": first, "per_second": rate}
    if given.only_constrained:
        figures = recorded("moses")[0] | figures
    else:
        free, free_rate = draw(model, given, first, False)
        figures |= {f"{name}_unconstrained": value for name, value in judge(free, known, reference, False).items()}
        figures["per_second_unconstrained"] = free_rate
    return figures | with_further(model, given, others, known, reference)


def with_further(
    model: MoleculeDiffusion, given: Any, numbers: list[int], known: Any, reference: Any
) -> dict[str, float]:
    """Figures of other numbers of steps."""
    figures = {}
    for steps in numbers:
        drawn, rate = draw(model, given, steps, True)
        figures |= {f"fcd_at_{steps}": judge(drawn, known, reference, False)["fcd"], f"per_second_at_{steps}": rate}
    return figures


def guided(folder: Path, scale: float) -> MoleculeDiffusion:
    """The model of a run's folder, guided by the weaker one beside it."""
    model, weaker = (
        MoleculeDiffusion.from_pretrained(Path(folder, *part, "run", "model")).eval() for part in ((), ("weaker",))
    )
    model.denoiser = Autoguidance(model.denoiser, weaker.denoiser, scale)
    return model


def memory(folder: Path, scale: float, steps: int, seed: int) -> int:
    """Bytes by which a batch of 512 raises the peak of memory; in a fresh process."""
    import dataclasses

    set_threads(1)
    model = guided(folder, scale)
    sampler = FreeFirst.of(dataclasses.replace(model.sampler, steps=steps))
    return peak_growth(lambda: model.generate(512, sampler=sampler, seed=seed, batch_size=512))


if __name__ == "__main__":
    sys.exit(main())
