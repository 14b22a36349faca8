"""Molecules in minutes of one thread: SELFIES beside a character RNN, and small graphs beside torch-molecule's DiGress.

Sequences, in the same processor time each (``--seconds``), on ``--count`` molecules of MOSES: a recurrent
network over the characters of SMILES (two layers of 256 gated units, 0.65 million parameters, AdamW), and
`MoleculeDiffusion` with ``representation="selfies"`` as ``for_data`` makes it, of as many molecules drawn.
``vun`` is the share of 2,000 samples that are valid (RDKit reads them), different from each other and not among all of
MOSES' training molecules; ``fcd`` is that of the valid ones against MOSES' statistics of its test set, of which 2,000
real molecules have 0.63. Drawn from at a temperature below 1, a network of minutes may come closer or not: each has
that of ``TEMPERATURES`` whose samples, of another seed, are the nearest by FCD to ``HELD_OUT`` molecules of MOSES'
training file that neither has seen (``temperature``, ``rnn_temperature``; ``fcd_at_1``, ``rnn_fcd_at_1`` are the same
networks' at 1). It passes if SELFIES are better by half than 0.259 and 4.58, which were measured elsewhere for such a
network (``vun`` at least 1.5 times, ``fcd`` at most half), and better than the network of this run, which is a stronger
one: by half in ``vun``, by anything in ``fcd``, whose floor is near.

Graphs, on all of MOSES' molecules of at most 16 heavy atoms, after 180 seconds of processor time: ``graph_vun`` with
the valences held to and ``vun_unconstrained`` without, the shares that are valid likewise, and
``ms_per_molecule``, processor time of the sampling. ``time_ratio`` is that over the peer's, torch-molecule's DiGress
with 100 steps after an epoch (three minutes), which takes 439 ms a molecule where it is not installed to be run (``pip
install --no-deps torch-molecule optuna``). It passes if at least 60 % are valid without the constraint and
``time_ratio`` is at most 0.1.

``--only sequences`` or ``--only graphs`` runs, prints and records one half.
"""

import importlib.util
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import TRAINING, parser, record, recorded, set_threads, steps_within
from torch import nn

from ornstein.core import TokenChoice
from ornstein.core.training import EMA
from ornstein.domains.molecules import MoleculeDiffusion, MOSESData
from ornstein.domains.molecules.judges import (
    ChemNetMoments,
    KnownMolecules,
    check_validity,
    chemnet_moments,
    fcd_between,
    molecule_key,
    moses_reference,
)
from ornstein.domains.molecules.moses import moses_smiles

DRAWN, HELD_OUT = 2000, 10_000
TEMPERATURES = (1.0, 0.9, 0.8, 0.7, 0.6)
PEER_VUN, PEER_FCD, PEER_MS, REAL_FCD = 0.259, 4.58, 439.0, 0.63
OPTIONS = TRAINING | {"lr": 0.01, "warmup": 30, "accelerator": "cpu", "precision": "bf16-mixed"}


class Characters(nn.Module):
    """A recurrent network over characters, as MOSES' CharRNN is one; 0 begins and ends a text."""

    def __init__(self, symbols: Sequence[str]) -> None:
        super().__init__()
        self.symbols = ("", *symbols)
        self.embed = nn.Embedding(len(self.symbols), 64)
        self.cell = nn.GRU(64, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, len(self.symbols))

    def loss(self, texts: Sequence[str]) -> torch.Tensor:
        numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        rows = [torch.tensor([0, *(numbers[symbol] for symbol in text), 0]) for text in texts]
        x = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
        logits = self.head(self.cell(self.embed(x[:, :-1].clamp(min=0)))[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(), ignore_index=-100)

    @torch.no_grad()
    def draw(self, num: int, seed: int, temperature: float = 1.0, longest: int = 100) -> list[str]:
        torch.manual_seed(seed)
        token, memory, columns = torch.zeros(num, 1, dtype=torch.int64), None, []
        for _ in range(longest):
            hidden, memory = self.cell(self.embed(token), memory)
            token = (self.head(hidden[:, 0]) / temperature).softmax(-1).multinomial(1)
            columns.append(token)
        found = torch.cat(columns, 1).tolist()
        return ["".join(self.symbols[n] for n in row[: row.index(0) if 0 in row else None]) for row in found]


def train_characters(texts: list[str], seconds: float, seed: int) -> tuple[Characters, int]:
    """The peer, trained for so much processor time on batches of 256, and its steps."""
    torch.manual_seed(seed)
    model = Characters(sorted(set("".join(texts))))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    start, steps = time.process_time(), 0
    while time.process_time() - start < seconds:
        batch = [texts[i] for i in torch.randint(len(texts), (256,)).tolist()]
        optimiser.zero_grad()
        model.loss(batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        steps += 1
    return model, steps


def budgeted(
    make: Callable[[], Any], data: Any, seconds: float, folder: Path, seed: int
) -> tuple[Any, dict[str, float]]:
    """A model that ``fit`` trained for about so much processor time; what a step costs is measured before."""

    def train(model: Any, steps: int, name: str) -> float:
        start = time.process_time()
        model.fit(data, run=folder / name, max_steps=steps, seed=seed, ema=EMA(0.99), **OPTIONS)
        return time.process_time() - start

    steps = steps_within(seconds, lambda n: train(make(), n, f"calibration-{n}"))
    model = make()
    spent = train(model, steps, "run")
    parameters = sum(p.numel() for p in model.network.parameters())
    return model, {"steps": steps, "cpu_seconds": spent, "parameters": parameters}


def timed(draw: Callable[[], Any], num: int) -> tuple[Any, float]:
    """What was drawn, and milliseconds of processor time for each."""
    start = time.process_time()
    found = draw()
    return found, 1000 * (time.process_time() - start) / num


def judged(samples: Sequence[Any], known: KnownMolecules) -> tuple[dict[str, float], list[Any]]:
    """Shares of samples that are valid, and valid, unique and novel; and the valid ones."""
    valid = [mol for mol in check_validity(samples, ("parse",))["parse"].molecules if mol is not None]
    new = ~known.holds(sorted({molecule_key(mol) for mol in valid}))
    return {"valid": len(valid) / len(samples), "vun": int(new.sum()) / len(samples)}, valid


def sequences(given: Any, folder: Path) -> tuple[dict[str, float], dict[str, bool]]:
    """SELFIES beside the recurrent network."""
    num = 100 if given.quick else DRAWN
    data = MOSESData(2000 if given.quick else given.count, 10, representation="selfies", batch_size=128, validation=0)
    texts = data.train_dataset().smiles
    known = KnownMolecules.of(texts if given.quick else moses_smiles("train"), canonical=True)
    seconds = 6.0 if given.quick else given.seconds
    unseen = held_out(texts, 100 if given.quick else HELD_OUT, given.seed)
    model, told = budgeted(lambda: MoleculeDiffusion.for_data(data, seed=given.seed), data, seconds, folder, given.seed)

    def ours(num: int, seed: int, temperature: float) -> list[Any]:
        sampler = replace(model.sampler, choice=TokenChoice(temperature))
        return model.generate(num, seed=seed, sampler=sampler).raw

    figures: dict[str, float] = {f"selfies_{name}": value for name, value in told.items()}
    found = coolly_drawn(ours, num, unseen, known, given.seed)
    figures |= {"selfies_ms_per_molecule" if name == "ms_per_molecule" else name: found[name] for name in found}
    print(figures, file=sys.stderr)
    peer, steps = train_characters(texts, seconds, given.seed)
    figures |= {"rnn_steps": steps, "rnn_parameters": sum(p.numel() for p in peer.parameters())}
    found = coolly_drawn(peer.draw, num, unseen, known, given.seed)
    figures |= {f"rnn_{name}": value for name, value in found.items()}
    return figures, {
        "vun_by_half": figures["vun"] >= 1.5 * max(PEER_VUN, figures["rnn_vun"]),
        "fcd_by_half": figures["fcd"] <= 0.5 * PEER_FCD,
        "fcd_below_rnn": figures["fcd"] < figures["rnn_fcd"],
    }


def held_out(texts: Sequence[str], num: int, seed: int) -> ChemNetMoments:
    """ChemNet's moments of so many molecules of MOSES' training file that are not among those given."""
    given = set(texts)
    others = random.Random(seed).sample([text for text in moses_smiles("train") if text not in given], num)
    return chemnet_moments([mol for mol in check_validity(others, ("parse",))["parse"].molecules if mol is not None])


def coolly_drawn(
    draw: Callable[[int, int, float], Sequence[Any]], num: int, unseen: ChemNetMoments, known: KnownMolecules, seed: int
) -> dict[str, float]:
    """Figures of ``draw(num, seed, temperature)`` at the temperature that comes nearest to unseen molecules."""
    real = moses_reference("Test").chemnet
    assert real is not None

    def distance(samples: Sequence[Any], reference: ChemNetMoments) -> float:
        _, valid = judged(samples, known)
        return fcd_between(chemnet_moments(valid), reference) if len(valid) > 1 else float("inf")

    tried = {temperature: distance(draw(num, seed + 1, temperature), unseen) for temperature in TEMPERATURES}
    print(f"FCD from held-out molecules by temperature: {tried}", file=sys.stderr, flush=True)
    best = min(tried, key=lambda temperature: tried[temperature])
    samples, cost = timed(lambda: draw(num, seed, best), num)
    return judged(samples, known)[0] | {
        "temperature": best,
        "fcd": distance(samples, real),
        "fcd_at_1": distance(draw(num, seed, 1.0), real),
        "ms_per_molecule": cost,
    }


def graphs(given: Any, folder: Path) -> tuple[dict[str, float], dict[str, bool]]:
    """Graphs of at most 16 heavy atoms, beside DiGress."""
    num = 32 if given.quick else 500
    data = MOSESData(500 if given.quick else None, 100, 16, batch_size=64, validation=0)
    texts = data.train_dataset().smiles
    known, seconds = KnownMolecules.of(texts, canonical=True), 8.0 if given.quick else 180.0
    model, told = budgeted(lambda: MoleculeDiffusion.for_data(data, seed=given.seed), data, seconds, folder, given.seed)
    figures = {f"graph_{name}": value for name, value in told.items()} | {"graph_molecules": len(texts)}
    for before, after, constraint in (("graph_", "", True), ("", "_unconstrained", False)):
        drawn, cost = timed(lambda held=constraint: model.sample(num, seed=given.seed, constraint=held), num)
        scores, _ = judged(drawn.raw, known)
        figures |= {f"{before}{key}{after}": value for key, value in scores.items()} | {f"ms_per_molecule{after}": cost}
    print(figures, file=sys.stderr)
    figures |= digress(texts, given)
    slower = max(figures["ms_per_molecule"], figures["ms_per_molecule_unconstrained"])
    figures["time_ratio"] = slower / figures["digress_ms_per_molecule"]
    return figures, {
        "valid_unconstrained": figures["valid_unconstrained"] >= 0.6,
        "time_ratio": figures["time_ratio"] <= 0.1,
    }


def digress(texts: list[str], given: Any) -> dict[str, float]:
    """torch-molecule's DiGress after an epoch, if it is installed; else the time that was measured elsewhere."""
    if importlib.util.find_spec("torch_molecule") is None or given.quick:
        return {"digress_ms_per_molecule": PEER_MS}
    from torch_molecule import DigressMolecularGenerator

    torch.manual_seed(given.seed)
    start, num = time.process_time(), 100
    peer = DigressMolecularGenerator(timesteps=100, epochs=1, batch_size=128, device="cpu").fit(texts)
    spent = time.process_time() - start
    found, cost = timed(lambda: peer.generate(batch_size=num), num)
    scores, _ = judged(found, KnownMolecules.of(texts, canonical=True))
    told = {"cpu_seconds": spent, "ms_per_molecule": cost, **scores}
    return {f"digress_{name}": value for name, value in told.items()}


def main() -> int:
    """Run both halves, print and record."""
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=200_000, help="molecules of MOSES for sequences (%(default)s)")
    options.add_argument(
        "--seconds", type=float, default=300.0, help="processor time of each sequence model (%(default)s)"
    )
    options.add_argument("--seed", type=int, default=0, help="of training and of samples (default: %(default)s)")
    options.add_argument("--only", choices=("sequences", "graphs"), help="one half; the other's record stays")
    options.add_argument("--run", help="folder for the models (default: a temporary one)")
    given = options.parse_args()
    set_threads(given.threads)
    halves = {"sequences": sequences, "graphs": graphs}
    figures: dict[str, float] = {}
    passed: dict[str, bool] = {}
    if given.only:
        figures, passed = recorded("molecules_small")
    with tempfile.TemporaryDirectory() as scratch:
        for name, half in halves.items():
            if given.only in (None, name):
                found, held = half(given, Path(given.run or scratch) / name)
                figures, passed = figures | found, passed | held
    return record(
        "molecules_small", figures, passed, seeds=[given.seed], quick=given.quick, threads=given.threads,
        packages=("rdkit", "selfies", "fcd-torch"),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
