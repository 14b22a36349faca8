"""A run as one HTML page: figures inside the file, no scripts, nothing fetched; readable on paper and on a phone."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Report", "Section", "picture", "table"]

STYLE = """
:root { color-scheme: light; --ink: #26323a; --soft: #5b6a73; --line: #dfe5e8; }
:root { --good: #2f7d4f; --bad: #b3402e; --tint: #f4f7f8; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, Helvetica, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 2.2rem 1.1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .3rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p { margin: .4rem 0 .9rem; color: var(--soft); }
p.lead { font-size: 1.05rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1.4rem 0; }
.tile { background: var(--tint); border-radius: .6rem; padding: .75rem .9rem; border-left: 4px solid var(--line); }
.tile.good { border-color: var(--good); } .tile.bad { border-color: var(--bad); }
.tile b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.tile span { font-size: .8rem; color: var(--soft); display: block; line-height: 1.35; }
figure { margin: 1rem 0; } figcaption { font-size: .85rem; color: var(--soft); margin-top: .35rem; }
img { max-width: 100%; height: auto; display: block; } img.pixels { image-rendering: pixelated; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .38rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; white-space: normal; }
th.note, td.note { text-align: left; white-space: normal; color: var(--soft); }
footer { margin-top: 3rem; font-size: .82rem; color: var(--soft); }
@media print { main { max-width: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""

NOTE = ' class="note"'


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and blocks of HTML from `picture` and `table`."""

    title: str
    text: str
    blocks: Sequence[str] = ()


@dataclass
class Report:
    """A page under construction.

    Args:
        title: of the page.
        lead: one paragraph under it.
        footer: the last line.

    Attributes:
        tiles: figures in large type, from `add_tile`.
        sections: in their order.
    """

    title: str
    lead: str
    footer: str = ""
    tiles: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def add_tile(self, value: str, label: str, good: bool | None = None) -> None:
        """One figure in large type, green or red at its edge where ``good`` is said."""
        mood = {True: " good", False: " bad", None: ""}[good]
        self.tiles.append(f'<div class="tile{mood}"><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>')

    def add(self, title: str, text: str, *blocks: str) -> None:
        """A section; ``text`` is plain."""
        self.sections.append(Section(title, text, blocks))

    def render(self) -> str:
        """The whole page."""
        parts = [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head><body><main>",
            f'<h1>{html.escape(self.title)}</h1><p class="lead">{html.escape(self.lead)}</p>',
        ]
        if self.tiles:
            parts.append(f'<div class="tiles">{"".join(self.tiles)}</div>')
        for section in self.sections:
            parts.append(f"<section><h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>")
            parts += [*section.blocks, "</section>"]
        parts.append(f"<footer>{html.escape(self.footer)}</footer></main></body></html>")
        return "\n".join(parts) + "\n"

    def write(self, path: str | Path) -> Path:
        """Write the page to a file."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.render(), encoding="utf-8")
        return path


def picture(content: bytes, caption: str, *, width: int | None = None, pixels: bool = False) -> str:
    """A figure with its data inside.

    Args:
        content: of a PNG or GIF file.
        caption: under the figure, and for those who cannot see it.
        width: in CSS pixels at most; that of the picture when not given.
        pixels: show pixels as squares when the browser enlarges them.
    """
    kind = "gif" if content[:3] == b"GIF" else "png"
    data = base64.b64encode(content).decode("ascii")
    size = f' style="width: {width}px"' if width else ""
    look = ' class="pixels"' if pixels else ""
    alt = html.escape(caption, quote=True)
    return (
        f'<figure><img{look}{size} alt="{alt}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, notes: bool = False) -> str:
    """A table of text; with ``notes`` the last column is prose."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns[:-1])
    head += f"<th{NOTE if notes else ''}>{html.escape(columns[-1])}</th>"
    body = []
    for row in rows:
        cells = [f"<td>{html.escape(cell)}</td>" for cell in row]
        if notes:
            cells[-1] = f"<td{NOTE}>{html.escape(row[-1])}</td>"
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
