"""Domains are found by their entry points, and those that do not load say why."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import ornstein_toy as toy
import pytest

from ornstein.core import registry
from ornstein.core.registry import DomainInfo, domains, load_domain


def test_every_domain_is_listed_with_its_state() -> None:
    found = {info.name: info for info in domains()}
    assert list(found) == sorted(found)
    assert found["toy"] == DomainInfo("toy", "ornstein_toy:ToyDiffusion", "ornstein-toy", "1.2", None)
    assert found["toy"].loads
    assert not found["brokentoy"].loads
    assert found["brokentoy"].problem == (
        "domain 'brokentoy' cannot be loaded: No module named 'a_library_that_nobody_has'; try: reinstall ornstein-toy"
    )
    assert "is no DomainAdapter" in (found["nottoy"].problem or "")
    assert found["images"].distribution == "ornstein"


def test_a_domain_is_loaded_by_name() -> None:
    assert load_domain("toy") is toy.ToyDiffusion
    with pytest.raises(
        ValueError, match=r"no domain 'tooy' is installed \(did you mean 'toy'\?\); installed: brokentoy"
    ):
        load_domain("tooy")
    with pytest.raises(ImportError, match="brokentoy"):
        load_domain("brokentoy")
    with pytest.raises(TypeError, match="is no DomainAdapter class"):
        load_domain("nottoy")


@pytest.mark.parametrize("error", [ImportError("no PIL"), OSError("libx.so: undefined\nsymbol")])
def test_a_missing_extra_of_ours_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Distribution:
        metadata = {"Name": "ornstein"}  # noqa: RUF012
        version = "1"

    def load(self: EntryPoint) -> object:
        raise error

    entry = EntryPoint("images", "ornstein.domains.images:ImageDiffusion", registry.GROUP)._for(Distribution())
    monkeypatch.setattr(EntryPoint, "load", load)
    monkeypatch.setattr(registry, "_entries", lambda: {"images": entry})
    with pytest.raises(ImportError, match=r"pip install 'ornstein\[images\]'") as caught:
        load_domain("images")
    assert "\n" not in str(caught.value)
    assert domains()[0].problem == str(caught.value)


def test_asking_for_names_imports_no_domain() -> None:
    code = (
        "import sys; from ornstein.core import registry; registry._entries(); "
        "assert not [m for m in sys.modules if m.startswith(('ornstein.domains', 'lightning'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
