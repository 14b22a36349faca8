"""Figures of molecules: a grid of drawings, and histograms of properties beside those of real ones. PNG as bytes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ornstein.core.evaluation.drawing import COLOURS, FAINT, INK, PAPER, figure_bytes
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem, quiet

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["molecule_grid", "property_histograms"]

EXTRA = "molecules"
LABELS = {"logP": "logP", "QED": "QED", "SA": "SA score", "weight": "weight [g/mol]", "TPSA": "TPSA [Å²]"}


def molecule_grid(
    molecules: Sequence["Mol"],
    *,
    columns: int = 4,
    captions: Sequence[str] | None = None,
    size: tuple[int, int] = (260, 200),
) -> bytes:
    """Drawings in rows, hydrogens left out.

    Args:
        molecules: at least one; positions in space are not shown.
        columns: drawings in a row.
        captions: a line under each; none when not given.
        size: of a drawing in pixels, width and height.

    Returns:
        A PNG file.

    Raises:
        ImportError: rdkit is missing.
        ValueError: no molecules, another number of captions, or no columns.
    """
    require(len(molecules) > 0, "molecules", "none", "at least one")
    require(columns >= 1, "columns", columns, "at least 1")
    require(
        captions is None or len(captions) == len(molecules), "captions", captions, f"{len(molecules)}, one a molecule"
    )
    # Not MolsToGridImage: notebooks replace it by one that leaves molecules out beyond the fiftieth.
    draw = need("rdkit.Chem.Draw.rdMolDraw2D", to="draw molecules", extra=EXTRA)
    columns = min(columns, len(molecules))
    rows = -(-len(molecules) // columns)
    canvas = draw.MolDraw2DCairo(columns * size[0], rows * size[1], *size)
    options = canvas.drawOptions()
    options.drawMolsSameScale = False  # or one long chain makes all others small
    options.legendFontSize, options.legendFraction, options.padding = 14, 0.12, 0.08
    options.fixedBondLength = 28  # at most, so that small ones do not fill their cells
    flat = []
    with quiet():
        for mol in molecules:
            shown = chem().RemoveHs(mol, sanitize=False)
            shown.RemoveAllConformers()  # drawn flat, not projected
            flat.append(shown)
        canvas.DrawMolecules(flat, legends=[""] * len(flat) if captions is None else list(captions))
    canvas.FinishDrawing()
    return bytes(canvas.GetDrawingText())


def property_histograms(
    values: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray] | None = None, *, bins: int = 40
) -> bytes:
    """A panel for each property: the samples' histogram over the reference's, both of area 1.

    Args:
        values: ``(n,)`` by name, from `property_values`.
        reference: ``(m,)`` by name; none when not given.
        bins: from the least to the largest value of both.

    Returns:
        A PNG file.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: no properties, or one without values.
    """
    require(len(values) > 0, "values", "none", "at least one property")
    need("matplotlib", to="draw figures", extra=EXTRA)
    from matplotlib.figure import Figure  # no pyplot: nothing global, and no display

    rows = (len(values) + 1) // 2
    figure = Figure(figsize=(7.6, 2.3 * rows), layout="constrained", facecolor=PAPER)
    grid = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, (name, made) in zip(grid, values.items()):
        require(len(made) > 0, f"values[{name!r}]", "none", "at least one")
        real = None if reference is None else reference.get(name)
        edges = np.histogram_bin_edges(made if real is None else np.concatenate([made, real]), bins)
        if real is not None:
            axes.hist(real, edges, density=True, color=FAINT, label="reference")
        axes.hist(made, edges, density=True, histtype="step", color=COLOURS[0], linewidth=1.4, label="samples")
        axes.set_xlabel(LABELS.get(name, name), color=INK, fontsize=9)
        axes.set_yticks([])
        axes.tick_params(colors=INK, labelsize=8)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    for axes in grid[len(values) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure_bytes(figure)
