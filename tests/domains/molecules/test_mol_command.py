"""The command with molecules: a model that takes its facts from the data, and the configurations that come with it."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from ornstein.core.adapter import DomainAdapter
from ornstein.core.cli import main
from ornstein.core.config import from_config, resolve_class
from ornstein.core.training import TrainingOptions
from ornstein.domains.molecules import MoleculeDiffusion

pytest.importorskip("rdkit")

CONFIG = """
adapter:
  class_path: ornstein.domains.molecules.MoleculeDiffusion
  init_args:
    network: null
data:
  class_path: ornstein.domains.molecules.MoleculeData
  init_args:
    molecules: {file}
    heldout: 0.3
    validation: 0
    properties: [logP]
    batch_size: 4
training:
  sample_every: 0
trainer:
  max_steps: 2
  accelerator: cpu
"""


def test_a_model_is_trained_asked_and_judged_from_the_command_line(tmp_path: Path, capsys) -> None:
    smiles = ["C" * n + end for n in range(1, 6) for end in ("O", "N", "C(=O)O", "c1ccccc1")]
    (tmp_path / "mols.smi").write_text("\n".join(smiles) + "\n")
    (tmp_path / "mols.yaml").write_text(CONFIG.format(file=tmp_path / "mols.smi"))
    run, out = tmp_path / "run", tmp_path / "out"
    assert main(["fit", "--config", str(tmp_path / "mols.yaml"), "--run", str(run)]) == 0
    model = DomainAdapter.from_pretrained(run / "model")
    assert model.property_names == ("logP",)
    asked = ["--num", "3", "--condition", "logP=1.5", "--guidance", "2", "--steps", "4", "--output", str(out)]
    assert main(["sample", "--checkpoint", str(run), *asked]) == 0
    drawn = model.unpack(np.load(out / "samples.npz"))
    assert drawn["samples"].validity == 1
    assert (out / "000002.smi").read_text().rstrip("\n") == drawn["samples"].smiles[2]
    assert drawn["logP"].tolist() == [1.5] * 3
    assert main(["evaluate", "--checkpoint", str(run), "--samples", str(out)]) == 0
    assert "mae_logP" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nci", "moses"])
def test_configurations_name_what_there_is(repository: Path, name) -> None:
    config = yaml.safe_load((repository / f"configs/molecules/{name}.yaml").read_text())
    data = from_config(config["data"])
    assert resolve_class(config["adapter"]["class_path"]) is MoleculeDiffusion
    from_config(config["training"].pop("ema"))
    TrainingOptions(**config["training"])
    assert config["trainer"]["max_steps"] > 0
    assert list(data.properties) == ["logP", "QED"]
    assert data.representation == config["adapter"]["init_args"]["representation"]
