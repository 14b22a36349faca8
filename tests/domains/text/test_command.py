"""The command with texts: the model takes tokenizer, attributes and lengths from the data."""

import json
from pathlib import Path

import numpy as np
import pytest

from ornstein.core import conformance
from ornstein.core.adapter import DomainAdapter
from ornstein.core.cli import main
from ornstein.domains.text import CharacterTokenizer, TextDiffusion

CONFIG = """
adapter:
  class_path: ornstein.domains.text.TextDiffusion
  init_args:
    network: null
data:
  class_path: ornstein.domains.text.TextData
  init_args:
    data: {file}
    text: text
    tokenizer: word
    length: 12
    packing: pad
    attributes: [tone]
    batch_size: 4
training:
  sample_every: 0
trainer:
  max_steps: 2
  accelerator: cpu
"""


CHECKS = [check for name, check in vars(conformance).items() if name.startswith("test_adapter_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["masked", "uniform", "score", "embedding"])
def test_the_adapters_keep_the_contract(check, kind):
    tokenizer, tone = CharacterTokenizer("abcdefgh "), {"tone": ("warm", "cold")}
    check(TextDiffusion(tokenizer, length=8, kind=kind, attributes=tone, dimensions=8))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = [{"text": f"it is {tone} here {i % 3}", "tone": tone} for i in range(20) for tone in ("warm", "cold")]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "texts.yaml").write_text(CONFIG.format(file=tmp_path / "texts.jsonl"))
    return tmp_path / "texts.yaml"


def test_a_model_is_trained_and_asked_from_the_command_line(config: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    assert main(["fit", "--config", str(config), "--run", str(run)]) == 0
    model = DomainAdapter.from_pretrained(run / "model")
    assert model.attributes == {"tone": ("cold", "warm")}
    assert model.length == 12
    assert model.sizes.largest == 5
    out = tmp_path / "out"
    asked = ["--num", "3", "--condition", "tone=warm", "--guidance", "2", "--output", str(out)]
    assert main(["sample", "--checkpoint", str(run), *asked]) == 0
    texts = model.unpack(np.load(out / "samples.npz"))
    assert (out / "000002.txt").read_text() == texts["samples"][2]
    assert texts["tone"].tolist() == [1, 1, 1]


def test_an_unknown_value_is_refused_in_a_line(config: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    main(["fit", "--config", str(config), "--run", str(run)])
    capsys.readouterr()
    assert main(["sample", "--checkpoint", str(run), "--condition", "tone=worm"]) != 0
    assert "did you mean 'warm'" in capsys.readouterr().err
