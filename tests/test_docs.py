"""What the documentation shows, runs: the examples of docstrings and the Python blocks of the Markdown pages.

The cells of ``docs/`` are run by ``make docs``; here it is checked that its pages hold no Python that nobody runs.
"""

import ast
import contextlib
import doctest
import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md"]
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def docstrings() -> Iterator[tuple[str, str, str, int]]:
    """Module, qualified name, text and line of every docstring that holds an example, read without an import."""
    for folder in ("core", "domains"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            parts = ("ornstein", *path.relative_to(REPOSITORY).with_suffix("").parts)
            yield from _inside(ast.parse(path.read_text(encoding="utf-8")), ".".join(parts).removesuffix(".__init__"))


def _inside(tree: ast.Module, module: str) -> Iterator[tuple[str, str, str, int]]:
    todo: list[tuple[ast.Module | ast.ClassDef | ast.FunctionDef, str]] = [(tree, "")]
    while todo:
        node, name = todo.pop(0)
        text = ast.get_docstring(node) or ""
        if ">>>" in text:
            yield module, name, text, node.body[0].lineno
        children = (child for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef))
        todo += [(child, f"{name}.{child.name}".lstrip(".")) for child in children]


@pytest.mark.parametrize(
    ("module", "text", "line"),
    [pytest.param(module, text, line, id=f"{module}:{name}") for module, name, text, line in docstrings()],
)
def test_docstring(module: str, text: str, line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = dict(vars(importlib.import_module(module)))
    example = doctest.DocTestParser().get_doctest(text, names, module, module, line - 1)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=report.write)
    assert runner.failures == 0, report.getvalue()


def blocks() -> Iterator[tuple[str, int, str]]:
    """Page, line and text of every Python block outside ``docs/``."""
    for page in PAGES:
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            yield page, text.count("\n", 0, match.start()) + 2, match.group(1)


@pytest.mark.parametrize(
    ("page", "line", "code"), [pytest.param(*block, id=f"{block[0]}:{block[1]}") for block in blocks()]
)
def test_block(page: str, line: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = compile("\n" * (line - 1) + code, str(REPOSITORY / page), "exec")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(program, {"__name__": "__main__"})


def test_readme_shows_python() -> None:
    assert any(page == "README.md" for page, _, _ in blocks())


@pytest.mark.parametrize("page", sorted(path.name for path in (REPOSITORY / "docs").glob("*.md")))
def test_pages_of_docs_hold_only_executed_python(page: str) -> None:
    assert FENCE.search((REPOSITORY / "docs" / page).read_text(encoding="utf-8")) is None
