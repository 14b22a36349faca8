"""Learned reconstruction beside tuned total variation: a head in CT, a brain in MRI.

`MedicalReconstruction` learns for at most --minutes on --threads cores (seconds of the processor count, scans and
guesses included) and reconstructs slices that it has not seen: CT at 256 px from 60 and 23 views of 1e5 photons a ray
(``ct60``, ``ct23``), 180 views of 1e4 (``ct_low``) and 90 degrees (``ct_limited``); MRI fourfold, eightfold and radial
(``mri4``, ``mri8``, ``mri_radial``). Data, guesses and settings: `_reconstruction_ct`, `_reconstruction_mri`.

Figures of a task: ``psnr`` and ``ssim`` of the posterior mean (of CT with ``finish_share`` of total variation that
begins at it, `Finish`), ``tv_psnr`` and ``tv_ssim`` of the baseline as it was tuned on other slices (total variation;
for MRI the better of it and wavelets), ``gain`` in decibels, ``coverage`` of 90 % intervals that were calibrated on
other slices, ``seconds_a_slice``. It passes at a gain of 1.5 dB (limited angle 4, MRI 2), SSIM above the baseline's and
coverage from 85 to 95 %.

The head is Cranium.inv3 of Debian's invesalius-examples (--head FILE); without it the CT half is skipped. --only runs
one half and leaves the figures of the other as they are recorded.
"""

import sys
from pathlib import Path

import common

HALVES = ("ct", "mri")


def main() -> int:
    """Train, reconstruct, judge, print and record."""
    options = common.parser(__doc__)
    options.add_argument("--only", choices=HALVES, help="one half; the figures of the other stay as recorded")
    # On one thread: as much processor time as an hour of two, which get less out of it.
    options.add_argument("--minutes", type=float, default=116.0, help="of training a half (default: %(default)s)")
    options.add_argument("--head", default="Cranium.inv3", help="the head's file (default: %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options.add_argument("--run", help="folder for the models (default: a temporary one)")
    options.add_argument("--checkpoint", help="model of the run of --only that was recorded last, instead of training")
    given = options.parse_args()
    if given.checkpoint is not None and given.only is None:
        options.error("--checkpoint is the model of one half: say which by --only")
    common.set_threads(given.threads)
    halves = HALVES if given.only is None else (given.only,)
    figures: dict[str, float] = {}
    passed: dict[str, bool] = {}
    if "ct" in halves and not Path(given.head).exists():
        print(f"{given.head}: no such file; CT is skipped. apt-get download invesalius-examples", file=sys.stderr)
        halves = tuple(half for half in halves if half != "ct")
    for half in halves:
        if half == "ct":
            import _reconstruction_ct as module
        else:
            import _reconstruction_mri as module
        found, checks = module.figures(given)
        figures, passed = figures | found, passed | checks
    if given.only is not None and not given.quick:
        before = common.recorded("reconstruction")
        figures, passed = before[0] | figures, before[1] | passed
    return common.record(
        "reconstruction",
        figures,
        passed,
        seeds=[given.seed],
        quick=given.quick,
        threads=given.threads,
        packages=("torch", "nilearn"),
    )


if __name__ == "__main__":
    sys.exit(main())
