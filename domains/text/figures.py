"""Pictures of texts, for logs and reports."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from ornstein.core.optional import need
from ornstein.domains.text.tokenizers import printable

__all__ = ["draw_texts"]

COLUMNS, LINES = 96, 6  # of characters a line, and of lines a text at most


def draw_texts(texts: Sequence[str], path: str | Path) -> None:
    """Write texts below one another to ``path`` (PNG), numbered; long ones end in an ellipsis.

    Raises:
        ImportError: matplotlib is missing.
    """
    need("matplotlib", to="draw texts", extra="text")
    from matplotlib.figure import Figure  # no pyplot: nothing global, and no display

    blocks = []
    for number, text in enumerate(texts):
        lines = [part for line in text.split("\n") for part in textwrap.wrap(printable(line), COLUMNS) or [""]]
        shown = lines[:LINES] if len(lines) <= LINES else [*lines[: LINES - 1], "…"]
        blocks.append("\n".join(f"{number if i == 0 else '':>3}  {line}" for i, line in enumerate(shown)))
    content = "\n".join(blocks)
    count = content.count("\n") + 1
    figure = Figure(figsize=(COLUMNS * 0.088, 0.3 + count * 0.19))
    # A dollar sign is text, not the start of mathematics.
    figure.text(0.01, 0.99, content, family="monospace", fontsize=9, va="top", linespacing=1.4, parse_math=False)
    figure.savefig(path, dpi=110)
