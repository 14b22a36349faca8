"""Time and memory of our U-Net against two peers' at equal numbers of parameters (within 3 %).

Contestants, each as its users build it, with about 2.6 million parameters:

* ours: ``ornstein.core.nn.UNet`` with its default shape;
* diffusers: ``UNet2DModel`` with block_out_channels (40, 80, 112), one layer a block, attention at the coarsest level;
* lucidrains: denoising-diffusion-pytorch's ``Unet(dim=32, dim_mults=(1, 2, 4))``.

Our default shape has fewer channels at the full resolution and puts most blocks at the coarse levels (depths 1, 2, 2),
where a parameter costs a quarter of the arithmetic of the level before, after Imagen's efficient U-Net (Saharia et al.
2022, arXiv 2205.11487). It has convolutions at every resolution, skip connections, attention at the coarsest level and
an adaptive group norm in every block. It keeps activations channels-last, which convolutions on the CPU prefer.

A training step is forward, mean squared error, backward, AdamW (fused for all) and clearing gradients; a sampling step
is a forward pass in inference mode. Batch 64, float32, pictures 1x28x28 and 3x32x32; all contestants get the same batch
and the same threads and take turns in one process. Peak memory is the growth of the resident set of a fresh process
above what its imports need: parameters, gradients, optimiser, batch and activations.

Figures: ``CASE_STEP_ratio`` is our time over the faster peer's, the median of the turns (``_low`` and ``_high`` are
the quartiles), ``CASE_STEP_memory_ratio`` our peak over the thriftier peer's; ``worst_ratio`` and
``worst_memory_ratio`` are the largest of each.
"""

import statistics
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from common import in_fresh_process, interleave, parser, peak_growth, ratio, record, set_threads

CASES = {"28x28": (1, 28), "32x32": (3, 32)}
STEPS = ("training", "sampling")
PEERS = ("diffusers", "lucidrains")
CONTESTANTS = ("ours", *PEERS)
SEED = 0


def build(contestant: str, channels: int, size: int) -> Callable:
    """The network of a contestant, whose library is imported here so that memory is measured without the others'."""
    if contestant == "ours":
        from ornstein.core.nn import UNet

        return UNet(channels)
    if contestant == "diffusers":
        from diffusers import UNet2DModel

        return UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=(40, 80, 112),
            norm_num_groups=8,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
    from denoising_diffusion_pytorch import Unet

    return Unet(dim=32, dim_mults=(1, 2, 4), channels=channels)


@dataclass
class Contest:
    """One contestant on one case: its network, optimiser and batch."""

    contestant: str
    case: str
    batch: int

    def __post_init__(self) -> None:
        torch.manual_seed(SEED)
        channels, size = CASES[self.case]
        self.network = build(self.contestant, channels, size)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)
        self.x = torch.randn(self.batch, channels, size, size)
        self.target = torch.randn_like(self.x)
        self.time = torch.rand(self.batch) if self.contestant == "ours" else torch.randint(1000, (self.batch,))

    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def forward(self) -> torch.Tensor:
        out = self.network(self.x, self.time)
        return out.sample if self.contestant == "diffusers" else out

    def training(self) -> None:
        self.network.train()
        (self.forward() - self.target).square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    def sampling(self) -> None:
        self.network.eval()
        with torch.inference_mode():
            self.forward()


def measure_times(case: str, batch: int, rounds: int) -> dict[str, float]:
    """Time figures of one case."""
    contests = {name: Contest(name, case, batch) for name in CONTESTANTS}
    figures: dict[str, float] = {f"{case}_parameters_{name}": c.parameters() for name, c in contests.items()}
    for step in STEPS:
        seconds = interleave({name: getattr(contest, step) for name, contest in contests.items()}, rounds, warmup=1)
        figures |= {f"{case}_{step}_seconds_{name}": statistics.median(times) for name, times in seconds.items()}
        faster = min(PEERS, key=lambda name: statistics.median(seconds[name]))
        quotient = ratio(seconds["ours"], seconds[faster])
        figures |= {f"{case}_{step}_ratio": quotient.median}
        figures |= {f"{case}_{step}_ratio_low": quotient.low, f"{case}_{step}_ratio_high": quotient.high}
        print(f"{case} {step}: {quotient.median:.3f} of the time of {faster}", flush=True)
    return figures


def measure_memory(case: str, batch: int, step: str, threads: int) -> dict[str, float]:
    """Memory figures of one step of one case."""
    peaks = {name: in_fresh_process(peak_of, name, case, step, batch, threads) for name in CONTESTANTS}
    figures = {f"{case}_{step}_peak_mib_{name}": peak / 2**20 for name, peak in peaks.items()}
    figures[f"{case}_{step}_memory_ratio"] = peaks["ours"] / min(peaks[name] for name in PEERS)
    print(f"{case} {step}: {figures[f'{case}_{step}_memory_ratio']:.3f} of the thriftier peer's memory", flush=True)
    return figures


def touch_kernels() -> None:
    """Run each kind of layer once, small, since the code of torch counts as resident from its first use on."""
    layers = [torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.GroupNorm(2, 4), torch.nn.SiLU(), torch.nn.Conv2d(4, 4, 1)]
    network = torch.nn.Sequential(*layers, torch.nn.Flatten(2), torch.nn.Linear(64, 64))
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    tokens = network(torch.randn(4, 4, 8, 8))[:, None]
    torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).softmax(dim=-1).square().mean().backward()
    optimiser.step()


def peak_of(contestant: str, case: str, step: str, batch: int, threads: int) -> int:
    """Peak memory in bytes of three steps of a contestant, everything after its imports included."""
    torch.set_num_threads(threads)
    build(contestant, *CASES[case])
    touch_kernels()

    def work() -> None:
        contest = Contest(contestant, case, batch)
        for _ in range(3):
            getattr(contest, step)()

    return peak_growth(work)


def main() -> int:
    options = parser(__doc__).parse_args()
    set_threads(options.threads)
    warnings.filterwarnings("ignore")
    batch, rounds = (8, 3) if options.quick else (64, 5)
    figures: dict[str, float] = {"batch": batch, "rounds": rounds}
    for case in CASES:
        figures |= measure_times(case, batch, rounds)
    for case, step in [("28x28", "sampling")] if options.quick else [(case, step) for case in CASES for step in STEPS]:
        figures |= measure_memory(case, 64, step, options.threads)
    figures["worst_ratio"] = max(figures[f"{case}_{step}_ratio"] for case in CASES for step in STEPS)
    figures["worst_memory_ratio"] = max(value for key, value in figures.items() if key.endswith("_memory_ratio"))
    sizes = [[figures[f"{case}_parameters_{name}"] for name in CONTESTANTS] for case in CASES]
    passed = {
        "worst_ratio": figures["worst_ratio"] <= 0.8,
        "worst_memory_ratio": figures["worst_memory_ratio"] <= 1.0,
        "equal_parameters": all(abs(peer / ours - 1) <= 0.03 for ours, *peers in sizes for peer in peers),
    }
    packages = ("diffusers", "denoising-diffusion-pytorch")
    return record(
        "training_step",
        figures,
        passed,
        seeds=[SEED],
        quick=options.quick,
        threads=options.threads,
        packages=packages,
    )


if __name__ == "__main__":
    sys.exit(main())
