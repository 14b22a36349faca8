"""The page of a report and the look of figures."""

import base64
import re

from ornstein.core.evaluation.drawing import axes_grid, figure_bytes, new_axes
from ornstein.core.evaluation.report import Report, picture, table

PNG = b"\x89PNG\r\n\x1a\n and the rest"


def test_the_page_stands_alone_and_is_safe(tmp_path):
    report = Report("A <b>run</b>", "5 < 6 & more", footer="end")
    report.add_tile("97 %", "agreement", good=True)
    report.add(
        "Part",
        "text",
        picture(PNG, 'a "picture"', pixels=True),
        table(("x", "note"), [("1", "<i>")], notes=True),
    )
    page = report.write(tmp_path / "deep/report.html").read_text(encoding="utf-8")
    assert "<b>run</b>" not in page
    assert "<i>" not in page
    assert "A &lt;b&gt;run&lt;/b&gt;" in page
    assert not re.search(r"<script|https?://|<link|@import|url\(", page)
    assert 'name="viewport"' in page
    assert page.count("<section>") == page.count("</section>") == 1
    assert base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", page).group(1)) == PNG


def test_figures_have_the_size_and_the_labels_that_were_asked_for():
    figure, axes = new_axes("time", "value", extra="images")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time", "value")
    content = figure_bytes(figure)
    assert content.startswith(b"\x89PNG")
    assert [int.from_bytes(content[at : at + 4], "big") for at in (16, 20)] == [960, 540]
    figure, rows = axes_grid(2, extra="images", width=5, height=2, ratios=[1.0, 0.5])
    assert figure.get_size_inches().tolist() == [5, 3]
    assert rows[0].get_shared_x_axes().joined(*rows)
