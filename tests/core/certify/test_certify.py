"""The certification as a whole: its record, its page, and that a wrong sampler does not pass."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ornstein.core import DDIM, SDE, DPMSolver
from ornstein.core.certify import CLAIMS, Claim, certify, order_table, quality_table
from ornstein.core.cli import main


@dataclass(frozen=True)
class Wrong(DPMSolver):
    """Second-order DPM-Solver with a slope that is a tenth too small."""

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        rows = super().plan(process, times)
        rows[:, 1] += 0.1 * rows[:, 2]
        rows[:, 2] *= 0.9
        return rows


def test_orders_are_those_claimed() -> None:
    rows = order_table(["ddim", "heun", "unipc_2", "dpm_solver_2m_sde"])
    assert all(row["passed"] for row in rows)
    assert {row["problem"] for row in rows} == {"gaussian", "mixture", "moments_cosine", "moments_edm"}


def test_a_wrong_coefficient_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLAIMS, "wrong", Claim(Wrong(), 2))
    assert not any(row["passed"] for row in order_table(["wrong"]))


def test_quality_spends_no_more_than_the_budget() -> None:
    rows = quality_table(samples=200, budgets=(5,))
    assert all(row["nfe"] <= row["budget"] for row in rows if row["budget"] is not None)
    assert all(torch.tensor(row["distance"]).isfinite() for row in rows)
    assert next(row["nfe"] for row in rows if row["sampler"] == "ddim") == DDIM(5).nfe()


def test_record_page_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["certify", "--quick", "--output", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == json.loads((tmp_path / "certify.json").read_text())
    assert result["name"] == "certify"
    assert result["quick"] is True
    assert result["figures"]["worst_order_error"] < 0.2
    assert all(result["passed"].values())
    page = (tmp_path / "certification.md").read_text()
    assert "All that was required holds." in page
    pictures = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert pictures == [f"certify_{name}.png" for name in ("density", "likelihood", "order", "posterior", "quality")]


def test_what_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setitem(CLAIMS, "heun", Claim(Wrong(), 2))
    monkeypatch.setattr("ornstein.core.certify.report.posterior_table", lambda **_: _no_posteriors())
    monkeypatch.setattr("ornstein.core.certify.report.QUICK_CLAIMS", ("heun",))
    result = certify(tmp_path, quick=True)
    assert result["passed"]["order_heun_mixture"] is False
    assert "Not met: order_heun" in (tmp_path / "certification.md").read_text()


def _no_posteriors() -> list[dict[str, object]]:
    errors = {"mean_error": 0.0, "std_error": 0.0, "calibration_error": 0.0}
    return [{"operator": "mask", "noise_std": 0.1, "method": "mmps", **errors, "nfe": 1, "exact": True, "bias": "none"}]
