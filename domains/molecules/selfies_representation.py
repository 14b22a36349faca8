"""Molecules as sequences of SELFIES tokens, masked: in a fixed order, or in any.

Every sequence of tokens is a molecule, and canonical SMILES have an order, which a causal network learns in a few
passes over the data; it is told what the tokens before have derived (`DerivationReader`).  So `SelfiesRepresentation`
hides sequences from their end (`SequentialDenoiser`: an autoregressive model, as the limit of masked diffusion that it
is).  `AnyOrderSelfies` learns all orders at once, which takes far more training for molecules as good, and draws
several tokens a step.  Gaps are filled by graphs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.core import (
    AbsorbingChain,
    CategoricalDenoiser,
    MarginFirst,
    Objective,
    PowerSchedule,
    Process,
    SequentialBound,
    SequentialDenoiser,
    SequentialSampler,
    StratifiedTimes,
    TokenCrossEntropy,
    Unmasking,
)
from ornstein.core.adapter import Example
from ornstein.core.nn import TokenTransformer
from ornstein.core.samplers.categorical import CategoricalSampler
from ornstein.domains.molecules.data import SelfiesFacts
from ornstein.domains.molecules.derivation import DerivationReader
from ornstein.domains.molecules.drawn import Generated
from ornstein.domains.molecules.representations import Drawn, Representation

__all__ = ["AnyOrderSelfies", "SelfiesRepresentation"]


class SelfiesRepresentation(Representation):
    """States ``(B, L)`` of SELFIES tokens and pieces, hidden from their end; the network is told how many there are.

    Their numbers are those of the vocabulary less one: ``[nop]``, which means nothing, is not drawn.
    """

    facts_type = SelfiesFacts
    facts: SelfiesFacts
    unit = "tokens"
    size_step = 4

    def process(self) -> AbsorbingChain:
        return AbsorbingChain(len(self.facts.vocabulary) - 1, PowerSchedule())

    def network(self, process: Process) -> TokenTransformer:
        network = self._network(_masks(process).states)
        parts = torch.tensor(self.facts.marginals[1:])
        with torch.no_grad():  # a network that knows nothing answers with the frequencies of the data
            network.leave.bias[: len(parts)] = parts.clamp(min=1e-6).log()
        return network

    def _network(self, states: int) -> TokenTransformer:
        return TokenTransformer(
            states,
            properties=len(self.facts.properties),
            sized=True,
            reader=DerivationReader(self.facts.vocabulary, 128),
            timed=False,
            causal=True,
            kernel=0,
        )

    def denoiser(self, network: nn.Module, process: Process) -> SequentialDenoiser | CategoricalDenoiser:
        return SequentialDenoiser(network, _masks(process))

    def objective(self, process: Process) -> Objective:
        return SequentialBound()

    def sampler(self, process: Process) -> CategoricalSampler:
        return SequentialSampler()

    def told(self, sizes: Tensor) -> dict[str, Tensor]:
        return {"sizes": sizes}

    def collate(self, mols: Sequence[Any]) -> dict[str, Any]:
        rows = []
        for number, mol in enumerate(mols):
            if mol is None:
                raise ValueError(f"molecule {number} is None: expected valid SMILES, or an RDKit molecule")
            try:
                rows.append(self.facts.vocabulary.encode(mol))
            except ValueError as error:
                raise ValueError(f"molecule {number}: {error}") from error
        if not rows:
            raise ValueError("no molecules: expected at least one")
        mask = torch.arange(max(map(len, rows))) < torch.tensor([len(row) for row in rows])[:, None]
        return {"tokens": nn.utils.rnn.pad_sequence(rows, batch_first=True), "mask": mask}

    def encode(self, batch: Mapping[str, Any]) -> Example:
        if "tokens" not in batch or "mask" not in batch:
            raise TypeError(f"the batch holds {', '.join(batch)}: expected 'tokens' and 'mask'")
        tokens, mask = batch["tokens"], batch["mask"]
        if tokens.device.type == "cpu" and bool(mask.any()):
            low, high, last = int(tokens[mask].min()), int(tokens[mask].max()), len(self.facts.vocabulary) - 1
            if low < 1 or high > last:
                raise ValueError(
                    f"tokens lie in [{low}, {high}]: expected 1 to {last}; train with the data's own facts (for_data)"
                )
        return Example((tokens - 1).clamp(min=0), self.told(mask.sum(1)), mask)

    def shape(self, num: int, width: int) -> tuple[int, int]:
        return num, width

    def mask(self, sizes: Tensor, width: int) -> Tensor:
        return torch.arange(width, device=sizes.device) < sizes[:, None]

    def decode(self, state: Any, sizes: Tensor) -> list[Drawn]:
        texts = self.facts.vocabulary.decode_batch(state + 1, self.mask(sizes, state.shape[1]))
        return list(Generated.of_texts(texts, nothing="no atoms").drawn)

    def example_batch(self, num: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        sizes = torch.randint(1, self.facts.largest + 1, (num,), generator=generator)
        mask = self.mask(sizes, self.facts.largest)
        tokens = torch.randint(1, len(self.facts.vocabulary), mask.shape, generator=generator)
        return {"tokens": tokens * mask, "mask": mask}


class AnyOrderSelfies(SelfiesRepresentation):
    """The same states, hidden in any order (MDLM, 2406.07524): ``representation=`` its import path.

    Its default sampler shows the surest tokens first, one a step; fewer steps are faster and worse.
    """

    def _network(self, states: int) -> TokenTransformer:
        return TokenTransformer(states, properties=len(self.facts.properties), timed=False, lazy=True, head_width=64)

    def denoiser(self, network: nn.Module, process: Process) -> CategoricalDenoiser:
        return CategoricalDenoiser(network, _masks(process), timed=False)

    def objective(self, process: Process) -> Objective:
        return TokenCrossEntropy(times=StratifiedTimes())

    def sampler(self, process: Process) -> Unmasking:
        return Unmasking(self.facts.largest, positions=MarginFirst())

    def told(self, sizes: Tensor) -> dict[str, Tensor]:
        return {}


def _masks(process: Process) -> AbsorbingChain:
    """The chain of masks.

    Raises:
        TypeError: another process.
    """
    if not isinstance(process, AbsorbingChain):
        raise TypeError(f"process={process!r}: expected an AbsorbingChain of SELFIES tokens")
    return process
