"""Docstrings are written to be read in a terminal; this makes reStructuredText of them without asking for its syntax.

Backticks, one pair or two, are code; ``*`` and ``|`` outside code are themselves (``(B, *event)``, ``|x|``); an
indented block below a paragraph, such as a displayed formula, keeps its lines; a Markdown table is a table.
"""

import re
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(:[\w:]+:`[^`]+`)|(?<!`)(?:``(?!`)(.+?)``|`(?!`)(.+?)`)(?!`)", re.DOTALL)
MARKUP = re.compile(r"(?<!\*)\*(?![*\s])|\||(?<=\w)_(?!\w)")
SECTION = re.compile(r"[A-Z]\w+:$")
LIST_ITEM = re.compile(r"[*-] |\d+\. |\.\. ")
TABLE = re.compile(r"\|.*\|\n\|[-| :]+\|\n")
CELL = re.compile(r"(?:``.+?``|`[^`]+`|[^|`])+")
WRAPPED_NAMES = re.compile(r"^( *(?:\w+, )+\w+,)\n +(?=(?:\w+, )*\w+: )", re.MULTILINE)
RULER = re.compile(r"=+( +=+)+$", re.MULTILINE)


def to_rst(text: str) -> str:
    """The docstring as reStructuredText."""
    result, above, literal = [], "", False
    text = WRAPPED_NAMES.sub(r"\1 ", text.strip("\n"))  # napoleon reads the names of an argument from one line
    for block in re.split(r"\n(?:[ ]*\n)+", text):
        indented = block.startswith("    ")
        literal = indented and (literal or _may_introduce(above))
        if literal:
            result.append(block if result[-1].startswith("    ") or above.endswith("::") else f"::\n\n{block}")
        elif TABLE.match(block):
            result.append(_table(block))
        elif RULER.match(block) or block.lstrip().startswith(">>>"):
            result.append(block)
        else:
            result.append(_prose(block))
        above = above if indented else block
    return "\n\n".join(result)


def _may_introduce(block: str) -> bool:
    """Whether an indented block below this one is a display: not in a section of arguments, not in a list."""
    first = block.split("\n", 1)[0]
    return bool(block) and not (SECTION.match(first) or LIST_ITEM.match(first) or first.startswith(">>>"))


def _table(block: str) -> str:
    """A Markdown table as a list table."""
    rows = [CELL.findall(line.strip().strip("|")) for line in block.split("\n")]
    items = ["   * - " + "\n     - ".join(_prose(cell.strip()) for cell in row) for row in rows[:1] + rows[2:]]
    return "\n".join([".. list-table::", "   :header-rows: 1", "", *items])


def _prose(block: str) -> str:
    """Code spans as literals, and markup characters outside them escaped."""
    result, end = [], 0
    for match in CODE.finditer(block):
        result.append(MARKUP.sub(r"\\\g<0>", block[end : match.start()]))
        role, code = match.group(1), " ".join((match.group(2) or match.group(3) or "").split())
        glued = "\\ " if block[match.start() - 1 : match.start()].isalnum() and match.start() else ""
        after = "\\ " if block[match.end() : match.end() + 1].isalnum() else ""
        result.append(role or f"{glued}``{code}``{after}")
        end = match.end()
    return "".join([*result, MARKUP.sub(r"\\\g<0>", block[end:])])


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [*to_rst("\n".join(lines)).split("\n"), ""]


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn adds to each of its estimators, which refers to its own documentation, and the fields
    of named tuples, which the class describes.
    """
    return True if re.fullmatch(r"set_\w+_request", name) or type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Come before napoleon (priority 500), which reads the sections of arguments."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
