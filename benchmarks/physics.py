"""CT and MRI operators beside deepinv's, in one process: times, exactness of adjoints, and accuracy.

Parallel-beam projection of one picture, forward and adjoint, at 128 px and 60 views and at 256 px and 180 views, and
eight coils of Cartesian MRI at 4x.  Calls alternate between ours and theirs.  Figures are CASE_{forward,adjoint}_ratio,
our time over theirs; CASE_ratio, both together (`worst_ratio` is the largest of projection, `mri_worst_ratio` of MRI);
CASE_{ours,theirs}_ms, of both together; CASE_adjoint_error in float32 and CASE_adjoint_error_float64;
ct*_{ours,theirs}_disc_error, relative L2 from the closed form of an off-centre disc; ct*_build_seconds, what an
operator takes to be made; and fbp_{psnr,ssim}, of a noise-free Shepp-Logan head from 180 views at 128 px.

deepinv 0.5 is found among the installed packages or in the folder given by --peer (pip install --no-deps --target
FOLDER deepinv==0.5.0 torchvision natsort einops).
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import common
import torch

from ornstein.core.inverse import LinearOperator
from ornstein.domains.medical.judges import psnr, ssim
from ornstein.domains.medical.physics import (
    Ellipse,
    MulticoilMRI,
    ParallelBeam,
    Phantom,
    Projector,
    birdcage_maps,
    filtered_back_projection,
    random_mask,
    shepp_logan,
    spread_angles,
)

PROJECTIONS = ((128, 60), (256, 180))
PICTURES = (128, 256, 320)
DISC = Phantom([Ellipse(1.0, 0.35, 0.35, 0.2, -0.1)])


def adjoint_error(operator: LinearOperator, dtype: torch.dtype) -> float:
    """``|<A x, y> - <x, A^T y>| / (|A x| |y|)``, the mean of five draws."""
    total = 0.0
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, *operator.shape, generator=generator, dtype=dtype)
        y = torch.randn(1, *operator.measured, generator=generator, dtype=dtype)
        forth, back = operator(x).double(), operator.adjoint(y).double()
        total += abs(float((forth * y).sum() - (x * back).sum())) / float(forth.norm() * y.double().norm())
    return total / 5


def times(case: str, ours: LinearOperator, theirs: Any, rounds: int) -> dict[str, float]:
    """Ratios and milliseconds of both operators, forward and adjoint, in turns."""
    x = torch.rand(1, *ours.shape)
    ours_y, theirs_y = ours(x), theirs.A(x)
    calls: dict[str, Callable[[], Any]] = {
        "ours_forward": lambda: ours(x),
        "theirs_forward": lambda: theirs.A(x),
        "ours_adjoint": lambda: ours.adjoint(ours_y),
        "theirs_adjoint": lambda: theirs.A_adjoint(theirs_y),
    }
    seconds = common.interleave(calls, rounds)
    both = {
        who: [a + b for a, b in zip(seconds[f"{who}_forward"], seconds[f"{who}_adjoint"])] for who in ("ours", "theirs")
    }
    figures = {f"{case}_{who}_ms": 1e3 * sorted(both[who])[rounds // 2] for who in both}
    for part in ("forward", "adjoint"):
        figures[f"{case}_{part}_ratio"] = common.ratio(seconds[f"ours_{part}"], seconds[f"theirs_{part}"]).median
    figures[f"{case}_ratio"] = common.ratio(both["ours"], both["theirs"]).median
    print(case, {key: round(value, 4) for key, value in figures.items()}, flush=True)
    return figures


def their_disc_error(peer: Any, size: int, views: int) -> float:
    """Of deepinv's projection in its own frame, whose middle and sense of rotation are those that fit best."""
    sinogram = peer.A(DISC.image(size, supersample=8))[0, 0].T.double()
    cells = sinogram.shape[1]
    offset = cells // 2 - size // 2 + (size - 1) / 2 - (cells - 1) / 2
    theta = torch.deg2rad(torch.arange(views, dtype=torch.float64) * 180 / views)
    s = torch.arange(cells, dtype=torch.float64) - (cells - 1) / 2
    errors = []
    for along, across in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        # Rows count downwards, so the disc's y of -0.1 is 0.1 here.
        x, y = 0.2 * size / 2 + offset, 0.1 * size / 2 + offset
        middle = along * x * theta.cos() + across * y * theta.sin()
        chord = 2 * ((0.35 * size / 2) ** 2 - (s - middle[:, None]) ** 2).clamp(min=0).sqrt()
        errors.append(float((sinogram - chord).norm() / chord.norm()))
    return min(errors)


def projection_figures(quick: bool) -> dict[str, float]:
    from deepinv.physics import Tomography

    figures: dict[str, float] = {}
    for size, views in PROJECTIONS[:1] if quick else PROJECTIONS:
        case = f"ct{size}_{views}"
        start = time.perf_counter()
        ours = Projector(ParallelBeam((size, size), spread_angles(views)))
        figures[f"{case}_build_seconds"] = time.perf_counter() - start
        theirs = Tomography(angles=views, img_width=size, normalize=False)
        figures |= times(case, ours, theirs, 5 if quick else 21)
        figures[f"{case}_adjoint_error"] = adjoint_error(ours, torch.float32)
        figures[f"{case}_adjoint_error_float64"] = adjoint_error(ours, torch.float64)
        exact = DISC.line_integrals(ours.geometry)
        found = ours(DISC.image(size, supersample=8))
        figures[f"{case}_ours_disc_error"] = float((found - exact).norm() / exact.norm())
        figures[f"{case}_theirs_disc_error"] = their_disc_error(theirs, size, views)
    return figures


def mri_figures(quick: bool) -> dict[str, float]:
    from deepinv.physics import MultiCoilMRI

    figures: dict[str, float] = {}
    for size in PICTURES[:1] if quick else PICTURES:
        maps, mask = birdcage_maps(8, (size, size)), random_mask(size)
        ours = MulticoilMRI(maps, mask)
        wide = mask.float().expand(1, 1, size, size).contiguous()
        theirs = MultiCoilMRI(mask=wide, coil_maps=maps[None], img_size=(2, size, size))
        figures |= times(f"mri{size}", ours, theirs, 5 if quick else 21)
        figures[f"mri{size}_adjoint_error"] = adjoint_error(ours, torch.float32)
        figures[f"mri{size}_adjoint_error_float64"] = adjoint_error(ours, torch.float64)
    return figures


def main() -> int:
    options = common.parser(__doc__)
    options.set_defaults(threads=2)
    options.add_argument("--peer", help="folder in which deepinv is installed, if not among the packages")
    arguments = options.parse_args()
    if arguments.peer:
        sys.path.append(arguments.peer)
    common.set_threads(arguments.threads)

    figures = projection_figures(arguments.quick) | mri_figures(arguments.quick)
    geometry = ParallelBeam((128, 128), spread_angles(180))
    truth = shepp_logan().image(128)
    picture = filtered_back_projection(Projector(geometry)(truth), geometry)
    figures |= {"fbp_psnr": psnr(picture, truth), "fbp_ssim": ssim(picture, truth)}
    cases = [key.removesuffix("_ours_ms") for key in figures if key.endswith("_ours_ms")]
    figures["worst_ratio"] = max(figures[f"{case}_ratio"] for case in cases if case.startswith("ct"))
    figures["mri_worst_ratio"] = max(figures[f"{case}_ratio"] for case in cases if case.startswith("mri"))
    passed = {
        "projection_at_most_half": figures["worst_ratio"] <= 0.5,
        "mri_at_most_as_long": figures["mri_worst_ratio"] <= 1,
        "adjoints": all(
            figures[f"{case}_adjoint_error"] < 1e-6 and figures[f"{case}_adjoint_error_float64"] < 1e-12
            for case in cases
        ),
        "disc": all(
            figures[f"{case}_ours_disc_error"] <= min(0.012, figures[f"{case}_theirs_disc_error"])
            for case in cases
            if case.startswith("ct")
        ),
        "fbp": figures["fbp_psnr"] >= 28.6 and figures["fbp_ssim"] >= 0.94,
    }
    return common.record(
        "physics",
        figures,
        passed,
        seeds=range(5),
        quick=arguments.quick,
        threads=arguments.threads,
        packages=("torch", "deepinv"),
    )


if __name__ == "__main__":
    sys.exit(main())
